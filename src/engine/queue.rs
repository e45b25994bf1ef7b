//! Where each run is: the one owner of the runs in memory, of each job's queue, and of the slots.
//!
//! | place | [`RunState`] | listed in | leaves by |
//! | --- | --- | --- | --- |
//! | new | `Pending(Turn)` | nothing, until the next move | `enqueue`, `claim`, `end` |
//! | waiting | `Pending(Turn)` | `waiting` of its job | `claim_next`, `end` |
//! | stored | not in memory | counted in `stored` of its job | `load`, `drop_stored` |
//! | ready | `Pending(Slot)` | `claimed` of its job, `ready` | `start`, `unclaim`, `end` |
//! | retrying | `Pending(Retry)` | `claimed` of its job | `retry_due`, `end` |
//! | alive | `Running` | `claimed` of its job; counted in `alive` | `retry`, `end` |
//! | ended | `Ended` | nothing, until `take_changes` | |
//!
//! Only the moves in this file change a place, and each ends with [`RunQueues::check`]: the fields are private, so what holds
//! at the end of one move holds at the beginning of the next. A move is about places alone: what follows from it (records,
//! notices, timers) is its caller's.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::MAX_IN_MEMORY;
use super::event::Change;
use super::run::{End, Process, RunRecord, RunState, Waiting};
use crate::model::{Attempt, Elapsed, JobId, Now, RunId, WallTime};

/// Past this many runs or jobs [`RunQueues::check`] looks at counts only: a check of everything after each move would make
/// a test with ten thousand runs quadratic.
const FULL_CHECK: usize = 64;

/// All runs that have not ended, but for those that only the store holds.
#[derive(Debug)]
pub(super) struct RunQueues {
    runs: HashMap<RunId, Tracked>,
    /// A job's queue exists only while the job has runs: most jobs are idle most of the time.
    jobs: Box<[Option<Box<JobQueue>>]>,
    /// Each job's place in the order of names.
    rank: Arc<[u32]>,
    /// Runs that wait only for a slot, in the order in which they get one.
    ready: BTreeSet<ReadyKey>,
    /// Attempts whose process has not ended.
    alive: u32,
    /// Runs whose record has changed since [`RunQueues::take_changes`], each once.
    changed: Vec<RunId>,
}

/// Due time, then name, then number.
type ReadyKey = (WallTime, u32, RunId);

/// A run in memory and whether the store knows its present state.
#[derive(Debug)]
struct Tracked {
    record: RunRecord,
    new: bool,
    changed: bool,
}

/// The runs of one job that have not ended.
#[derive(Debug)]
struct JobQueue {
    /// Runs that wait for their dependencies or their turn, oldest first. [`MAX_IN_MEMORY`] bounds what is enqueued and
    /// loaded; a pause may put claimed ones back on top.
    waiting: VecDeque<RunId>,
    /// Waiting runs that only the store holds, all younger than those in `waiting`.
    stored: u64,
    /// No stored run has a lower number.
    stored_from: RunId,
    /// A load was requested and not yet answered.
    loading: bool,
    /// Runs that have had their turn: ready, retrying or alive.
    claimed: Vec<RunId>,
}

impl JobQueue {
    const EMPTY: JobQueue =
        JobQueue { waiting: VecDeque::new(), stored: 0, stored_from: RunId(0), loading: false, claimed: Vec::new() };
}

/// The queue of an idle job.
static NO_RUNS: JobQueue = JobQueue::EMPTY;

impl JobQueue {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.claimed.is_empty() && self.stored == 0 && !self.loading
    }

    fn push_back(&mut self, run: RunId) {
        debug_assert!(self.waiting.back().is_none_or(|last| *last < run), "{run} is enqueued behind a younger run");
        self.waiting.push_back(run);
    }

    fn push_front(&mut self, run: RunId) {
        debug_assert!(self.waiting.front().is_none_or(|first| run < *first), "{run} is put back before an older run");
        self.waiting.push_front(run);
    }

    fn remove_waiting(&mut self, run: RunId) {
        if self.waiting.front() == Some(&run) {
            self.waiting.pop_front();
        } else {
            self.waiting.retain(|waiting| *waiting != run);
        }
    }

    fn unclaim(&mut self, run: RunId) {
        self.claimed.retain(|claimed| *claimed != run);
    }
}

