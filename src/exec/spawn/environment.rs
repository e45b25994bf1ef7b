//! The environment of a process: the daemon's own, and overrides.
//!
//! The daemon's own is read once, at the first start: it never changes, and copying some dozens of variables for each process
//! was a seventh of the cost of a run.

use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

/// A variable in the format of execve(2).
#[derive(Clone, Debug)]
struct Entry {
    /// `NAME=value`.
    text: CString,
    /// The length of the name.
    name: usize,
}

impl Entry {
    fn new(name: &[u8], value: &[u8]) -> Result<Entry, NulError> {
        Ok(Entry { text: CString::new([name, b"=", value].concat())?, name: name.len() })
    }

    fn name(&self) -> &[u8] {
        self.text.to_bytes().get(..self.name).unwrap_or_default()
    }

    fn value(&self) -> &[u8] {
        self.text.to_bytes().get(self.name + 1..).unwrap_or_default()
    }
}

/// All variables of a process.
#[derive(Debug, Default)]
pub(in crate::exec) struct Environment {
    inherited: &'static [Entry],
    overrides: Vec<Entry>,
}

impl Environment {
    /// The daemon's own, except for variables that are meant for the daemon.
    pub fn inherited() -> Environment {
        static OWN: OnceLock<Vec<Entry>> = OnceLock::new();
        let own = || {
            let entry = |(name, value): (OsString, OsString)| Entry::new(name.as_bytes(), value.as_bytes()).ok();
            std::env::vars_os().filter(|(name, _)| !is_for_daemon(name.as_bytes())).filter_map(entry).collect()
        };
        Environment { inherited: OWN.get_or_init(own), overrides: Vec::with_capacity(16) }
    }

    /// Sets a variable; the last value wins.
    ///
    /// # Errors
    /// When name or value contain a NUL byte.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Result<(), NulError> {
        let entry = Entry::new(name.as_ref().as_bytes(), value.as_ref().as_bytes())?;
        match self.overrides.iter_mut().find(|other| other.name() == entry.name()) {
            Some(place) => *place = entry,
            None => self.overrides.push(entry),
        }
        Ok(())
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let named = |entry: &&Entry| entry.name() == name.as_bytes();
        self.overrides
            .iter()
            .find(named)
            .or_else(|| self.inherited.iter().find(named))
            .map(|entry| OsStr::from_bytes(entry.value()))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let is_hidden = |entry: &&Entry| self.overrides.iter().any(|other| other.name() == entry.name());
        self.inherited.iter().filter(move |entry| !is_hidden(entry)).chain(&self.overrides)
    }

    /// In the format of execve(2).
    pub fn strings(&self) -> impl Iterator<Item = &CStr> {
        self.entries().map(|entry| &*entry.text)
    }

    /// In the format of std's `Command`.
    pub fn pairs(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        self.entries().map(move |entry| (os(entry.name()), os(entry.value())))
    }
}

fn is_for_daemon(name: &[u8]) -> bool {
    name == b"NOTIFY_SOCKET" || [&b"FIRELINK_"[..], b"LISTEN_", b"WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_wins_and_overrides_the_inherited_one() {
        let mut environment = Environment::inherited();
        let before = environment.strings().count();
        assert_eq!(environment.get("PATH"), std::env::var_os("PATH").as_deref());
        environment.set("PATH", "/one").unwrap();
        environment.set("PATH", "/two").unwrap();
        environment.set("PATHS", "=").unwrap();
        assert_eq!(environment.get("PATH"), Some(OsStr::new("/two")));
        let path_entries: Vec<&CStr> = environment.strings().filter(|text| text.to_bytes().starts_with(b"PATH")).collect();
        assert_eq!(path_entries, [c"PATH=/two", c"PATHS=="]);
        assert_eq!(environment.strings().count(), before + 1);
        assert!(environment.pairs().any(|(name, value)| name == "PATHS" && value == "="));
        assert!(environment.set("A", "b\0c").is_err());
        assert_eq!(environment.get("A"), None);
    }
}
