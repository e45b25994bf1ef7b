//! What must hold, by rules written down a second time and as plainly as they can be: the oracle watches the engine's
//! effects, and knows nothing of how the engine decides.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use firelink::dag::Condition;
use firelink::engine::rules::{JobRules, Rules};
use firelink::engine::timing::{Concurrency, Timing};
use firelink::engine::{Change, Effect, Engine, Event, Notice, Request, RunState, Spawn, StopSignal, Waiting};
use firelink::model::{Elapsed, Exit, JobId, Now, Outcome, StateWord, TriggerWord, WallTime};

/// A run, as far as the world outside the engine can know it.
#[derive(Clone, Debug)]
pub struct Run {
    pub job: String,
    pub state: StateWord,
    pub attempt: u32,
    pub forced: bool,
    pub trigger: TriggerWord,
    pub retry_due: Option<Elapsed>,
    pub recorded: bool,
    /// When its present attempt began, if this daemon started it.
    pub begun: Option<Elapsed>,
    pub asked_to_end: bool,
    pub cancelled: bool,
}

/// How a promise was broken.
pub type Broken = String;

#[derive(Clone, Debug, Default)]
pub struct Oracle {
    pub runs: BTreeMap<u64, Run>,
    /// Deadlines that made a run, and those that were recorded as missed: of a job under one schedule.
    ran: HashSet<(String, i64, WallTime)>,
    missed: HashSet<(String, i64, WallTime)>,
    /// Which run an event made.
    events: HashMap<String, u64>,
    /// For each job and dependency: whether its latest end that no run of the job has taken in was a success.
    news: BTreeMap<(String, String), bool>,
    /// The same as it was recorded.
    credits: BTreeMap<(String, String), bool>,
    pub paused: BTreeSet<String>,
    /// The clock was set, or the machine slept: a deadline missed by one clock may come again by another.
    pub unsteady: bool,
    /// The last grid point of each interval that this daemon has seen.
    grid: HashMap<String, Elapsed>,
    /// The highest limits of this daemon: a reload may lower them below the number of runs that have their turn.
    loosest: HashMap<String, usize>,
}

macro_rules! hold {
    ($what:expr, $($said:tt)*) => { if !$what { return Err(format!($($said)*)); } };
}

fn job_of(rules: &Rules, job: JobId) -> &JobRules {
    &rules.jobs[job.index()]
}

pub fn limit_of(rules: &JobRules) -> usize {
    let unlimited = if rules.policy.concurrency == Concurrency::Allow { usize::MAX } else { 1 };
    rules.policy.max_parallel.map_or(unlimited, |limit| limit as usize)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Waits,
    Closed,
}

impl Oracle {
    fn way(&self, rules: &Rules, job: &JobRules) -> Way {
        let news: Vec<Option<bool>> = job
            .depends_on
            .iter()
            .map(|dep| self.news.get(&(job.name.to_string(), job_of(rules, *dep).name.to_string())).copied())
            .collect();
        let all = news.iter().all(Option::is_some);
        let any = |good: bool| news.contains(&Some(good));
        match job.policy.condition {
            Condition::AllSuccess if any(false) => Way::Closed,
            Condition::AllSuccess | Condition::AllDone if all => Way::Open,
            Condition::AnySuccess if any(true) => Way::Open,
            Condition::AnyFailure if any(false) => Way::Open,
            Condition::AnySuccess | Condition::AnyFailure if all => Way::Closed,
            _ => Way::Waits,
        }
    }

    fn take_in(&mut self, job: &str) {
        self.news.retain(|(downstream, _), _| downstream != job);
    }

    fn note_end(&mut self, rules: &Rules, upstream: &str, good: bool) {
        for job in &rules.jobs {
            if job.depends_on.iter().any(|dep| &*job_of(rules, *dep).name == upstream) {
                self.news.insert((job.name.to_string(), upstream.to_owned()), good);
                let gives_up = matches!(job.policy.condition, Condition::AnySuccess | Condition::AnyFailure);
                if gives_up && self.way(rules, job) == Way::Closed {
                    self.take_in(&job.name);
                }
            }
        }
    }