fn queue_of(jobs: &mut [Option<Box<JobQueue>>], job: JobId) -> &mut JobQueue {
    jobs[job.index()].get_or_insert_with(|| Box::new(JobQueue::EMPTY))
}

fn ready_key(rank: &[u32], record: &RunRecord) -> ReadyKey {
    (record.scheduled_at, rank[record.job.index()], record.id)
}

/// Questions.
impl RunQueues {
    /// Without a run. `rank` is each job's place in the order of names.
    pub fn new(rank: Arc<[u32]>) -> RunQueues {
        RunQueues {
            runs: HashMap::new(),
            jobs: rank.iter().map(|_| None).collect(),
            rank,
            ready: BTreeSet::new(),
            alive: 0,
            changed: Vec::new(),
        }
    }

    fn queue(&self, job: JobId) -> &JobQueue {
        self.jobs[job.index()].as_deref().unwrap_or(&NO_RUNS)
    }

    /// A run in memory; an ended one until its record is taken.
    pub fn get(&self, run: RunId) -> Option<&RunRecord> {
        self.runs.get(&run).map(|tracked| &tracked.record)
    }

    /// Every run in memory, in no order.
    pub fn records(&self) -> impl Iterator<Item = &RunRecord> {
        self.runs.values().map(|tracked| &tracked.record)
    }

    /// The attempts that are alive, by run.
    pub fn running(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> =
            self.records().filter(|record| matches!(record.state, RunState::Running(_))).map(|record| record.id).collect();
        runs.sort_unstable();
        runs
    }

    /// How many attempts are alive.
    pub fn alive(&self) -> u32 {
        self.alive
    }

    /// Runs of a job that are active in the sense of `concurrency`, those in the store included.
    pub fn active(&self, job: JobId) -> usize {
        let queue = self.queue(job);
        let stored = usize::try_from(queue.stored).unwrap_or(usize::MAX);
        queue.waiting.len().saturating_add(queue.claimed.len()).saturating_add(stored)
    }

    /// The active run that a skipped one names as its reason.
    pub fn first_active(&self, job: JobId) -> Option<RunId> {
        let queue = self.queue(job);
        queue.claimed.first().or(queue.waiting.front()).copied()
    }

    /// Runs of a job that wait for their dependencies or their turn, oldest first, without those in the store.
    pub fn waiting(&self, job: JobId) -> &VecDeque<RunId> {
        &self.queue(job).waiting
    }

    /// Runs of a job that have had their turn, in that order.
    pub fn claimed(&self, job: JobId) -> &[RunId] {
        &self.queue(job).claimed
    }

    /// Waiting runs of a job that only the store holds.
    pub fn stored(&self, job: JobId) -> u64 {
        self.queue(job).stored
    }

    /// The run that gets the next free slot.
    pub fn first_ready(&self) -> Option<RunId> {
        self.ready.first().map(|(_, _, run)| *run)
    }

    /// The run whose start will consume the job's credits: no other may be claimed because of them.
    pub fn credit_holder(&self, job: JobId) -> Option<RunId> {
        let holds = |run: &RunId| self.get(*run).is_some_and(RunRecord::holds_credits);
        self.queue(job).claimed.iter().copied().find(holds)
    }

    /// The process of a run that is alive.
    pub fn process(&self, run: RunId) -> Option<Process> {
        match self.get(run)?.state {
            RunState::Running(process) => Some(process),
            RunState::Pending(_) | RunState::Ended(_) => None,
        }
    }

    /// The same, to note its pid or why it is to end; that changes no place.
    pub fn process_mut(&mut self, run: RunId) -> Option<&mut Process> {
        match self.runs.get_mut(&run).map(|tracked| &mut tracked.record.state) {
            Some(RunState::Running(process)) => Some(process),
            Some(RunState::Pending(_) | RunState::Ended(_)) | None => None,
        }
    }
}

/// Moves.
impl RunQueues {
    /// A new run, which the next move must place.
    pub fn add(&mut self, record: RunRecord) {
        debug_assert_eq!(record.state, RunState::Pending(Waiting::Turn));
        let (run, job) = (record.id, record.job);
        let before = self.runs.insert(run, Tracked { record, new: true, changed: false });
        debug_assert!(before.is_none(), "run {run} was added before");
        self.mark_changed(run);
        self.check(job);
    }

