//! A crontab, line by line, as Debian's cron and cronie read it (crontab(5)).

use std::collections::BTreeMap;

use super::scalar::{is_special, quoted};

/// A line of a crontab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An empty line.
    Blank,
    /// A comment, without its `#`.
    Comment(String),
    /// A variable that cron itself evaluates and firelink has no key for: the line and a note.
    Note(String, String),
    /// A variable; it is in the entries that follow it.
    Variable,
    /// A job.
    Entry(Box<Entry>),
    /// A line that cron or firelink does not understand: the line and the reason.
    Unknown(String, String),
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The line as it was written.
    pub line: String,
    /// Five fields separated by single spaces, or a macro.
    pub schedule: String,
    /// The user column.
    pub user: Option<String>,
    /// The command for the shell, `%` resolved.
    pub command: String,
    /// The text after the first `%`.
    pub input: Option<String>,
    /// The variables in force, without those below.
    pub env: BTreeMap<String, String>,
    /// `SHELL`.
    pub shell: Option<String>,
    /// `HOME`, where commands start.
    pub home: Option<String>,
    /// `CRON_TZ`.
    pub zone: Option<String>,
    /// `RANDOM_DELAY`, in minutes (cronie).
    pub random_delay: Option<u32>,
}

const NO_MAIL: &str =
    "firelink sends no mail: output is in `firelink ctl logs`, and `on_failure` can run a command that sends one";

/// YAML limits a key to 1,024 characters, its quotes and escapes included.
const LONGEST_KEY: usize = 1_000;

/// A year of minutes.
const LONGEST_DELAY: u32 = 525_600;

/// The memory limit of the variables of all jobs together, in bytes: each job has a copy of those in force.
const MOST_CARRIED: usize = 64 << 20;

/// The overhead of a variable in bytes, which also bounds the number of values in the configuration.
const A_VARIABLE: usize = 128;

/// Reads a crontab.
pub(super) fn parse(text: &str, system: bool) -> Vec<Line> {
    let mut reader = Reader { system, env: BTreeMap::new(), carried: 0 };
    text.lines().map(|line| reader.line(line)).collect()
}

struct Reader {
    system: bool,
    env: BTreeMap<String, String>,
    carried: usize,
}

impl Reader {
    fn line(&mut self, whole: &str) -> Line {
        let line = whole.trim_start_matches([' ', '\t']).trim_end_matches('\r');
        if line.trim_end().is_empty() {
            return Line::Blank;
        }
        if let Some(comment) = line.strip_prefix('#') {
            return Line::Comment(comment.trim_end().to_owned());
        }
        if line.contains('\0') {
            return Line::Unknown(line.replace('\0', "?"), "it contains a NUL byte".into());
        }
        if let Some((name, value)) = variable(line) {
            return self.set(line, name, value);
        }
        match self.entry(line) {
            Ok(entry) => Line::Entry(Box::new(entry)),
            Err(why) => Line::Unknown(line.to_owned(), why),
        }
    }

    fn set(&mut self, line: &str, name: String, value: String) -> Line {
        let minutes = if name == "RANDOM_DELAY" && !value.is_empty() { value.parse::<u32>() } else { Ok(0) };
        let why = if name.contains(is_special) {
            Some("the variable's name contains a control character".to_owned())
        } else if name.contains('=') {
            Some("the variable's name contains a `=`".to_owned())
        } else if name == "<<" {
            Some("this name is YAML's merge key".to_owned())
        } else if quoted(&name).len() > LONGEST_KEY {
            Some(format!("the variable's name is longer than {LONGEST_KEY} characters"))
        } else if minutes.is_err() || minutes.is_ok_and(|minutes| minutes > LONGEST_DELAY) {
            Some(format!("RANDOM_DELAY is a number of minutes, at most {LONGEST_DELAY}"))
        } else {
            None
        };
        if let Some(why) = why {
            return Line::Unknown(line.to_owned(), why);
        }
        let note = match name.as_str() {
            "MAILTO" | "MAILFROM" | "CONTENT_TYPE" | "CONTENT_TRANSFER_ENCODING" if value.is_empty() => None,
            "MAILTO" | "MAILFROM" | "CONTENT_TYPE" | "CONTENT_TRANSFER_ENCODING" => Some(NO_MAIL),
            "START_HOURS_RANGE" => Some("it is for anacron, which firelink's `catch_up` replaces"),
            "NO_MAIL_OUTPUT" => Some(NO_MAIL),
            _ => None,
        };
        self.env.insert(name, value);
        note.map_or(Line::Variable, |note| Line::Note(line.to_owned(), note.to_owned()))
    }

