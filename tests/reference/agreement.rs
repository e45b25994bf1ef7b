//! Every key with right and wrong values: the reader and the schema must agree.

use std::path::Path;

use firelink::config::reference::{EXECUTION, JOB, Key, Kind, Section, TOP, TRIGGERS};
use firelink::config::{Refused, Surroundings, load_text};

use super::schema::Checker;

/// The reader's errors about a text.
fn read(text: &str) -> Vec<String> {
    let here = Surroundings { start_dir: super::root(), machine_seed: 1, uid: 0 };
    match load_text(Path::new("f"), text, &here) {
        Ok(_) => Vec::new(),
        Err(Refused(list)) => list.into_iter().map(|one| format!("{} {}", one.line, one.message)).collect(),
    }
}

/// Right and wrong values of a kind.
fn samples(key: &Key, kind: &Kind) -> (Vec<String>, Vec<String>) {
    // Texts with a syntax of their own; the schema takes any text.
    let special = match key.name {
        "name" => Some("x"),
        "timezone" => Some("Europe/Berlin"),
        "schedule" => Some("\"0 18 * * *\""),
        "listen" => Some("\"127.0.0.1:8080\""),
        "textfile" => Some("/x/y.prom"),
        "source" => Some("s3://box/in/"),
        "s3" => Some("box/in/"),
        "sqs" => Some("https://sqs.eu-west-1.amazonaws.com/1/in"),
        "url" | "ping" => Some("http://127.0.0.1:9000"),
        "on" => Some("failed"),
        // There on every Linux, readable and not empty.
        "secret_file" => Some("/proc/version"),
        "endpoint" => Some("http://127.0.0.1:9000"),
        "user" | "group" => Some("root"),
        "poll_interval" | "timeout" => Some("30s"),
        "depends_on" => Some("up"),
        "max_size" => Some("64KiB"),
        _ => None,
    };
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    if let (Some(word), Kind::Text | Kind::Duration | Kind::Size) = (special, kind) {
        return (owned(&[word]), owned(&["{ a: b }"]));
    }
    match kind {
        Kind::Text => (owned(&["word", "1", "true", "\"two words\""]), owned(&["{ a: b }"])),
        Kind::Flag => (owned(&["true", "false", "\"true\""]), owned(&["maybe", "1", "[true]"])),
        Kind::Duration => (owned(&["10s", "1h30m", "2d", "1m1s1ms"]), owned(&["10", "ten", "1x", "1s1h", "\"\"", "[10s]"])),
        Kind::Size => (owned(&["64KiB", "1MB", "2 GB"]), owned(&["64", "KiB", "1XB"])),
        Kind::Octal => (owned(&["\"027\"", "022"]), owned(&["\"8\"", "-1"])),
        Kind::Number(from, to) => {
            let wrong = [(from - 1).to_string(), (to + 1).to_string(), "word".into(), "1.5".into()];
            (vec![from.to_string(), to.to_string(), format!("\"{to}\"")], wrong.into())
        }
        Kind::Word(words) => (owned(words), owned(&["nonsense", "{ a: b }"])),
        Kind::List => match special {
            Some(word) => (vec![format!("[{word}]")], Vec::new()),
            None if key.name.ends_with("exit_codes") => (owned(&["[1, 2]"]), owned(&["[[1]]"])),
            None => (owned(&["[one, 2]"]), owned(&["[{ a: b }]", "[[one]]"])),
        },
        Kind::Env => (owned(&["{ A: b, C: 1 }"]), owned(&["[a]", "word", "{ \"a=b\": c }"])),
        Kind::Map(section) => (vec![map(section)], owned(&["{ nonsense: 1 }", "[a]"])),
        Kind::Maps(_) => (vec!["[]".into()], owned(&["{ a: b }", "[x]", "[{ nonsense: 1 }]"])),
        Kind::Jobs => (owned(&["[]", "[{ name: x }]"]), owned(&["{ name: x }", "[x]", "[{}]"])),
        Kind::Trigger => (owned(&["manual", "{ type: manual }"]), owned(&["nonsense", "{}", "{ type: x }", "[manual]"])),
        Kind::Either(kinds) => {
            let right = kinds.iter().flat_map(|kind| samples(key, kind).0).collect();
            // What is wrong for one kind may be right for another; nothing takes a list of maps.
            (right, owned(&["[{ a: b }]"]))
        }
    }
}

