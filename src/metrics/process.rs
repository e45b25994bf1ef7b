//! Metrics of the daemon's process, by the standard names of Prometheus client libraries.

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// Metrics of this process; those that the kernel does not provide are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: i64,
    pub(super) virtual_bytes: i64,
    pub(super) open_fds: i64,
    pub(super) max_fds: i64,
    pub(super) threads: i64,
    /// Seconds since the epoch.
    pub(super) start_seconds: f64,
}

impl Process {
    /// Reads `/proc/self` (proc_pid_stat(5)).
    #[must_use]
    pub fn look() -> Process {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The command name may contain anything, so fields are counted from its `)`; the first one here is field 3.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<i64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let per_second = constant(SysconfVar::CLK_TCK, 100);
        let seconds = |ticks: i64| exact(ticks) / exact(per_second);
        let all = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = all.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok()).unwrap_or(0);
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        Process {
            cpu_seconds: seconds(field(14) + field(15)),
            resident_bytes: field(24) * constant(SysconfVar::PAGE_SIZE, 4096),
            virtual_bytes: field(23),
            // Without the descriptor of read_dir itself.
            open_fds: i64::try_from(open).unwrap_or(i64::MAX).saturating_sub(1).max(0),
            max_fds: i64::try_from(most).unwrap_or(i64::MAX),
            threads: field(20),
            start_seconds: exact(boot) + seconds(field(22)),
        }
    }
}

fn constant(name: SysconfVar, usual: i64) -> i64 {
    sysconf(name).ok().flatten().filter(|value| *value > 0).map_or(usual, i64::from)
}

/// Exact below 2^53, which ticks and seconds do not reach.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn exact(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_this_process_are_plausible() {
        let process = Process::look();
        assert!(process.resident_bytes > 0 && process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.threads > 0 && process.open_fds > 0 && process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.start_seconds > 1e9, "{process:?}");
    }
}
