//! Crontabs that nobody would write, and the configurations that are made of them.

use std::path::Path;

use firelink::cli::import::{Around, Imported, convert};
use firelink::config::{Config, Surroundings, load_text};
use firelink::cron::Schedule;
use firelink::exec::spec::Action;

use super::fuzz;

const CRONTABS: &[&[u8]] = &[
    b"# m h dom mon dow command\nSHELL=/bin/bash\nPATH=/usr/bin:/bin\nMAILTO=\"ops@example.org\"\n\n# Nightly dump\n\
      30 2 * * * pg_dump \"app\" | gzip > /srv/$(date +\\%F).gz\n*/15 * * * * /opt/poll.sh\n",
    b"@reboot /opt/at-boot\n@hourly test -x /a && /a\n#0 4 * * * /opt/off\nA=1\n0 9-17/2 * * mon-fri /opt/office\nB='x y'\n0 0 1 1 7 b\n",
    b"CRON_TZ=Europe/Berlin\nRANDOM_DELAY=20\nHOME=/srv\n59 23 31 12 * cat%Dear me,%bye\nCRON_TZ=Nowhere\n0 0 30 2 * never\nwhat is this\n",
    b"SHELL=/bin/sh\n17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly\n-*/5 * * * * nosuch nice -n 5 /opt/x\n",
    b"RANDOM_DELAY=525600\n\"A b\" = \"c d\"\n'E'=\n* * * * * echo '\"' \\\\ # x\n",
];

fn import(text: &str, system: bool) -> Imported {
    let home_of = |user: Option<&str>| matches!(user, None | Some("root")).then(|| "/home/me".to_owned());
    convert(text, &Around { title: "a test", system, owner: None, home_of: &home_of })
}

fn load(imported: &Imported) -> Config {
    let around = Surroundings { start_dir: "/nowhere".into(), machine_seed: 1, uid: 0 };
    load_text(Path::new("imported.yaml"), &imported.yaml, &around).unwrap_or_else(|refused| {
        let told: Vec<String> = refused.0.into_iter().map(|one| one.rendered).collect();
        panic!("{}", told.join("\n"))
    })
}

/// What lines without anything odd about them run: read by hand, and only where that is easy.
fn commands(text: &str) -> Vec<&str> {
    let blank = [' ', '\t'];
    let command = |line: &'_ str| {
        let mut rest = line.trim_start_matches(blank);
        if rest.contains(['%', '\0']) || rest.starts_with(['#', '"', '\'', '-', '@']) {
            return None;
        }
        let mut fields = Vec::new();
        for _ in 0..5 {
            let end = rest.find(blank)?;
            fields.push(&rest[..end]);
            rest = rest[end..].trim_start_matches(blank);
        }
        let is_variable = fields[0].contains('=') || fields[1].starts_with('=');
        let command = rest.trim();
        (!is_variable && !command.is_empty() && Schedule::parse(&fields.join(" ")).is_ok()).then(|| line.len() - rest.len())
    };
    text.lines().filter_map(|line| command(line).map(|at| line[at..].trim())).collect()
}

fn holds(text: &str, system: bool) {
    let imported = import(text, system);
    let config = load(&imported);
    if !text.contains("NOT IMPORTED") {
        assert_eq!(imported.yaml.matches("NOT IMPORTED").count(), imported.left, "each line that is left out has a comment");
    }
    let lines = || text.lines().map(|line| line.trim_start_matches([' ', '\t'])).filter(|line| !line.trim_end().is_empty());
    let lines = || lines().filter(|line| !line.starts_with('#'));
    // An input that a shell can't have is a comment in its job.
    let inputs = lines().filter(|line| line.contains('%')).count();
    let told = config.jobs.len() + imported.left;
    assert!(told <= lines().count() + inputs, "{told} of {} lines", lines().count());
    assert!(told >= lines().filter(|line| !line.contains('=')).count(), "{told} of {} lines", lines().count());
    if imported.left == 0 && !system {
        let run = config.jobs.iter().filter_map(|job| match &*job.action {
            Action::Shell(command) => Some(&**command),
            Action::Argv(argv) => argv.last().map(|word| &**word),
            _ => None,
        });
        let run: Vec<&str> = run.collect();
        for command in commands(text) {
            assert!(run.iter().any(|run| run.trim() == command), "`{command}` is not in {run:?}");
        }
    }
}

#[test]
fn any_crontab_becomes_a_configuration_that_loads_and_loses_no_line() {
    fuzz(CRONTABS, 1_500, |bytes| {
        let text = super::text(bytes);
        for system in [false, true] {
            holds(&text, system);
        }
    });
}

#[test]
fn variables_that_change_all_the_time_are_refused_before_they_fill_the_memory() {
    let text: String = (0..4_000).map(|n| format!("A{n}={n}\n* * * * * x\n")).collect();
    let imported = import(&text, false);
    assert!(imported.left > 0 && imported.yaml.contains("the variables of all lines before it are too large"));
}

/// What was found so.
#[test]
fn crontabs_that_made_configurations_which_do_not_load() {
    let long = format!("{}=1", "A".repeat(1_025));
    let quotes = format!("x{}=1", "\"'".repeat(400));
    for variable in [&long, &quotes, "RANDOM_DELAY=99999999", "RANDOM_DELAY=soon", "\"A=B\"=c", "<<=x", "'a\tb'=1"] {
        let text = format!("{variable}\n* * * * * x\n");
        holds(&text, false);
        let imported = import(&text, false);
        assert_eq!((load(&imported).jobs.len(), imported.left), (1, 1), "{}", imported.yaml);
    }
}
