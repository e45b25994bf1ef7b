//! What `/proc` says of a process.

use crate::model::Pid;

/// The start time of a process in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
pub(super) fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may contain anything, parentheses too.
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 2..)?).ok()?;
    // `rest` begins with field 3.
    rest.split(' ').nth(22 - 3)?.parse().ok()
}

/// A process's identity, now.
pub(super) fn identify(pid: i32) -> Pid {
    Pid { pid, start_ticks: start_ticks(pid).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_of_a_process_is_stable_and_a_missing_one_has_none() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(start_ticks(me).unwrap() > 0);
        assert_eq!(start_ticks(me), start_ticks(me));
        assert_eq!(start_ticks(0), None);
    }
}
