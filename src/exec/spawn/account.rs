//! The account of a process: what `user` and `group` mean on this machine.

use std::ffi::{CString, OsString};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::launch::SpawnError;
use crate::exec::spec::ExecSpec;

/// The credentials of the child; all `None` for the daemon's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::exec) struct Account {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
    /// `HOME`, `SHELL`, `USER` and `LOGNAME`, if `user` is set.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Account {
    /// Looks up `user` and `group`.
    ///
    /// # Errors
    /// [`SpawnError::Account`]: one of them does not exist, or can't be looked up.
    pub fn of(exec: &ExecSpec) -> Result<Account, SpawnError> {
        let unknown = |what: &str, name: &str| SpawnError::Account(format!("there is no {what} `{name}` on this machine"));
        let failed = |what: &str, errno: Errno| SpawnError::Account(format!("the {what} can't be looked up: {errno}"));
        let group = match &exec.group {
            Some(name) => {
                let group = match name.parse() {
                    Ok(gid) => Group::from_gid(Gid::from_raw(gid)),
                    Err(_) => Group::from_name(name),
                };
                Some(group.map_err(|errno| failed("group", errno))?.ok_or_else(|| unknown("group", name))?.gid)
            }
            None => None,
        };
        if exec.user.is_none() && group.is_none() {
            return Ok(Account::default());
        }
        let is_root = Uid::effective().is_root();
        let Some(name) = &exec.user else {
            // Without root's own supplementary groups, which were not asked for.
            let groups = group.filter(|_| is_root).map(|gid| vec![gid.as_raw()]);
            return Ok(Account { gid: group.map(Gid::as_raw), groups, ..Account::default() });
        };
        let user = match name.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(name),
        };
        let user = user.map_err(|errno| failed("user", errno))?.ok_or_else(|| unknown("user", name))?;
        let gid = group.unwrap_or(user.gid);
        let groups = if is_root {
            let c_name = CString::new(user.name.as_str()).map_err(|_| unknown("user", name))?;
            let groups = getgrouplist(&c_name, gid).map_err(|errno| failed("user's groups", errno))?;
            Some(groups.into_iter().map(Gid::as_raw).collect())
        } else {
            None
        };
        let name = OsString::from(user.name);
        let variables = vec![
            ("HOME", user.dir.into_os_string()),
            ("SHELL", user.shell.into_os_string()),
            ("USER", name.clone()),
            ("LOGNAME", name),
        ];
        Ok(Account { uid: Some(user.uid.as_raw()), gid: Some(gid.as_raw()), groups, variables })
    }

    /// True if the process will run as another user than the daemon does.
    pub fn is_other_user(&self) -> bool {
        self.uid.is_some_and(|uid| uid != Uid::effective().as_raw())
    }
}
