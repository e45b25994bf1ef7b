//! What the web UI costs: the first page, firings while two hundred people look and do not read, wake-ups while
//! idle, and memory while it is off. `cargo bench --bench web`; with `-- --write` the figures go into `docs/figures.md`.
//! `-- --without PATH` names a binary that was built without the feature `web`, to compare with; for example of
//! `cargo build --release --no-default-features --features s3,metrics,notify --target-dir target/without-web`.
//!
//! Fails when the first page takes over 300 kB or 300 ms, when slow readers move the median of a firing's delay by more
//! than a millisecond or its 99th hundredth by more than five, when an idle web UI wakes up at all, and when a web UI
//! that is off costs more than 200 kB.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench talks to a person, and its inputs are its own")]

#[path = "support/figures.rs"]
mod figures;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use firelink::model::{Elapsed, Now, WallTime};
use firelink::store::Durability;
use firelink::store::{DATABASE, JobKey, Store};

const JOBS: u32 = 1_000;
const RUNS: u32 = 10_000;
const ROUNDS: usize = 20;
const READERS: usize = 200;
/// Firings of each part, ten a second.
const FIRINGS: usize = 300;
/// How long an idle web UI is watched.
const IDLE: Duration = Duration::from_secs(30);

const PAGE_BYTES: usize = 300_000;
const PAGE_TIME: Duration = Duration::from_millis(300);
const OFF_BYTES: u64 = 200 * 1024;

/// What was measured so far, as the rows of a table, and what is over its limit.
#[derive(Default)]
struct Results {
    table: String,
    over: Vec<String>,
}

impl Results {
    fn row(&mut self, what: &str, value: &str, limit: &str, is_kept: bool) {
        let _ = writeln!(self.table, "| {what} | {value} | {limit} |");
        println!("{what}: {value} ({limit})");
        if !is_kept {
            self.over.push(format!("{what}: {value}"));
        }
    }
}

/// A daemon, until it is dropped.
struct Daemon {
    child: Child,
    web: Option<SocketAddr>,
}

impl Daemon {
    fn start(binary: &Path, dir: &Path, config: &str) -> Daemon {
        let file = dir.join("firelink.yaml");
        std::fs::write(&file, config).expect("a file");
        let mut command = Command::new(binary);
        command.arg("run").arg(&file).arg("--state-dir").arg(dir).arg("--socket").arg(dir.join("socket"));
        command.args(["--log-level", "info"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("firelink starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut web = None;
        let armed = lines.by_ref().map_while(Result::ok).any(|line| {
            if let Some((_, address)) = line.split_once("the web UI is open: http://") {
                web = address.trim().trim_end_matches('/').parse().ok();
            }
            line.contains("ask it from another terminal")
        });
        assert!(armed, "it started");
        // The pipe is read on.
        std::thread::spawn(move || lines.for_each(drop));
        Daemon { child, web }
    }

    fn at(&self) -> SocketAddr {
        self.web.expect("its web UI is open")
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }

    /// A number of `/proc/PID/status`.
    fn status(&self, key: &str) -> u64 {
        number(&self.proc("status"), key)
    }

    /// How often its threads were given a processor, all together. One that is not woken makes no system call.
    fn switches(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        let of = |task: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(task.expect("a thread").path().join("status")).unwrap_or_default();
            number(&text, "voluntary_ctxt_switches") + number(&text, "nonvoluntary_ctxt_switches")
        };
        tasks.map(of).sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("a number")
}

/// A request as a browser sends it; the whole response.
fn get(at: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).expect("the web UI answers");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n").expect("a request");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("a response");
    assert!(response.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&response));
    response
}

fn unpacked(response: &[u8]) -> String {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of the head") + 4;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&response[end..]).read_to_string(&mut text).expect("gzip");
    text
}

/// The files that the first page names, and what its script asks for.
fn asked_by_first_page(at: SocketAddr) -> Vec<String> {
    let html = unpacked(&get(at, "/"));
    let links = html.split("=\"/").skip(1).filter_map(|rest| rest.split('"').next());
    let mut paths: Vec<String> = links.filter(|link| link.contains('.')).map(|link| format!("/{link}")).collect();
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 10, "{paths:?}");
    let first = ["/".to_owned()].into_iter();
    first.chain(paths).chain(["status", "graph", "runs?limit=15"].map(|path| format!("/api/v1/{path}"))).collect()
}

