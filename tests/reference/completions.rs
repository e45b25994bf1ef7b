//! What the shells offer when a command line is completed.

use std::fmt::Write as _;
use std::process::Command as Process;

use super::commands::{Command, Opt, tree};
use super::daemon::Place;

const MADE: &str = "# Made by FIRELINK_UPDATE=1 cargo test --test reference; what is changed here is lost.";

/// Prints the names of the daemon's jobs, a line for each; nothing if there is no daemon.
const JOBS: &str = r#"firelink status --format json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d '"' -f 4"#;

/// What an argument or the value of an option is, for a shell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    File,
    Folder,
    Job,
    Other,
}

fn value_of(name: &str) -> Value {
    match name {
        "config" | "file" | "socket" | "pid-file" => Value::File,
        "state-dir" => Value::Folder,
        "job" | "of" => Value::Job,
        _ => Value::Other,
    }
}

fn bare(option: &Opt) -> &str {
    option.long.trim_start_matches('-')
}

fn options(command: &Command) -> Vec<&str> {
    let mut words: Vec<&str> =
        command.options.iter().flat_map(|option| option.short.as_deref().into_iter().chain([&*option.long])).collect();
    words.push("--help");
    words
}

fn bash(tree: &Command) -> String {
    let mut text = format!("{MADE}\n_firelink_jobs() {{ {JOBS}; }}\n\n_firelink() {{\n");
    text.push_str("    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path='' words='' value='' i\n");
    text.push_str("    for ((i = 1; i < COMP_CWORD; i++)); do\n        case \"$path ${COMP_WORDS[i]}\" in\n");
    let below: Vec<&Command> = tree.all().into_iter().filter(|command| !command.path.is_empty()).collect();
    for command in &below {
        let path = command.path.join(" ");
        let above = command.path[..command.path.len() - 1].join(" ");
        let _ = writeln!(text, "        '{above} {}') path='{path}' ;;", command.word());
    }
    text.push_str("        esac\n    done\n    case \"$path:$prev\" in\n");
    for command in tree.all() {
        for option in command.options.iter().filter(|option| option.takes_value) {
            let choices = option.choices();
            let value = match value_of(bare(option)) {
                _ if !choices.is_empty() => format!("words='{}'", choices.join(" ")),
                Value::File => "value=file".into(),
                Value::Folder => "value=directory".into(),
                Value::Job => "words=$(_firelink_jobs)".into(),
                Value::Other => "return".into(),
            };
            let _ = writeln!(text, "    '{}:{}') {value} ;;", command.path.join(" "), option.long);
        }
    }
    text.push_str("    *)\n        case \"$path\" in\n");
    for command in tree.all() {
        let mut words: Vec<&str> = command.commands.iter().map(Command::word).collect();
        words.extend(options(command));
        let more = match command.arguments.first().map(|(name, _)| value_of(name)) {
            Some(Value::File | Value::Folder) => " value=file",
            Some(Value::Job) => "$' '$(_firelink_jobs)",
            Some(Value::Other) | None => "",
        };
        let _ = writeln!(text, "        '{}') words='{}'{more} ;;", command.path.join(" "), words.join(" "));
    }
    text.push_str(
        "        esac\n        ;;\n    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n\
         \x20   if [ -n \"$value\" ] && [[ $cur != -* ]]; then\n        compopt -o filenames 2>/dev/null\n\
         \x20       mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -A \"$value\" -- \"$cur\")\n    fi\n}\n\ncomplete -F _firelink firelink\n",
    );
    text
}

/// A text within the single quotes of a specification of `_arguments`.
fn zsh_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:").replace('[', "\\[").replace(']', "\\]").replace('\'', "'\\''")
}

fn zsh_action(name: &str) -> &'static str {
    match value_of(name) {
        Value::File => "_files",
        Value::Folder => "_files -/",
        Value::Job => "_firelink_jobs",
        Value::Other => " ",
    }
}

