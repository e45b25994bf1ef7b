//! The execution keys: of a job, or of `defaults`.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Group, User};

use super::fields::Fields;
use super::yaml::Value;
use super::{Surroundings, defaults, keys, retry};
use crate::engine::rules::Retry;
use crate::engine::timing::Concurrency;
use crate::exec::spec::{Action, Capture, DEFAULT_LOG_SIZE, ExecSpec, Hooks, InheritEnv, KillMode, Limits};
use crate::text::quoted;
use crate::triggers::Place;

/// The values of the keys; `None` for an absent key, which `defaults` may fill in.
#[derive(Clone, Debug, Default)]
pub(super) struct Execution {
    pub(super) action: Option<Action>,
    inherit_env: Option<InheritEnv>,
    env: Vec<(String, String)>,
    pub(super) env_file: Option<PathBuf>,
    pub(super) cwd: Option<PathBuf>,
    user: Option<String>,
    group: Option<String>,
    umask: Option<u32>,
    nice: Option<i32>,
    limits: Limits,
    capture: Option<Capture>,
    max_size: Option<u64>,
    pub(super) keep_runs: Option<u32>,
    pub(super) keep_for: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) kill_grace: Option<Duration>,
    kill_mode: Option<KillMode>,
    pub(super) retry: Option<Box<Retry>>,
    pub(super) success_exit_codes: Option<Box<[u8]>>,
    pub(super) concurrency: Option<Concurrency>,
    pub(super) max_parallel: Option<u32>,
    pub(super) hooks: Hooks,
}

/// The values of `executor.type` and their programs; any other program is named by `interpreter`.
const INTERPRETERS: &[(&str, &str)] =
    &[("bash", "bash"), ("sh", "sh"), ("python", "python3"), ("node", "node"), ("perl", "perl"), ("ruby", "ruby")];

/// The smallest log in bytes: head and tail of less are of no use.
const SMALLEST_LOG: u64 = 4 << 10;

/// The words of `output.capture`.
pub(super) const CAPTURE: &[(&str, Capture)] =
    &[("all", Capture::All), ("on_failure", Capture::OnFailure), ("none", Capture::None)];

/// The words of `kill_mode`.
pub(super) const KILL_MODE: &[(&str, KillMode)] = &[("run", KillMode::Run), ("main", KillMode::Main)];

const CONCURRENCY: &[(&str, Concurrency)] = &[
    ("forbid", Concurrency::Forbid),
    ("queue", Concurrency::Queue),
    ("allow", Concurrency::Allow),
    ("replace", Concurrency::Replace),
];

impl Execution {
    /// Reads the execution keys of `fields`.
    pub(super) fn read(fields: &Fields<'_>, surroundings: &Surroundings) -> Execution {
        let mut read = Execution {
            action: read_job_command(fields),
            inherit_env: read_inherit_env(fields),
            env: read_env(fields, "env"),
            env_file: fields.path("env_file"),
            cwd: fields.path("cwd"),
            user: read_user(fields, surroundings),
            group: read_group(fields, surroundings),
            umask: read_umask(fields),
            nice: read_nice(fields, surroundings),
            limits: read_limits(fields),
            timeout: fields.positive_duration("timeout"),
            kill_grace: fields.duration("kill_grace"),
            kill_mode: fields.choice("kill_mode", KILL_MODE),
            retry: read_retry(fields).map(Box::new),
            success_exit_codes: fields.exit_codes("success_exit_codes"),
            concurrency: fields.choice("concurrency", CONCURRENCY),
            max_parallel: fields.number("max_parallel", 1..=10_000),
            hooks: Hooks {
                on_success: read_command(fields, "on_success", "leave the key out for no command"),
                on_failure: read_command(fields, "on_failure", "leave the key out for no command"),
                on_retry: read_command(fields, "on_retry", "leave the key out for no command"),
            },
            ..Execution::default()
        };
        read.read_output(fields);
        read.read_executor(fields);
        read
    }

    fn read_output(&mut self, fields: &Fields<'_>) {
        let Some(output) = fields.map("output", keys::OUTPUT) else { return };
        self.capture = output.choice("capture", CAPTURE);
        self.max_size = output.size("max_size");
        if self.max_size.is_some_and(|size| size < SMALLEST_LOG) {
            output.cx.findings.error(
                output.place_of("max_size"),
                "`max_size` must be at least `4KiB`",
                "`capture: none` writes no log at all",
            );
        }
        self.keep_runs = output.number("keep_runs", 0..=1_000_000);
        self.keep_for = output.positive_duration("keep_for");
    }