/// A hundred chains of ten jobs, none due before next year.
fn many_jobs() -> String {
    let job = |number: u32| match number % 10 {
        0 => format!("  - {{ name: collect-{number:04}, trigger: cron, schedule: '{} 3 1 1 *' }}\n", number % 60),
        _ => format!("  - {{ name: step-{number:04}, depends_on: [{}] }}\n", upstream(number - 1)),
    };
    (0..JOBS).map(job).collect()
}

fn upstream(number: u32) -> String {
    if number.is_multiple_of(10) { format!("collect-{number:04}") } else { format!("step-{number:04}") }
}

/// Ten runs of each job, the newest a minute ago.
fn fill(dir: &Path) {
    let mut store = Store::open(dir, Durability::Normal, "boot".into()).expect("the state").store;
    let keys: Vec<JobKey> = (0..JOBS).map(|number| JobKey { name: upstream(number).into(), timing: 0 }).collect();
    let now = Now { wall: WallTime::from_secs(1_800_000_000), elapsed: Elapsed::default() };
    store.restore(now, &keys, None).expect("restore");
    drop(store);
    let newest = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs() - 60;
    let conn = rusqlite::Connection::open(dir.join(DATABASE)).expect("the database");
    conn.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {RUNS})
         INSERT INTO runs SELECT id, id % {JOBS} + 1, CASE WHEN id % 50 = 1 THEN 'failed' ELSE 'succeeded' END, 'cron', 0,
             ({newest} - ({RUNS} - id) * 8) * 1000000000, 1, ({newest} - ({RUNS} - id) * 8) * 1000000000,
             ({newest} - ({RUNS} - id) * 8) * 1000000000, ({newest} - ({RUNS} - id) * 8) * 1000000000 + 734000000 + id,
             NULL, NULL, NULL, id % 50 = 1, NULL, NULL, NULL FROM n;
         INSERT INTO blocks SELECT id - id % 1024, min(scheduled_at) FROM runs GROUP BY 1;
         UPDATE jobs SET ended = (SELECT count(*) FROM runs WHERE job = jobs.id), last_run = (SELECT max(id) FROM runs WHERE job = jobs.id);
         INSERT OR REPLACE INTO meta VALUES ('active_from', {RUNS});
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
    ))
    .expect("ten thousand runs");
    assert_eq!(firelink::store::inspect(dir).expect("a look"), Some(Vec::new()));
}

fn first_page(binary: &Path, results: &mut Results) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    fill(dir.path());
    let daemon = Daemon::start(binary, dir.path(), &format!("web: {{ listen: '127.0.0.1:0' }}\njobs:\n{}", many_jobs()));
    let at = daemon.at();
    let paths = asked_by_first_page(at);
    let mut bytes = 0;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            bytes = paths.iter().map(|path| get(at, path).len()).sum();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let middle = times[ROUNDS / 2];
    let shown = format!("{:.1} kB", bytes as f64 / 1e3);
    results.row(
        &format!("first page of {JOBS} jobs and {RUNS} runs, {} files and answers", paths.len()),
        &shown,
        "300 kB",
        bytes <= PAGE_BYTES,
    );
    let shown = format!("{:.1} ms, slowest of {ROUNDS} {:.1} ms", ms(middle), ms(times[ROUNDS - 1]));
    results.row("the same, one after the other, median", &shown, "300 ms", middle <= PAGE_TIME);

    // Connections are closed; the thread that packed the answers goes away when it is idle.
    std::thread::sleep(Duration::from_secs(2));
    let before = daemon.switches();
    std::thread::sleep(IDLE);
    let woken = daemon.switches() - before;
    results.row(&format!("wake-ups in {} s with nobody looking", IDLE.as_secs()), &woken.to_string(), "0", woken == 0);
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Who follows the events and reads none of them: a small buffer, soon full.
fn slow_reader(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).expect("the web UI answers");
    nix::sys::socket::setsockopt(&stream.as_fd(), nix::sys::socket::sockopt::RcvBuf, &4096).expect("a small buffer");
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {at}\r\n\r\n").expect("a request");
    stream
}

