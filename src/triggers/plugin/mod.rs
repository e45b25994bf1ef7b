//! `plugin`: a long-lived child process of any language; each line of JSON on its stdout is one event.
//!
//! This file reads the keys; [`source`] runs the process, [`supervision`] decides on its restarts, and [`lines`] splits its
//! output. The protocol is documented in docs/plugins.md.
//!
//! ```yaml
//! trigger:
//!   type: plugin
//!   command: [plugins/mqtt, sensors/#]  # or a line for /bin/sh -c
//!   restart: always                     # or on_failure, or never
//! command: ./handle                     # runs for each event
//! ```

mod lines;
mod source;
mod supervision;

use std::fmt;
use std::time::Duration;

use crate::exec::spec::Action;
use crate::model::TriggerWord;
use crate::text::quoted;
use crate::triggers::{JobContext, Keys, Source, Spread, Trigger, TriggerType, stable_offset};
pub(super) use lines::Lines;
use source::PluginSource;

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType { word: TriggerWord::Plugin.as_str(), keys: &["command", "restart"], build };

/// When a plugin that has exited is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Restart {
    #[default]
    Always,
    OnFailure,
    Never,
}

impl Restart {
    const ALL: [Restart; 3] = [Restart::Always, Restart::OnFailure, Restart::Never];

    const fn word(self) -> &'static str {
        match self {
            Restart::Always => "always",
            Restart::OnFailure => "on_failure",
            Restart::Never => "never",
        }
    }
}

/// One job's plugin, as configured.
#[derive(Clone, Debug, PartialEq)]
struct Plugin {
    job: String,
    action: Action,
    restart: Restart,
    spread: Spread,
}

fn build(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    let restart = read_restart(keys);
    if !keys.has("command") {
        let help =
            "for example `trigger: { type: plugin, command: [./events] }`; the `command` beside `trigger` is the job's own";
        keys.error(keys.place("command"), "a `plugin` trigger needs a `command` of its own".into(), help.into());
        return None;
    }
    let action = keys.command("command")?;
    let spread = Spread::from_offset(stable_offset(Duration::from_secs(1), cx));
    Some(Box::new(Plugin { job: cx.job.to_owned(), action, restart: restart?, spread }))
}

fn read_restart(keys: &mut dyn Keys) -> Option<Restart> {
    if !keys.has("restart") {
        return Some(Restart::default());
    }
    let text = keys.text("restart")?;
    let found = Restart::ALL.into_iter().find(|restart| restart.word() == text.value);
    if found.is_none() {
        let help = "with `on_failure`, not after exit code 0; the delay grows from 1s to 5m";
        keys.error(
            text.place,
            format!("invalid value {} for `restart`: expected `always`, `on_failure` or `never`", quoted(&text.value)),
            help.into(),
        );
    }
    found
}

impl fmt::Display for Plugin {
    /// The command as JSON, which distinguishes a list from a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match &self.action {
            Action::Argv(argv) => serde_json::to_string(argv),
            Action::Shell(line) => serde_json::to_string(line),
            Action::Script { .. } | Action::Milestone => return f.write_str("nothing"),
        };
        f.write_str(&shown.map_err(|_| fmt::Error)?)?;
        match self.restart {
            Restart::Always => Ok(()),
            other => write!(f, " restart {}", other.word()),
        }
    }
}

impl Trigger for Plugin {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Plugin
    }

    fn summary(&self) -> String {
        format!("plugin {self}")
    }

    fn source(&self) -> Option<Box<dyn Source>> {
        Some(Box::new(PluginSource::new(self.clone())))
    }
}
