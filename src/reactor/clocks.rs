//! The one place where clocks are read and timers armed.
//!
//! Two timerfds (timerfd_create(2)): one on `CLOCK_REALTIME`, armed absolutely and cancelled by the kernel whenever the
//! clock is set, and one on `CLOCK_BOOTTIME`, which goes on through suspend and which nobody can set. [`Clocks`] is the
//! seam: a test steps the wall clock by putting its own in place of [`KernelClocks`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use timerfd::{SetTimeFlags, TimerFd, TimerState};

use crate::engine::Deadlines;
use crate::model::{Elapsed, Now, WallTime};

/// Why the wall timer's descriptor was readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallWake {
    /// The deadline was reached, or nothing happened.
    Due,
    /// The clock was set.
    ClockSet,
}

/// The answer to arming the timers, which are armed in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing else reports that the clock was set"]
pub enum Armed {
    /// The clock shows what it did at the last look, and has gone on.
    AsBefore,
    /// The clock was set since the last notice: this is the only one.
    ClockSet,
}

/// Time, as the reactor sees it.
pub trait Clocks {
    /// Reads both clocks.
    fn now(&self) -> Now;
    /// Arms both timers; called only when a deadline has changed.
    ///
    /// # Errors
    /// What timerfd_settime(2) said, but for ECANCELED, which is [`Armed::ClockSet`].
    fn arm(&mut self, deadlines: Deadlines) -> io::Result<Armed>;
    /// The descriptor that becomes readable at the wall deadline, and when the clock is set.
    fn wall_fd(&self) -> RawFd;
    /// The descriptor that becomes readable at the elapsed deadline.
    fn elapsed_fd(&self) -> RawFd;
    /// Reads the wall descriptor, which is readable.
    ///
    /// # Errors
    /// What read(2) said.
    fn take_wall(&mut self) -> io::Result<WallWake>;
    /// Reads the elapsed descriptor, which is readable.
    ///
    /// # Errors
    /// What read(2) said.
    fn take_elapsed(&mut self) -> io::Result<()>;
    /// True if the kernel says that the wall clock is synchronized (adjtimex(2), `STA_UNSYNC` not set).
    fn is_synchronized(&self) -> bool;
}

/// The kernel's clocks.
#[derive(Debug)]
pub struct KernelClocks {
    wall: TimerFd,
    elapsed: TimerFd,
}

/// The wall timer's expiry when nothing is due: far enough never to fire, because only an armed timer is cancelled when
/// the clock is set.
const FAR: i64 = i64::MAX / 2;

impl KernelClocks {
    /// Both timers, disarmed.
    ///
    /// # Errors
    /// What timerfd_create(2) said.
    pub fn new() -> io::Result<KernelClocks> {
        Ok(KernelClocks {
            wall: TimerFd::new_custom(timerfd::ClockId::Realtime, true, true)?,
            elapsed: TimerFd::new_custom(timerfd::ClockId::Boottime, true, true)?,
        })
    }
}

impl Clocks for KernelClocks {
    fn now(&self) -> Now {
        let nanos = |id| {
            // Both clocks exist on every Linux since 2.6.39, so this can't fail on one that runs a Rust binary.
            let time = clock_gettime(id).unwrap_or_else(|_| TimeSpec::new(0, 0));
            i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
        };
        let wall = i64::try_from(nanos(ClockId::CLOCK_REALTIME)).unwrap_or(i64::MAX);
        let elapsed = u64::try_from(nanos(ClockId::CLOCK_BOOTTIME)).unwrap_or(0);
        Now { wall: WallTime::from_nanos(wall), elapsed: Elapsed::from_nanos(elapsed) }
    }

    fn arm(&mut self, deadlines: Deadlines) -> io::Result<Armed> {
        let armed = arm_wall(self.wall.as_fd(), deadlines.wall.map_or(FAR, |at| at.as_nanos().max(1)))?;
        let state = match deadlines.elapsed {
            // Zero would disarm, and boot is long past.
            Some(at) => TimerState::Oneshot(Duration::from_nanos(at.as_nanos().max(1))),
            None => TimerState::Disarmed,
        };
        self.elapsed.set_state(state, SetTimeFlags::Abstime);
        Ok(armed)
    }

