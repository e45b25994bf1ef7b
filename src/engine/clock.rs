//! Deadlines of both clocks become firings; a wall clock that was set is handled here too.

use std::cmp::Reverse;
use std::time::Duration;

use super::event::{Change, Effect, Notice, StopSignal};
use super::flow::Cause;
use super::run::StopCause;
use super::timers::Timer;
use super::timing::{Grid, Timing, WallTiming};
use super::wall::{Due, SHORTEST_GRACE, WallState};
use super::{CaughtUp, ClockMode, Engine, Mode, NextDue};
use crate::model::{Elapsed, JobId, Now, TriggerWord, WallTime};

/// How often the kernel is asked whether the clock is synchronized, while `wait_for_clock` lasts. The timerfd reports a
/// step at once; this is for clocks that are slewed into place.
const CLOCK_CHECK: Duration = Duration::from_secs(1);

/// Smaller steps of the clock are not reported.
const SMALLEST_STEP: Duration = Duration::from_millis(1);

impl Engine {
    /// Fires everything that is due.
    pub(super) fn run_due(&mut self, now: Now) {
        while self.mode == Mode::Open
            && let Some(Reverse((at, _, job))) = self.wall.peek().copied()
            && at <= now.wall
        {
            self.wall.pop();
            self.fire_due_wall(now, job);
        }
        while let Some((at, timer)) = self.timers.pop_due(now.elapsed) {
            self.timer_due(now, at, timer);
        }
    }

    fn timer_due(&mut self, now: Now, at: Elapsed, timer: Timer) {
        let applies = super::timer_applies(&self.queues, &self.jobs, self.clock, self.mode)(&timer);
        if !applies {
            return;
        }
        match timer {
            Timer::Interval(job) => self.interval_due(now, job, at),
            Timer::Retry(run) => self.queues.retry_due(run),
            Timer::Timeout(run, _) => self.terminate(now, run, StopCause::Timeout),
            Timer::Kill(run, _) => self.out.push(Effect::Signal { run, signal: StopSignal::Kill }),
            Timer::ClockCheck => {
                self.out.push(Effect::CheckClock);
                self.arm(now.elapsed + CLOCK_CHECK, Timer::ClockCheck);
            }
            Timer::ClockLimit => self.clock_ready(now, false),
            Timer::Shutdown => {
                self.mode = Mode::Stopping { deadline: None };
                for run in self.queues.running() {
                    self.terminate(now, run, StopCause::Shutdown);
                }
            }
        }
    }

    /// Fires, catches up or records as missed all wall deadlines of one job that have passed.
    fn fire_due_wall(&mut self, now: Now, job: JobId) {
        let Some((timing, state)) = wall_parts(&self.rules.jobs[job.index()].timing, &mut self.jobs[job.index()].due) else {
            return;
        };
        let due = state.drain_due(timing, &self.timeline, now.wall, self.rules.grace);
        let (cursor, next) = (state.cursor, state.next);
        let caught_up = (!due.caught_up.is_empty()).then(|| state.caught_up());
        if let Some(next) = next {
            self.wall.push(Reverse((next, self.rank[job.index()], job)));
        }
        self.record(Change::Cursor { job, at: cursor });
        if let Some(caught_up) = caught_up {
            self.record(Change::CaughtUp { job, caught_up });
        }
        if self.jobs[job.index()].paused {
            return;
        }
        self.notify_missed(job, &due);
        let causes = due.caught_up.iter().map(|at| (*at, true)).chain(due.on_time.iter().map(|at| (*at, false)));
        for (scheduled_at, waits_its_turn) in causes {
            let cause = Cause { trigger: TriggerWord::Cron, event: None, scheduled_at, forced: false, waits_its_turn };
            self.trigger(now, job, cause);
        }
    }

    fn notify_missed(&mut self, job: JobId, due: &Due) {
        const REASON: &str =
            "the deadline passed while the machine or the daemon was off, asleep or stopped, or the clock was set past it";
        if let Some(at) = due.older_since {
            let until = due.caught_up.first().or(due.missed.first()).copied().unwrap_or(at);
            let reason = format!("{REASON}; this record is for all deadlines from {at} until {until}, exclusive");
            self.record(Change::Missed { job, at, reason });
        }
        for at in &due.missed {
            self.record(Change::Missed { job, at: *at, reason: REASON.into() });
        }
        if let Some(at) = due.missed.last().copied().or(due.older_since) {
            let count = due.missed.len() + usize::from(due.older_since.is_some());
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.notify(Notice::Missed { job, at, count, reason: REASON.into() });
        }
    }

    fn interval_due(&mut self, now: Now, job: JobId, at: Elapsed) {
        let Timing::Every(grid) = &self.rules_of(job).timing else { return };
        let period = grid.period;
        let scheduled_at = now.wall - now.elapsed.since(at);
        let late = now.elapsed.since(at).as_nanos();
        // Grid points that passed meanwhile (suspend) are one firing; the grid does not move.
        let steps = late / period.as_nanos().max(1) + 1;
        let next = at + saturating_mul(period, steps);
        self.memory(job).due = NextDue::Interval(next);
        self.arm(next, Timer::Interval(job));
        self.record(Change::Anchor { job, at: Now { wall: scheduled_at, elapsed: at } });
        if !self.jobs[job.index()].paused {
            let cause = Cause { trigger: TriggerWord::Interval, event: None, scheduled_at, forced: false, waits_its_turn: false };
            self.trigger(now, job, cause);
        }
    }

