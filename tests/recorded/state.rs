//! A state directory that a firelink left behind when it was killed in the middle of its work: read by `history`, and gone
//! on with by a daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::daemon::{Daemon, Place, is_alive};
use crate::json::{Json, normalized};
use crate::s3::S3Server;
use crate::{assert_same, file, history, prints, recorder, start, wait_until, without};

/// What of a state directory is recorded. `state.db-shm` is an index that SQLite builds again.
const FILES: [&str; 3] = ["state.db", "state.db-wal", "journal"];

/// The S3 server of the recording, by its address in the database.
const ENDPOINT: &str = "http://recorded-endpoint:9000";

const OBJECTS: [(&str, &[u8]); 3] = [("in/a", b"1"), ("in/b", b"22"), ("in/c d", b"333")];

/// The newest run of the recording, and what else a comparison needs.
struct Before {
    newest: u64,
    runs: Vec<Json>,
}

fn text_of<'j>(run: &'j Json, key: &str) -> &'j str {
    run.get(key).and_then(Json::text).unwrap_or_default()
}

fn number_of(run: &Json, key: &str) -> Option<u64> {
    run.get(key).and_then(Json::number)
}

fn server() -> S3Server {
    let server = S3Server::start("my-bucket");
    OBJECTS.iter().for_each(|(key, body)| server.put("my-bucket", key, body));
    server
}

fn place(server: &S3Server, config: &str) -> Place {
    let place = Place::new("").with_env(server.env()).with_env([("TZ", "UTC")]);
    place.write("firelink.yaml", &std::fs::read_to_string(file("state").join(config)).unwrap());
    std::fs::create_dir(place.state_dir()).unwrap();
    place
}

/// A place with the recorded state, or that of another directory, as it was found at the next start.
fn opened(server: &S3Server, from: &Path) -> Place {
    let place = place(server, "opened.yaml");
    for name in FILES {
        std::fs::copy(from.join(name), place.state_dir().join(name)).unwrap();
    }
    std::fs::copy(from.join("ran"), place.path("ran")).unwrap();
    name_endpoint(&place.state_dir(), ENDPOINT, &server.endpoint());
    place
}

/// What was seen of a bucket belongs to its endpoint, whose port is another each time. Nothing else is changed: the log of
/// the database stays beside it.
fn name_endpoint(state: &Path, from: &str, to: &str) {
    let conn = Connection::open(state.join("state.db")).unwrap();
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    conn.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    let changed = conn.execute("UPDATE jobs SET watch = replace(watch, ?1, ?2) WHERE instr(watch, ?1) > 0", [from, to]).unwrap();
    assert_eq!(changed, 1, "the watch of a bucket is known by its endpoint, {from}");
}

fn neutral(place: &Place, said: &str) -> String {
    without(said, &[(place.path("").display().to_string().trim_end_matches('/'), "$DIR")])
}

/// Waits until these states of a job are among its runs, however many others there are.
fn has_states(place: &Place, job: &str, state: &str, count: usize) {
    wait_until(&format!("{count} runs of {job} that are {state}"), || {
        let runs = Json::parse(&history(place));
        let found = runs.items().iter().filter(|run| text_of(run, "job") == job && text_of(run, "state") == state).count();
        (found >= count).then_some(())
    });
}

