//! docs/configuration.md.

use std::fmt::Write as _;

use firelink::config::reference::{EXECUTION, JOB, Key, Section, TOP, TRIGGERS};

const INTRODUCTION: &str = "\
<!-- Generated from src/config/reference by `FIRELINK_UPDATE=1 cargo test --test reference`; do not edit. -->
# Configuration

One YAML file. This page lists every key; an unknown key is an error that suggests the nearest one. `firelink check FILE`
shows all errors of a file at once or, if there are none, when each job fires next. `firelink schema` prints this page as a
JSON Schema, for completion and checks in editors:

```yaml
# yaml-language-server: $schema=./firelink.schema.json
jobs:
  - name: hello
    trigger: { type: interval, every: 10s }
    command: echo hello
```

* A **duration** is `250ms`, `10s`, `5m`, `1h30m` or `2d`; a **size** is `64KiB`, `10MiB` or `1MB`. A number without a unit
  is an error.
* A **text** is taken literally, whatever its type in YAML: `PORT: 8080` and `PORT: \"8080\"` are the same.
* A **command** is a text, which `/bin/sh -c` runs, or a list of texts, which is run directly.
* Relative paths start from the job's `cwd`.
* Anchors, aliases and merge keys (`<<`) work.
* The environment variable `FIRELINK_YAML=full` turns off the fast YAML reader, for a file that it reads wrongly; `firelink check`
  compares both readers.
";

/// The whole page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    section(&mut page, &TOP, "##");
    below(&mut page, &TOP);
    section(&mut page, &JOB, "##");
    section(&mut page, &EXECUTION, "##");
    below(&mut page, &EXECUTION);
    page.push_str("\n## triggers\n\nA trigger is a type, with its keys among those of the job, or a map; both mean the same:\n");
    page.push_str("\n```yaml\njobs:\n  - name: flat\n    trigger: cron\n    schedule: \"0 18 * * *\"\n");
    page.push_str("  - name: map\n    trigger: { type: cron, schedule: \"0 18 * * *\" }\n```\n");
    for trigger in TRIGGERS {
        section(&mut page, trigger, "###");
        below(&mut page, trigger);
    }
    page
}

fn below(page: &mut String, section_above: &'static Section) {
    for map in section_above.keys.iter().flat_map(|key| key.kind.maps()).filter(|map| !std::ptr::eq(*map, &raw const EXECUTION)) {
        section(page, map, "###");
        below(page, map);
    }
}

fn section(page: &mut String, section: &Section, level: &str) {
    let _ = write!(page, "\n{level} {}\n\n{}\n", section.name, section.about);
    if section.keys.is_empty() {
        page.push_str("\nIt has no keys.\n");
        return;
    }
    page.push_str("\n| key | type | default | description |\n| --- | --- | --- | --- |\n");
    for key in section.keys {
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", key.name, key.kind.in_words(), default(section, key), key.about);
    }
}

fn default(section: &Section, key: &Key) -> String {
    let without = if section.needs.contains(&key.name) { "required" } else { "–" };
    key.unset.in_words().unwrap_or_else(|| without.to_owned())
}

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    super::assert_current("docs/configuration.md", &page());
}
