//! Numbers as text: OpenMetrics, which Prometheus asks for, and its older format, which everything else reads.
//!
//! Every name, type and meaning stands here once; docs/metrics.md repeats them, and a test compares the two.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{Histogram, OUTCOMES, OfJob, Process, Snapshot};
use crate::model::WallTime;

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4: node_exporter's textfiles, promtool, and whoever names no format.
    Classic,
}

impl Format {
    /// The format for an `Accept` header: OpenMetrics for those who name it, as Prometheus does.
    #[must_use]
    pub fn asked(accept: &str) -> Format {
        let named = accept.split(',').any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            is_it && !parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0))
        });
        if named { Format::OpenMetrics } else { Format::Classic }
    }

    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Snapshot {
    /// All of it as text. `process` is left out where somebody else tells of a process of his own by the same names.
    #[must_use]
    pub fn text(self, format: Format, process: Option<Process>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Told { snapshot: self, process }));
        let mut text = String::new();
        // Writing into memory can't fail.
        let _ = match format {
            Format::OpenMetrics => text::encode(&mut text, &registry),
            Format::Classic => prometheus_text::encode(&mut text, &registry),
        };
        text
    }
}

/// A snapshot on its way into text.
#[derive(Debug)]
struct Told {
    snapshot: Snapshot,
    process: Option<Process>,
}

/// No label.
const NONE: [(&str, &str); 0] = [];

/// A name and a meaning.
type About = (&'static str, &'static str);

struct Out<'e>(DescriptorEncoder<'e>);

impl Out<'_> {
    /// A name with a row for each value; nothing at all if there is none.
    fn family<R>(
        &mut self,
        (name, about): About,
        (unit, kind): (Option<&Unit>, MetricType),
        rows: impl Iterator<Item = R>,
        mut write: impl FnMut(&mut MetricEncoder<'_>, R) -> fmt::Result,
    ) -> fmt::Result {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, about, unit, kind)?;
        rows.try_for_each(|row| write(&mut family, row))
    }

    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        about: About,
        unit: Option<&Unit>,
        rows: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(about, (unit, MetricType::Counter), rows, |family, (labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, V, f64>(&value, None)
        })
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        about: About,
        unit: Option<&Unit>,
        rows: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(about, (unit, MetricType::Gauge), rows, |family, (labels, value)| {
            family.encode_family(&labels)?.encode_gauge(&value)
        })
    }

    fn gauge<V: EncodeGaugeValue>(&mut self, about: About, value: V) -> fmt::Result {
        self.gauges(about, None, std::iter::once((NONE, value)))
    }

    fn histograms<'h, L: EncodeLabelSet, const N: usize>(
        &mut self,
        about: About,
        rows: impl Iterator<Item = (L, &'h Histogram<N>)>,
    ) -> fmt::Result {
        self.family(about, (Some(&Unit::Seconds), MetricType::Histogram), rows, |family, (labels, histogram)| {
            let below = histogram.bounds.iter().copied().zip(histogram.counts);
            let buckets: Vec<(f64, u64)> = below.chain([(f64::INFINITY, histogram.above)]).collect();
            let count = histogram.count();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(histogram.sum, count, &buckets, None)
        })
    }
}

impl Collector for Told {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.encode_standing(&mut out)?;
        self.encode_counts(&mut out)?;
        self.process.map_or(Ok(()), |process| process.encode(&mut out))
    }
}

impl Told {
    fn encode_standing(&self, out: &mut Out<'_>) -> fmt::Result {
        let now = &self.snapshot.standing;
        let build = ("firelink_build_info", "Which firelink this is.");
        out.gauges(build, None, std::iter::once(([("version", env!("CARGO_PKG_VERSION"))], 1_i64)))?;
        out.gauge(("firelink_jobs", "Jobs of the configuration."), now.jobs)?;
        out.gauge(("firelink_paused_jobs", "Jobs that a person holds."), now.paused)?;
        let active = ("firelink_active_runs", "Runs that have not ended; the pending ones are the queue.");
        let states = [("pending", now.pending), ("running", now.running)];
        out.gauges(active, None, states.into_iter().map(|(state, count)| ([("state", state)], count)))?;
        let next = (
            "firelink_next_deadline_timestamp",
            "When the earliest deadline of any job is, since the epoch; absent if there is none.",
        );
        out.gauges(next, Some(&Unit::Seconds), now.next_deadline.into_iter().map(|at| (NONE, seconds(at))))?;
        out.gauge(("firelink_warnings", "Warnings that `firelink status` shows."), now.warnings)?;
        out.gauge(("firelink_store_up", "1 while the state can be written, else 0."), i64::from(now.store_works))
    }

    fn encode_counts(&self, out: &mut Out<'_>) -> fmt::Result {
        let counts = &self.snapshot.counts;
        // The others' label is of no use where each job has its own.
        let others = counts.places.contains(&0);
        let series = || counts.series.iter().skip(usize::from(!others));
        let ended = series().flat_map(|of| {
            let states = OUTCOMES.iter().zip(of.ended);
            states.map(|(outcome, count)| ([("job_name", &*of.name), ("state", outcome.word().as_str())], count))
        });
        out.counters(("firelink_runs", "Runs that ended, by how they did."), None, ended)?;
        let took = ("firelink_run_duration", "From the start of a run's first process to the run's end.");
        out.histograms(took, series().filter(|of| of.took.count() > 0).map(|of| (job(of), &of.took)))?;
        let success = (
            "firelink_last_success_timestamp",
            "When a run of the job last succeeded, since the epoch; absent if it is not known.",
        );
        let succeeded = series().filter_map(|of| Some((job(of), seconds(of.last_success?))));
        out.gauges(success, Some(&Unit::Seconds), succeeded)?;
        let retries = ("firelink_retries", "Attempts that failed and were followed by another.");
        out.counters(retries, None, series().map(|of| (job(of), of.retries)))?;
        let missed = ("firelink_missed_deadlines", "Deadlines that no run was made for.");
        out.counters(missed, None, series().map(|of| (job(of), of.missed)))?;
        let polls = series().filter(|of| of.polls + of.failed_polls > 0).flat_map(|of| {
            let results = [("ok", of.polls), ("error", of.failed_polls)];
            results.map(|(result, count)| ([("job_name", &*of.name), ("result", result)], count))
        });
        out.counters(("firelink_polls", "Looks of watches at what they watch: listings, readings, receptions."), None, polls)?;
        let delay = (
            "firelink_firing_delay",
            "From a deadline to the start of its process, where nothing but the deadline was waited for.",
        );
        out.histograms(delay, std::iter::once((NONE, &counts.delays)))?;
        let errors = ("firelink_store_errors", "Writes of the state that the disk refused.");
        out.counters(errors, None, std::iter::once((NONE, counts.store_errors)))
    }
}

