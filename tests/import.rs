//! Crontabs as configurations: both are run over a year of instants.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use firelink::cli::import::{Around, Imported, convert};
use firelink::config::{Config, Surroundings, load_text};
use firelink::cron::{Schedule, Upcoming, Zone, parse_rfc3339};
use firelink::engine::timing::{Concurrency, Timing};
use firelink::exec::spec::Action;
use firelink::model::WallTime;
use proptest::prelude::*;

fn import(text: &str, system: bool) -> Imported {
    let home_of = |user: Option<&str>| match user {
        None => Some("/home/me".to_owned()),
        Some("root") => Some("/root".to_owned()),
        Some(_) => None,
    };
    convert(text, &Around { title: "a test", system, owner: None, home_of: &home_of })
}

fn load(imported: &Imported) -> Config {
    let around = Surroundings { start_dir: "/".into(), machine_seed: 1, uid: 0 };
    load_text(Path::new("imported.yaml"), &imported.yaml, &around).unwrap_or_else(|refused| {
        let told: Vec<String> = refused.0.into_iter().map(|diagnostic| diagnostic.rendered).collect();
        panic!("{}\n{}", told.join("\n"), imported.yaml)
    })
}

fn year() -> (WallTime, WallTime) {
    (parse_rfc3339("2026-01-01T00:00:00Z").unwrap(), parse_rfc3339("2027-01-01T00:00:00Z").unwrap())
}

/// Every instant of a job in the year.
fn instants(config: &Config, job: usize) -> Vec<WallTime> {
    let Timing::Wall(wall) = &config.rules.jobs[job].timing else { panic!("{:?}", config.rules.jobs[job].timing) };
    let (from, to) = year();
    std::iter::successors(wall.next_after(from), |at| wall.next_after(*at)).take_while(|at| *at < to).collect()
}

const CRONTAB: &str = r#"# m h dom mon dow command
SHELL=/bin/bash
PATH=/usr/local/bin:/usr/bin:/bin
MAILTO="ops@example.org"

# Nightly dump of the database
30 2 * * * pg_dump "app" | gzip > /srv/dump-$(date +\%F).gz
*/15 * * * * /opt/poll.sh
0 9-17/2 * * mon-fri /opt/office
15 3 1,15 * fri /opt/either-day
15 3 */2 * fri /opt/both-days
#0 4 * * * /opt/disabled
@hourly /opt/hourly
@weekly /opt/weekly

CRON_TZ=Europe/Berlin
30 2 * * * /opt/in-the-gap
59 23 31 12 * /opt/year-end
CRON_TZ=America/New_York
RANDOM_DELAY=20
0 8 * * 7 /opt/sunday
0 0 30 2 * /opt/never
@reboot /opt/at-boot
0 0 * * * mail -s hello me%Dear me,%bye
what is this
"#;

#[test]
fn both_meanings_name_the_same_instants_of_a_year() {
    let imported = import(CRONTAB, false);
    let config = load(&imported);
    // Read by hand: the line's schedule, its zone, and what the job is called.
    let meant = [
        ("30 2 * * *", None, "pg_dump"),
        ("*/15 * * * *", None, "poll"),
        ("0 9-17/2 * * mon-fri", None, "office"),
        ("15 3 1,15 * fri", None, "either-day"),
        ("15 3 */2 * fri", None, "both-days"),
        ("@hourly", None, "hourly"),
        ("@weekly", None, "weekly"),
        ("30 2 * * *", Some("Europe/Berlin"), "in-the-gap"),
        ("59 23 31 12 *", Some("Europe/Berlin"), "year-end"),
        ("0 0 * * *", Some("America/New_York"), "mail"),
    ];
    let (from, to) = year();
    for (line, zone, name) in meant {
        let job = config.jobs.iter().position(|job| &*job.name == name).unwrap_or_else(|| panic!("{name}\n{}", imported.yaml));
        let zone = zone.map_or_else(Zone::system, |zone| Zone::parse(zone).unwrap());
        let schedule = [Schedule::parse(line).unwrap()];
        let expected: Vec<WallTime> = Upcoming::new(&schedule, zone, from).take_while(|at| *at < to).collect();
        let found = instants(&config, job);
        // A random delay is the same each time.
        let offset = found[0].since(expected[0]);
        assert!(name == "mail" || offset.is_zero(), "{name}");
        assert!(offset.as_secs() < 20 * 60);
        let expected: Vec<WallTime> = expected.iter().map(|at| *at + offset).take_while(|at| *at < to).collect();
        assert_eq!(found, expected, "{name}");
    }
    let boot = config.rules.jobs.iter().find(|job| &*job.name == "at-boot").unwrap();
    assert_eq!(boot.timing, Timing::Startup);
    assert!(config.rules.jobs.iter().all(|job| job.policy.concurrency == Concurrency::Allow));
    assert_eq!(imported.left, 2, "{}", imported.yaml);
    for line in ["0 0 30 2 * /opt/never", "what is this", "0 4 * * * /opt/disabled", "MAILTO=\"ops@example.org\""] {
        assert!(imported.yaml.contains(line), "`{line}` is a comment:\n{}", imported.yaml);
    }
    let dump = &config.jobs[0];
    assert_eq!(dump.notes.as_ref().unwrap().description.as_deref(), Some("Nightly dump of the database"));
    let Action::Argv(argv) = &*dump.action else { panic!("{:?}", dump.action) };
    let expected = ["/bin/bash", "-c", "pg_dump \"app\" | gzip > /srv/dump-$(date +%F).gz"];
    assert_eq!(argv.iter().map(|word| &**word).collect::<Vec<&str>>(), expected);
    assert!(dump.exec.env.iter().any(|(name, value)| &**name == "PATH" && &**value == "/usr/local/bin:/usr/bin:/bin"));
}

