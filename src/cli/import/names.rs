//! Names for jobs of a crontab: after the main program of the command.

use std::collections::HashSet;

/// The longest name, in characters.
const LONGEST: usize = 40;

/// Programs that prepare for the main program.
const PREPARATIONS: &[&str] =
    &["cd", "test", "[", "[[", "sleep", "true", ":", "export", "set", ".", "source", "umask", "ulimit", "command", "if", "while"];

/// Programs that run another program, which follows their options and numbers.
const WRAPPERS: &[&str] = &[
    "nice",
    "ionice",
    "nohup",
    "env",
    "exec",
    "sudo",
    "timeout",
    "chronic",
    "time",
    "setsid",
    "then",
    "do",
    "flock",
    "systemd-cat",
];

/// Programs that run a script, which follows their options.
const INTERPRETERS: &[&str] = &["sh", "bash", "dash", "zsh", "ksh", "perl", "php", "ruby", "node", "run-parts", "python", "lua"];

/// The names in use.
#[derive(Debug, Default)]
pub(super) struct Names {
    used: HashSet<String>,
}

impl Names {
    /// A unique name.
    pub fn name(&mut self, command: &str) -> String {
        let base = base(command);
        let numbered = (2..).map(|number: u32| format!("{base}-{number}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(|name| !self.used.contains(name));
        let name = name.unwrap_or(base);
        self.used.insert(name.clone());
        name
    }
}

fn base(command: &str) -> String {
    let parts = command.split(['&', '|', ';', '(', ')', '{', '}', '\n']);
    let name = parts.filter_map(subject).map(|word| as_name(&word)).find(|name| !name.is_empty());
    name.unwrap_or_else(|| "job".into())
}

/// The program of a part of a command, unless it prepares for another.
fn subject(part: &str) -> Option<String> {
    let mut words = part.split_whitespace().skip_while(|word| is_assignment(word) || word.starts_with(['<', '>'])).peekable();
    loop {
        let program = last_part(words.next()?);
        if PREPARATIONS.contains(&program) {
            return None;
        }
        let is_interpreter = INTERPRETERS.contains(&program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'));
        if !is_interpreter && !WRAPPERS.contains(&program) {
            return Some(program.to_owned());
        }
        let is_flock = program == "flock";
        let passed = |word: &&str| word.starts_with('-') || is_assignment(word) || word.starts_with(|c: char| c.is_ascii_digit());
        while words.next_if(passed).is_some() {}
        if is_flock {
            // Its lock.
            words.next();
            while words.next_if(passed).is_some() {}
        }
        match words.peek() {
            None => return Some(program.to_owned()),
            Some(script) if is_interpreter => return Some(last_part(script).to_owned()),
            Some(_) => {}
        }
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// The last part of a path, without quotes.
fn last_part(word: &str) -> &str {
    let word = word.trim_matches(['"', '\'', '`', '$']);
    word.trim_end_matches('/').rsplit('/').next().unwrap_or(word)
}

fn as_name(word: &str) -> String {
    let stem =
        ["sh", "py", "pl", "php", "rb", "js", "bash"].iter().find_map(|ending| word.strip_suffix(ending)?.strip_suffix('.'));
    let mut name = String::new();
    for c in stem.unwrap_or(word).chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') => name.push(c),
            _ if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let mut name: String = name.trim_start_matches(['-', '.']).chars().take(LONGEST).collect();
    name.truncate(name.trim_end_matches(['-', '.']).len());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_called_after_the_program_that_its_command_is_about() {
        for (command, name) in [
            ("/usr/local/bin/backup.sh --all", "backup"),
            ("cd / && run-parts --report /etc/cron.hourly", "cron.hourly"),
            ("test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )", "cron.daily"),
            (
                "[ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi",
                "sessionclean",
            ),
            ("nice -n 19 ionice -c3 /opt/x/sync-photos", "sync-photos"),
            ("LANG=C python3 -u /srv/report.py", "report"),
            ("flock -n /tmp/lock rsync -a a b", "rsync"),
            ("sleep 10; curl -s https://example.org", "curl"),
            ("bash -c 'echo hi'", "echo"),
            ("\"/opt/my app/run it\"", "my"),
            (": nothing", "job"),
            ("£", "job"),
        ] {
            assert_eq!(Names::default().name(command), name, "{command}");
        }
    }

    #[test]
    fn no_two_jobs_have_one_name() {
        let mut names = Names::default();
        let given: Vec<String> = ["curl a", "curl b", "/x/curl-2", "curl c"].iter().map(|command| names.name(command)).collect();
        assert_eq!(given, ["curl", "curl-2", "curl-2-2", "curl-3"]);
    }
}
