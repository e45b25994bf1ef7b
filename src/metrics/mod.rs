//! Numbers for Prometheus: plain counts that the loop keeps as things happen, and their text when somebody asks.
//!
//! Counting is an addition to a place that a job's number leads to; nothing is formatted, locked or woken by it. Whoever
//! asks gets a [`Snapshot`], a copy of all numbers, and makes text of it where that holds nobody up: the window on its
//! own thread, the loop itself only for a textfile. Where the configuration has neither `web` nor `metrics` there are no
//! counts at all.
//!
//! The number of series is bounded: a job has series of its own if it is among the first [`MOST_JOBS`] of the
//! configuration; all others share the label [`OTHER`].

mod process;
mod text;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{JobId, Outcome, WallTime};
pub use process::Process;
pub use text::Format;

/// Jobs with series of their own. A job has some twenty, so a scrape is a few thousand lines at most.
pub const MOST_JOBS: usize = 200;

/// What the jobs beyond those share.
pub const OTHER: &str = "_other";

/// From a blink to a day, in seconds.
const DURATIONS: [f64; 12] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// From half of the budget's millisecond to the default grace, in seconds.
const DELAYS: [f64; 11] = [0.000_5, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// The ways in which runs end; an outcome's place in the counts is its place here.
const OUTCOMES: [Outcome; 6] =
    [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Cancelled, Outcome::Skipped, Outcome::Lost];

/// How many observations fell below each bound.
#[derive(Clone, Debug, PartialEq)]
struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// Of each bound alone, not of those below it.
    counts: [u64; N],
    /// Above the last bound.
    above: u64,
    sum: f64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [f64; N]) -> Histogram<N> {
        Histogram { bounds, counts: [0; N], above: 0, sum: 0.0 }
    }

    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.sum += seconds;
        match self.bounds.iter().position(|bound| seconds <= *bound) {
            Some(place) => self.counts[place] += 1,
            None => self.above += 1,
        }
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }
}

/// What is counted of one job, or of all that have no series of their own.
#[derive(Clone, Debug, PartialEq)]
struct OfJob {
    name: Arc<str>,
    ended: [u64; OUTCOMES.len()],
    took: Histogram<{ DURATIONS.len() }>,
    retries: u64,
    missed: u64,
    polls: u64,
    failed_polls: u64,
    last_success: Option<WallTime>,
}

impl OfJob {
    fn new(name: Arc<str>) -> OfJob {
        OfJob {
            name,
            ended: [0; OUTCOMES.len()],
            took: Histogram::new(&DURATIONS),
            retries: 0,
            missed: 0,
            polls: 0,
            failed_polls: 0,
            last_success: None,
        }
    }
}

/// All counts since the daemon's start, or since the configuration asked for them.
#[derive(Clone, Debug)]
pub struct Counts {
    /// The first is that of [`OTHER`].
    series: Vec<OfJob>,
    /// The place in `series` of each job of the configuration.
    places: Vec<usize>,
    delays: Histogram<{ DELAYS.len() }>,
    store_errors: u64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { series: vec![OfJob::new(OTHER.into())], places: Vec::new(), delays: Histogram::new(&DELAYS), store_errors: 0 }
    }
}

impl Counts {
    /// The jobs of the configuration, by number. Those that were there before go on counting; the series of those that
    /// are gone end.
    pub fn set_jobs<'j>(&mut self, names: impl Iterator<Item = &'j Arc<str>>) {
        let mut old = std::mem::take(&mut self.series).into_iter();
        self.series.extend(old.next());
        let mut old: HashMap<Arc<str>, OfJob> = old.map(|of| (Arc::clone(&of.name), of)).collect();
        self.places.clear();
        for name in names {
            // A job may well be called like the others' label; then it is one of them.
            if self.series.len() > MOST_JOBS || **name == *OTHER {
                self.places.push(0);
            } else {
                self.places.push(self.series.len());
                self.series.push(old.remove(name).unwrap_or_else(|| OfJob::new(Arc::clone(name))));
            }
        }
        self.series.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    fn of(&mut self, job: JobId) -> &mut OfJob {
        let place = self.places.get(job.index()).copied().unwrap_or(0);
        &mut self.series[place]
    }

    /// A run ended; it took so long if it had a process.
    pub fn ended(&mut self, job: JobId, outcome: Outcome, took: Option<Duration>) {
        let of = self.of(job);
        if let Some(place) = OUTCOMES.iter().position(|known| *known == outcome) {
            of.ended[place] += 1;
        }
        if let Some(took) = took {
            of.took.observe(took);
        }
    }

    /// A run of this job succeeded at this instant, in this life of the daemon or before.
    pub fn succeeded(&mut self, job: JobId, at: WallTime) {
        let of = self.of(job);
        of.last_success = of.last_success.max(Some(at));
    }

    /// A process started for a deadline, so long after it.
    pub fn fired(&mut self, delay: Duration) {
        self.delays.observe(delay);
    }

    /// An attempt failed and another will follow.
    pub fn retried(&mut self, job: JobId) {
        self.of(job).retries += 1;
    }

    /// Deadlines passed without a run.
    pub fn missed(&mut self, job: JobId, count: u64) {
        self.of(job).missed += count;
    }

    /// A watch has looked at what it watches.
    pub fn polled(&mut self, job: JobId, works: bool) {
        let of = self.of(job);
        *(if works { &mut of.polls } else { &mut of.failed_polls }) += 1;
    }

    /// The disk refused a write of the state.
    pub fn store_failed(&mut self) {
        self.store_errors += 1;
    }
}

