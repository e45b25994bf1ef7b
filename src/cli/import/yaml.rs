//! The lines of a crontab as YAML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::crontab::{Entry, Line};
use super::names::Names;
use super::scalar::{is_special, quoted};
use super::{Around, Imported};
use crate::cron::{Schedule, Zone, is_reboot};

/// The longest comment that becomes a `description`, in characters.
const LONGEST_DESCRIPTION: usize = 200;

/// Shells that know here-documents.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox"];

pub(super) fn write(lines: &[Line], around: &Around<'_>) -> Imported {
    let entries = || lines.iter().filter_map(|line| if let Line::Entry(entry) = line { Some(entry) } else { None });
    // Variables that all jobs have go into `defaults`.
    let first = entries().next().map(|entry| entry.env.clone()).unwrap_or_default();
    let common = if entries().count() > 1 && entries().all(|entry| entry.env == first) { first } else { BTreeMap::new() };
    let mut writer =
        Writer { around, common, names: Names::default(), comments: Vec::new(), body: String::new(), jobs: 0, left: 0 };
    for line in lines {
        writer.line(line);
    }
    writer.flush_comments();
    writer.finish()
}

struct Writer<'a> {
    around: &'a Around<'a>,
    common: BTreeMap<String, String>,
    names: Names,
    /// Comments that may belong to the next job.
    comments: Vec<String>,
    body: String,
    jobs: usize,
    left: usize,
}