    /// New to waiting, or to the store if memory has enough of the job's runs: what the store must write then.
    pub fn enqueue(&mut self, run: RunId) -> Option<Change> {
        let job = self.get(run)?.job;
        let queue = queue_of(&mut self.jobs, job);
        let evicts = queue.stored > 0 || queue.waiting.len() >= MAX_IN_MEMORY;
        let mut change = None;
        if evicts {
            if queue.stored == 0 {
                queue.stored_from = run;
            }
            queue.stored += 1;
            self.changed.retain(|changed| *changed != run);
            change = self.runs.remove(&run).map(|Tracked { record, new, .. }| Change::Run { new, record: Box::new(record) });
        } else {
            queue.push_back(run);
        }
        self.check(job);
        change
    }

    /// New to ready, whatever else waits: a forced run.
    pub fn claim(&mut self, run: RunId) {
        if let Some(job) = self.make_ready(run) {
            queue_of(&mut self.jobs, job).claimed.push(run);
            self.check(job);
        }
    }

    /// The oldest waiting run of a job to ready. `limit` is how many of the job's runs may be claimed at once.
    pub fn claim_next(&mut self, job: JobId, limit: usize) -> Option<RunId> {
        let queue = queue_of(&mut self.jobs, job);
        debug_assert!(queue.claimed.len() < limit, "the job has no turn left");
        let run = queue.waiting.pop_front()?;
        queue.claimed.push(run);
        self.make_ready(run);
        self.check(job);
        Some(run)
    }

    /// Ready to the head of waiting: its turn has to come again.
    pub fn unclaim(&mut self, run: RunId) {
        let Some(record) = self.runs.get_mut(&run).map(|tracked| &mut tracked.record) else { return };
        debug_assert!(record.holds_credits(), "only a first attempt that was not forced gives its turn back");
        record.state = RunState::Pending(Waiting::Turn);
        let job = record.job;
        self.ready.remove(&ready_key(&self.rank, record));
        let queue = queue_of(&mut self.jobs, job);
        queue.unclaim(run);
        queue.push_front(run);
        self.check(job);
    }

    /// Ready to alive: the next attempt begins. `slots` is how many may be alive at once.
    pub fn start(&mut self, run: RunId, now: Now, slots: u32) -> Option<&RunRecord> {
        debug_assert!(self.alive < slots, "no slot is free");
        let record = &mut self.runs.get_mut(&run)?.record;
        debug_assert_eq!(record.state, RunState::Pending(Waiting::Slot));
        self.ready.remove(&ready_key(&self.rank, record));
        record.started_at.get_or_insert(now.wall);
        record.attempt = record.attempt.next();
        record.state = RunState::Running(Process { pid: None, since: now.wall, begun: now.elapsed, stop: None, adopted: false });
        self.alive += 1;
        let job = record.job;
        self.mark_changed(run);
        self.check(job);
        self.get(run)
    }

    /// Alive to retrying: keeps its turn, not its slot. One that is retrying already gets another time.
    pub fn retry(&mut self, run: RunId, not_before: WallTime, due: Elapsed) {
        let Some(record) = self.runs.get_mut(&run).map(|tracked| &mut tracked.record) else { return };
        debug_assert!(matches!(record.state, RunState::Running(_) | RunState::Pending(Waiting::Retry { .. })));
        self.alive -= u32::from(matches!(record.state, RunState::Running(_)));
        record.state = RunState::Pending(Waiting::Retry { not_before, due });
        let job = record.job;
        self.mark_changed(run);
        self.check(job);
    }

    /// Retrying to ready.
    pub fn retry_due(&mut self, run: RunId) {
        let retrying = |record: &RunRecord| matches!(record.state, RunState::Pending(Waiting::Retry { .. }));
        if self.get(run).is_some_and(retrying)
            && let Some(job) = self.make_ready(run)
        {
            self.check(job);
        }
    }

    /// From any place to ended; returns the record, or nothing if the run is not in memory.
    pub fn end(&mut self, run: RunId, end: End) -> Option<&RunRecord> {
        let record = &mut self.runs.get_mut(&run)?.record;
        debug_assert!(!matches!(record.state, RunState::Ended(_)), "run {run} ends twice");
        let job = record.job;
        self.ready.remove(&ready_key(&self.rank, record));
        self.alive -= u32::from(matches!(record.state, RunState::Running(_)));
        let was = std::mem::replace(&mut record.state, RunState::Ended(end));
        if let Some(queue) = &mut self.jobs[job.index()] {
            if was == RunState::Pending(Waiting::Turn) {
                queue.remove_waiting(run);
            }
            queue.unclaim(run);
        }
        self.mark_changed(run);
        self.check(job);
        self.get(run)
    }

