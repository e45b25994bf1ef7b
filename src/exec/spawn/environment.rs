//! The environment of a process: the daemon's own or a part of it, and overrides.
//!
//! The daemon's own is read once, at the first start: it never changes, and copying some dozens of variables for each process
//! was a seventh of the cost of a run. It may hold secrets (the keys of S3, a proxy's password): a job of another user gets
//! none of it that is not named.

use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use crate::exec::spec::InheritEnv;

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
}

/// All variables of a process.
#[derive(Debug)]
pub(in crate::exec) struct Environment {
    inherited: Inherited,
    /// Those that the file of [`ExecSpec::env_file`](crate::exec::spec::ExecSpec) overrides.
    own: Vec<Entry>,
    /// Those that it does not.
    fixed: Vec<Entry>,
}

#[derive(Debug)]
enum Inherited {
    All(&'static [Entry]),
    Some(Vec<&'static Entry>),
}

/// What every job gets of the daemon's environment, besides what its account sets: those of another user nothing else.
const BASIC: [&[u8]; 3] = [b"PATH", b"LANG", b"TZ"];

/// The daemon's own variables, except for those that are meant for the daemon.
fn of_daemon() -> &'static [Entry] {
    static OWN: OnceLock<Vec<Entry>> = OnceLock::new();
    let own = || {
        let entry = |(name, value): (OsString, OsString)| Entry::new(name.as_bytes(), value.as_bytes()).ok();
        std::env::vars_os().filter(|(name, _)| !is_for_daemon(name.as_bytes())).filter_map(entry).collect()
    };
    OWN.get_or_init(own)
}

impl Environment {
    /// The daemon's own, or a part of it; `is_other_user` for a job of another user than the daemon's.
    pub fn inherited(inherit: &InheritEnv, is_other_user: bool) -> Environment {
        let all = of_daemon();
        let some = |names: &[Box<str>]| {
            let is_wanted = |name: &[u8]| BASIC.contains(&name) || names.iter().any(|wanted| wanted.as_bytes() == name);
            Inherited::Some(all.iter().filter(|entry| is_wanted(entry.name())).collect())
        };
        let inherited = match inherit {
            InheritEnv::ByUser if is_other_user => some(&[]),
            InheritEnv::ByUser | InheritEnv::All => Inherited::All(all),
            InheritEnv::Only(names) => some(names),
        };
        Environment { inherited, own: Vec::new(), fixed: Vec::with_capacity(16) }
    }

    /// Sets a variable; the last value wins.
    ///
    /// # Errors
    /// When name or value contain a NUL byte.
    pub fn set(&mut self, name: &str, value: &OsStr) -> Result<(), NulError> {
        set(&mut self.own, name, value)
    }

    /// Sets a variable that no file overrides.
    ///
    /// # Errors
    /// When name or value contain a NUL byte.
    pub fn fix(&mut self, name: &str, value: &OsStr) -> Result<(), NulError> {
        set(&mut self.fixed, name, value)
    }

    /// Those that a file overrides, in the format of execve(2).
    pub fn lower(&self) -> impl Iterator<Item = &CStr> {
        let (all, some) = match &self.inherited {
            Inherited::All(all) => (*all, &[][..]),
            Inherited::Some(some) => (&[][..], &some[..]),
        };
        let is_own = |entry: &&Entry| self.own.iter().any(|other| other.name() == entry.name());
        let inherited = all.iter().chain(some.iter().copied()).filter(move |entry| !is_own(entry));
        inherited.chain(&self.own).map(|entry| &*entry.text)
    }

    /// Those that no file overrides.
    pub fn upper(&self) -> impl Iterator<Item = &CStr> {
        self.fixed.iter().map(|entry| &*entry.text)
    }

    /// All of them.
    pub fn strings(&self) -> impl Iterator<Item = &CStr> {
        let name = |text: &CStr| text.to_bytes().iter().position(|byte| *byte == b'=').unwrap_or(0);
        let is_fixed = move |text: &&CStr| self.fixed.iter().any(|other| text.to_bytes().get(..name(text)) == Some(other.name()));
        self.lower().filter(move |text| !is_fixed(text)).chain(self.upper())
    }
}

fn set(entries: &mut Vec<Entry>, name: &str, value: &OsStr) -> Result<(), NulError> {
    let entry = Entry::new(name.as_bytes(), value.as_bytes())?;
    match entries.iter_mut().find(|other| other.name() == entry.name()) {
        Some(place) => *place = entry,
        None => entries.push(entry),
    }
    Ok(())
}

fn is_for_daemon(name: &[u8]) -> bool {
    name == b"NOTIFY_SOCKET" || [&b"FIRELINK_"[..], b"LISTEN_", b"WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(environment: &Environment, name: &str) -> Vec<String> {
        let named = |text: &&CStr| text.to_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
        environment.strings().filter(named).map(|text| text.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_last_value_wins_and_overrides_the_inherited_one() {
        let mut environment = Environment::inherited(&InheritEnv::ByUser, false);
        let before = environment.strings().count();
        environment.set("PATH", OsStr::new("/one")).unwrap();
        environment.set("PATH", OsStr::new("/two")).unwrap();
        environment.set("PATHS", OsStr::new("=")).unwrap();
        assert_eq!(of(&environment, "PATH"), ["PATH=/two"]);
        assert_eq!(of(&environment, "PATHS"), ["PATHS=="]);
        assert_eq!(environment.strings().count(), before + 1);
        environment.fix("PATH", OsStr::new("/three")).unwrap();
        assert_eq!(of(&environment, "PATH"), ["PATH=/three"]);
        assert_eq!(environment.strings().count(), before + 1);
        assert!(environment.set("A", OsStr::new("b\0c")).is_err());
        assert_eq!(of(&environment, "A"), [""; 0]);
    }

    #[test]
    fn a_job_of_another_user_inherits_only_the_basics_and_what_is_named() {
        // Cargo sets it for tests.
        const NAME: &str = "CARGO_MANIFEST_DIR";
        let has = |inherit: &InheritEnv, is_other: bool| {
            let environment = Environment::inherited(inherit, is_other);
            [!of(&environment, "PATH").is_empty(), !of(&environment, NAME).is_empty()]
        };
        let named = InheritEnv::Only([NAME.into(), "NOT_SET_ANYWHERE".into()].into());
        assert_eq!(has(&InheritEnv::ByUser, false), [true, true]);
        assert_eq!(has(&InheritEnv::ByUser, true), [true, false]);
        assert_eq!(has(&InheritEnv::All, true), [true, true]);
        assert_eq!(has(&named, true), [true, true]);
        assert_eq!(has(&InheritEnv::Only([].into()), false), [true, false]);
    }
}
