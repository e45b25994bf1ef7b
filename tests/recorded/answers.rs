//! Answers that need no daemon: `check`, `schema`, `next`, `simulate`.

use firelink::model::parse_duration;

use crate::daemon::Place;
use crate::json::{Json, normalized};
use crate::{compare, compare_json, file, prints, run};

/// What the recorded configurations name and `check` looks for.
const SCRIPTS: [&str; 4] =
    ["examples/scripts/job_a.sh", "examples/scripts/job_b.py", "examples/plugins/mqtt", "examples/plugins/udev"];

#[test]
fn check_says_the_same_of_right_and_wrong_files() {
    let mut configs: Vec<String> = std::fs::read_dir(file("check"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    configs.sort();
    assert!(configs.len() >= 10, "{configs:?}");
    let place = Place::new("");
    for script in SCRIPTS {
        std::fs::create_dir_all(place.path(script).parent().unwrap()).unwrap();
        place.write(script, "#!/bin/sh\n");
        std::fs::set_permissions(place.path(script), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut wrong = 0;
    for name in &configs {
        let config = format!("{name}.yaml");
        std::fs::copy(file("check").join(&config), place.path(&config)).unwrap();
        let output = run(&place, &["check", &config, "--format", "json"]);
        let said = crate::text(&output.stdout);
        let ok = Json::parse(&said).get("ok") == Some(&Json::Bool(true));
        wrong += usize::from(!ok);
        assert_eq!(output.status.code(), Some(if ok { 0 } else { 2 }), "{name}");
        compare_json(&format!("check/{name}.json"), &said, &[]);
    }
    assert!(wrong >= 4 && configs.len() - wrong >= 4, "{wrong} wrong of {}", configs.len());
}

/// The default of this key was documented wrongly: the code takes 1 MiB. It stands in a description only.
const CORRECTED: (&str, &str, &str) = ("max_size", "Default: 10MiB.", "Default: 1MiB.");

#[test]
fn the_schema_has_the_same_shape_and_the_same_defaults() {
    let said = prints(&Place::new(""), &["schema"]);
    if crate::recorder().is_some() {
        compare_json("schema.json", &said, &[]);
    } else {
        let recorded = Json::parse(&std::fs::read_to_string(file("schema.json")).unwrap());
        // New keys may be added.
        let known = without_new_keys(&recorded, Json::parse(&said), false);
        crate::assert_same("schema.json", &normalized(&recorded, &[]).lines(), &normalized(&known, &[]).lines());
        let (before, now) = (defaults(&recorded), defaults(&known));
        assert!(before.len() > 20, "{before:?}");
        let (key, wrong, right) = CORRECTED;
        for (before, now) in before.iter().zip(&now) {
            let is_corrected = before.0 == key && before.1 == wrong && now.1 == right;
            assert!(before == now || same_duration(before, now) || is_corrected, "{before:?} became {now:?}");
        }
        assert_eq!(before.len(), now.len());
    }
}

/// A schema without the keys of configurations that another one does not have; `is_of_keys` for a map of such keys.
fn without_new_keys(recorded: &Json, now: Json, is_of_keys: bool) -> Json {
    match now {
        Json::Map(entries) => {
            let known = entries.into_iter().filter(|(key, _)| !is_of_keys || recorded.get(key).is_some());
            let inner = known.map(|(key, value)| {
                let value = match recorded.get(&key) {
                    Some(recorded) => without_new_keys(recorded, value, key == "properties"),
                    None => value,
                };
                (key, value)
            });
            Json::Map(inner.collect())
        }
        Json::List(items) => match recorded {
            Json::List(recorded) if recorded.len() == items.len() => {
                Json::List(recorded.iter().zip(items).map(|(recorded, item)| without_new_keys(recorded, item, false)).collect())
            }
            _ => Json::List(items),
        },
        other => other,
    }
}

/// True for one duration of one key that is written in two ways: `60s`, `1m`.
fn same_duration(before: &(String, String), now: &(String, String)) -> bool {
    let duration = |text: &str| parse_duration(text.strip_prefix("Default: ")?.strip_suffix('.')?).ok();
    before.0 == now.0 && duration(&before.1).is_some_and(|before| duration(&now.1) == Some(before))
}

/// Each key whose description ends with a default, and that default, in the order of the schema.
fn defaults(schema: &Json) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Json::Map(entries) = schema {
        for (key, value) in entries {
            let about = value.get("description").and_then(Json::text).unwrap_or_default();
            found.extend(about.find("Default: ").map(|at| (key.clone(), about[at..].to_owned())));
            found.extend(defaults(value));
        }
    } else if let Json::List(items) = schema {
        found.extend(items.iter().flat_map(defaults));
    }
    found
}

#[test]
fn the_next_firings_are_the_same() {
    let place = Place::new("");
    std::fs::copy(file("times.yaml"), place.path("times.yaml")).unwrap();
    let exact = |text: &str| Json::parse(text).lines();
    let after = "2026-10-24T12:00:00Z";
    let of_file = prints(&place, &["next", "times.yaml", "--after", after, "--count", "200", "--format", "json"]);
    compare("next/file.json", &of_file, exact);
    let of_job = prints(&place, &["next", "times.yaml", "--job", "fixed", "--after", after, "--format", "json"]);
    compare("next/job.json", &of_job, exact);
    for (name, schedule, zone) in [
        ("fixed", "30 2 * * *", "Europe/Berlin"),
        ("wildcard", "*/20 * * * *", "Europe/Berlin"),
        ("seconds", "15 30 2 * * 0", "America/New_York"),
        ("or", "0 12 13 * fri", "Asia/Kathmandu"),
    ] {
        let args = ["next", "--schedule", schedule, "--timezone", zone, "--after", after, "--count", "20", "--format", "json"];
        compare(&format!("next/{name}.json"), &prints(&place, &args), exact);
    }
}

#[test]
fn a_simulation_runs_the_same_jobs_at_the_same_instants() {
    let place = Place::new("");
    std::fs::copy(file("times.yaml"), place.path("times.yaml")).unwrap();
    let (from, to) = ("2026-10-24T22:00:00Z", "2026-10-25T06:00:00Z");
    let said = prints(&place, &["simulate", "times.yaml", "--from", from, "--to", to, "--format", "json"]);
    // Virtual instants are exact; only `reason` is prose.
    compare("simulate.jsonl", &said, |text| {
        text.lines().map(|line| normalized(&Json::parse(line), &[]).lines()).collect::<String>()
    });
}