    /// What to load of a job's stored runs, once half of those in memory are gone: the lowest number and how many.
    pub fn start_loading(&mut self, job: JobId) -> Option<(RunId, usize)> {
        let queue = self.jobs[job.index()].as_deref_mut()?;
        if queue.stored == 0 || queue.loading || queue.waiting.len() > MAX_IN_MEMORY / 2 {
            return None;
        }
        queue.loading = true;
        Some((queue.stored_from, MAX_IN_MEMORY - queue.waiting.len()))
    }

    /// Stored to waiting: the answer to [`RunQueues::start_loading`].
    pub fn load(&mut self, job: JobId, records: Vec<RunRecord>) {
        let queue = queue_of(&mut self.jobs, job);
        queue.loading = false;
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        // An empty answer means that the store has none, whatever was counted.
        queue.stored = if records.is_empty() { 0 } else { queue.stored.saturating_sub(count) };
        for record in records {
            let run = record.id;
            queue.stored_from = RunId(run.0 + 1);
            self.runs.entry(run).or_insert_with(|| {
                queue.push_back(run);
                Tracked { record, new: false, changed: false }
            });
        }
        self.check(job);
    }

    /// Stored to ended, in the store: the number from which on it must end them, if there are any.
    pub fn drop_stored(&mut self, job: JobId) -> Option<RunId> {
        let queue = self.jobs[job.index()].as_deref_mut()?;
        let from = (std::mem::take(&mut queue.stored) > 0).then_some(queue.stored_from);
        self.check(job);
        from
    }

    /// Deletes a job's queue if nothing is in it; true if the job has none now.
    pub fn trim_job(&mut self, job: JobId) -> bool {
        let queue = &mut self.jobs[job.index()];
        if queue.as_ref().is_some_and(|queue| queue.is_empty()) {
            *queue = None;
        }
        queue.is_none()
    }

    /// A run that an earlier daemon left, to the place that its state names. A run that was tried before, or forced, has had
    /// its turn and keeps it.
    pub fn restore(&mut self, mut record: RunRecord) {
        let (run, job) = (record.id, record.job);
        let claimed = record.forced || record.attempt != Attempt::default();
        if record.state == RunState::Pending(Waiting::Slot) {
            // Whether it gets a slot is decided again.
            record.state = RunState::Pending(Waiting::Turn);
        }
        let state = record.state.clone();
        self.runs.insert(run, Tracked { record, new: false, changed: false });
        let queue = queue_of(&mut self.jobs, job);
        match state {
            RunState::Running(_) => {
                queue.claimed.push(run);
                self.alive += 1;
            }
            RunState::Pending(Waiting::Retry { .. }) => queue.claimed.push(run),
            RunState::Pending(_) if claimed => return self.claim(run),
            RunState::Pending(_) => queue.push_back(run),
            RunState::Ended(_) => debug_assert!(false, "run {run} was restored and has ended"),
        }
        self.check(job);
    }

    /// So many runs of a job are in the store only, none of them numbered below `from`.
    pub fn restore_stored(&mut self, job: JobId, count: u64, from: RunId) {
        if count > 0 {
            let queue = queue_of(&mut self.jobs, job);
            (queue.stored, queue.stored_from) = (count, from);
        }
    }

    /// Everything of `old`, whose jobs have these ids now. A job without one has no run left.
    pub fn take_over(&mut self, old: RunQueues, new_ids: &[Option<JobId>]) {
        for (queue, job) in old.jobs.into_iter().zip(new_ids) {
            if let Some(job) = job {
                self.jobs[job.index()] = queue;
            }
        }
        self.alive = old.alive;
        self.changed = old.changed;
        for (run, mut tracked) in old.runs {
            let Some(job) = new_ids[tracked.record.job.index()] else { continue };
            tracked.record.job = job;
            if tracked.record.state == RunState::Pending(Waiting::Slot) {
                self.ready.insert(ready_key(&self.rank, &tracked.record));
            }
            self.runs.insert(run, tracked);
        }
        self.check_all();
    }