    /// True if the clocks have advanced by different amounts since the last event. Both are slewed alike, so only setting the
    /// wall clock does that; differences below a second may come from reading one clock after the other.
    pub(super) fn has_stepped(&self, now: Now) -> bool {
        self.step_by(now) > SHORTEST_GRACE
    }

    fn step_by(&self, now: Now) -> Duration {
        let was = self.last.wall + now.elapsed.since(self.last.elapsed);
        now.wall.since(was).max(was.since(now.wall))
    }

    /// The wall clock was set: recomputes every wall deadline. No elapsed deadline moves.
    pub(super) fn clock_set(&mut self, now: Now) {
        let was = self.last.wall + now.elapsed.since(self.last.elapsed);
        if self.clock != ClockMode::Trusted {
            // Nothing is armed; the timeline is compared with the clock once it can be trusted.
            self.out.push(Effect::CheckClock);
            return;
        }
        // `has_stepped` may have reported this step already.
        if self.step_by(now) >= SMALLEST_STEP {
            self.notify(Notice::ClockSet { by: now.wall.as_nanos().saturating_sub(was.as_nanos()) });
        }
        self.step_timeline(was, now.wall);
        self.rebuild_wall(now.wall);
    }

    pub(super) fn step_timeline(&mut self, was: WallTime, is: WallTime) {
        let before = self.timeline.clone();
        self.timeline.clock_set(was, is, self.rules.grace.max(SHORTEST_GRACE));
        if self.timeline != before {
            self.record(Change::Timeline(self.timeline.clone()));
        }
    }

    /// The wall clock can be trusted from now on, or must be.
    pub(super) fn clock_ready(&mut self, now: Now, synchronized: bool) {
        if self.clock != ClockMode::Trusted {
            self.clock = ClockMode::Trusted;
            self.notify(Notice::ClockReady { synchronized });
            self.arm_wall(now);
        }
    }

    /// Arms every wall deadline. A missing cursor becomes the present; one in the future was written before the clock was
    /// set back, and the timeline handles that.
    pub(super) fn arm_wall(&mut self, now: Now) {
        let latest = self.jobs.iter().filter_map(|job| job.due.wall()).map(|state| state.cursor).max();
        match latest {
            Some(latest) => self.step_timeline(latest, now.wall),
            None => self.timeline.restart(now.wall),
        }
        for job in self.job_ids() {
            let rules = &self.rules.jobs[job.index()];
            if !rules.enabled || !matches!(rules.timing, Timing::Wall(_)) {
                continue;
            }
            let memory = &mut self.jobs[job.index()];
            if memory.due.wall().is_none() {
                memory.due = NextDue::Wall(WallState::new(now.wall, CaughtUp::default()));
                self.record(Change::Cursor { job, at: now.wall });
            }
        }
        self.rebuild_wall(now.wall);
    }

    pub(super) fn rebuild_wall(&mut self, now: WallTime) {
        let mut heap = std::mem::take(&mut self.wall).into_vec();
        heap.clear();
        for (index, (rules, memory)) in (0..).zip(self.rules.jobs.iter().zip(&mut self.jobs)) {
            if let (true, Some((timing, state))) = (rules.enabled, wall_parts(&rules.timing, &mut memory.due)) {
                state.cursor = state.cursor.min(now);
                state.next = state.next_open(timing, &self.timeline, state.cursor);
                if let Some(next) = state.next {
                    heap.push(Reverse((next, self.rank[index as usize], JobId(index))));
                }
            }
        }
        self.wall = heap.into();
    }

    /// Arms an interval, `age` nanoseconds (may be negative) after its stored grid point.
    pub(super) fn arm_interval(&mut self, now: Now, job: JobId, age: Option<i128>) {
        let Timing::Every(grid) = &self.rules_of(job).timing else { return };
        let Grid { period, offset } = **grid;
        let next = match age {
            None => {
                let (wall, elapsed) = (now.wall + offset, now.elapsed + offset);
                self.record(Change::Anchor { job, at: Now { wall, elapsed } });
                elapsed + period
            }
            Some(age) => {
                let nanos = i128::from(now.elapsed.as_nanos()) - age + i128::try_from(period.as_nanos()).unwrap_or(i128::MAX);
                // Overdue: due at once. The instant may lie before this boot, where `Elapsed` can't represent it.
                let far = now.elapsed + saturating_mul(period, 1);
                Elapsed::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)).min(far.max(now.elapsed + offset))
            }
        };
        self.memory(job).due = NextDue::Interval(next);
        self.arm(next, Timer::Interval(job));
    }

    /// Fires `startup` and `@reboot`, once per start of the daemon.
    pub(super) fn run_startup(&mut self, now: Now) {
        for job in self.job_ids() {
            let rules = self.rules_of(job);
            let at_startup = match &rules.timing {
                Timing::Startup => true,
                Timing::Wall(timing) => timing.at_startup,
                Timing::None | Timing::Every(_) => false,
            };
            if at_startup && rules.enabled && !self.jobs[job.index()].paused {
                let cause = Cause {
                    trigger: TriggerWord::Startup,
                    event: None,
                    scheduled_at: now.wall,
                    forced: false,
                    waits_its_turn: false,
                };
                self.trigger(now, job, cause);
            }
        }
    }
}

fn wall_parts<'a>(timing: &'a Timing, due: &'a mut NextDue) -> Option<(&'a WallTiming, &'a mut WallState)> {
    match (timing, due.wall_mut()) {
        (Timing::Wall(timing), Some(state)) => Some((timing, state)),
        _ => None,
    }
}

fn saturating_mul(period: Duration, times: u128) -> Duration {
    let nanos = period.as_nanos().saturating_mul(times);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
