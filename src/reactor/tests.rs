//! A whole daemon in a thread, for trigger types that the binary does not have.

#[path = "../../tests/support/own_process.rs"]
mod own_process;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clocks::KernelClocks;
use super::{Parts, Reactor, Service};
use crate::config::{Surroundings, load_text};
use crate::control::{bind, socket_path};
use crate::model::StateWord;
use crate::store::{Lock, Opened, Store};

fn daemon(dir: &Path, text: &str) -> JoinHandle<()> {
    let (dir, text) = (dir.to_owned(), text.to_owned());
    std::thread::spawn(move || {
        let surroundings = Surroundings { start_dir: dir.clone(), machine_seed: 1, uid: nix::unistd::getuid().as_raw() };
        let config = load_text(Path::new("test.yaml"), &text, &surroundings).expect("a valid file");
        let lock = Lock::take(&dir).expect("a lock");
        let Opened { store, .. } = Store::open(&dir, config.durability, String::new()).expect("a store");
        let socket = bind(&socket_path(Some(&dir.join("socket")))).expect("a socket");
        let clocks = KernelClocks::new().expect("clocks");
        let parts = Parts {
            config,
            store,
            lock,
            state_dir: dir,
            surroundings,
            socket,
            clocks,
            seed: 1,
            warnings: Vec::new(),
            keeps_old_copy: false,
            service: Service::default(),
        };
        Reactor::new(parts).expect("a reactor").run().expect("a good end");
    })
}

/// Asks the daemon, as soon as it listens, and waits for its answer.
fn ask(dir: &Path, request: &str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        match UnixStream::connect(dir.join("socket")) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    writeln!(stream, "{request}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn a_trigger_type_of_one_file_and_one_line_makes_a_run() {
    // A daemon reaps all children of its process, and would take those of other tests for its own.
    if !own_process::in_own_process("reactor::tests::a_trigger_type_of_one_file_and_one_line_makes_a_run") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = "jobs: [{ name: a, trigger: { type: echo, text: hello }, command: 'echo \"$FIRELINK_ECHO\" > ran' }]";
    let daemon = daemon(dir.path(), text);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ask(dir.path(), r#"{"v":1,"cmd":"status"}"#).contains("succeeded") {
        assert!(Instant::now() < deadline, "no run");
    }
    ask(dir.path(), r#"{"v":1,"cmd":"stop"}"#);
    daemon.join().expect("a daemon that ends well");
    assert_eq!(std::fs::read_to_string(dir.path().join("ran")).unwrap(), "hello\n");
    let Opened { mut store, .. } = Store::open(dir.path(), crate::store::Durability::Normal, String::new()).unwrap();
    let run = store.run(crate::model::RunId(1)).unwrap().expect("its run");
    assert_eq!((run.state, run.event.as_deref(), run.trigger.as_str()), (StateWord::Succeeded, Some("\"hello\""), "watch"));
    assert!(store.run(crate::model::RunId(2)).unwrap().is_none(), "one event, one run");
}

#[test]
fn its_mistakes_are_reported_like_those_of_any_other() {
    let surroundings = Surroundings { start_dir: "/".into(), machine_seed: 1, uid: 65_534 };
    let text = "jobs: [{ name: a, trigger: { type: echo, txet: hello } }]";
    let refused = load_text(Path::new("f"), text, &surroundings).expect_err("an invalid file").0;
    let messages: Vec<&str> = refused.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(messages, ["an `echo` trigger needs a `text`", "unknown key `txet`, did you mean `text`?"]);
}