/// Writes the state, in three lives of a daemon that is killed each time.
fn record(recorded: &Path) {
    let server = server();
    let place = place(&server, "written.yaml");
    // First life: every end that a run can have, and a run that is cut short.
    let daemon = start(&place, "firelink.yaml");
    has_states(&place, "objects", "succeeded", OBJECTS.len());
    has_states(&place, "seconds", "succeeded", 2);
    for job in ["good", "bad", "shot", "late"] {
        crate::run(&place, &["ctl", "trigger", job, "--wait"]);
    }
    prints(&place, &["ctl", "trigger", "behind", "--force"]);
    has_states(&place, "behind", "succeeded", 1);
    prints(&place, &["ctl", "trigger", "long"]);
    has_states(&place, "long", "running", 1);
    prints(&place, &["ctl", "trigger", "long"]);
    let long = Json::parse(&prints(&place, &["ctl", "status", "long", "--format", "json"]));
    let id = number_of(&long.get("active").unwrap().items()[0], "id").unwrap().to_string();
    prints(&place, &["ctl", "cancel", &id]);
    has_states(&place, "long", "cancelled", 1);
    prints(&place, &["ctl", "trigger", "cut"]);
    wait_until("the process of `cut`", || (place.lines("pids").len() == 1).then_some(()));
    has_states(&place, "cut", "running", 1);
    daemon.crash();
    end_processes(&place);
    // While nobody runs, seconds pass.
    std::thread::sleep(Duration::from_secs(4));
    let daemon = start(&place, "firelink.yaml");
    has_states(&place, "cut", "lost", 1);
    has_states(&place, "seconds", "missed", 1);
    // An orderly end, so that most of it is in the database and not in its log.
    daemon.terminate();
    // Last life: what waits, what is held, and so much at once that turns go into the journal.
    place.write("firelink.yaml", &std::fs::read_to_string(file("state/opened.yaml")).unwrap());
    let daemon = start(&place, "firelink.yaml");
    prints(&place, &["ctl", "pause", "held"]);
    prints(&place, &["ctl", "trigger", "held"]);
    prints(&place, &["ctl", "trigger", "good", "--wait"]);
    for job in ["gate", "gate", "gate", "again"] {
        prints(&place, &["ctl", "trigger", job]);
    }
    wait_until("the processes of `gate` and `again`", || (place.lines("pids").len() == 3).then_some(()));
    prints(&place, &["ctl", "trigger", "flaky"]);
    crash_with_a_journal(&place, daemon);
    end_processes(&place);
    name_endpoint(&place.state_dir(), &server.endpoint(), ENDPOINT);
    for name in FILES {
        std::fs::copy(place.state_dir().join(name), recorded.join(name)).unwrap();
    }
    std::fs::copy(place.path("ran"), recorded.join("ran")).unwrap();
}

/// Keeps the daemon busy until its journal has an entry of each kind that the database lacks, and kills it then.
fn crash_with_a_journal<'p>(place: &'p Place, mut daemon: Daemon<'p>) {
    let calm = place.read("firelink.yaml");
    let trigger =
        |text: &str, job: &str, how: &str| text.replace(&format!("name: {job}, trigger: manual"), &format!("name: {job}, {how}"));
    let busy = trigger(&calm, "tick", "trigger: interval, every: 30ms");
    let busy = trigger(&busy, "flap", "trigger: interval, every: 70ms");
    let busy = trigger(&busy, "each", "trigger: cron, schedule: \"* * * * * *\"");
    for _ in 0..20 {
        place.write("firelink.yaml", &busy);
        // Shortly before `each` is due, so that few runs do.
        wait_until("the end of a second", || (Utc::now().timestamp_subsec_millis() > 700).then_some(()));
        prints(place, &["ctl", "reload"]);
        let state = place.state_dir();
        wait_until("an entry of each kind", || (kinds_of_lacking(&state) == KINDS).then_some(()));
        daemon.crash();
        if kinds_of_lacking(&state) == KINDS {
            return;
        }
        // It was brought into the database just before the kill. An orderly end empties the log of the database.
        place.write("firelink.yaml", &calm);
        start(place, "firelink.yaml").terminate();
        daemon = start(place, "firelink.yaml");
    }
    panic!("no kill met a journal with an entry of each kind");
}

/// The entries that a journal can hold, by name.
const KINDS: [&str; 5] = ["Anchor", "AttemptFailed", "Credit", "Cursor", "Run"];

/// The kinds of entries of the frames that follow on the database's mark. See docs/state-format.md.
fn kinds_of_lacking(state: &Path) -> Vec<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = Connection::open_with_flags(state.join("state.db"), flags).unwrap();
    let Ok(mark) = conn.query_row("SELECT value FROM meta WHERE key = 'journal'", [], |row| row.get::<_, i64>(0)) else {
        return Vec::new();
    };
    let bytes = std::fs::read(state.join("journal")).unwrap_or_default();
    let (mut rest, mut number, mut kinds) = (&*bytes, mark, BTreeSet::new());
    while let Some((head, behind)) = rest.split_at_checked(20) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        let Some((payload, behind)) = behind.split_at_checked(length) else { break };
        // The hash behind the number is left to the store.
        let entries: Option<Vec<BTreeMap<String, serde_json::Value>>> = serde_json::from_slice(payload).ok();
        let Some(entries) = entries.filter(|_| head[4..12] == (number + 1).to_le_bytes()) else { break };
        kinds.extend(entries.into_iter().flat_map(BTreeMap::into_keys));
        (rest, number) = (behind, number + 1);
    }
    kinds.into_iter().collect()
}