    fn wall_fd(&self) -> RawFd {
        self.wall.as_raw_fd()
    }

    fn elapsed_fd(&self) -> RawFd {
        self.elapsed.as_raw_fd()
    }

    fn take_wall(&mut self) -> io::Result<WallWake> {
        // Not TimerFd::read, which panics on ECANCELED: here that means that the clock was set.
        match nix::unistd::read(&self.wall, &mut [0; 8]) {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(WallWake::Due),
            Err(Errno::ECANCELED) => Ok(WallWake::ClockSet),
            Err(errno) => Err(errno.into()),
        }
    }

    fn take_elapsed(&mut self) -> io::Result<()> {
        match nix::unistd::read(&self.elapsed, &mut [0; 8]) {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn is_synchronized(&self) -> bool {
        // SAFETY: timex is a plain C struct for which all-zero is valid (modes = 0 asks and sets nothing), and the
        // pointer is to a local that outlives the call.
        let (code, status) = unsafe {
            let mut timex: libc::timex = std::mem::zeroed();
            (libc::adjtimex(&raw mut timex), timex.status)
        };
        code >= 0 && code != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
    }
}

/// Arms a `CLOCK_REALTIME` timerfd absolutely, to be cancelled when the clock is set. Not through `TimerFd`, which
/// panics when timerfd_settime(2) fails with ECANCELED: the timer is armed all the same. The kernel takes the mark of the set
/// clock away with that answer (`timerfd_canceled` in fs/timerfd.c), so that read(2) does not report it again.
fn arm_wall(fd: BorrowedFd<'_>, nanos: i64) -> io::Result<Armed> {
    const CANCEL_ON_SET: libc::c_int = 2; // TFD_TIMER_CANCEL_ON_SET, linux/timerfd.h
    let value = timespec(nanos);
    let spec = libc::itimerspec { it_interval: timespec(0), it_value: value };
    // SAFETY: the descriptor is open for as long as its borrow, `spec` is a local that outlives the call, and the old
    // value is not asked for.
    let code = unsafe {
        libc::timerfd_settime(fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME | CANCEL_ON_SET, &raw const spec, std::ptr::null_mut())
    };
    match Errno::result(code) {
        Ok(_) => Ok(Armed::AsBefore),
        Err(Errno::ECANCELED) => Ok(Armed::ClockSet),
        Err(errno) => Err(errno.into()),
    }
}

/// Not negative: instants before 1970 have passed.
fn timespec(nanos: i64) -> libc::timespec {
    *TimeSpec::from_duration(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn readable(fd: RawFd, timeout: PollTimeout) -> bool {
        // SAFETY: the tests keep the clocks, which own the descriptor, alive across the call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).unwrap() > 0
    }

    #[test]
    fn each_timer_fires_at_its_deadline_and_not_before() {
        let mut clocks = KernelClocks::new().unwrap();
        let start = clocks.now();
        let wait = Duration::from_millis(20);
        assert_eq!(clocks.arm(Deadlines { wall: Some(start.wall + wait), elapsed: None }).unwrap(), Armed::AsBefore);
        assert!(readable(clocks.wall_fd(), PollTimeout::from(5_000_u16)));
        assert!(clocks.now().wall >= start.wall + wait);
        assert_eq!(clocks.take_wall().unwrap(), WallWake::Due);
        assert!(!readable(clocks.elapsed_fd(), PollTimeout::ZERO));
        assert_eq!(clocks.arm(Deadlines { wall: None, elapsed: Some(start.elapsed + wait) }).unwrap(), Armed::AsBefore);
        assert!(readable(clocks.elapsed_fd(), PollTimeout::from(5_000_u16)));
        clocks.take_elapsed().unwrap();
        assert!(!readable(clocks.wall_fd(), PollTimeout::ZERO));
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let mut clocks = KernelClocks::new().unwrap();
        let past = Deadlines { wall: Some(WallTime::from_nanos(0)), elapsed: Some(Elapsed::default()) };
        assert_eq!(clocks.arm(past).unwrap(), Armed::AsBefore);
        assert!(readable(clocks.wall_fd(), PollTimeout::from(5_000_u16)));
        assert!(readable(clocks.elapsed_fd(), PollTimeout::from(5_000_u16)));
    }
}