impl Process {
    fn encode(&self, out: &mut Out<'_>) -> fmt::Result {
        let (time, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let one = |value| std::iter::once((NONE, value));
        out.counters(("process_cpu", "Time on a processor."), time, std::iter::once((NONE, self.cpu_seconds)))?;
        out.gauges(("process_resident_memory", "Memory in RAM."), bytes, one(self.resident_bytes))?;
        out.gauges(("process_virtual_memory", "Address space."), bytes, one(self.virtual_bytes))?;
        out.gauge(("process_open_fds", "Open descriptors."), self.open_fds)?;
        out.gauge(("process_max_fds", "How many descriptors may be open."), self.max_fds)?;
        out.gauge(("process_threads", "Threads."), self.threads)?;
        let start = ("process_start_time", "When the process started, since the epoch.");
        out.gauges(start, time, std::iter::once((NONE, self.start_seconds)))
    }
}

/// Not `job`: that is what Prometheus calls a group of targets, and it would rename ours.
fn job(of: &OfJob) -> [(&'static str, &str); 1] {
    [("job_name", &of.name)]
}

/// Since the epoch, as Prometheus counts; a microsecond more or less is none of its business.
fn seconds(at: WallTime) -> f64 {
    std::time::Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Counts, MOST_JOBS, Standing};
    use super::*;
    use crate::model::{JobId, Outcome};

    fn snapshot() -> Snapshot {
        let mut counts = Counts::default();
        let jobs: [Arc<str>; 2] = ["a".into(), "b".into()];
        counts.set_jobs(jobs.iter());
        counts.ended(JobId(0), Outcome::Succeeded, Some(Duration::from_millis(700)));
        counts.succeeded(JobId(0), WallTime::from_secs(1_800_000_000));
        counts.store_failed();
        counts.fired(Duration::from_micros(400));
        let next_deadline = Some(WallTime::from_nanos(1_500_000_000));
        Snapshot { counts, standing: Standing { jobs: 2, next_deadline, store_works: true, ..Standing::default() } }
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|one| one == line), "no `{line}` in\n{text}");
    }

    #[test]
    fn both_formats_say_the_same_each_by_its_own_rules() {
        let new = snapshot().text(Format::OpenMetrics, None);
        let old = snapshot().text(Format::Classic, None);
        assert!(new.ends_with("# EOF\n") && !old.contains("EOF"));
        has(&new, "# TYPE firelink_runs counter");
        has(&old, "# TYPE firelink_runs_total counter");
        for text in [&new, &old] {
            has(text, r#"firelink_runs_total{job_name="a",state="succeeded"} 1"#);
            has(text, r#"firelink_runs_total{job_name="b",state="failed"} 0"#);
            has(text, r#"firelink_run_duration_seconds_count{job_name="a"} 1"#);
            has(text, "firelink_firing_delay_seconds_count 1");
            has(text, "firelink_next_deadline_timestamp_seconds 1.5");
            has(text, "firelink_store_errors_total 1");
            has(text, "firelink_store_up 1");
            has(text, "firelink_jobs 2");
            // The labels stand in another order.
            let mut buckets = text.lines().filter(|line| line.starts_with("firelink_run_duration_seconds_bucket{"));
            let whole = |line: &str| [r#"le="+Inf""#, r#"job_name="a""#, "} 1"].iter().all(|part| line.contains(part));
            assert!(buckets.any(whole), "{text}");
            assert!(!text.contains("_other") && !text.contains("process_"), "{text}");
        }
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples(&new), samples(&old));
    }

    #[test]
    fn a_thousand_jobs_that_did_everything_are_a_few_thousand_lines() {
        let mut counts = Counts::default();
        let jobs: Vec<Arc<str>> = (0..1_000).map(|number| format!("job{number}").into()).collect();
        counts.set_jobs(jobs.iter());
        for job in (0..1_000).map(JobId) {
            counts.ended(job, Outcome::Succeeded, Some(Duration::from_secs(1)));
            counts.succeeded(job, WallTime::from_secs(1));
            counts.polled(job, true);
        }
        let text = Snapshot { counts, standing: Standing::default() }.text(Format::Classic, Some(Process::look()));
        let lines = text.lines().count();
        assert!(lines < 30 * MOST_JOBS, "{lines}");
        has(&text, r#"firelink_runs_total{job_name="_other",state="succeeded"} 800"#);
    }

    #[test]
    fn whoever_names_openmetrics_gets_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("application/OpenMetrics-Text", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", Format::Classic),
            ("text/plain", Format::Classic),
            ("*/*", Format::Classic),
            ("", Format::Classic),
        ] {
            assert_eq!(Format::asked(accept), format, "{accept}");
        }
    }
}