    fn read_executor(&mut self, fields: &Fields<'_>) {
        let Some(executor) = fields.map("executor", keys::EXECUTOR) else { return };
        if let (Some(command), Some(own)) = (fields.get("command"), fields.get("executor")) {
            let (first, second) = if command.key.place.start < own.key.place.start { (command, own) } else { (own, command) };
            let also = super::findings::Also { place: first.key.place, label: "already set here" };
            let message = "a job has either a `command` or an `executor`, not both".to_owned();
            fields.cx.findings.error_of_two(
                second.key.place,
                message,
                "use `executor` for a script, `command` for anything else",
                also,
            );
        }
        // The executor's own settings override those of the job.
        for (name, value) in read_env(&executor, "env") {
            set(&mut self.env, name, value);
        }
        if let Some(cwd) = executor.path("cwd") {
            self.cwd = Some(cwd);
        }
        let interpreter = read_interpreter(&executor);
        let args = executor.list("args");
        if !executor.has("script") {
            executor.cx.findings.error(executor.place, "an `executor` needs a `script`", "a line for the shell is a `command`");
        }
        let Some(script) = executor.path("script") else { return };
        let args = boxed(args.unwrap_or_default().iter().map(|arg| arg.value));
        if let Some(interpreter) = interpreter {
            self.action = Some(Action::Script { interpreter, script, args });
        }
    }

    /// Fills in absent keys. Variables are merged, those of `self` winning.
    pub(super) fn or(mut self, defaults: &Execution) -> Execution {
        fn fill<T: Clone>(own: &mut Option<T>, default: &Option<T>) {
            if own.is_none() {
                own.clone_from(default);
            }
        }
        if !defaults.env.is_empty() {
            let own = std::mem::replace(&mut self.env, defaults.env.clone());
            own.into_iter().for_each(|(name, value)| set(&mut self.env, name, value));
        }
        fill(&mut self.action, &defaults.action);
        fill(&mut self.inherit_env, &defaults.inherit_env);
        fill(&mut self.env_file, &defaults.env_file);
        fill(&mut self.cwd, &defaults.cwd);
        if self.user.is_none() && self.group.is_none() {
            self.group.clone_from(&defaults.group);
        }
        fill(&mut self.user, &defaults.user);
        fill(&mut self.umask, &defaults.umask);
        fill(&mut self.nice, &defaults.nice);
        fill(&mut self.limits.memory, &defaults.limits.memory);
        fill(&mut self.limits.pids, &defaults.limits.pids);
        fill(&mut self.limits.cpu_secs, &defaults.limits.cpu_secs);
        fill(&mut self.limits.open_files, &defaults.limits.open_files);
        fill(&mut self.capture, &defaults.capture);
        fill(&mut self.max_size, &defaults.max_size);
        fill(&mut self.keep_runs, &defaults.keep_runs);
        fill(&mut self.keep_for, &defaults.keep_for);
        fill(&mut self.timeout, &defaults.timeout);
        fill(&mut self.kill_grace, &defaults.kill_grace);
        fill(&mut self.kill_mode, &defaults.kill_mode);
        fill(&mut self.retry, &defaults.retry);
        fill(&mut self.success_exit_codes, &defaults.success_exit_codes);
        fill(&mut self.concurrency, &defaults.concurrency);
        fill(&mut self.max_parallel, &defaults.max_parallel);
        fill(&mut self.hooks.on_success, &defaults.hooks.on_success);
        fill(&mut self.hooks.on_failure, &defaults.hooks.on_failure);
        fill(&mut self.hooks.on_retry, &defaults.hooks.on_retry);
        self
    }

    /// True if what a run leaves goes on under the run's limits.
    pub(super) fn leaves_under_limits(&self) -> bool {
        self.kill_mode == Some(KillMode::Main) && self.limits.are_of_the_whole_run()
    }

    /// The environment of the job's processes. Takes them out of `self`.
    pub(super) fn spec(&mut self) -> ExecSpec {
        ExecSpec {
            inherit_env: self.inherit_env.take().unwrap_or_default(),
            env: std::mem::take(&mut self.env),
            env_file: self.env_file.take(),
            cwd: self.cwd.take(),
            user: self.user.take(),
            group: self.group.take(),
            umask: self.umask,
            nice: self.nice,
            limits: std::mem::take(&mut self.limits),
            kill_mode: self.kill_mode.unwrap_or_default(),
            capture: self.capture.unwrap_or_default(),
            max_size: Some(self.max_size.unwrap_or(DEFAULT_LOG_SIZE)),
        }
    }
}

