//! The exposition formats: OpenMetrics, which Prometheus negotiates, and the older text format for everything else.
//!
//! Names, types and descriptions are defined here; docs/metrics.md repeats them, and a test compares the two.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{Histogram, JobCounts, OUTCOMES, Process, Snapshot};
use crate::model::WallTime;

/// The exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4: for node_exporter's textfiles, promtool, and clients that name no format.
    Classic,
}

impl Format {
    /// The format for an `Accept` header: OpenMetrics for clients that name it, as Prometheus does.
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
    /// Formats the snapshot. `process` is `None` for a textfile: node_exporter exports metrics of its own process by the same
    /// names.
    #[must_use]
    pub fn text(self, format: Format, process: Option<Process>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(SnapshotCollector { snapshot: self, process }));
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = match format {
            Format::OpenMetrics => text::encode(&mut text, &registry),
            Format::Classic => prometheus_text::encode(&mut text, &registry),
        };
        text
    }
}

/// Presents a snapshot to the registry.
#[derive(Debug)]
struct SnapshotCollector {
    snapshot: Snapshot,
    process: Option<Process>,
}

/// No labels.
const NONE: [(&str, &str); 0] = [];

/// A name and a HELP text.
type Description = (&'static str, &'static str);

struct Out<'e>(DescriptorEncoder<'e>);

impl Out<'_> {
    /// A metric family with a row for each value; omitted without rows.
    fn family<R>(
        &mut self,
        (name, description): Description,
        (unit, kind): (Option<&Unit>, MetricType),
        rows: impl Iterator<Item = R>,
        mut write: impl FnMut(&mut MetricEncoder<'_>, R) -> fmt::Result,
    ) -> fmt::Result {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, description, unit, kind)?;
        rows.try_for_each(|row| write(&mut family, row))
    }

    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        description: Description,
        unit: Option<&Unit>,
        rows: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(description, (unit, MetricType::Counter), rows, |family, (labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, V, f64>(&value, None)
        })
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        description: Description,
        unit: Option<&Unit>,
        rows: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(description, (unit, MetricType::Gauge), rows, |family, (labels, value)| {
            family.encode_family(&labels)?.encode_gauge(&value)
        })
    }

    fn gauge<V: EncodeGaugeValue>(&mut self, description: Description, value: V) -> fmt::Result {
        self.gauges(description, None, std::iter::once((NONE, value)))
    }

    fn histograms<'h, L: EncodeLabelSet, const N: usize>(
        &mut self,
        description: Description,
        rows: impl Iterator<Item = (L, &'h Histogram<N>)>,
    ) -> fmt::Result {
        self.family(description, (Some(&Unit::Seconds), MetricType::Histogram), rows, |family, (labels, histogram)| {
            let below = histogram.bounds.iter().copied().zip(histogram.counts);
            let buckets: Vec<(f64, u64)> = below.chain([(f64::INFINITY, histogram.above)]).collect();
            let count = histogram.count();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(histogram.sum, count, &buckets, None)
        })
    }
}

impl Collector for SnapshotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.encode_standing(&mut out)?;
        self.encode_counts(&mut out)?;
        self.process.map_or(Ok(()), |process| process.encode(&mut out))
    }
}

impl SnapshotCollector {
    fn encode_standing(&self, out: &mut Out<'_>) -> fmt::Result {
        let now = &self.snapshot.standing;
        let build = ("firelink_build_info", "Version of firelink.");
        out.gauges(build, None, std::iter::once(([("version", env!("CARGO_PKG_VERSION"))], 1_i64)))?;
        out.gauge(("firelink_jobs", "Jobs in the configuration."), now.jobs)?;
        out.gauge(("firelink_paused_jobs", "Jobs that are paused."), now.paused)?;
        let active = ("firelink_active_runs", "Runs that have not ended; the pending ones are queued.");
        let states = [("pending", now.pending), ("running", now.running)];
        out.gauges(active, None, states.into_iter().map(|(state, count)| ([("state", state)], count)))?;
        let next = (
            "firelink_next_deadline_timestamp",
            "Time of the next deadline of any job, since the epoch; absent if there is none.",
        );
        out.gauges(next, Some(&Unit::Seconds), now.next_deadline.into_iter().map(|at| (NONE, seconds(at))))?;
        out.gauge(("firelink_warnings", "Warnings shown by `firelink status`."), now.warnings)?;
        out.gauge(("firelink_store_up", "1 if the state directory is writable, else 0."), i64::from(now.store_works))
    }

