//! The state's directory from outside: a disk that refuses, a state in memory, whose it is and who may look into it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use nix::unistd::geteuid;

use super::skip::skip;
use super::support::{Place, TEST_TIMEOUT, text};

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

const ONE: &str = "jobs:\n  - { name: a, trigger: manual, command: \"echo x\" }\n";

/// A user other than root, whose files a test as root can make.
const NOBODY: u32 = 65534;

/// The mode of the state directory of a daemon of this test's user.
fn mode_of_dir() -> u32 {
    if geteuid().is_root() { 0o711 } else { 0o700 }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Why a daemon does not start on `state`.
#[track_caller]
fn refusal(place: &Place) -> String {
    let output = place.firelink(&["run", "firelink.yaml", "--state-dir", "state"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text(&output.stderr)
}

#[track_caller]
fn assert_private(place: &Place, dir: u32) {
    let state = place.state_dir();
    assert_eq!(mode(&state), dir, "the directory");
    for file in ["state.db", "state.db-wal", "state.db-shm", "lock", "logs/a/1.log"] {
        assert_eq!(mode(&state.join(file)), 0o600, "{file}");
    }
    for below in ["logs", "logs/a"] {
        assert_eq!(mode(&state.join(below)), 0o700, "{below}");
    }
}

#[test]
fn only_the_daemons_user_can_read_the_state() {
    let place = Place::new(&format!("state: {{ sync_to: copy }}\n{ONE}"));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" run firelink.yaml --state-dir state", env!("CARGO_BIN_EXE_firelink")]);
    command.current_dir(place.path("")).stdin(Stdio::null()).env("FIRELINK_SOCKET", place.socket());
    let daemon = place.start_by(command);
    daemon.trigger("a");
    assert_private(&place, mode_of_dir());
    let journal = place.state_dir().join("journal");
    assert!(!journal.exists() || mode(&journal) == 0o600);
    daemon.terminate();
    assert_eq!((mode(&place.path("copy")), mode(&place.path("copy/state.db"))), (0o700, 0o600));
    // What was taken back from a copy is as private as what was not.
    set_mode(&place.path("copy/state.db"), 0o644);
    std::fs::remove_dir_all(place.state_dir()).unwrap();
    drop(place.start());
    assert_eq!(mode(&place.path("state/state.db")), 0o600);
}

#[test]
fn modes_that_a_package_or_an_earlier_version_left_are_fixed_and_logged() {
    let place = Place::new(ONE);
    // As `mkdir -p` in an init script makes it.
    std::fs::create_dir(place.state_dir()).unwrap();
    set_mode(&place.state_dir(), 0o755);
    let mut daemon = place.start();
    daemon.wait_for_log_ever(&format!("had mode 0755 and has {:04o} now", mode_of_dir()));
    daemon.trigger("a");
    daemon.crash();
    for file in ["state.db", "state.db-wal", "state.db-shm", "lock"] {
        set_mode(&place.path(&format!("state/{file}")), 0o644);
    }
    place.write("state/journal", "");
    set_mode(&place.path("state/journal"), 0o666);
    set_mode(&place.path("state/logs"), 0o755);
    std::fs::create_dir(place.path("state/events")).unwrap();
    set_mode(&place.path("state/events"), 0o777);
    set_mode(&place.state_dir(), 0o777);
    let mut daemon = place.start();
    for part in ["state had mode 0777", "state.db had mode 0644 and has 0600 now", "journal had mode 0666", "logs had mode 0755"]
    {
        daemon.wait_for_log_ever(part);
    }
    daemon.trigger("a");
    assert_private(&place, mode_of_dir());
    assert_eq!(mode(&place.path("state/events")), mode_of_dir());
    daemon.terminate();
    let log = place.start().terminate();
    assert!(!log.iter().any(|line| line.contains("had mode")), "once: {log:?}");
}

#[test]
fn a_directory_that_is_no_state_directory_keeps_its_mode_and_is_refused_if_others_can_write_to_it() {
    let place = Place::new(ONE);
    std::fs::create_dir(place.state_dir()).unwrap();
    place.write("state/something else", "");
    for (mode_before, why) in
        [(0o1777, "is one that everybody shares (mode 1777)"), (0o775, "is one that others can write to (mode 0775)")]
    {
        set_mode(&place.state_dir(), mode_before);
        let refused = refusal(&place);
        assert!(refused.contains(why) && refused.contains("--state-dir"), "{refused}");
        assert_eq!(mode(&place.state_dir()), mode_before);
        assert_eq!(std::fs::read_dir(place.state_dir()).unwrap().count(), 1, "nothing is written");
    }
    set_mode(&place.state_dir(), 0o755);
    let mut daemon = place.start();
    daemon.wait_for_log_ever("holds other files, so that its mode stays");
    assert_eq!((mode(&place.state_dir()), mode(&place.path("state/state.db"))), (0o755, 0o600));
    daemon.terminate();
}

#[test]
fn links_in_the_place_of_files_are_not_followed() {
    for name in ["lock", "state.db", "state.db-wal", "journal"] {
        let place = Place::new(ONE);
        std::fs::create_dir(place.state_dir()).unwrap();
        let victim = place.write("victim", "untouched");
        symlink(&victim, place.path(&format!("state/{name}"))).unwrap();
        let refused = refusal(&place);
        assert!(refused.contains(name) && refused.contains("symbolic link"), "{refused}");
        assert_eq!(place.read("victim"), "untouched", "{name}");
    }
    let place = Place::new(ONE);
    place.start().terminate();
    let victim = place.write("victim", "untouched\n");
    symlink(&victim, place.path("state/firelink.log")).unwrap();
    let output = place.firelink(&["run", "firelink.yaml", "--state-dir", "state", "--detach"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("firelink.log: it is a symbolic link, which is not followed"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(place.read("victim"), "untouched\n");
    // A pipe would hold the daemon for ever.
    std::fs::remove_file(place.path("state/state.db")).unwrap();
    place.make_pipe("state/state.db");
    assert!(refusal(&place).contains("state.db should be a file and is something else: move it away"));
}

#[test]
fn a_link_to_a_directory_of_ones_own_is_followed() {
    let place = Place::new(ONE);
    for below in ["disk", "disk/state", "disk/logs"] {
        std::fs::create_dir(place.path(below)).unwrap();
    }
    symlink("disk/state", place.state_dir()).unwrap();
    place.start().terminate();
    symlink("../logs", place.path("disk/state/logs")).unwrap();
    set_mode(&place.path("disk/logs"), 0o755);
    let daemon = place.start();
    daemon.trigger("a");
    assert_eq!(mode(&place.path("disk/state")), mode_of_dir());
    assert_eq!(mode(&place.path("disk/logs")), 0o700);
    assert!(place.path("disk/logs/a/1.log").exists());
    daemon.terminate();
}

#[test]
fn a_directory_or_file_of_another_user_is_refused_with_a_way_out() {
    if !geteuid().is_root() {
        return skip("only root can give files to another user");
    }
    let give = |path: &Path| chown(path, Some(NOBODY), None).unwrap();
    let place = Place::new(ONE);
    std::fs::create_dir(place.state_dir()).unwrap();
    give(&place.state_dir());
    let refused = refusal(&place);
    assert!(refused.contains("state belongs to nobody, and the daemon runs as root: run it as nobody"), "{refused}");
    assert!(
        refused.contains("change the owner (chown -R root /") && refused.contains("/state)") && refused.contains("--state-dir"),
        "{refused}"
    );
    assert_eq!(std::fs::read_dir(place.state_dir()).unwrap().count(), 0, "nothing is written");
    // By a link of root's own, too.
    std::fs::rename(place.state_dir(), place.path("theirs")).unwrap();
    symlink("theirs", place.state_dir()).unwrap();
    let refused = refusal(&place);
    assert!(refused.contains("state leads to something that belongs to nobody"), "{refused}");
    // And by a link that is theirs, wherever it leads now.
    chown(place.path("theirs"), Some(0), None).unwrap();
    std::os::unix::fs::lchown(place.state_dir(), Some(NOBODY), None).unwrap();
    let refused = refusal(&place);
    assert!(refused.contains("is a symbolic link of nobody, who can make it lead elsewhere"), "{refused}");
    std::fs::remove_file(place.state_dir()).unwrap();
    place.start().terminate();
    for file in ["state.db", "lock", "logs"] {
        let path = place.path(&format!("state/{file}"));
        if file == "logs" {
            std::fs::create_dir(&path).unwrap();
        }
        give(&path);
        let refused = refusal(&place);
        assert!(refused.contains(&format!("state/{file} belongs to nobody")), "{refused}");
        chown(&path, Some(0), None).unwrap();
    }
    place.start().terminate();
}

#[test]
fn the_state_of_another_users_daemon_has_mode_0700_and_a_root_that_starts_on_it_is_refused() {
    if !geteuid().is_root() {
        return skip("only root can start a daemon as another user");
    }
    let place = Place::new(ONE);
    set_mode(&place.path(""), 0o755);
    let own = place.path("own");
    std::fs::create_dir(&own).unwrap();
    chown(&own, Some(NOBODY), None).unwrap();
    let mut command = place.command(&["run", "firelink.yaml", "--state-dir", "own/state", "--socket", "own/socket"]);
    // The program may be where only root can reach it.
    let copy = place.path("firelink");
    std::fs::copy(command.get_program(), &copy).unwrap();
    set_mode(&copy, 0o755);
    let mut started = std::process::Command::new(&copy);
    started.args(command.get_args()).current_dir(place.path("")).stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
    let daemon = place.start_by(started);
    assert_eq!((mode(&own.join("state")), mode(&own.join("state/state.db"))), (0o700, 0o600));
    daemon.terminate();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("own/state belongs to nobody, and the daemon runs as root"),
        "{}",
        text(&output.stderr)
    );
}
