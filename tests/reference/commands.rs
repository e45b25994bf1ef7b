//! The command line, parsed from the help of each command.

use std::process::Command as Process;

/// A command with all below it.
pub struct Command {
    /// Its words: none for the program, `ctl trigger`.
    pub path: Vec<String>,
    /// Its description.
    pub about: String,
    /// Its usage without the command itself.
    pub usage: String,
    /// Positional arguments with their descriptions.
    pub arguments: Vec<(String, String)>,
    /// Options, without `--help`.
    pub options: Vec<Opt>,
    /// Commands below it.
    pub commands: Vec<Command>,
}

/// One option.
pub struct Opt {
    /// `-f`, if it has a short form.
    pub short: Option<String>,
    /// `--follow`.
    pub long: String,
    /// Whether a value follows it.
    pub takes_value: bool,
    /// Its description.
    pub about: String,
}

impl Command {
    /// This command and all below it.
    pub fn all(&self) -> Vec<&Command> {
        std::iter::once(self).chain(self.commands.iter().flat_map(Command::all)).collect()
    }

    /// Its last word.
    pub fn word(&self) -> &str {
        self.path.last().map_or("firelink", String::as_str)
    }
}

impl Opt {
    /// The values of an option whose help is a list of them: `text (default) or json`, perhaps after a colon.
    pub fn choices(&self) -> Vec<String> {
        let list = self.about.split_once(": ").map_or(&*self.about, |(_, list)| list);
        let list = list.replace(" (default)", "").replace(" or ", ", ");
        let words: Vec<String> = list.split(", ").map(str::to_owned).collect();
        let all_words = words.len() > 1 && words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        if all_words { words } else { Vec::new() }
    }
}

/// The program with all of its commands.
pub fn tree() -> Command {
    read(Vec::new())
}

fn help(path: &[String]) -> String {
    let output = Process::new(env!("CARGO_BIN_EXE_firelink")).args(path).arg("--help").output().expect("firelink starts");
    assert!(output.status.success(), "{path:?} --help");
    String::from_utf8(output.stdout).expect("text")
}

fn read(path: Vec<String>) -> Command {
    let text = help(&path);
    let mut parts = text.splitn(3, "\n\n");
    let words = path.iter().map(|word| format!(" {word}")).collect::<String>();
    let usage = parts.next().unwrap().strip_prefix(&format!("Usage: firelink{words}")).expect("a usage").trim().to_owned();
    let about = parts.next().unwrap().replace('\n', " ").trim().to_owned();
    let rest = parts.next().unwrap_or_default();
    let options = entries(rest, "Options:").into_iter().filter(|(name, _)| name != "--help, help").map(|(name, about)| {
        let (short, long) = match name.split_once(", ") {
            Some((short, long)) => (Some(short.to_owned()), long.to_owned()),
            None => (None, name),
        };
        let shown = short.as_deref().unwrap_or(&long);
        Opt { takes_value: usage.contains(&format!("{shown} <")), short, long, about }
    });
    let options = options.collect();
    let below = entries(rest, "Commands:").into_iter().map(|(word, _)| read(path.iter().cloned().chain([word]).collect()));
    let commands = below.collect();
    Command { about, usage, arguments: entries(rest, "Positional Arguments:"), options, commands, path }
}

/// The entries of one list of a help: a name, two spaces or more, and a text that may go on in the lines below.
fn entries(help: &str, title: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in help.lines().skip_while(|line| *line != title).skip(1).take_while(|line| !line.is_empty()) {
        match line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            Some(line) => {
                let (name, about) = line.split_once("  ").unwrap_or((line, ""));
                entries.push((name.trim().to_owned(), about.trim().to_owned()));
            }
            None => {
                let about = &mut entries.last_mut().expect("an entry above").1;
                if !about.is_empty() {
                    about.push(' ');
                }
                about.push_str(line.trim());
            }
        }
    }
    entries
}

#[test]
fn the_help_of_every_command_is_parsed() {
    let tree = tree();
    let trigger = tree.all().into_iter().find(|command| command.path == ["ctl", "trigger"]).expect("ctl trigger");
    assert_eq!(trigger.arguments, [("job".to_owned(), "the job".to_owned())]);
    let with_deps = trigger.options.iter().find(|option| option.long == "--with-deps").expect("an option");
    assert_eq!((with_deps.takes_value, &*with_deps.about), (false, "run all jobs that it depends on first, in order"));
    let format = trigger.options.iter().find(|option| option.long == "--format").expect("an option");
    assert_eq!((format.takes_value, format.choices()), (true, vec!["text".to_owned(), "json".to_owned()]));
    for command in tree.all() {
        assert!(!command.about.is_empty(), "{:?}", command.path);
        assert!(
            command.options.iter().all(|option| option.long.starts_with("--") && !option.about.is_empty()),
            "{:?}",
            command.path
        );
    }
}