fn zsh(tree: &Command) -> String {
    let mut text = format!("#compdef firelink\n{MADE}\n_firelink_jobs() {{\n    local -a jobs\n");
    let _ = write!(text, "    jobs=(${{(f)\"$({JOBS})\"}})\n    compadd -a jobs\n}}\n");
    for command in tree.all() {
        let name = command.path.iter().map(|word| format!("_{word}")).collect::<String>();
        let _ = write!(text, "\n_firelink{name}() {{\n");
        if !command.commands.is_empty() {
            text.push_str("    local context state state_descr line curcontext=$curcontext\n    typeset -A opt_args\n");
        }
        text.push_str("    _arguments -C -s");
        for option in &command.options {
            let about = zsh_text(&option.about);
            let choices = option.choices();
            let value = match option.takes_value {
                false => String::new(),
                true if choices.is_empty() => format!(":{}:{}", bare(option), zsh_action(bare(option))),
                true => format!(":{}:({})", bare(option), choices.join(" ")),
            };
            let _ = match &option.short {
                Some(short) => {
                    write!(text, " \\\n        '({short} {long})'{{{short},{long}}}'[{about}]{value}'", long = option.long)
                }
                None => write!(text, " \\\n        '{}[{about}]{value}'", option.long),
            };
        }
        text.push_str(" \\\n        '--help[display usage information]'");
        for (place, (argument, about)) in command.arguments.iter().enumerate() {
            let colons = if command.usage.contains(&format!("[<{argument}>]")) { "::" } else { ":" };
            let _ = write!(text, " \\\n        '{}{colons}{}:{}'", place + 1, zsh_text(about), zsh_action(argument));
        }
        if command.commands.is_empty() {
            text.push_str("\n}\n");
            continue;
        }
        text.push_str(
            " \\\n        '1: :->command' '*:: :->arguments'\n    case $state in\n    command)\n        local -a commands=(\n",
        );
        for below in &command.commands {
            let _ = writeln!(text, "            '{}:{}'", below.word(), zsh_text(&below.about));
        }
        let _ = writeln!(
            text,
            "        )\n        _describe command commands\n        ;;\n    arguments) (( $+functions[_firelink{name}_$line[1]] )) && _firelink{name}_$line[1] ;;\n    esac\n}}"
        );
    }
    text.push_str("\n_firelink \"$@\"\n");
    text
}

fn fish_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn fish(tree: &Command) -> String {
    let mut text = format!("{MADE}\nfunction __firelink_jobs\n    {JOBS}\nend\n\n");
    text.push_str("# The words of the command so far, without options.\nfunction __firelink_at\n");
    text.push_str("    set -l words (commandline -opc | string match -v -- '-*')[2..]\n");
    text.push_str("    set -l depth (count $argv)\n    if test $depth -gt 0; and test \"$words[1..$depth]\" != \"$argv\"\n");
    text.push_str("        return 1\n    end\n    set -l next (math $depth + 1)\n");
    text.push_str("    not contains -- \"$words[$next]\" (__firelink_below $argv)\nend\n\n");
    text.push_str("function __firelink_below\n    switch \"$argv\"\n");
    for command in tree.all().into_iter().filter(|command| !command.commands.is_empty()) {
        let words: Vec<&str> = command.commands.iter().map(Command::word).collect();
        let _ = writeln!(text, "        case '{}'\n            printf '%s\\n' {}", command.path.join(" "), words.join(" "));
    }
    text.push_str("    end\nend\n\ncomplete -c firelink -f\n");
    for command in tree.all() {
        let condition = format!("-n '__firelink_at {}'", command.path.join(" ")).replace("at '", "at'");
        for below in &command.commands {
            let _ = writeln!(text, "complete -c firelink {condition} -a {} -d {}", below.word(), fish_text(&below.about));
        }
        for (argument, _) in &command.arguments {
            let _ = match value_of(argument) {
                Value::File | Value::Folder => writeln!(text, "complete -c firelink {condition} -F"),
                Value::Job => writeln!(text, "complete -c firelink {condition} -a '(__firelink_jobs)'"),
                Value::Other => Ok(()),
            };
        }
        for option in &command.options {
            let short = option.short.as_ref().map_or_else(String::new, |short| format!(" -s {}", short.trim_start_matches('-')));
            let choices = option.choices();
            let value = match value_of(bare(option)) {
                _ if !option.takes_value => String::new(),
                _ if !choices.is_empty() => format!(" -x -a '{}'", choices.join(" ")),
                Value::File => " -r -F".into(),
                Value::Folder => " -x -a '(__fish_complete_directories)'".into(),
                Value::Job => " -x -a '(__firelink_jobs)'".into(),
                Value::Other => " -x".into(),
            };
            let _ = writeln!(
                text,
                "complete -c firelink {condition}{short} -l {}{value} -d {}",
                bare(option),
                fish_text(&option.about)
            );
        }
    }
    text
}

