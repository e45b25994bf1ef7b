//! `metrics`: Prometheus metrics in a file.

use std::time::Duration;

use super::fields::Fields;
use super::{Metrics, Surroundings, defaults, keys, lints};
use crate::model::format_duration;
use crate::text::quoted;

/// node_exporter is scraped every few seconds at most; a shorter interval is a mistake of units.
const SHORTEST_EVERY: Duration = Duration::from_secs(1);

/// Reads the map `metrics`.
pub(super) fn read(fields: &Fields<'_>, surroundings: &Surroundings) -> Option<Metrics> {
    let metrics = fields.map("metrics", keys::METRICS)?;
    let findings = metrics.cx.findings;
    let every = metrics.duration("every");
    if let Some(short) = every.filter(|every| *every < SHORTEST_EVERY) {
        let message = format!("invalid value `{}` for `every`: expected at least `1s`", format_duration(short));
        findings.error(metrics.place_of("every"), message, "changes in between are in the next file");
    }
    if !metrics.has("textfile") {
        let help =
            "for example `textfile: /var/lib/prometheus/node-exporter/firelink.prom`; `/metrics` of the web UI needs only `web`";
        findings.error(metrics.place, "`metrics` needs `textfile`", help);
        return None;
    }
    let textfile = surroundings.start_dir.join(metrics.path("textfile")?);
    let place = metrics.place_of("textfile");
    if textfile.extension().is_none_or(|extension| extension != "prom") {
        let shown = quoted(&textfile.display().to_string());
        findings.error(
            place,
            format!("{shown} does not end in `.prom`"),
            "node_exporter's textfile collector ignores other names",
        );
        return None;
    }
    if let Some(folder) = textfile.parent() {
        lints::lint_textfile(metrics.cx, folder, place);
    }
    Some(Metrics { textfile, every: every.unwrap_or(defaults::METRICS_EVERY) })
}