    fn entry(&mut self, line: &str) -> Result<Entry, String> {
        // cronie: a minus keeps a line out of the system's log.
        let mut rest = line.strip_prefix('-').filter(|rest| !rest.starts_with([' ', '\t'])).unwrap_or(line);
        let mut word = |what: &str| {
            let (word, tail) = split_word(rest);
            rest = tail;
            if word.is_empty() { Err(format!("{what} is missing")) } else { Ok(word) }
        };
        let first = word("the schedule")?;
        let schedule = if first.starts_with('@') {
            first.to_owned()
        } else {
            let mut fields = vec![first];
            for what in ["the hour", "the day of the month", "the month", "the day of the week"] {
                fields.push(word(what)?);
            }
            fields.join(" ")
        };
        let user = if self.system { Some(word("the user")?.to_owned()) } else { None };
        if rest.trim().is_empty() {
            return Err("the command is missing".into());
        }
        let (command, input) = split_input(rest);
        if command.trim().is_empty() {
            return Err("the command is empty".into());
        }
        self.carried += self.env.iter().map(|(name, value)| name.len() + value.len() + A_VARIABLE).sum::<usize>();
        if self.carried > MOST_CARRIED {
            return Err("the variables of all lines before it are too large".into());
        }
        let mut env = self.env.clone();
        let mut take = |name: &str| env.remove(name).filter(|value| !value.is_empty());
        let (shell, zone) = (take("SHELL"), take("CRON_TZ"));
        let random_delay = take("RANDOM_DELAY").and_then(|minutes| minutes.parse().ok()).filter(|minutes| *minutes > 0);
        let home = env.get("HOME").cloned().filter(|home| !home.is_empty());
        for name in ["MAILTO", "MAILFROM", "NO_MAIL_OUTPUT", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING", "START_HOURS_RANGE"] {
            env.remove(name);
        }
        // cron sets it itself, whatever the crontab says.
        env.remove("LOGNAME");
        Ok(Entry { line: line.to_owned(), schedule, user, command, input, env, shell, home, zone, random_delay })
    }
}

/// `name = value`, each in quotes or not. Nothing is expanded in the value.
fn variable(line: &str) -> Option<(String, String)> {
    let (name, rest) = match line.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => line[1..].split_once(quote)?,
        None => line.split_at(line.find([' ', '\t', '='])?),
    };
    let value = rest.trim_start_matches([' ', '\t']).strip_prefix('=')?.trim_matches([' ', '\t']);
    let unquoted = ['"', '\''].iter().find_map(|quote| {
        let inner = value.strip_prefix(*quote)?.strip_suffix(*quote)?;
        (!inner.contains(*quote)).then_some(inner)
    });
    (!name.is_empty()).then(|| (name.to_owned(), unquoted.unwrap_or(value).to_owned()))
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    text.split_at(text.find([' ', '\t']).unwrap_or(text.len()))
}

/// The first `%` ends the command, the others end lines of its input; `\%` is a percent sign.
fn split_input(text: &str) -> (String, Option<String>) {
    let text = text.trim_start_matches([' ', '\t']);
    let (mut command, mut input) = (String::new(), None::<String>);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' if chars.peek() == Some(&'%') => {
                chars.next();
                '%'
            }
            '%' if input.is_none() => {
                input = Some(String::new());
                continue;
            }
            '%' => '\n',
            c => c,
        };
        input.as_mut().unwrap_or(&mut command).push(c);
    }
    (command.trim_end().to_owned(), input.filter(|input| !input.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, system: bool) -> Entry {
        match parse(text, system).pop() {
            Some(Line::Entry(entry)) => *entry,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn variables_are_read_in_every_form() {
        for (line, name, value) in [
            ("A=b", "A", "b"),
            ("A = b c ", "A", "b c"),
            ("A=\"b c \"", "A", "b c "),
            ("'A'='b'", "A", "b"),
            ("PATH=$HOME/bin:/bin", "PATH", "$HOME/bin:/bin"),
            ("A=", "A", ""),
            ("A=\"b\" \"c\"", "A", "\"b\" \"c\""),
        ] {
            assert_eq!(variable(line), Some((name.into(), value.into())), "{line}");
        }
        for line in ["0 5 * * * A=b cmd", "* * * * * x", "@daily x=y", "=b", "A"] {
            assert_eq!(variable(line), None, "{line}");
        }
    }

    #[test]
    fn an_entry_has_what_was_in_force_before_it() {
        let text =
            "A=1\nSHELL=/bin/bash\nMAILTO=me\n0 5 * * * one\nA=2\nCRON_TZ=Europe/Berlin\nRANDOM_DELAY=30\n*/5 1 2 3 4\ttwo";
        let lines = parse(text, false);
        let Line::Entry(one) = &lines[3] else { panic!("{lines:?}") };
        assert_eq!((one.command.as_str(), one.env["A"].as_str(), one.shell.as_deref()), ("one", "1", Some("/bin/bash")));
        assert!(matches!(&lines[2], Line::Note(line, _) if line == "MAILTO=me"));
        let two = entry(text, false);
        assert_eq!((two.schedule.as_str(), two.command.as_str()), ("*/5 1 2 3 4", "two"));
        assert_eq!((two.env["A"].as_str(), two.zone.as_deref(), two.random_delay), ("2", Some("Europe/Berlin"), Some(30)));
        assert_eq!(two.env.len(), 1);
    }

    #[test]
    fn percent_signs_are_line_ends_of_the_input() {
        let read = |command: &str| {
            let entry = entry(&format!("* * * * * {command}"), false);
            (entry.command, entry.input)
        };
        assert_eq!(read("date +\\%F"), ("date +%F".into(), None));
        assert_eq!(read("cat%one%two\\%three%"), ("cat".into(), Some("one\ntwo%three\n".into())));
        assert_eq!(read("cat%"), ("cat".into(), None));
        assert_eq!(read("echo \\\\n"), ("echo \\\\n".into(), None));
    }

    #[test]
    fn the_system_form_names_a_user() {
        let read = entry("17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly", true);
        assert_eq!(read.user.as_deref(), Some("root"));
        assert_eq!(read.command, "cd / && run-parts --report /etc/cron.hourly");
        assert_eq!(entry("-*/5 * * * * root x", true).schedule, "*/5 * * * *");
        assert!(matches!(&parse("* * * * * root", true)[0], Line::Unknown(_, why) if why == "the command is missing"));
        assert!(matches!(&parse("* * *", false)[0], Line::Unknown(_, why) if why == "the month is missing"));
    }
}