fn boxed<'a>(words: impl IntoIterator<Item = &'a str>) -> Box<[Box<str>]> {
    words.into_iter().map(Box::from).collect()
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    match env.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => env.push((name, value)),
    }
}

/// Reads `command`.
pub(super) fn read_job_command(fields: &Fields<'_>) -> Option<Action> {
    read_command(fields, "command", "a job without a command is a milestone: leave the key out")
}

/// Reads a command: a list of words, or a line for the shell.
pub(super) fn read_command(fields: &Fields<'_>, key: &str, help_if_empty: &str) -> Option<Action> {
    let field = fields.get(key)?;
    let error = |place, message| fields.cx.findings.error(place, message, help_if_empty);
    if let Value::List(items) = fields.cx.doc.value(field.node) {
        let argv = fields.cx.texts(items, key, field.key.place)?;
        return match argv.first() {
            Some(program) if !program.value.is_empty() => Some(Action::Argv(boxed(argv.iter().map(|arg| arg.value)))),
            Some(program) => {
                let help = "the first word of the list is the program, like `[/usr/bin/backup, --all]`";
                fields.cx.findings.error(program.place, "the program's name is empty", help);
                None
            }
            None => {
                error(fields.place_of(key), "the command is an empty list");
                None
            }
        };
    }
    let text = fields.text(key)?;
    if text.value.trim().is_empty() {
        error(text.place, "the command is empty");
        return None;
    }
    Some(Action::Shell(text.value.into()))
}

fn read_interpreter(executor: &Fields<'_>) -> Option<Box<[Box<str>]>> {
    if let Some(words) = executor.one_or_more("interpreter") {
        if executor.has("type") {
            executor.cx.findings.error(
                executor.place_of("type"),
                "`type` and `interpreter` exclude each other",
                "leave one of them out",
            );
        }
        if words.first().is_none_or(|word| word.value.is_empty()) {
            let help = "name the program and its options: `interpreter: [lua, -W]`";
            executor.cx.findings.error(executor.place_of("interpreter"), "`interpreter` names no program", help);
            return None;
        }
        return Some(boxed(words.iter().map(|word| word.value)));
    }
    if executor.has("interpreter") {
        return None;
    }
    if !executor.has("type") {
        let help = "for example `type: bash`, or `interpreter: [lua, -W]` for any other program";
        executor.cx.findings.error(executor.place, "an `executor` needs a `type`", help);
        return None;
    }
    let word = executor.text("type")?;
    let found = INTERPRETERS.iter().find(|(name, _)| *name == word.value);
    if found.is_none() {
        let known: Vec<&str> = INTERPRETERS.iter().map(|(name, _)| *name).collect();
        let near = keys::did_you_mean(word.value, known.iter().copied());
        let message = format!("unknown executor type {}{near}", quoted(word.value));
        let help =
            format!("expected {}; any other program is named by `interpreter: [program, option]`", keys::listed(&known, " or "));
        executor.cx.findings.error(word.place, message, help);
    }
    found.map(|(_, program)| boxed([*program]))
}

const INHERIT_HELP: &str = "`all`, or a list of the daemon's variables like `[HTTPS_PROXY, AWS_REGION]`";

fn read_inherit_env(fields: &Fields<'_>) -> Option<InheritEnv> {
    let field = fields.get("inherit_env")?;
    let Value::List(items) = fields.cx.doc.value(field.node) else {
        let text = fields.text("inherit_env")?;
        if text.value != "all" {
            let message = format!("invalid value {} for `inherit_env`", quoted(text.value));
            fields.cx.findings.error(text.place, message, INHERIT_HELP);
            return None;
        }
        return Some(InheritEnv::All);
    };
    let names = fields.cx.texts(items, "inherit_env", field.key.place)?;
    for name in &names {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            let message = format!("invalid variable name {}", quoted(name.value));
            fields.cx.findings.error(name.place, message, INHERIT_HELP);
        }
    }
    Some(InheritEnv::Only(boxed(names.iter().map(|name| name.value))))
}