/// The shortest right map.
fn map(section: &'static Section) -> String {
    let mut needs: Vec<&str> = section.needs.to_vec();
    if section.name == "executor" {
        needs.push("type");
    }
    let pairs = needs.iter().map(|need| format!("{need}: {}", sample(section, need)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

fn sample(section: &'static Section, name: &str) -> String {
    let key = section.keys.iter().find(|key| key.name == name).unwrap();
    samples(key, &key.kind).0.remove(0)
}

/// A file around `key: value` in one of the maps.
fn around(section: &'static Section, line: &str, name: &str) -> String {
    let needed = |own: &[&str]| -> String {
        let others = section.needs.iter().chain(own).filter(|need| **need != name);
        others.map(|need| format!(", {need}: {}", sample(section, need))).collect()
    };
    match section.name {
        "file" if name == "jobs" => line.to_owned(),
        "file" => format!("{line}\njobs: []"),
        "jobs" => {
            let own = if name == "name" { "" } else { ", name: x" };
            let up = if name == "condition" { ", depends_on: up" } else { "" };
            format!("jobs: [{{ name: up }}, {{ {line}{own}{up} }}]")
        }
        "execution" => format!("jobs: [{{ name: x, {line} }}]"),
        "state" => format!("jobs: []\nstate: {{ {line}{} }}", if name == "sync_every" { ", sync_to: /x" } else { "" }),
        "web" | "metrics" => format!("jobs: []\n{}: {{ {line}{} }}", section.name, needed(&[])),
        "notify" if matches!(name, "url" | "ping") => format!("jobs: []\nnotify: [{{ {line} }}]"),
        "notify" if name == "every" => format!("jobs: []\nnotify: [{{ {line}, ping: \"http://127.0.0.1\" }}]"),
        "notify" => format!("jobs: []\nnotify: [{{ {line}, url: \"http://127.0.0.1\" }}]"),
        "notify-retry" => {
            let longest = if name == "delay" { ", max_delay: 5d" } else { "" };
            let least = if name == "max_delay" { ", delay: 0s" } else { "" };
            format!("jobs: []\nnotify: [{{ url: \"http://127.0.0.1\", retry: {{ {line}{longest}{least} }} }}]")
        }
        "source" | "queue" => format!("jobs: [{{ name: x, trigger: {{ type: watch, source: {{ {line}{} }} }} }}]", needed(&[])),
        "executor" if name == "interpreter" => format!("jobs: [{{ name: x, executor: {{ {line}, script: x }} }}]"),
        "executor" => format!("jobs: [{{ name: x, executor: {{ {line}{} }} }}]", needed(&["type"])),
        "retry" if name == "delay" => format!("jobs: [{{ name: x, retry: {{ {line}, attempts: 2, max_delay: 5d }} }}]"),
        map if TRIGGERS.iter().any(|trigger| trigger.name == map) => {
            let others = match name {
                "recursive" | "stable_for" => ", source: /x".to_owned(),
                "ack" => ", source: \"sqs://host/1/in\"".to_owned(),
                _ => needed(&[]),
            };
            format!("jobs: [{{ name: up }}, {{ name: x, depends_on: up, trigger: {{ type: {map}, {line}{others} }} }}]")
        }
        map => format!("jobs: [{{ name: x, {map}: {{ {line}{} }} }}]", needed(&[])),
    }
}

/// A build without SQS refuses whatever is about queues.
fn is_of_queues(section: &Section, key: &Key) -> bool {
    section.name == "queue" || key.name == "ack"
}

#[test]
fn the_schema_and_the_reader_agree_on_every_key_and_every_word() {
    let checker = Checker::new();
    let own = [&TOP, &JOB, &EXECUTION];
    let triggers = TRIGGERS.iter().copied();
    let mut sections: Vec<&'static Section> = own.into_iter().chain(triggers).collect();
    let below: Vec<&'static Section> = sections.iter().flat_map(|section| section.keys).flat_map(|key| key.kind.maps()).collect();
    let deeper: Vec<&'static Section> = below
        .iter()
        .filter(|section| section.name == "notify")
        .flat_map(|section| section.keys)
        .flat_map(|key| key.kind.maps())
        .collect();
    sections.extend(deeper);
    sections.extend(below.into_iter().filter(|section| section.name != "execution"));
    let mut tried = 0;
    for section in sections {
        for key in section.keys.iter().filter(|key| cfg!(feature = "sqs") || !is_of_queues(section, key)) {
            let (right, wrong) = samples(key, &key.kind);
            for value in right.into_iter().filter(|value| cfg!(feature = "sqs") || !value.contains("sqs:")) {
                let text = around(section, &format!("{}: {value}", key.name), key.name);
                assert_eq!((read(&text), checker.check(&text)), (Vec::new(), Ok(())), "{text}");
                tried += 1;
            }
            for value in wrong {
                let text = around(section, &format!("{}: {value}", key.name), key.name);
                assert!(!read(&text).is_empty(), "the reader takes {text}");
                assert!(checker.check(&text).is_err(), "the schema takes {text}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}