/// Ends the processes that a daemon left, and waits until they are gone: they belong to this state.
fn end_processes(place: &Place) {
    for pid in place.lines("pids") {
        let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
        wait_until("the end of a process", || (!is_alive(&pid)).then_some(()));
    }
}

/// Opens a copy of the state with a daemon and lets it go on until nothing is left to do but what is held.
fn go_on(server: &S3Server, from: &Path) -> (Before, String, String) {
    let place = opened(server, from);
    let before = neutral(&place, &history(&place));
    let runs = Json::parse(&before).items().to_vec();
    let newest = runs.iter().filter_map(|run| number_of(run, "id")).max().unwrap();
    let known = Before { newest, runs };
    // Whatever waited in a process of the daemon that was killed may end now.
    place.write("open", "");
    let started = Utc::now();
    let daemon = start(&place, "firelink.yaml");
    wait_until("two polls", || (server.listings() > 2).then_some(()));
    server.put("my-bucket", "in/new", b"4444");
    has_states(&place, "objects", "succeeded", OBJECTS.len() + 1);
    // What it waits for besides was credited before the crash.
    prints(&place, &["ctl", "trigger", "never", "--wait"]);
    has_states(&place, "both", "succeeded", 1);
    wait_until("the end of all that waited", || {
        let status = Json::parse(&prints(&place, &["ctl", "status", "--format", "json"]));
        status.get("active")?.items().iter().all(|run| text_of(run, "job") == "held").then_some(())
    });
    let status = neutral(&place, &prints(&place, &["ctl", "status", "--format", "json"]));
    let after = neutral(&place, &history(&place));
    nothing_ran_twice(&place, &known, from);
    deadlines_were_caught_up_once(&known, &after, started);
    prints(&place, &["ctl", "resume", "held"]);
    has_states(&place, "held", "succeeded", 1);
    daemon.terminate();
    let story = story(&after, known.newest);
    (known, story, held(&status))
}

/// No attempt was made again, and none of a run that had ended.
fn nothing_ran_twice(place: &Place, before: &Before, from: &Path) {
    let old = std::fs::read_to_string(from.join("ran")).unwrap();
    let old: BTreeSet<&str> = old.lines().collect();
    let all = place.lines("ran");
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|line| *count.entry(line.as_str()).or_default() += 1);
    assert!(count.values().all(|count| *count == 1), "{count:?}");
    for line in all.iter().filter(|line| !old.contains(line.as_str())) {
        let run: u64 = line.split(' ').next().unwrap().parse().unwrap();
        let known = before.runs.iter().find(|known| number_of(known, "id") == Some(run));
        assert!(known.is_none_or(|known| matches!(text_of(known, "state"), "pending" | "running")), "{line}: {known:?}");
    }
}

/// `minutes` catches up with the latest of its missed deadlines, and then follows the clock.
fn deadlines_were_caught_up_once(before: &Before, after: &str, started: DateTime<Utc>) {
    let at = |run: &Json| DateTime::parse_from_rfc3339(text_of(run, "scheduled_at")).unwrap().to_utc();
    let of_job = |runs: &[Json]| {
        let of_job = runs.iter().filter(|run| text_of(run, "job") == "minutes" && number_of(run, "id").is_some());
        of_job.map(|run| (number_of(run, "id").unwrap(), at(run))).collect::<BTreeMap<u64, DateTime<Utc>>>()
    };
    let all: Vec<DateTime<Utc>> = of_job(Json::parse(after).items()).into_values().collect();
    let last = of_job(&before.runs).into_values().last();
    let new: Vec<&DateTime<Utc>> = all.iter().filter(|at| last.is_none_or(|last| **at > last)).collect();
    let written = before.runs.iter().map(at).max().unwrap();
    if started < written + Duration::from_secs(61) {
        // A box whose clock is behind the recording: a deadline that was met does not come again.
        return assert!(new.len() <= 1, "{new:?}");
    }
    assert!(!new.is_empty() && *new[0] <= started && *new[0] > started - Duration::from_secs(61), "{new:?}, {started}");
    assert!(new.windows(2).all(|pair| *pair[1] == *pair[0] + Duration::from_secs(60)), "{new:?}");
}

