//! `metrics`: numbers for Prometheus in a file.

use std::time::Duration;

use super::fields::Fields;
use super::keys;
use super::{Metrics, Surroundings, defaults};
use crate::model::format_duration;
use crate::text::quoted;

/// node_exporter is asked every few seconds at most; a shorter time is a mistake of units.
const SHORTEST_EVERY: Duration = Duration::from_secs(1);

/// Reads the map `metrics`.
pub(super) fn read(fields: &Fields<'_>, surroundings: &Surroundings) -> Option<Metrics> {
    let metrics = fields.map("metrics", keys::METRICS)?;
    let findings = metrics.cx.findings;
    let every = metrics.duration("every");
    if let Some(short) = every.filter(|every| *every < SHORTEST_EVERY) {
        let message = format!("`every` can't be {}", format_duration(short));
        findings.error(metrics.place_of("every"), message, "it must be at least 1s; what happens meanwhile is in the next file");
    }
    if !metrics.has("textfile") {
        let help = "for example `textfile: /var/lib/prometheus/node-exporter/firelink.prom`; for `/metrics`, `web` is enough";
        findings.error(metrics.place, "`metrics` needs `textfile`", help);
        return None;
    }
    let textfile = surroundings.start_dir.join(metrics.path("textfile")?);
    let place = metrics.place_of("textfile");
    if textfile.extension().is_none_or(|extension| extension != "prom") {
        let shown = quoted(&textfile.display().to_string());
        findings.error(place, format!("{shown} does not end in `.prom`"), "node_exporter reads no file of another name");
        return None;
    }
    let folder = textfile.parent().filter(|folder| !folder.is_dir());
    if let Some(folder) = folder {
        let help = "name a folder that node_exporter reads (--collector.textfile.directory)";
        findings.warn(place, format!("there is no directory {}", folder.display()), help);
    }
    Some(Metrics { textfile, every: every.unwrap_or(defaults::METRICS_EVERY) })
}
