//! Wrong configurations with their diagnostics, and the examples, which are right.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use firelink::config::{Refused, Report, Surroundings, check_text, load_text, look_here};

fn nobody() -> Surroundings {
    Surroundings { start_dir: "/nonexistent".into(), machine_seed: 1, uid: 65_534 }
}

/// The diagnostics of a file: errors, or warnings if it loads.
#[cfg(feature = "s3")]
fn rendered(name: &str, text: &str) -> String {
    let diagnostics = match check_text(Path::new(name), text, &nobody(), &look_here) {
        Ok(config) => config.warnings,
        Err(Refused(diagnostics)) => diagnostics,
    };
    diagnostics.iter().map(|diagnostic| diagnostic.rendered.as_str()).collect::<Vec<_>>().join("\n\n")
}

fn cases() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let mut cases: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    cases.sort();
    cases
}

#[test]
// Without S3 the sources of watches are refused by another message.
#[cfg(feature = "s3")]
fn every_wrong_configuration_is_reported_as_in_its_snapshot() {
    let cases = cases();
    assert!(cases.len() > 60, "the folder of cases is there");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("data/config");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, text) in cases.into_iter().filter(|(name, _)| is_for_this_build(name)) {
            insta::assert_snapshot!(name.clone(), rendered(&format!("{name}.yaml"), &text));
        }
    });
}

#[test]
fn every_diagnostic_has_a_place_a_message_and_a_help_without_control_characters() {
    for (name, text) in cases() {
        let Err(Refused(diagnostics)) = check_text(Path::new("f.yaml"), &text, &nobody(), &look_here) else {
            assert!(["warnings", "lints", "notify-lints"].contains(&&*name), "{name} should be refused");
            continue;
        };
        assert!(!diagnostics.is_empty(), "{name} is refused without a diagnostic");
        let lines = text.lines().count().max(1);
        for one in &diagnostics {
            assert!(!one.message.is_empty() && !one.help.is_empty(), "{name}: no message or no help: {one:?}");
            assert!((1..=lines + 1).contains(&one.line) && one.column >= 1, "{name}: {one:?}");
            assert!(!one.rendered.chars().any(|c| c.is_control() && c != '\n'), "{name}: {one:?}");
        }
        let mut places: Vec<(usize, usize)> = diagnostics.iter().map(|one| (one.line, one.column)).collect();
        let reported = places.clone();
        places.sort_unstable();
        assert_eq!(reported, places, "{name}: in the order of the file");
        let report = Report::of(&Err(Refused(diagnostics)));
        assert!(!report.ok && report.jobs == 0 && !report.errors.is_empty());
    }
}

/// Without the cargo features `sqs` and `notify`, files about queues and webhooks are refused by other messages.
#[cfg(feature = "s3")]
fn is_for_this_build(name: &str) -> bool {
    (cfg!(feature = "sqs") || !name.contains("queue")) && (cfg!(feature = "notify") || !name.starts_with("notify"))
}

#[test]
#[cfg(feature = "s3")]
fn every_example_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = Surroundings { start_dir: root.into(), ..nobody() };
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") && is_for_this_build(&path.to_string_lossy()) {
            let text = std::fs::read_to_string(&path).unwrap();
            let loaded = check_text(&path, &text, &here, &look_here);
            assert!(loaded.as_ref().is_ok_and(|config| config.warnings.is_empty()), "{}: {loaded:#?}", path.display());
            count += 1;
        }
    }
    assert_eq!(count, if cfg!(feature = "sqs") { 6 } else { 5 });
}

#[test]
fn files_that_others_may_write_or_read_cause_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("open", 0o777);
    file("plain", 0o644);
    file("secret", 0o600);
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let warnings = |line: &str, uid: u32| {
        let here = Surroundings { start_dir: dir.path().into(), machine_seed: 1, uid };
        let text = format!("jobs: [{{ name: a, trigger: manual, {line} }}]");
        let config = check_text(Path::new("f"), &text, &here, &look_here);
        let messages: Vec<String> = config.expect("a right file").warnings.into_iter().map(|warning| warning.message).collect();
        messages.join("\n").replace(&format!("{}/", dir.path().display()), "")
    };
    assert_eq!(warnings("command: [./open]", 0), "./open is writable by everybody, and runs as root");
    assert_eq!(warnings("executor: { type: sh, script: open }", 0), "open is writable by everybody, and runs as root");
    assert_eq!(warnings("command: [./open]", 1000), "");
    assert_eq!(warnings("command: [./plain]", 1000), "./plain is not executable");
    assert_eq!(warnings("executor: { type: sh, script: plain }", 0), "");
    assert_eq!(warnings("executor: { type: sh, script: folder }", 0), "folder is not a file");
    assert_eq!(warnings("env_file: secret", 0), "");
    assert_eq!(warnings("env_file: plain", 0), "plain is readable by everybody, but a file for secrets");
    assert_eq!(warnings("env_file: none", 0), "none does not exist");
}

#[test]
fn both_forms_of_a_trigger_mean_the_same() {
    let flat =
        "jobs: [{ name: a, trigger: cron, schedule: \"*/5 * * * *\", jitter: 30s, timezone: Europe/Berlin, catch_up: last }]";
    let map = "jobs: [{ name: a, trigger: { type: cron, schedule: \"*/5 * * * *\", jitter: 30s, timezone: Europe/Berlin, catch_up: last } }]";
    let rules = |text| load_text(Path::new("f"), text, &nobody()).expect("a right file").rules;
    assert_eq!(rules(flat), rules(map));
}