    fn encode_counts(&self, out: &mut Out<'_>) -> fmt::Result {
        let counts = &self.snapshot.counts;
        // The shared series is omitted while every job has its own.
        let others = counts.places.contains(&0);
        let series = || counts.series.iter().skip(usize::from(!others));
        let ended = series().flat_map(|of| {
            let states = OUTCOMES.iter().zip(of.ended);
            states.map(|(outcome, count)| ([("job_name", &*of.name), ("state", outcome.word().as_str())], count))
        });
        out.counters(("firelink_runs", "Runs that have ended, by their state."), None, ended)?;
        let took = ("firelink_run_duration", "Time from the start of a run's first process to the end of the run.");
        out.histograms(took, series().filter(|of| of.took.count() > 0).map(|of| (job(of), &of.took)))?;
        let success =
            ("firelink_last_success_timestamp", "Time of the job's last successful run, since the epoch; absent if unknown.");
        let succeeded = series().filter_map(|of| Some((job(of), seconds(of.last_success?))));
        out.gauges(success, Some(&Unit::Seconds), succeeded)?;
        let retries = ("firelink_retries", "Failed attempts that were retried.");
        out.counters(retries, None, series().map(|of| (job(of), of.retries)))?;
        let missed = ("firelink_missed_deadlines", "Deadlines that passed without a run.");
        out.counters(missed, None, series().map(|of| (job(of), of.missed)))?;
        let polls = series().filter(|of| of.polls + of.failed_polls > 0).flat_map(|of| {
            let results = [("ok", of.polls), ("error", of.failed_polls)];
            results.map(|(result, count)| ([("job_name", &*of.name), ("result", result)], count))
        });
        out.counters(
            ("firelink_polls", "Polls by watches: listings of buckets, scans of folders, receives from queues."),
            None,
            polls,
        )?;
        let delay = (
            "firelink_firing_delay",
            "Delay from a deadline to the start of its process, for runs that waited for nothing else.",
        );
        out.histograms(delay, std::iter::once((NONE, &counts.delays)))?;
        let errors = ("firelink_store_errors", "Failed writes of the state.");
        out.counters(errors, None, std::iter::once((NONE, counts.store_errors)))
    }
}

impl Process {
    fn encode(&self, out: &mut Out<'_>) -> fmt::Result {
        let (time, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let one = |value| std::iter::once((NONE, value));
        out.counters(("process_cpu", "User and system CPU time."), time, std::iter::once((NONE, self.cpu_seconds)))?;
        out.gauges(("process_resident_memory", "Resident memory."), bytes, one(self.resident_bytes))?;
        out.gauges(("process_virtual_memory", "Virtual memory."), bytes, one(self.virtual_bytes))?;
        out.gauge(("process_open_fds", "Open file descriptors."), self.open_fds)?;
        out.gauge(("process_max_fds", "Limit on open file descriptors."), self.max_fds)?;
        out.gauge(("process_threads", "Number of threads."), self.threads)?;
        let start = ("process_start_time", "Start time of the process, since the epoch.");
        out.gauges(start, time, std::iter::once((NONE, self.start_seconds)))
    }
}

/// Not `job`: Prometheus sets that label on scraped series, and would rename ours to `exported_job`.
fn job(of: &JobCounts) -> [(&'static str, &str); 1] {
    [("job_name", &of.name)]
}

/// Seconds since the epoch; an f64 keeps it to the microsecond.
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
    fn both_formats_hold_the_same_samples() {
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
            // The order of labels differs between the formats.
            let mut buckets = text.lines().filter(|line| line.starts_with("firelink_run_duration_seconds_bucket{"));
            let whole = |line: &str| [r#"le="+Inf""#, r#"job_name="a""#, "} 1"].iter().all(|part| line.contains(part));
            assert!(buckets.any(whole), "{text}");
            assert!(!text.contains("_other") && !text.contains("process_"), "{text}");
        }
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples(&new), samples(&old));
    }

    #[test]
    fn the_output_for_a_thousand_jobs_is_bounded() {
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
    fn openmetrics_is_sent_to_clients_that_name_it() {
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