/// Waits for that many firings and gives their delays in nanoseconds, sorted. The first ones still warm caches.
fn delays(stamps: &Path, dir: &Path, count: usize) -> Vec<i64> {
    const WARM: usize = 10;
    let skipped = std::fs::read_to_string(stamps).unwrap_or_default().lines().count() + WARM;
    let deadline = Instant::now() + Duration::from_secs(120);
    let text = loop {
        let text = std::fs::read_to_string(stamps).unwrap_or_default();
        if text.lines().count() >= skipped + count {
            break text;
        }
        assert!(Instant::now() < deadline, "it fires");
        std::thread::sleep(Duration::from_millis(100));
    };
    // Its writes do not wait for readers.
    let conn = rusqlite::Connection::open_with_flags(dir.join(DATABASE), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("the database");
    let mut query = conn.prepare("SELECT id, scheduled_at FROM runs").expect("a query");
    let due: HashMap<i64, i64> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("runs").map_while(Result::ok).collect();
    let mut delays: Vec<i64> = text
        .lines()
        .skip(skipped)
        .take(count)
        .map(|line| {
            let (run, at) = line.split_once(' ').expect("a run and its instant");
            at.parse::<i64>().expect("nanoseconds") - due[&run.parse::<i64>().expect("a run")]
        })
        .collect();
    delays.sort_unstable();
    delays
}

fn firings(binary: &Path, results: &mut Results) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let stamps = dir.path().join("stamps");
    let own = std::env::current_exe().expect("the path of this program");
    // The milestones make some two hundred events a second, which are not read.
    let config = format!(
        "web: {{ listen: '127.0.0.1:0' }}\njobs:\n  - name: fires\n    trigger: {{ type: interval, every: 100ms }}\n    command: [{}, --stamp, {}]\n    \
         concurrency: allow\n    output: {{ capture: none, keep_runs: 10000 }}\n  - {{ name: noise, trigger: {{ type: interval, every: 15ms }}, output: {{ keep_runs: 100 }} }}\n",
        own.display(),
        stamps.display()
    );
    let daemon = Daemon::start(binary, dir.path(), &config);
    let (at, over) = (daemon.at(), AtomicBool::new(false));
    let alone = delays(&stamps, dir.path(), FIRINGS);
    let (crowded, renewed) = std::thread::scope(|scope| {
        let readers = scope.spawn(|| {
            let mut readers: std::collections::VecDeque<TcpStream> = (0..READERS).map(|_| slow_reader(at)).collect();
            let mut renewed = 0;
            // A client that does not read is disconnected after a while, and reconnects as a browser does.
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                readers.pop_front();
                readers.push_back(slow_reader(at));
                renewed += 1;
            }
            renewed
        });
        let crowded = delays(&stamps, dir.path(), FIRINGS);
        over.store(true, Ordering::Relaxed);
        (crowded, readers.join().expect("the readers"))
    });
    let part = |delays: &[i64], hundredth: usize| delays[(delays.len() * hundredth / 100).min(delays.len() - 1)] as f64 / 1e6;
    for (hundredth, limit) in [(50, 1.0), (99, 5.0)] {
        let (without, with) = (part(&alone, hundredth), part(&crowded, hundredth));
        results.row(
            &format!("deadline to the first instruction of its program, {hundredth} %: nobody looks, {READERS} look and do not read ({renewed} renewed)"),
            &format!("{without:.2} ms, {with:.2} ms"),
            &format!("{limit} ms more"),
            with - without <= limit,
        );
    }
}

/// Resident memory of a daemon whose configuration has no `web`: the median of seven.
fn memory(binary: &Path) -> u64 {
    let mut sizes: Vec<u64> = (0..7)
        .map(|_| {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
            let jobs = "jobs: [{ name: a, trigger: cron, schedule: '0 0 1 1 *' }]\n";
            let daemon = Daemon::start(binary, dir.path(), jobs);
            std::thread::sleep(Duration::from_millis(200));
            daemon.status("VmRSS")
        })
        .collect();
    sizes.sort_unstable();
    sizes[sizes.len() / 2] * 1024
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1)).map(PathBuf::from);
    if let Some(stamps) = after("--stamp") {
        // As early as a program can take the time.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_nanos();
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(stamps).expect("a file");
        let line = format!("{} {now}\n", std::env::var("FIRELINK_RUN_ID").expect("a run"));
        return file.write_all(line.as_bytes()).expect("a line");
    }
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_firelink"));
    let mut results = Results::default();
    let _ = writeln!(results.table, "| what | measured | limit |");
    let _ = writeln!(results.table, "| --- | ---: | ---: |");
    first_page(&binary, &mut results);
    firings(&binary, &mut results);
    let off = memory(&binary);
    match after("--without") {
        None => println!("not compared: `--without PATH` names a binary built without `web`; this one takes {} kB", off / 1024),
        Some(other) => {
            let without = memory(&other);
            let shown = format!("{} kB, {} kB", without / 1024, off / 1024);
            let what = "resident memory: built without `web`, built with it and off";
            results.row(what, &shown, "200 kB more", off.saturating_sub(without) <= OFF_BYTES);
        }
    }
    figures::publish("web", &results.table);
    assert!(results.over.is_empty(), "over the limit: {:?}", results.over);
}