#[test]
fn defaults_fill_in_absent_keys() {
    let text = "
defaults: { timeout: 1h, env: { A: a, B: b }, output: { capture: none, keep_runs: 7 }, retry: 3, umask: 027 }
jobs:
  - { name: plain, command: ls }
  - { name: own, command: ls, timeout: 1m, env: { B: own, C: c }, output: { capture: all } }
  - { name: also_plain, command: pwd }
";
    let config = load_text(Path::new("f"), text, &nobody()).expect("a right file");
    let [plain, own, also] = &config.jobs[..] else { panic!("three jobs") };
    let vars = |job: &firelink::config::Job| job.exec.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
    assert_eq!(vars(plain), ["A=a", "B=b"]);
    assert_eq!(vars(own), ["A=a", "B=own", "C=c"]);
    assert_eq!((plain.keep_runs, own.keep_runs, plain.exec.umask), (7, 7, Some(0o027)));
    assert!(std::sync::Arc::ptr_eq(&plain.exec, &also.exec), "equal specs are shared");
    let timeouts: Vec<u64> = config.rules.jobs.iter().map(|rules| rules.policy.timeout.unwrap().as_secs()).collect();
    assert_eq!(timeouts, [3600, 60, 3600]);
}

#[test]
fn a_value_is_its_text_whatever_its_type_in_yaml() {
    let text = "jobs: [{ name: 007, command: [echo, 1, 2.50, true, 0x1F, 1e3], env: { PORT: 8080, ON: yes, EMPTY: \"\" } }]";
    let config = load_text(Path::new("f"), text, &nobody()).expect("a right file");
    let job = &config.jobs[0];
    assert_eq!(&*job.name, "007");
    let argv = ["echo", "1", "2.50", "true", "0x1F", "1e3"].map(Box::from);
    assert_eq!(*job.action, firelink::exec::spec::Action::Argv(argv.into()));
    let vars: Vec<(&str, &str)> = job.exec.env.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(vars, [("PORT", "8080"), ("ON", "yes"), ("EMPTY", "")]);
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "
jobs:
  - &base { name: a, command: ls, timeout: 5m }
  - { <<: *base, name: b }
";
    let config = load_text(Path::new("f"), text, &nobody()).expect("a right file");
    assert_eq!(config.rules.jobs[1].policy.timeout, config.rules.jobs[0].policy.timeout);
    assert_eq!((&*config.jobs[0].name, &*config.jobs[1].name), ("a", "b"));
}

/// `firelink check` of a file, with the environment variable if there is a value: exit code, stdout and stderr.
fn check(path: &Path, yaml: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_firelink"));
    command.arg("check").arg(path).env_remove("FIRELINK_YAML").envs(yaml.map(|value| ("FIRELINK_YAML", value)));
    let output = command.output().unwrap();
    // The times of the next firings.
    let stdout = String::from_utf8(output.stdout).unwrap().replace(char::is_numeric, "0");
    (output.status.code(), stdout, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn both_yaml_readers_load_a_file_to_the_same_result() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.yaml");
    for text in [
        "jobs:\n  - name: a\n    trigger: cron\n    schedule: \"0 18 * * *\"\n    command: [/bin/echo, 'b']\n",
        "jobs:\n  - name: a\n    trigger: cron\n    schedul: x\n",
        "jobs: [a\n",
    ] {
        std::fs::write(&file, text).unwrap();
        let usual = check(&file, None);
        for value in ["", "fast", "full"] {
            assert_eq!(check(&file, Some(value)), usual, "FIRELINK_YAML={value}");
        }
        assert!(!usual.2.contains("bug of firelink"), "{}", usual.2);
    }
}

#[test]
fn an_unknown_yaml_reader_is_an_error_that_names_the_known_ones() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.yaml");
    std::fs::write(&file, "jobs: []\n").unwrap();
    let (code, stdout, stderr) = check(&file, Some("slow"));
    assert_eq!((code, &*stdout), (Some(2), ""));
    assert!(stderr.contains("invalid value `slow` for the environment variable `FIRELINK_YAML`"), "{stderr}");
    assert!(stderr.contains("`fast` or `full`"), "{stderr}");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Pieces that configurations are made of, in any order: nearer to the reader's edges than random bytes.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => prop::sample::select(vec![
                "jobs:", "\n", "  - ", "name: a", "name: ", "trigger: ", "cron", "schedule: ", "\"0 18 * * *\"", "{", "}", "[",
                "]", ": ", ", ", "    ", "depends_on: [a]", "&x ", "*x", "<<: ", "!t ", "| ", "> ", "'", "\"", "#", "---\n", "~",
                "timeout: 5", "every: 1s", "env: ", "\t", "é", "\u{feff}", "? ", "retry: ", "source: s3://b/",
            ]).prop_map(str::to_owned),
            1 => "\\PC{0,6}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_reader_panic_and_every_refusal_has_a_diagnostic(pieces in prop::collection::vec(piece(), 0..40)) {
            let text = pieces.concat();
            if let Err(Refused(diagnostics)) = check_text(Path::new("f"), &text, &nobody(), &look_here) {
                prop_assert!(!diagnostics.is_empty(), "refused without a diagnostic: {text:?}");
                let differ = diagnostics.iter().any(|one| one.message.contains("bug of firelink"));
                prop_assert!(!differ, "the YAML readers disagree: {text:?}");
            }
        }
    }
}