/// How things stand, which nobody needs to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Jobs of the configuration.
    pub jobs: usize,
    /// Of them, held by a person.
    pub paused: usize,
    /// Runs that wait, in memory and in the store.
    pub pending: usize,
    /// Runs with a process.
    pub running: usize,
    /// The earliest deadline of any job.
    pub next_deadline: Option<WallTime>,
    /// Warnings that `status` shows.
    pub warnings: usize,
    /// Whether the state can be written.
    pub store_works: bool,
}

/// All numbers at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What was counted.
    pub counts: Counts,
    /// How things stand.
    pub standing: Standing,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|number| format!("job{number}").into()).collect()
    }

    #[test]
    fn jobs_beyond_the_limit_share_their_counts() {
        let mut counts = Counts::default();
        counts.set_jobs(names(MOST_JOBS * 3).iter());
        for number in 0..MOST_JOBS * 3 {
            counts.ended(JobId(u32::try_from(number).unwrap()), Outcome::Failed, None);
        }
        assert_eq!(counts.series.len(), MOST_JOBS + 1);
        assert_eq!(counts.series[0].ended[1], u64::try_from(MOST_JOBS * 2).unwrap());
        assert!(counts.series[1..].iter().all(|of| of.ended[1] == 1));
    }

    #[test]
    fn years_of_reloads_do_not_add_series_and_jobs_that_stay_go_on_counting() {
        let mut counts = Counts::default();
        let stays: Arc<str> = "stays".into();
        for round in 0..1_000 {
            let changing: Vec<Arc<str>> = (0..3).map(|number| format!("job{round}-{number}").into()).collect();
            // Its number is another one each time.
            let place = round % 3;
            let all: Vec<&Arc<str>> = changing[..place].iter().chain([&stays]).chain(&changing[place..]).collect();
            counts.set_jobs(all.into_iter());
            counts.retried(JobId(u32::try_from(place).unwrap()));
        }
        assert_eq!(counts.series.len(), 5);
        let retries: Vec<(&str, u64)> = counts.series.iter().map(|of| (&*of.name, of.retries)).collect();
        assert!(retries.contains(&("stays", 1_000)), "{retries:?}");
    }

    #[test]
    fn a_job_that_is_called_like_the_rest_is_one_of_them() {
        let mut counts = Counts::default();
        let all: [Arc<str>; 2] = ["a".into(), OTHER.into()];
        counts.set_jobs(all.iter());
        counts.missed(JobId(1), 3);
        assert_eq!((counts.series.len(), counts.series[0].missed), (2, 3));
    }

    #[test]
    fn an_observation_counts_below_the_first_bound_that_it_does_not_exceed() {
        let mut delays = Histogram::new(&DELAYS);
        for nanos in [0, 500_000, 500_001, 60_000_000_000, 60_000_000_001] {
            delays.observe(Duration::from_nanos(nanos));
        }
        assert_eq!((delays.counts[0], delays.counts[1], delays.counts[10], delays.above), (2, 1, 1, 1));
        assert_eq!(delays.count(), 5);
    }

    #[test]
    fn the_last_success_is_the_latest_whoever_tells_first() {
        let mut counts = Counts::default();
        counts.set_jobs(names(1).iter());
        counts.succeeded(JobId(0), WallTime::from_secs(20));
        counts.succeeded(JobId(0), WallTime::from_secs(10));
        assert_eq!(counts.series[1].last_success, Some(WallTime::from_secs(20)));
    }
}