    fn make_ready(&mut self, run: RunId) -> Option<JobId> {
        let record = &mut self.runs.get_mut(&run)?.record;
        record.state = RunState::Pending(Waiting::Slot);
        self.ready.insert(ready_key(&self.rank, record));
        Some(record.job)
    }
}

/// Records for the store.
impl RunQueues {
    /// The run goes to the store with the next [`RunQueues::take_changes`], in the state that it has then.
    pub fn mark_changed(&mut self, run: RunId) {
        if let Some(tracked) = self.runs.get_mut(&run)
            && !tracked.changed
        {
            tracked.changed = true;
            self.changed.push(run);
        }
    }

    /// A milestone starts without a process.
    pub fn set_started_at(&mut self, run: RunId, at: WallTime) {
        if let Some(tracked) = self.runs.get_mut(&run) {
            tracked.record.started_at.get_or_insert(at);
        }
    }

    /// The records that have changed, in the order of their first changes. Ended runs leave memory.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.changed.len());
        for run in std::mem::take(&mut self.changed) {
            let Some(tracked) = self.runs.get_mut(&run) else { continue };
            let new = std::mem::take(&mut tracked.new);
            tracked.changed = false;
            let ended = matches!(tracked.record.state, RunState::Ended(_));
            let record = if ended { self.runs.remove(&run).map(|tracked| tracked.record) } else { Some(tracked.record.clone()) };
            changes.extend(record.map(|record| Change::Run { new, record: Box::new(record) }));
        }
        changes
    }

    /// Releases memory that only a burst needed.
    pub fn shrink(&mut self) {
        self.changed.shrink_to_fit();
    }
}

/// Invariants.
impl RunQueues {
    /// What holds after each move of a run of this job; debug builds only.
    fn check(&self, job: JobId) {
        if !cfg!(debug_assertions) {
            return;
        }
        let queue = self.queue(job);
        let oldest_stored = queue.waiting.back().is_none_or(|last| queue.stored == 0 || *last < queue.stored_from);
        debug_assert!(oldest_stored, "a stored run of job {} is older than one in memory", job.0);
        debug_assert!(self.ready.len() + self.alive as usize <= self.runs.len(), "more ready and alive runs than runs");
        if self.runs.len() <= FULL_CHECK && self.jobs.len() <= FULL_CHECK {
            self.check_all();
        }
    }

    /// Each run is in exactly one place, which is the one that its state names, and the counts are those of the lists.
    fn check_all(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (mut waiting, mut claimed) = (0, 0);
        for (queue, job) in self.jobs.iter().zip(0..).filter_map(|(queue, job)| Some((queue.as_ref()?, JobId(job)))) {
            debug_assert!(queue.waiting.iter().is_sorted(), "job {}: waiting runs are out of order", job.0);
            for run in &queue.waiting {
                let is_here = |record: &RunRecord| record.job == job && record.state == RunState::Pending(Waiting::Turn);
                debug_assert!(self.get(*run).is_some_and(is_here), "run {run} does not wait for its turn: {:?}", self.get(*run));
            }
            for run in &queue.claimed {
                let is_here = |record: &RunRecord| match record.state {
                    RunState::Pending(Waiting::Slot) => self.ready.contains(&ready_key(&self.rank, record)),
                    RunState::Pending(Waiting::Retry { .. }) | RunState::Running(_) => true,
                    RunState::Pending(Waiting::Turn) | RunState::Ended(_) => false,
                };
                let found = self.get(*run).filter(|record| record.job == job);
                debug_assert!(found.is_some_and(is_here), "run {run} is claimed and should not be: {found:?}");
            }
            waiting += queue.waiting.len();
            claimed += queue.claimed.len();
        }
        let count = |test: fn(&RunState) -> bool| self.records().filter(|record| test(&record.state)).count();
        let ended = count(|state| matches!(state, RunState::Ended(_)));
        let new = self.runs.len() - ended - waiting - claimed;
        debug_assert!(new <= 1, "{new} runs are in no list");
        debug_assert_eq!(self.ready.len(), count(|state| *state == RunState::Pending(Waiting::Slot)), "ready runs");
        debug_assert_eq!(self.alive as usize, count(|state| matches!(state, RunState::Running(_))), "attempts alive");
    }
}