fn read_env(fields: &Fields<'_>, key: &str) -> Vec<(String, String)> {
    let Some(field) = fields.get(key) else { return Vec::new() };
    let cx = fields.cx;
    let Value::Map(pairs) = cx.doc.value(field.node) else {
        let message = format!("expected a map of names and values for `{key}`, found {}", cx.kind(field.node));
        cx.findings.error(fields.place_of(key), message, "for example `env: { LOGLEVEL: DEBUG }`");
        return Vec::new();
    };
    let mut env: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    let mut places: Vec<(&str, Place)> = Vec::new();
    for (name, value) in pairs.iter() {
        let Some(name) = cx.doc.scalar(name) else {
            cx.findings.error(cx.doc.place(name), "expected a word as the name of a variable", "for example `LOGLEVEL: DEBUG`");
            continue;
        };
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            let message = format!("invalid variable name {}", quoted(name.value));
            cx.findings.error(name.place, message, "a name is not empty and contains no `=`");
            continue;
        }
        if let Some((_, first)) = places.iter().find(|(known, _)| *known == name.value) {
            let message = format!("duplicate variable {}", quoted(name.value));
            cx.findings.error_of_two(name.place, message, "remove one of them", super::findings::Also::first(*first));
            continue;
        }
        places.push((name.value, name.place));
        if let Some(value) = cx.text(value, || format!("the variable {}", quoted(name.value)), name.place) {
            env.push((name.value.to_owned(), value.value.to_owned()));
        }
    }
    env
}

fn read_user(fields: &Fields<'_>, surroundings: &Surroundings) -> Option<String> {
    let word = fields.word("user")?;
    let uid = match word.value.parse::<u32>() {
        Ok(number) => Some(number),
        Err(_) => User::from_name(word.value).ok().flatten().map(|user| user.uid.as_raw()),
    };
    match uid {
        None => {
            let message = format!("unknown user {}", quoted(word.value));
            fields.cx.findings.error(word.place, message, "create it on this machine, or name another");
        }
        Some(uid) if uid != surroundings.uid && !surroundings.is_root() => {
            let message = format!("only root can run a job as {}", quoted(word.value));
            fields.cx.findings.error(word.place, message, "run firelink as root, or as that user without this key");
        }
        Some(_) => {}
    }
    Some(word.value.to_owned())
}

fn read_group(fields: &Fields<'_>, surroundings: &Surroundings) -> Option<String> {
    let word = fields.word("group")?;
    let gid = match word.value.parse::<u32>() {
        Ok(number) => Some(number),
        Err(_) => Group::from_name(word.value).ok().flatten().map(|group| group.gid.as_raw()),
    };
    match gid {
        None => {
            let message = format!("unknown group {}", quoted(word.value));
            fields.cx.findings.error(word.place, message, "create it on this machine, or name another");
        }
        Some(gid) if !surroundings.is_root() && gid != nix::unistd::Gid::effective().as_raw() => {
            let message = format!("only root can run a job as the group {}", quoted(word.value));
            fields.cx.findings.error(word.place, message, "run firelink as root, or leave the key out");
        }
        Some(_) => {}
    }
    Some(word.value.to_owned())
}

fn read_umask(fields: &Fields<'_>) -> Option<u32> {
    let text = fields.text("umask")?;
    let digits = text.value.strip_prefix("0o").unwrap_or(text.value);
    let mask = u32::from_str_radix(digits, 8).ok().filter(|mask| *mask <= 0o777);
    if mask.is_none() {
        let message = format!("invalid value {} for `umask`: expected an octal number from 000 to 777", quoted(text.value));
        fields.cx.findings.error(text.place, message, "for example `umask: \"027\"`");
    }
    mask
}

fn read_nice(fields: &Fields<'_>, surroundings: &Surroundings) -> Option<i32> {
    let nice: i32 = fields.number("nice", -20..=19)?;
    if nice < 0 && !surroundings.is_root() {
        let help = "run firelink as root, or see RLIMIT_NICE in setrlimit(2)";
        fields.cx.findings.warn(fields.place_of("nice"), "a niceness below 0 usually needs root", help);
    }
    Some(nice)
}

fn read_limits(fields: &Fields<'_>) -> Limits {
    let Some(limits) = fields.map("limits", keys::LIMITS) else { return Limits::default() };
    Limits {
        memory: limits.size("memory"),
        pids: limits.number("pids", 1..=i64::from(i32::MAX)),
        // RLIMIT_CPU counts whole seconds.
        cpu_secs: limits.positive_duration("cpu").map(|cpu| cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0)),
        open_files: limits.number("open_files", 3..=i64::from(i32::MAX)),
    }
}

fn read_retry(fields: &Fields<'_>) -> Option<Retry> {
    let unset = Retry { attempts: 1, backoff: defaults::RETRY_BACKOFF, on_exit_codes: Box::default() };
    retry::read(fields, retry::Form { keys: keys::RETRY, attempts: 1..=1_000_000, needs_attempts: true, unset })
}
