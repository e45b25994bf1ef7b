//! How the watch of a folder is read from its keys.

use super::FileWatch;
use crate::triggers::watch::keys::{SOURCE_HELP, read_existing, read_filter, read_poll_interval};
use crate::triggers::{JobContext, Keys};

pub(in crate::triggers) fn read(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<FileWatch> {
    if keys.has("ordered") {
        let message = "`ordered` is for buckets, and this source is a folder".to_owned();
        keys.error(keys.place("ordered"), message, "a folder is watched without listing it: leave the key out".into());
    }
    let filter = read_filter(keys);
    let existing = read_existing(keys);
    let poll_interval = if keys.has("poll_interval") { Some(read_poll_interval(keys)?) } else { None };
    let (batch, recursive) = (keys.flag("batch"), keys.flag("recursive"));
    let stable_for = keys.duration("stable_for");
    let source = keys.text("source")?;
    if source.value.is_empty() {
        keys.error(source.place, "`source` is empty".into(), SOURCE_HELP.into());
        return None;
    }
    if stable_for.is_none() && keys.has("stable_for") {
        return None;
    }
    Some(FileWatch {
        folder: cx.cwd.join(&source.value).components().collect(),
        recursive: recursive.unwrap_or(false),
        filter: filter?,
        stable_for: stable_for.filter(|period| !period.is_zero()),
        poll_interval,
        existing: existing?,
        batch: batch.unwrap_or(false),
    })
}