#[test]
fn the_completions_are_up_to_date() {
    let tree = tree();
    super::assert_current("packaging/completions/firelink.bash", &bash(&tree));
    super::assert_current("packaging/completions/_firelink", &zsh(&tree));
    super::assert_current("packaging/completions/firelink.fish", &fish(&tree));
}

/// What bash offers behind these words, when `firelink` itself prints what `status` says.
fn offered_with(status: &str, words: &[&str]) -> Vec<String> {
    let script = "source packaging/completions/firelink.bash; firelink() { cat \"$STATUS\"; }; COMP_WORDS=(firelink \"$@\"); COMP_CWORD=$#; \
                  _firelink; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Process::new("bash")
        .args(["-c", script, "bash"])
        .args(words)
        .env("STATUS", status)
        .current_dir(super::root())
        .output()
        .expect("bash");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).filter(|word| !word.is_empty()).collect()
}

fn offered(words: &[&str]) -> Vec<String> {
    offered_with("/dev/null", words)
}

#[test]
fn bash_offers_the_names_of_the_jobs_of_a_daemon() {
    let place = Place::new("jobs: [{ name: backup, trigger: manual }, { name: report, depends_on: backup }]");
    let daemon = place.start();
    let status = place.write("status.json", &place.prints(&["status", "--format", "json"])).display().to_string();
    assert_eq!(offered_with(&status, &["ctl", "trigger", "b"]), ["backup"]);
    assert_eq!(offered_with(&status, &["history", "--job", ""]), ["backup", "report"]);
    daemon.terminate();
}

#[test]
fn bash_offers_every_command_every_option_and_their_words() {
    for command in tree().all() {
        let path: Vec<&str> = command.path.iter().map(String::as_str).collect();
        let words = offered(&[&path[..], &[""]].concat());
        for below in &command.commands {
            assert!(words.iter().any(|word| word == below.word()), "{path:?}: {words:?}");
        }
        let words = offered(&[&path[..], &["-"]].concat());
        assert_eq!(words, options(command), "{path:?}");
        for option in command.options.iter().filter(|option| !option.choices().is_empty()) {
            assert_eq!(offered(&[&path[..], &[&option.long, ""]].concat()), option.choices(), "{path:?} {}", option.long);
        }
    }
    assert!(offered(&["check", "Cargo.t"]).contains(&"Cargo.toml".to_owned()));
    assert_eq!(offered(&["ctl", "tri"]), ["trigger"]);
}

/// Runs a shell, if it is there.
fn shell(name: &str, args: &[&str]) -> Option<String> {
    match Process::new(name).args(args).current_dir(super::root()).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name} {args:?}: {text}");
            Some(text)
        }
        Err(error) => {
            crate::skip::skip(format_args!("{name}: {error}"));
            None
        }
    }
}

#[test]
fn zsh_reads_its_completions() {
    shell("zsh", &["-n", "packaging/completions/_firelink"]);
}

#[test]
fn fish_offers_commands_options_and_their_words() {
    for command in tree().all() {
        let path = command.path.join(" ");
        let script = |end: &str| format!("source packaging/completions/firelink.fish; complete -C 'firelink {path}{end}'");
        let path = if path.is_empty() { "" } else { " " };
        let Some(words) = shell("fish", &["--no-config", "-c", &script(path)]) else { return };
        for below in &command.commands {
            assert!(words.lines().any(|line| line.split('\t').next() == Some(below.word())), "{:?}: {words}", command.path);
        }
        let words = shell("fish", &["--no-config", "-c", &script(&format!("{path}--"))]).expect("fish is there");
        for option in &command.options {
            assert!(words.lines().any(|line| line.split('\t').next() == Some(&*option.long)), "{:?}: {words}", command.path);
        }
    }
}
