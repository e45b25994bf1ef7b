//! Finding the process of an attempt by its environment.
//!
//! A daemon that dies right after starting a process may not have recorded its pid. The process has the run's variables in its
//! environment, by which the next daemon finds it.

use nix::unistd::{User, getuid};

use super::proc::{self, Environ, Stat};
use crate::model::Pid;

/// The leader of a process group whose initial environment (`/proc/PID/environ`, proc(5)) contains all of these `NAME=value`
/// entries and whose real user is the one that a job with this `user` has; `None`: the daemon's own. Anybody can give a process any
/// environment, but only root another user. Processes that may not be inspected are skipped.
#[must_use]
pub fn find_leader(entries: &[String], user: Option<&str>) -> Option<Pid> {
    let uid = uid_of(user)?;
    proc::all().ok()?.find_map(|pid| {
        let is_of_it = Environ::of(pid).is_some_and(|environ| environ.has_all(entries)) && proc::real_uid(pid) == Some(uid);
        let stat = is_of_it.then(|| Stat::of(pid)).flatten()?;
        (stat.group == pid).then_some(Pid { pid, start_ticks: stat.start_ticks })
    })
}

/// The user of a name or a number.
fn uid_of(user: Option<&str>) -> Option<u32> {
    match user.map(|user| (user, user.parse())) {
        None => Some(getuid().as_raw()),
        Some((_, Ok(uid))) => Some(uid),
        Some((name, Err(_))) => Some(User::from_name(name).ok()??.uid.as_raw()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_found_by_all_of_its_variables_and_its_user() {
        let tag = format!("FIRELINK_TEST_SEARCH={}", std::process::id());
        let (name, value) = tag.split_once('=').unwrap();
        let mut child = Command::new("cat").env(name, value).stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        let other = (getuid().as_raw() + 1).to_string();
        // A process in the middle of execve(2) has no environment yet.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut found = None;
        while found.is_none() && std::time::Instant::now() < deadline {
            found = find_leader(std::slice::from_ref(&tag), None).map(|pid| pid.pid);
        }
        assert_eq!(found, Some(i32::try_from(child.id()).unwrap()));
        assert_eq!(find_leader(std::slice::from_ref(&tag), Some(&other)), None);
        assert_eq!(find_leader(&[tag, "NO_SUCH=variable".to_owned()], None), None);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
