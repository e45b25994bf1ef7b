//! What every child needs to know of the daemon and the kernel; looked up once, at the first start.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use nix::libc::{self, c_int};

use super::raw::call;
use crate::exec::sys;

#[derive(Debug)]
pub(super) struct Properties {
    /// `/dev/null`, open for reading and writing.
    pub null: OwnedFd,
    /// The kernel has close_range(2) (Linux 5.9).
    pub has_close_range: bool,
    /// The daemon is protected from the OOM killer (a negative `/proc/self/oom_score_adj`).
    pub has_low_oom_score: bool,
    /// The daemon has an I/O class or priority of its own (ioprio_set(2)).
    pub has_io_class: bool,
    ignored: Vec<c_int>,
}

impl Properties {
    /// The signals that the daemon ignores, which execve(2) would pass on.
    pub fn ignored_signals(&'static self) -> &'static [c_int] {
        &self.ignored
    }
}

/// # Errors
/// When `/dev/null` can't be opened.
pub(super) fn properties() -> io::Result<&'static Properties> {
    static PROPERTIES: OnceLock<Properties> = OnceLock::new();
    if let Some(known) = PROPERTIES.get() {
        return Ok(known);
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    Ok(PROPERTIES.get_or_init(|| look(null)))
}

fn look(null: File) -> Properties {
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok());
    Properties {
        null: null.into(),
        has_close_range: sys::has_close_range(),
        has_low_oom_score: score.is_some_and(|score| score < 0),
        // SAFETY: ioprio_get(2) takes numbers: IOPRIO_WHO_PROCESS, this process. 0 is no class; IOPRIO_CLASS_NONE with any
        // level is that, too.
        has_io_class: unsafe { call(libc::SYS_ioprio_get, [1, 0, 0, 0, 0]) }.is_ok_and(|value| value >> 13 != 0),
        ignored: (1..=64).filter(|signal| is_ignored(*signal)).collect(),
    }
}

/// True for a signal that this process ignores. Not by the C library, which does not tell of the two that it reserves.
fn is_ignored(signal: c_int) -> bool {
    // As the kernel has it: handler, flags, restorer, mask.
    let mut now = [0_usize; 8];
    // SAFETY: a null new action only asks, and the answer goes into a local that is large enough.
    let asked = unsafe { call(libc::SYS_rt_sigaction, [signal.cast_unsigned() as usize, 0, now.as_mut_ptr() as usize, 8, 0]) };
    asked.is_ok() && now[0] == libc::SIG_IGN
}
