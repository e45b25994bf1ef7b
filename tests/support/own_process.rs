//! Tests that need a process to themselves.

use std::process::Command;

/// Runs the rest of the calling test in a process of its own: what it does to signals, descriptors or children must
/// not meet other tests. Returns true in that process; false in the first one, when all went well.
pub fn in_own_process(name: &str) -> bool {
    const INNER: &str = "TEST_INNER";
    if std::env::var(INNER).is_ok_and(|inner| inner == name) {
        return true;
    }
    let me = std::env::current_exe().unwrap();
    let output = Command::new(me).args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INNER, name).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed"), "no test is named {name}: {told}");
    false
}
