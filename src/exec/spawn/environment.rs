//! The environment of a process: what the daemon has itself, and what is laid over it.
//!
//! The daemon's own is read once, at the first start: nothing in it changes that, and copying some dozens of variables
//! for each process was a seventh of what a run costs.

use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

/// A variable as execve(2) wants it.
#[derive(Clone, Debug)]
struct Entry {
    /// `NAME=value`.
    text: CString,
    /// How long the name is.
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
    laid: Vec<Entry>,
}

impl Environment {
    /// The daemon's own, but for what speaks to the daemon itself.
    pub fn inherited() -> Environment {
        static OWN: OnceLock<Vec<Entry>> = OnceLock::new();
        let own = || {
            let entry = |(name, value): (OsString, OsString)| Entry::new(name.as_bytes(), value.as_bytes()).ok();
            std::env::vars_os().filter(|(name, _)| !is_for_the_daemon(name.as_bytes())).filter_map(entry).collect()
        };
        Environment { inherited: OWN.get_or_init(own), laid: Vec::with_capacity(16) }
    }

    /// Sets a variable; what is set last holds.
    ///
    /// # Errors
    /// When name or value contain a NUL byte, which no variable can carry.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Result<(), NulError> {
        let entry = Entry::new(name.as_ref().as_bytes(), value.as_ref().as_bytes())?;
        match self.laid.iter_mut().find(|other| other.name() == entry.name()) {
            Some(place) => *place = entry,
            None => self.laid.push(entry),
        }
        Ok(())
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let named = |entry: &&Entry| entry.name() == name.as_bytes();
        self.laid.iter().find(named).or_else(|| self.inherited.iter().find(named)).map(|entry| OsStr::from_bytes(entry.value()))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let is_hidden = |entry: &&Entry| self.laid.iter().any(|other| other.name() == entry.name());
        self.inherited.iter().filter(move |entry| !is_hidden(entry)).chain(&self.laid)
    }

    /// As execve(2) wants it.
    pub fn strings(&self) -> impl Iterator<Item = &CStr> {
        self.entries().map(|entry| &*entry.text)
    }

    /// As std's `Command` wants it.
    pub fn pairs(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        self.entries().map(move |entry| (os(entry.name()), os(entry.value())))
    }
}

fn is_for_the_daemon(name: &[u8]) -> bool {
    name == b"NOTIFY_SOCKET" || [&b"FIRELINK_"[..], b"LISTEN_", b"WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_last_holds_and_hides_what_is_inherited() {
        let mut environment = Environment::inherited();
        let before = environment.strings().count();
        assert_eq!(environment.get("PATH"), std::env::var_os("PATH").as_deref());
        environment.set("PATH", "/one").unwrap();
        environment.set("PATH", "/two").unwrap();
        environment.set("PATHS", "=").unwrap();
        assert_eq!(environment.get("PATH"), Some(OsStr::new("/two")));
        let of_path: Vec<&CStr> = environment.strings().filter(|text| text.to_bytes().starts_with(b"PATH")).collect();
        assert_eq!(of_path, [c"PATH=/two", c"PATHS=="]);
        assert_eq!(environment.strings().count(), before + 1);
        assert!(environment.pairs().any(|(name, value)| name == "PATHS" && value == "="));
        assert!(environment.set("A", "b\0c").is_err());
        assert_eq!(environment.get("A"), None);
    }
}
