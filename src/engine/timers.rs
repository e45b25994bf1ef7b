//! Elapsed deadlines: a heap of timers on the clock that only grows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::{Attempt, Elapsed, JobId, RunId};

/// An elapsed deadline's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next grid point of an interval.
    Interval(JobId),
    /// The timeout of an attempt.
    Timeout(RunId, Attempt),
    /// The end of an attempt's grace between SIGTERM and SIGKILL.
    Kill(RunId, Attempt),
    /// The next attempt of a run.
    Retry(RunId),
    /// The next question to the kernel whether the clock is synchronized.
    ClockCheck,
    /// The time limit of `wait_for_clock`.
    ClockLimit,
    /// The time at which a stop terminates running processes.
    Shutdown,
}

/// A binary heap with lazy removal: a stale timer is dropped when it comes to the top, and the heap is swept when it has
/// doubled, so neither memory nor a wake-up is spent on stale timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Elapsed, u64, Timer)>>,
    sequence: u64,
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 64;

impl Timers {
    pub fn push(&mut self, at: Elapsed, timer: Timer, applies: impl Fn(&Timer) -> bool) {
        if self.heap.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.heap.retain(|Reverse((_, _, timer))| applies(timer));
            self.sweep_at = self.heap.len() * 2;
        }
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, timer)));
    }

    /// The earliest deadline that still applies; drops stale ones above it.
    pub fn next(&mut self, applies: impl Fn(&Timer) -> bool) -> Option<Elapsed> {
        while let Some(Reverse((at, _, timer))) = self.heap.peek() {
            if applies(timer) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// All timers, the earliest first. Some may be stale.
    pub fn drain(self) -> impl Iterator<Item = (Elapsed, Timer)> {
        let mut all = self.heap.into_vec();
        all.sort_unstable_by_key(|Reverse((at, sequence, _))| (*at, *sequence));
        all.into_iter().map(|Reverse((at, _, timer))| (at, timer))
    }

    /// Removes a timer that is due. It may be stale; the caller checks.
    pub fn pop_due(&mut self, now: Elapsed) -> Option<(Elapsed, Timer)> {
        match self.heap.peek() {
            Some(Reverse((at, _, _))) if *at <= now => self.heap.pop().map(|Reverse((at, _, timer))| (at, timer)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_yields_in_order_of_time_then_of_arrival_and_drops_stale_timers() {
        let mut timers = Timers::default();
        let all = |_: &Timer| true;
        for (at, run) in [(30, 1), (10, 2), (10, 3), (20, 4)] {
            timers.push(Elapsed::from_nanos(at), Timer::Retry(RunId(run)), all);
        }
        assert_eq!(timers.next(|timer| *timer != Timer::Retry(RunId(2))), Some(Elapsed::from_nanos(10)));
        let mut order = Vec::new();
        while let Some((_, timer)) = timers.pop_due(Elapsed::from_nanos(25)) {
            order.push(timer);
        }
        assert_eq!(order, [Timer::Retry(RunId(3)), Timer::Retry(RunId(4))]);
        assert_eq!(timers.next(all), Some(Elapsed::from_nanos(30)));
    }

    #[test]
    fn stale_timers_do_not_pile_up() {
        let mut timers = Timers::default();
        for run in 0..10_000 {
            timers.push(Elapsed::from_nanos(1_000_000 + run), Timer::Timeout(RunId(run), Attempt(1)), |_| false);
        }
        assert!(timers.heap.len() <= FIRST_SWEEP);
    }
}