    /// What must be known before the engine handles this.
    pub fn before(&mut self, rules: &Rules, event: &Event) {
        match event {
            Event::Ask(Request::Trigger { job, with_deps: true, .. }) => {
                let mut open = vec![*job];
                let mut known = BTreeSet::new();
                while let Some(job) = open.pop() {
                    if known.insert(job) {
                        self.take_in(&job_of(rules, job).name);
                        open.extend(job_of(rules, job).depends_on.iter().copied());
                    }
                }
            }
            Event::Ask(Request::Cancel(run)) => {
                if let Some(run) = self.runs.get_mut(&run.0) {
                    run.cancelled = true;
                }
            }
            Event::Ask(Request::Pause(job)) => {
                let named =
                    |rules: &JobRules, index: u32| job.is_none_or(|job| job == JobId(index)).then(|| rules.name.to_string());
                self.paused.extend(rules.jobs.iter().zip(0..).filter_map(|(job, index)| named(job, index)));
            }
            Event::Ask(Request::Resume(Some(job))) => {
                self.paused.remove(&*job_of(rules, *job).name);
            }
            Event::Ask(Request::Resume(None)) => self.paused.clear(),
            _ => {}
        }
    }

    /// Watches the effects of one event. `alive` is how many processes there are without those that are started here.
    pub fn watch(
        &mut self,
        now: Now,
        engine: &Engine,
        event: Option<&Event>,
        effects: &[Effect],
        alive: usize,
    ) -> Result<(), Broken> {
        let rules = engine.rules();
        let mut repeats = matches!(event, Some(Event::Ask(Request::Repeat { .. })));
        let mut forces =
            matches!(event, Some(Event::Ask(Request::Trigger { force: true, .. } | Request::Repeat { force: true, .. })));
        let mut started = 0;
        let mut ended: Vec<JobId> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Record(change) => self.watch_change(now, rules, change)?,
                Effect::Spawn(spawn) => {
                    started += 1;
                    let slots = usize::try_from(rules.max_parallel).unwrap();
                    hold!(alive + started <= slots, "{} processes would be alive, and max_parallel is {slots}", alive + started);
                    hold!(!engine.is_stopping(), "run {} starts while the daemon stops", spawn.run);
                    self.watch_spawn(now, rules, spawn)?;
                }
                Effect::Signal { run, signal } => self.watch_signal(now, engine, run.0, *signal)?,
                Effect::Notify(Notice::Triggered { run, job, trigger, scheduled_at }) => {
                    let repeated = std::mem::take(&mut repeats);
                    self.watch_triggered(now, job_of(rules, *job), run.0, *trigger, *scheduled_at, repeated)?;
                    if let (true, Some(run)) = (std::mem::take(&mut forces), self.runs.get_mut(&run.0)) {
                        run.forced = true;
                    }
                }
                Effect::Notify(Notice::Ended { run, job, outcome, reason, .. }) => {
                    ended.push(*job);
                    self.watch_end(rules, *job, run.0, *outcome, reason.as_deref().unwrap_or_default(), event)?;
                }
                Effect::Notify(Notice::WillRetry { run, job, attempt, delay, .. }) => {
                    let Some(retry) = &job_of(rules, *job).policy.retry else {
                        return Err(format!("run {run} is retried, its job has no retry"));
                    };
                    hold!(
                        attempt.0 < retry.attempts,
                        "run {run}: attempt {attempt} of {} is followed by another",
                        retry.attempts
                    );
                    let doubled = retry.backoff.delay * 2_u32.pow(attempt.0.saturating_sub(1).min(20));
                    let most = doubled.min(retry.backoff.max.max(retry.backoff.delay)).max(retry.backoff.delay);
                    hold!(
                        *delay <= most && *delay >= retry.backoff.delay / 2,
                        "run {run} is retried in {delay:?}, which the rules do not say"
                    );
                    if let Some(run) = self.runs.get_mut(&run.0) {
                        (run.state, run.retry_due) = (StateWord::Pending, Some(now.elapsed + *delay));
                    }
                }
                Effect::Stopped | Effect::Load { .. } | Effect::CheckClock | Effect::Triggered { .. } | Effect::Notify(_) => {}
            }
        }
        ended.sort_unstable();
        if ended.windows(2).any(|two| two[0] == two[1]) {
            // Of several ends of a job at one instant the rules do not say before which of them another took them in.
            self.news = self.credits.clone();
        }
        hold!(
            self.credits == self.news,
            "the recorded credits are not what the rules say:\n  recorded: {:?}\n  by the rules: {:?}",
            self.credits,
            self.news
        );
        Ok(())
    }

    fn watch_triggered(
        &mut self,
        now: Now,
        job: &JobRules,
        run: u64,
        trigger: TriggerWord,
        at: WallTime,
        repeated: bool,
    ) -> Result<(), Broken> {
        let last = self.runs.keys().next_back().copied().unwrap_or(0);
        hold!(run == last + 1, "run {run} is made after run {last}");
        if trigger == TriggerWord::Cron && !repeated {
            let deadline = (job.name.to_string(), job.timing.mark(), at);
            hold!(
                self.unsteady || !self.missed.contains(&deadline),
                "{}: the deadline {at} runs and was recorded as missed",
                job.name
            );
            hold!(at <= now.wall, "{}: the deadline {at} fires before its time", job.name);
            hold!(self.ran.insert(deadline), "{}: the deadline {at} fires twice", job.name);
        }
        if let (TriggerWord::Interval, Timing::Every(grid), false) = (trigger, &job.timing, repeated) {
            let late = now.wall.since(at).as_nanos();
            let point = Elapsed::from_nanos(now.elapsed.as_nanos().saturating_sub(u64::try_from(late).unwrap()));
            if let Some(before) = self.grid.insert(job.name.to_string(), point) {
                let off = point.since(before).as_nanos() % grid.period.as_nanos();
                hold!(point > before, "{}: its interval fires twice", job.name);
                hold!(off == 0, "{}: its interval left its grid by {off} ns", job.name);
            }
        }
        let run_is = Run {
            job: job.name.to_string(),
            state: StateWord::Pending,
            attempt: 0,
            forced: false,
            trigger,
            retry_due: None,
            recorded: false,
            begun: None,
            asked_to_end: false,
            cancelled: false,
        };
        self.runs.insert(run, run_is);
        Ok(())
    }

    fn watch_spawn(&mut self, now: Now, rules: &Rules, spawn: &Spawn) -> Result<(), Broken> {
        let job = job_of(rules, spawn.job);
        let name = &job.name;
        let Some(run) = self.runs.get(&spawn.run.0) else { return Err(format!("run {} starts and was never made", spawn.run)) };
        hold!(!run.state.is_end(), "run {} of {name} starts and has ended", spawn.run);
        hold!(
            run.attempt + 1 == spawn.attempt.0,
            "run {} of {name}: attempt {} follows {}",
            spawn.run,
            spawn.attempt,
            run.attempt
        );
        hold!(run.state == StateWord::Pending, "run {} of {name} starts and is {}", spawn.run, run.state);
        if let Some(due) = run.retry_due {
            hold!(due <= now.elapsed, "run {} of {name} is retried {:?} too early", spawn.run, due.since(now.elapsed));
        }
        let forced = run.forced;
        if spawn.attempt.0 == 1 {
            if !forced {
                hold!(!self.paused.contains(&**name), "run {} of {name} starts, and {name} is paused", spawn.run);
                self.watch_turn(job, spawn.run.0)?;
            }
            self.watch_dependencies(rules, job, spawn.run.0, forced)?;
        }
        let run = self.runs.get_mut(&spawn.run.0).expect("seen above");
        (run.state, run.attempt, run.begun, run.asked_to_end) = (StateWord::Running, spawn.attempt.0, Some(now.elapsed), false);
        Ok(())
    }

    fn watch_turn(&mut self, job: &JobRules, run: u64) -> Result<(), Broken> {
        let limit = limit_of(job);
        let loosest = self.loosest.entry(job.name.to_string()).or_insert(limit);
        *loosest = (*loosest).max(limit);
        let others = self.runs.iter().filter(|(id, other)| **id != run && *other.job == *job.name);
        let alive: Vec<&Run> = others.map(|(_, run)| run).filter(|run| run.state == StateWord::Running).collect();
        let crowded = alive.len() + 1 > *loosest && !alive.iter().any(|run| run.forced);
        hold!(!crowded, "run {run} of {} starts beside {} others, and {limit} may run at once", job.name, alive.len());
        Ok(())
    }

    /// The first start of a run: its dependencies must allow it, and are taken in.
    fn watch_dependencies(&mut self, rules: &Rules, job: &JobRules, run: u64, forced: bool) -> Result<(), Broken> {
        if job.depends_on.is_empty() {
            return Ok(());
        }
        let name = &job.name;
        hold!(
            forced || self.way(rules, job) == Way::Open,
            "run {run} of {name} starts before its dependencies allow it: {:?}",
            self.news
        );
        self.take_in(name);
        Ok(())
    }

    fn watch_signal(&mut self, now: Now, engine: &Engine, id: u64, signal: StopSignal) -> Result<(), Broken> {
        let Some(run) = self.runs.get_mut(&id) else { return Err(format!("run {id} is signalled and was never made")) };
        hold!(run.state == StateWord::Running, "run {id} is signalled and is {}", run.state);
        let Some(job) = engine.rules().jobs.iter().find(|job| *job.name == *run.job) else { return Ok(()) };
        let overdue = match (job.policy.timeout, run.begun) {
            (Some(timeout), Some(begun)) => now.elapsed >= begun + timeout,
            // An earlier daemon started it, so only the wall clock shows how long it has run.
            (Some(_), None) => true,
            (None, _) => false,
        };
        let reason = overdue
            || run.cancelled
            || engine.is_stopping()
            || job.policy.concurrency == Concurrency::Replace
            || run.asked_to_end;
        hold!(reason, "run {id} of {} is asked to end ({signal:?}) without a reason", run.job);
        run.asked_to_end = true;
        Ok(())
    }

    fn watch_end(
        &mut self,
        rules: &Rules,
        job: JobId,
        id: u64,
        outcome: Outcome,
        reason: &str,
        event: Option<&Event>,
    ) -> Result<(), Broken> {
        let job = job_of(rules, job);
        let name = job.name.to_string();
        let Some(run) = self.runs.get(&id).cloned() else { return Err(format!("run {id} ends and was never made")) };
        hold!(!run.state.is_end(), "run {id} of {name} ends twice: {} and {}", run.state, outcome.word());
        let forbidden = outcome == Outcome::Skipped && (reason.starts_with("run ") || reason.starts_with("a run is"));
        let removed = outcome == Outcome::Skipped && reason.starts_with("its job was removed");
        if outcome == Outcome::Succeeded {
            if job.milestone && run.attempt == 0 {
                let forced = run.forced;
                hold!(forced || !self.paused.contains(&name), "run {id} of {name} goes on, and {name} is paused");
                self.watch_dependencies(rules, job, id, forced)?;
            } else {
                let exited = matches!(event, Some(Event::Exited { run, exit: Exit::Code(_), .. }) if run.0 == id);
                hold!(exited, "run {id} of {name} succeeded, and no process of it has just ended well");
            }
        }
        if forbidden && run.trigger == TriggerWord::AfterDeps {
            self.take_in(&name);
        }
        if !forbidden && !removed {
            self.note_end(rules, &name, outcome == Outcome::Succeeded);
        }
        let run = self.runs.get_mut(&id).expect("seen above");
        run.state = outcome.word();
        Ok(())
    }

    fn watch_change(&mut self, now: Now, rules: &Rules, change: &Change) -> Result<(), Broken> {
        match change {
            Change::Run { new, record } => {
                let id = record.id.0;
                let Some(run) = self.runs.get_mut(&id) else { return Err(format!("run {id} is recorded and was never made")) };
                hold!(*new != run.recorded, "run {id} is recorded as new: {new}, and it was recorded before: {}", run.recorded);
                hold!(record.attempt.0 >= run.attempt, "run {id}: the attempts went back to {}", record.attempt);
                let word = record.word();
                hold!(!run.state.is_end() || run.state == word, "run {id} was {} and is {word}", run.state);
                hold!(word != StateWord::Running || run.state == word, "run {id} is {word} and no process of it was started");
                if let (RunState::Pending(Waiting::Retry { due, .. }), true) = (&record.state, run.retry_due.is_none()) {
                    run.retry_due = Some(*due);
                }
                (run.recorded, run.forced, run.state, run.attempt) = (true, record.forced, word, record.attempt.0);
                if let (true, Some(event)) = (*new, &record.event)
                    && let Some(before) = self.events.insert(event.to_string(), id)
                {
                    return Err(format!("the event {event} made run {before} and run {id}"));
                }
            }
            Change::Missed { job, at, .. } => {
                let rules = job_of(rules, *job);
                let deadline = (rules.name.to_string(), rules.timing.mark(), *at);
                hold!(!self.ran.contains(&deadline), "{}: the deadline {at} is recorded as missed and has run", rules.name);
                hold!(*at < now.wall, "{}: the deadline {at} is missed before its time", rules.name);
                self.missed.insert(deadline);
            }
            Change::Credit { job, upstream, outcome } => {
                let key = (job_of(rules, *job).name.to_string(), job_of(rules, *upstream).name.to_string());
                match outcome {
                    Some(outcome) => self.credits.insert(key, *outcome == Outcome::Succeeded),
                    None => self.credits.remove(&key),
                };
            }
            Change::SkipStored { job, from, .. } => {
                let name = &job_of(rules, *job).name;
                let waits = |run: &Run| run.state == StateWord::Pending && !run.forced && run.attempt == 0;
                for (_, run) in self.runs.range_mut(from.0..).filter(|(_, run)| *run.job == **name && waits(run)) {
                    run.state = StateWord::Skipped;
                }
            }
            Change::Cursor { .. } | Change::CaughtUp { .. } | Change::Anchor { .. } => {}
            Change::Paused { .. } | Change::Timeline(_) | Change::AttemptFailed { .. } => {}
        }
        Ok(())
    }

    /// A person repeats a run with its event.
    pub fn repeat_event(&mut self, event: Option<&str>) {
        if let Some(event) = event {
            self.events.remove(event);
        }
    }

    /// Nothing more happens at this instant: what could go on must have.
    pub fn at_rest(&self, now: Now, engine: &mut Engine, alive: usize, cancelled: bool) -> Result<(), Broken> {
        let due = engine.next_deadlines();
        hold!(due.wall.is_none_or(|at| at > now.wall), "a wall deadline is due and nothing is done about it: {:?}", due.wall);
        hold!(due.elapsed.is_none_or(|at| at > now.elapsed), "a timer is due and nothing is done about it: {:?}", due.elapsed);
        hold!(
            usize::try_from(engine.alive()).unwrap() == alive,
            "{alive} processes are alive, and the engine thinks that {} are",
            engine.alive()
        );
        if engine.is_stopping() {
            return Ok(());
        }
        let active = engine.active();
        let rules = engine.rules();
        let slot = active.iter().find(|run| run.state == RunState::Pending(Waiting::Slot));
        if let Some(run) = slot {
            hold!(alive >= rules.max_parallel as usize, "run {} waits for a slot, and there is one", run.id);
        }
        let again = active.iter().find(|run| run.attempt.0 > 0 && run.state == RunState::Pending(Waiting::Turn));
        hold!(again.is_none(), "a run that was tried before waits for its turn once more: {again:?}");
        for (job, index) in rules.jobs.iter().zip(0..) {
            let unended = self.runs.values().filter(|run| !run.state.is_end() && *run.job == *job.name).count();
            let known = engine.unended(JobId(index));
            hold!(unended == known, "{unended} runs of {} have not ended, and the engine thinks that {known} have not", job.name);
            let of_job: Vec<_> = active.iter().filter(|run| run.job == JobId(index)).collect();
            let name = &job.name;
            if self.paused.contains(&**name) {
                continue;
            }
            let ready = job.depends_on.is_empty() || self.way(rules, job) == Way::Open;
            let idle = of_job.iter().all(|run| run.state == RunState::Pending(Waiting::Turn));
            if let (true, true, Some(run)) = (ready, idle, of_job.first()) {
                return Err(format!("run {} of {name} waits, and nothing holds it", run.id));
            }
            let by_itself = job.enabled && job.is_triggered_by_dependencies() && engine.unended(JobId(index)) == 0;
            // A person who cancels a run that the dependencies made does not want the next one at once.
            hold!(cancelled || !(by_itself && ready), "the dependencies of {name} are satisfied, and it does not run");
        }
        for run in &active {
            let RunState::Running(process) = &run.state else { continue };
            let job = job_of(rules, run.job);
            if let (Some(timeout), None, Some(Run { begun: Some(begun), .. })) =
                (job.policy.timeout, process.stop, self.runs.get(&run.id.0))
            {
                hold!(now.elapsed < *begun + timeout, "run {} of {} runs past its timeout", run.id, job.name);
            }
        }
        Ok(())
    }

    /// Time went by while the daemon was up and the clock was not set: each deadline has made a run.
    pub fn nothing_passed_by(&self, rules: &Rules, from: WallTime, to: WallTime) -> Result<(), Broken> {
        for job in rules.jobs.iter().filter(|job| job.enabled && !self.paused.contains(&*job.name)) {
            let Timing::Wall(timing) = &job.timing else { continue };
            let mut at = timing.next_after(from);
            while let Some(deadline) = at.filter(|at| *at <= to) {
                let known = (job.name.to_string(), job.timing.mark(), deadline);
                hold!(self.ran.contains(&known), "{}: the deadline {deadline} passed and made no run", job.name);
                at = timing.next_after(deadline);
            }
        }
        Ok(())
    }

    /// Another daemon starts: it is not held to what it has not seen itself.
    pub fn restart(&mut self) {
        self.grid.clear();
        self.loosest.clear();
        for run in self.runs.values_mut() {
            (run.begun, run.asked_to_end, run.retry_due) = (None, false, None);
        }
    }

    /// The configuration has changed.
    pub fn reload(&mut self, rules: &Rules) {
        self.grid.clear();
        self.keep_edges(rules);
        self.paused.retain(|name| rules.jobs.iter().any(|job| *job.name == *name));
    }

    /// Ends of dependencies that were removed count no more.
    pub fn keep_edges(&mut self, rules: &Rules) {
        let edge = |downstream: &str, upstream: &str| {
            let job = rules.jobs.iter().find(|job| &*job.name == downstream);
            job.is_some_and(|job| job.depends_on.iter().any(|dep| &*job_of(rules, *dep).name == upstream))
        };
        self.news.retain(|(downstream, upstream), _| edge(downstream, upstream));
        self.credits.retain(|(downstream, upstream), _| edge(downstream, upstream));
    }

    /// The runs that have not ended, in this state.
    pub fn in_state(&self, word: StateWord) -> Vec<u64> {
        self.runs.iter().filter(|(_, run)| run.state == word).map(|(id, _)| *id).collect()
    }

    /// What a restart must bring back of one job: whether it is paused, and the ends that no run took in.
    pub fn news_of(&self, job: &str) -> Vec<(String, bool)> {
        self.news
            .range((job.to_owned(), String::new())..)
            .take_while(|((of, _), _)| of == job)
            .map(|((_, up), good)| (up.clone(), *good))
            .collect()
    }

    /// How many runs this event made: 0 or 1.
    pub fn has_event(&self, event: &str) -> bool {
        self.events.contains_key(event)
    }

    /// These limits end; runs that have their turn under them keep it.
    pub fn remember_limits(&mut self, rules: &Rules) {
        for job in &rules.jobs {
            let loosest = self.loosest.entry(job.name.to_string()).or_default();
            *loosest = (*loosest).max(limit_of(job));
        }
    }
}