#[test]
fn the_system_form_names_users_and_an_unknown_one_disables_its_job() {
    let imported = import("17 * * * * root cd / && run-parts /etc/cron.hourly\n0 1 * * * nosuch /opt/x\n", true);
    let config = load(&imported);
    assert_eq!(config.jobs[0].exec.user.as_deref(), Some("root"));
    assert_eq!(config.jobs[0].exec.cwd.as_deref().map(|cwd| cwd.to_string_lossy().into_owned()).as_deref(), Some("/root"));
    assert_eq!(config.rules.jobs.iter().map(|job| job.enabled).collect::<Vec<_>>(), [true, false], "{}", imported.yaml);
}

#[test]
fn input_after_a_percent_sign_reaches_the_command_as_cron_would_send_it() {
    for (line, printed) in [
        ("cat%one%two", "one\ntwo\n"),
        ("cat # hush%one\\%", "one%\n"),
        ("cat; exit 3%INPUT%$HOME `x` 'y'%", "INPUT\n$HOME `x` 'y'\n"),
        ("read a; echo \"$a\"; cat%x%%y", "x\n\ny\n"),
    ] {
        let imported = import(&format!("* * * * * {line}\n"), false);
        let config = load(&imported);
        let Action::Shell(command) = &*config.jobs[0].action else { panic!("{}", imported.yaml) };
        let output = Command::new("/bin/sh").args(["-c", command]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{line}: {output:?}");
        assert_eq!(output.status.code(), Some(if line.contains("exit 3") { 3 } else { 0 }));
    }
}

#[test]
fn a_crontab_that_would_become_too_large_a_configuration_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, "a\n".repeat(380_000).as_bytes()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_firelink")).arg("import").arg(file.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(stderr.contains("would become a configuration of 17MiB, the limit is 16MiB: split it"), "{stderr}");
}

/// A field of a crontab, mostly right.
fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let number = low..=high;
    prop_oneof![
        4 => Just("*".to_owned()),
        3 => number.clone().prop_map(|n| n.to_string()),
        2 => (1..20u32).prop_map(|step| format!("*/{step}")),
        2 => (number.clone(), number.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => proptest::collection::vec(number, 1..4).prop_map(|list| {
            list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
        }),
    ]
}

fn schedule() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7))
        .prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_schedules_keep_their_instants(lines in proptest::collection::vec(schedule(), 1..6)) {
        let text: String = lines.iter().enumerate().map(|(n, line)| format!("{line} /opt/job{n}\n")).collect();
        let imported = import(&text, false);
        let config = load(&imported);
        let (from, to) = year();
        for (number, line) in lines.iter().enumerate() {
            let Ok(schedule) = Schedule::parse(line) else { continue };
            let schedule = [schedule];
            let job = config.jobs.iter().position(|job| *job.name == format!("job{number}"));
            let Timing::Wall(wall) = &config.rules.jobs[job.unwrap()].timing else { panic!() };
            // Fifty looks spread over the year, and what comes right after each.
            for look in 0..50u64 {
                let at = from + to.since(from) / 50 * u32::try_from(look).unwrap();
                prop_assert_eq!(wall.next_after(at), Upcoming::new(&schedule, Zone::system(), at).next());
            }
        }
    }

    #[test]
    fn whatever_the_crontab_holds_the_configuration_loads_and_no_line_is_lost(
        lines in proptest::collection::vec(prop_oneof![
            "[ -~]{0,60}",
            "\\PC{0,40}",
            "[A-Z_\"' ]{1,8} ?= ?\\PC{0,20}",
            (schedule(), "\\PC{1,60}").prop_map(|(schedule, command)| format!("{schedule} {command}")),
            (schedule(), "[a-z%\\\\\"' #:\\[\\]{}&*!|>@`\u{7f}\u{85}\u{2028}]{1,40}").prop_map(|(when, what)| format!("{when}\t{what}")),
            "#\\PC{0,30}",
            "@(reboot|daily|hourly|never) [a-z/.]{1,20}",
        ], 0..20),
        system: bool,
    ) {
        let text = lines.join("\n");
        let imported = import(&text, system);
        let config = load(&imported);
        let entries = config.jobs.len() + imported.left;
        let could_be = lines.iter().filter(|line| !line.trim_start().is_empty()).count();
        prop_assert!(entries <= could_be * 2);
        for line in lines.iter().filter(|line| line.starts_with("@daily ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let told = words.last().unwrap();
            prop_assert!(imported.yaml.contains(told), "{} is not in\n{}", told, imported.yaml);
        }
    }
}