/// What became of each run of the recording, by its number, and which runs were made since; `minutes` follows the clock.
fn story(after: &str, newest: u64) -> String {
    let runs = Json::parse(after);
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for run in runs.items().iter().filter(|run| text_of(run, "job") != "minutes") {
        match number_of(run, "id") {
            Some(id) if id > newest => {
                // Their numbers depend on which came first.
                new.push(normalized(run, &[]).line().replacen(&format!("\"id\": {id},"), "\"id\": <new>,", 1));
            }
            _ => old.push(normalized(run, &[]).line()),
        }
    }
    new.sort();
    old.concat() + &new.concat()
}

/// Which jobs are paused or wait for something, and how their newest runs ended; `minutes` follows the clock.
fn held(status: &str) -> String {
    let status = Json::parse(status);
    let of_job = |job: &Json| {
        let field = |key: &str| format!("{:?}", normalized(job.get(key).unwrap(), &[]));
        let waits = job.get("waiting_for").unwrap().items().len();
        let last = job.get("last_run").and_then(|run| run.get("state"));
        format!(
            "{} paused {} {} waits for {waits}, last {last:?}\n",
            text_of(job, "name"),
            field("paused"),
            text_of(job, "state")
        )
    };
    let jobs = status.get("jobs").unwrap().items();
    jobs.iter().filter(|job| text_of(job, "name") != "minutes").map(of_job).collect()
}

#[test]
fn the_recorded_state_is_read_and_gone_on_with() {
    let recorded = file("state");
    let recording = recorder().is_some();
    if recording {
        record(&recorded);
        // The recorded deadlines of `minutes` have to be missed by more than `grace`.
        std::thread::sleep(Duration::from_secs(62));
    }
    let server = server();
    let read = {
        let place = opened(&server, &recorded);
        assert_eq!(kinds_of_lacking(&place.state_dir()), KINDS, "an entry of each kind is in the journal alone");
        let with_journal = neutral(&place, &history(&place));
        std::fs::remove_file(place.state_dir().join("journal")).unwrap();
        let without_journal = neutral(&place, &history(&place));
        assert!(with_journal != without_journal, "the journal says something that the database does not");
        with_journal
    };
    let (before, story, held) = go_on(&server, &recorded);
    // What the recording must hold, so that it can't shrink to nothing.
    let states: BTreeSet<&str> = before.runs.iter().map(|run| text_of(run, "state")).collect();
    let all = ["cancelled", "failed", "lost", "missed", "pending", "running", "skipped", "succeeded", "timed_out"];
    assert_eq!(states.into_iter().collect::<Vec<_>>(), all);
    for (name, said) in [("history.json", &read), ("opened.txt", &story), ("held.txt", &held)] {
        let path = recorded.join(name);
        if recording {
            std::fs::write(path, said).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(path).unwrap();
        if name == "history.json" {
            // Instants too: they are those of the recording.
            let exact = |text: &str| without_prose(&Json::parse(text)).lines();
            assert_same(name, &exact(&expected), &exact(said));
        } else {
            assert_same(name, &expected, said);
        }
    }
}

/// Only `reason` may be reworded.
fn without_prose(value: &Json) -> Json {
    match value {
        Json::Map(entries) => Json::Map(
            entries
                .iter()
                .map(|(key, value)| match (key.as_str(), value) {
                    ("reason", Json::Text(_)) => (key.clone(), Json::Text("<prose>".into())),
                    _ => (key.clone(), without_prose(value)),
                })
                .collect(),
        ),
        Json::List(items) => Json::List(items.iter().map(without_prose).collect()),
        other => other.clone(),
    }
}
