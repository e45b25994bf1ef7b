//! Finding the process of an attempt by its environment.
//!
//! A daemon that dies right after starting a process may not have recorded its pid. The process has the run's variables in its
//! environment, by which the next daemon finds it.

use std::fs;

use super::proc;
use crate::model::Pid;

/// The leader of a process group whose initial environment (`/proc/PID/environ`, proc(5)) contains all of these `NAME=value`
/// entries. Processes that may not be inspected are skipped.
#[must_use]
pub fn find_leader(entries: &[String]) -> Option<Pid> {
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let environ = fs::read(entry.path().join("environ")).ok()?;
        let has = |wanted: &String| environ.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes());
        (entries.iter().all(has) && leads_its_group(pid)).then(|| proc::identify(pid))
    })
}

fn leads_its_group(pid: i32) -> bool {
    nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))).is_ok_and(|group| group.as_raw() == pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_found_by_all_of_its_variables() {
        let tag = format!("FIRELINK_TEST_SEARCH={}", std::process::id());
        let (name, value) = tag.split_once('=').unwrap();
        let mut child = Command::new("cat").env(name, value).stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        // A process in the middle of execve(2) has no environment yet.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut found = None;
        while found.is_none() && std::time::Instant::now() < deadline {
            found = find_leader(std::slice::from_ref(&tag)).map(|pid| pid.pid);
        }
        assert_eq!(found, Some(i32::try_from(child.id()).unwrap()));
        assert_eq!(find_leader(&[tag, "NO_SUCH=variable".to_owned()]), None);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
