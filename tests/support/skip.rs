//! Tests that can't be run here. libtest knows no such outcome and reports `ok`; `tests/run` counts and names them.

use std::fmt::Display;
use std::io::Write as _;

/// Names the file to which each skipped test appends a line: its binary, its name and the reason, separated by tabs.
const RECORDS: &str = "FIRELINK_TEST_SKIPS";

/// Records that the calling test is skipped, wholly or in part, and prints it past libtest's capture of output.
#[allow(clippy::expect_used, reason = "a skip that is not recorded would count as passed")]
pub fn skip(reason: impl Display) {
    let exe = std::env::current_exe().expect("the test's binary");
    let file = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let binary = file.rsplit_once('-').map_or(&*file, |(name, _)| name);
    // A test in a process of its own runs in the main thread there; see own_process.rs.
    let inner = std::env::var("TEST_INNER").ok();
    let thread = std::thread::current();
    let test = inner.as_deref().or(thread.name()).expect("a skip is called in the thread of its test");
    let reason = reason.to_string().replace(['\t', '\n'], " ");
    // One write(2) a line, since tests write at the same time.
    let _ = std::io::stderr().write_all(format!("skipped: {binary} {test}: {reason}\n").as_bytes());
    if let Some(records) = std::env::var_os(RECORDS) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(records).expect("the file of skips");
        file.write_all(format!("{binary}\t{test}\t{reason}\n").as_bytes()).expect("the file of skips");
    }
}
