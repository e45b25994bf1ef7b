//! The state's directory from outside: a disk that refuses, a state in memory.

use super::support::{Place, TEST_TIMEOUT};

#[test]
fn while_the_state_cannot_be_written_jobs_go_on_status_says_so_and_nothing_is_missing_after() {
    let place = Place::new("jobs:\n  - { name: a, trigger: manual, command: echo x }\n");
    let mut daemon = place.start();
    daemon.trigger("a");
    // To the daemon a database that another process locks is like a disk that refuses.
    let lock = rusqlite::Connection::open(place.state_dir().join("state.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(daemon.trigger("a")["state"], "succeeded");
    daemon.wait_for_log("jobs go on in memory");
    let status = place.firelink(&["ctl", "status", "--format", "json"]);
    assert_eq!(status.status.code(), Some(1), "a watchdog sees it");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(status["state_error"].to_string().contains("locked"), "{status}");
    assert!(status["warnings"][0].to_string().contains("changes wait in memory"), "{status}");
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(daemon.trigger("a")["state"], "succeeded");
    daemon.wait_for_log("can be written again");
    assert_eq!(daemon.status()["state_error"], serde_json::Value::Null);
    assert_eq!(place.states("a"), ["succeeded"; 3]);
}

#[test]
fn a_state_in_memory_is_copied_now_and_then_and_at_the_end_and_brought_back() {
    let place = Place::new(
        "state: { sync_to: card/state, sync_every: 100ms }\njobs:\n  - { name: a, trigger: manual }\n  - { name: b, trigger: manual }\n",
    );
    let daemon = place.start();
    place.prints(&["ctl", "pause", "b"]);
    // A copy that has the run has the pause too.
    daemon.trigger("a");
    let copy = place.path("card/state").display().to_string();
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    let copied = || !place.firelink(&["history", "--state-dir", &copy, "--format", "json"]).stdout.starts_with(b"[]");
    while !place.path("card/state/state.db").exists() || !copied() {
        assert!(std::time::Instant::now() < deadline);
    }
    daemon.crash();
    std::fs::remove_dir_all(place.state_dir()).unwrap();
    let mut daemon = place.start();
    assert_eq!(daemon.job("b")["paused"], true);
    assert_eq!(daemon.trigger("a")["id"], 2, "numbers count on");
    // A failed copy is reported and retried.
    std::fs::rename(place.path("card"), place.path("card.away")).unwrap();
    place.write("card", "no directory");
    daemon.trigger("a");
    daemon.wait_for_log("copy the state to");
    assert!(daemon.status()["warnings"].to_string().contains("copy the state to"));
    std::fs::remove_file(place.path("card")).unwrap();
    daemon.terminate();
    std::fs::remove_dir_all(place.state_dir()).unwrap();
    drop(place.start());
    assert_eq!(place.states("a").len(), 3);
}