impl Writer<'_> {
    fn line(&mut self, line: &Line) {
        match line {
            Line::Blank => {
                self.flush_comments();
                if !self.body.is_empty() && !self.body.ends_with("\n\n") {
                    self.body.push('\n');
                }
            }
            Line::Comment(text) => self.comments.push(text.clone()),
            Line::Variable => self.flush_comments(),
            Line::Note(line, note) => {
                self.flush_comments();
                self.comment(&format!("{line}: {note}"));
            }
            Line::Unknown(line, why) => self.leave(line, why),
            Line::Entry(entry) => match meaning(entry) {
                Ok(when) => self.job(entry, &when),
                Err(why) => self.leave(&entry.line, &why),
            },
        }
    }

    fn leave(&mut self, line: &str, why: &str) {
        self.flush_comments();
        self.left += 1;
        self.comment(&format!("NOT IMPORTED, {why}:"));
        self.comment(&format!("  {line}"));
    }

    fn comment(&mut self, text: &str) {
        // A control character would end the comment, or the file.
        let text: String = text.chars().map(|c| if is_special(c) { '?' } else { c }).collect();
        let _ = writeln!(self.body, "  #{}{}", if text.is_empty() || text.starts_with(' ') { "" } else { " " }, text.trim_end());
    }

    fn flush_comments(&mut self) {
        for comment in std::mem::take(&mut self.comments) {
            self.comment(&comment);
        }
    }

    /// A single comment line right above a job is its description.
    fn take_description(&mut self) -> Option<String> {
        let [only] = &self.comments[..] else { return None };
        let text = only.trim_matches(['#', ' ', '\t', '-', '=']).to_owned();
        let is_prose = !text.is_empty()
            && text.chars().count() <= LONGEST_DESCRIPTION
            && !text.chars().any(char::is_control)
            && !matches!(super::crontab::parse(&text, false)[..], [Line::Entry(ref entry)] if meaning(entry).is_ok())
            && !matches!(super::crontab::parse(&text, false)[..], [Line::Variable | Line::Note(..)]);
        is_prose.then(|| {
            self.comments.clear();
            text
        })
    }

    fn job(&mut self, entry: &Entry, when: &When) {
        let description = self.take_description();
        self.flush_comments();
        self.jobs += 1;
        let name = self.names.name(&entry.command);
        let _ = writeln!(self.body, "  - name: {}", quoted(&name));
        self.key("description", description.as_deref());
        match when {
            When::Startup => {
                self.body.push_str("    trigger: startup  # @reboot: whenever the daemon starts, not only at boot\n");
            }
            When::Schedule { schedule, zone } => {
                self.body.push_str("    trigger: cron\n");
                self.key("schedule", Some(schedule));
                self.key("timezone", zone.as_deref());
                if let Some(minutes) = entry.random_delay {
                    let _ = writeln!(self.body, "    jitter: {minutes}m  # RANDOM_DELAY; firelink's delay is the same each time");
                }
            }
        }
        let user = entry.user.as_deref().or(self.around.owner);
        let known_home = (self.around.home_of)(user);
        match user {
            Some(user) if known_home.is_none() => {
                let _ = writeln!(self.body, "    enabled: false");
                self.comment(&format!("  user: {user} (unknown user on this machine; create it, then enable the job)"));
            }
            user => self.key("user", user),
        }
        let home = entry.home.clone().or(known_home).filter(|home| home.starts_with('/'));
        self.key("cwd", home.as_deref());
        self.env(entry);
        self.command(entry);
    }

    fn env(&mut self, entry: &Entry) {
        if entry.env != self.common {
            let pairs = flow(&entry.env);
            let _ = writeln!(self.body, "    env: {pairs}");
        }
    }

    fn command(&mut self, entry: &Entry) {
        let shell = entry.shell.as_deref().filter(|shell| *shell != "/bin/sh");
        let is_known = shell.is_none_or(|shell| SHELLS.contains(&shell.rsplit('/').next().unwrap_or(shell)));
        let command = match &entry.input {
            Some(input) if is_known => with_input(&entry.command, input),
            Some(_) => {
                self.left += 1;
                self.comment("  NOT IMPORTED: the input after `%`: this SHELL has no here-documents");
                entry.command.clone()
            }
            None => entry.command.clone(),
        };
        match shell {
            None => self.key("command", Some(&command)),
            Some(shell) => {
                let _ = writeln!(self.body, "    command: [{}, \"-c\", {}]", quoted(shell), quoted(&command));
            }
        }
    }

    fn key(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            let _ = writeln!(self.body, "    {key}: {}", quoted(value));
        }
    }

    fn finish(self) -> Imported {
        let title: String = self.around.title.chars().map(|c| if is_special(c) { '?' } else { c }).collect();
        let mut yaml = format!("# Generated by `firelink import` from {title}.\n");
        if self.jobs > 0 {
            yaml.push_str(
                "# cron starts a command while its previous run is still active; firelink's default, `forbid`, would skip it.\ndefaults:\n  \
                 concurrency: allow\n",
            );
            if !self.common.is_empty() {
                let _ = writeln!(yaml, "  env: {}", flow(&self.common));
            }
        }
        yaml.push_str(if self.jobs > 0 { "\njobs:\n" } else { "\njobs: []\n" });
        yaml.push_str(self.body.trim_end());
        yaml.push('\n');
        Imported { yaml, left: self.left }
    }
}

/// The trigger of an entry.
enum When {
    Startup,
    Schedule { schedule: String, zone: Option<String> },
}

fn meaning(entry: &Entry) -> Result<When, String> {
    if is_reboot(&entry.schedule) {
        return Ok(When::Startup);
    }
    Schedule::parse(&entry.schedule).map_err(|error| error.message)?;
    if let Some(zone) = &entry.zone {
        Zone::parse(zone).map_err(|error| format!("CRON_TZ: {}", error.message))?;
    }
    Ok(When::Schedule { schedule: entry.schedule.clone(), zone: entry.zone.clone() })
}

/// The command with a here-document as its input, in the same shell. As in cron, the last line is terminated.
fn with_input(command: &str, input: &str) -> String {
    let mut end = "INPUT".to_owned();
    while input.lines().any(|line| line == end) {
        end.push('_');
    }
    let input = input.strip_suffix('\n').unwrap_or(input);
    format!("{{ {command}\n}} <<'{end}'\n{input}\n{end}\n")
}

fn flow(pairs: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value))).collect();
    if pairs.is_empty() { "{}".into() } else { format!("{{ {} }}", pairs.join(", ")) }
}
