//! Metrics for Prometheus: counters that the loop keeps, and their exposition formats.
//!
//! Counting is an addition at an index; nothing is formatted, locked or woken by it. A scrape gets a [`Snapshot`], a copy
//! of all counters, and formats it where that delays no deadline: the web UI on its own thread, the loop itself only for a
//! textfile. Without `web` and `metrics` in the configuration, nothing is counted.
//!
//! The number of series is bounded: the first [`MOST_JOBS`] jobs of the configuration have series of their own; all others
//! share the label [`OTHER`].

mod process;
mod text;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{JobId, Outcome, WallTime};
pub use process::Process;
pub use text::Format;

/// Jobs with series of their own. A job has about twenty, so a scrape is a few thousand lines at most.
pub const MOST_JOBS: usize = 200;

/// The label that all other jobs share.
pub const OTHER: &str = "_other";

/// Bucket bounds of run durations, in seconds: 10 ms to a day.
const DURATION_BUCKETS: [f64; 12] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// Bucket bounds of firing delays, in seconds: half of the design budget to the default grace period.
const DELAY_BUCKETS: [f64; 11] = [0.000_5, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Every outcome; the index of an outcome in the counts is its index here.
const OUTCOMES: [Outcome; 6] =
    [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Cancelled, Outcome::Skipped, Outcome::Lost];

/// A histogram with fixed bounds.
#[derive(Clone, Debug, PartialEq)]
struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// Per bucket, not cumulative.
    counts: [u64; N],
    /// Observations above the last bound.
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

/// The counts of one job, or of all jobs without series of their own.
#[derive(Clone, Debug, PartialEq)]
struct JobCounts {
    name: Arc<str>,
    ended: [u64; OUTCOMES.len()],
    took: Histogram<{ DURATION_BUCKETS.len() }>,
    retries: u64,
    missed: u64,
    polls: u64,
    failed_polls: u64,
    last_success: Option<WallTime>,
}

impl JobCounts {
    fn new(name: Arc<str>) -> JobCounts {
        JobCounts {
            name,
            ended: [0; OUTCOMES.len()],
            took: Histogram::new(&DURATION_BUCKETS),
            retries: 0,
            missed: 0,
            polls: 0,
            failed_polls: 0,
            last_success: None,
        }
    }
}

/// All counts since the start of the daemon, or since the configuration enabled them.
#[derive(Clone, Debug)]
pub struct Counts {
    /// The first is [`OTHER`].
    series: Vec<JobCounts>,
    /// The index in `series` of each job of the configuration.
    places: Vec<usize>,
    delays: Histogram<{ DELAY_BUCKETS.len() }>,
    store_errors: u64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            series: vec![JobCounts::new(OTHER.into())],
            places: Vec::new(),
            delays: Histogram::new(&DELAY_BUCKETS),
            store_errors: 0,
        }
    }
}

impl Counts {
    /// Sets the jobs of the configuration, in the order of their ids. Jobs that stay keep their counts; the series of removed
    /// jobs end.
    pub fn set_jobs<'j>(&mut self, names: impl Iterator<Item = &'j Arc<str>>) {
        let mut old = std::mem::take(&mut self.series).into_iter();
        self.series.extend(old.next());
        let mut old: HashMap<Arc<str>, JobCounts> = old.map(|of| (Arc::clone(&of.name), of)).collect();
        self.places.clear();
        for name in names {
            // A job whose name is the shared label uses the shared series.
            if self.series.len() > MOST_JOBS || **name == *OTHER {
                self.places.push(0);
            } else {
                self.places.push(self.series.len());
                self.series.push(old.remove(name).unwrap_or_else(|| JobCounts::new(Arc::clone(name))));
            }
        }
        self.series.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    fn of(&mut self, job: JobId) -> &mut JobCounts {
        let place = self.places.get(job.index()).copied().unwrap_or(0);
        &mut self.series[place]
    }

    /// A run ended, after this time since its first process started, if it had one.
    pub fn ended(&mut self, job: JobId, outcome: Outcome, took: Option<Duration>) {
        let of = self.of(job);
        if let Some(place) = OUTCOMES.iter().position(|known| *known == outcome) {
            of.ended[place] += 1;
        }
        if let Some(took) = took {
            of.took.observe(took);
        }
    }

    /// A run of this job succeeded at this time, possibly before the daemon was started.
    pub fn succeeded(&mut self, job: JobId, at: WallTime) {
        let of = self.of(job);
        of.last_success = of.last_success.max(Some(at));
    }

    /// A process was started for a deadline, with this delay.
    pub fn fired(&mut self, delay: Duration) {
        self.delays.observe(delay);
    }

    /// An attempt failed and will be retried.
    pub fn retried(&mut self, job: JobId) {
        self.of(job).retries += 1;
    }

    /// Deadlines passed without a run.
    pub fn missed(&mut self, job: JobId, count: u64) {
        self.of(job).missed += count;
    }

    /// A watch has polled its source.
    pub fn polled(&mut self, job: JobId, works: bool) {
        let of = self.of(job);
        *(if works { &mut of.polls } else { &mut of.failed_polls }) += 1;
    }

    /// A write of the state failed.
    pub fn store_failed(&mut self) {
        self.store_errors += 1;
    }
}

/// The values of gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Jobs of the configuration.
    pub jobs: usize,
    /// Jobs that are paused.
    pub paused: usize,
    /// Pending runs, in memory and in the store.
    pub pending: usize,
    /// Running runs.
    pub running: usize,
    /// The next deadline of any job.
    pub next_deadline: Option<WallTime>,
    /// Warnings shown by `status`.
    pub warnings: usize,
    /// Whether the last write of the state succeeded.
    pub store_works: bool,
}

/// All metrics at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counters and histograms.
    pub counts: Counts,
    /// Gauges.
    pub standing: Standing,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|number| format!("job{number}").into()).collect()
    }

    #[test]
    fn jobs_beyond_the_limit_share_a_series() {
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
    fn reloads_do_not_leak_series_and_jobs_that_stay_keep_their_counts() {
        let mut counts = Counts::default();
        let stays: Arc<str> = "stays".into();
        for round in 0..1_000 {
            let changing: Vec<Arc<str>> = (0..3).map(|number| format!("job{round}-{number}").into()).collect();
            // With a different id each time.
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
    fn a_job_named_like_the_shared_label_uses_the_shared_series() {
        let mut counts = Counts::default();
        let all: [Arc<str>; 2] = ["a".into(), OTHER.into()];
        counts.set_jobs(all.iter());
        counts.missed(JobId(1), 3);
        assert_eq!((counts.series.len(), counts.series[0].missed), (2, 3));
    }

    #[test]
    fn an_observation_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let mut delays = Histogram::new(&DELAY_BUCKETS);
        for nanos in [0, 500_000, 500_001, 60_000_000_000, 60_000_000_001] {
            delays.observe(Duration::from_nanos(nanos));
        }
        assert_eq!((delays.counts[0], delays.counts[1], delays.counts[10], delays.above), (2, 1, 1, 1));
        assert_eq!(delays.count(), 5);
    }

    #[test]
    fn the_last_success_is_the_latest_in_any_order() {
        let mut counts = Counts::default();
        counts.set_jobs(names(1).iter());
        counts.succeeded(JobId(0), WallTime::from_secs(20));
        counts.succeeded(JobId(0), WallTime::from_secs(10));
        assert_eq!(counts.series[1].last_success, Some(WallTime::from_secs(20)));
    }
}
