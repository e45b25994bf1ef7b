//! Shared by commands: loading a configuration, and the state directory.

use std::path::{Path, PathBuf};

use super::out::{Failure, warn};
use crate::config::{self, Config, Diagnostic, Look, Refused, Surroundings};

/// Loads a configuration; warnings and errors are written to stderr.
pub(super) fn load(path: &Path, surroundings: &Surroundings) -> Result<Config, Failure> {
    report(config::load(path, surroundings))
}

/// As [`load`], comparing the two YAML readers besides, and looking at paths.
pub(super) fn check(path: &Path, surroundings: &Surroundings, look: Look<'_>) -> Result<Config, Failure> {
    report(config::check(path, surroundings, look))
}

fn report(loaded: Result<Config, Refused>) -> Result<Config, Failure> {
    match loaded {
        Ok(config) => {
            print_diagnostics(&config.warnings);
            Ok(config)
        }
        Err(Refused(diagnostics)) => {
            print_diagnostics(&diagnostics);
            Err(Failure::silent(2))
        }
    }
}

/// Separated by empty lines, since each has several lines.
fn print_diagnostics(diagnostics: &[Diagnostic]) {
    diagnostics.iter().for_each(|diagnostic| warn(&format!("{}\n", diagnostic.rendered)));
}

/// The state directory: that of the option, that of the configuration, else `/var/lib/firelink` for root and
/// `$XDG_STATE_HOME/firelink` (by default `~/.local/state/firelink`) for others.
pub(super) fn state_dir(asked: Option<&Path>, config: Option<&Config>) -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let configured = config.and_then(|config| config.state_dir.clone());
    if let Some(dir) = asked.map(Path::to_owned).or(configured) {
        return std::path::absolute(&dir).map_err(|error| Failure::usage(format!("{}: {error}", dir.display())));
    }
    if nix::unistd::Uid::effective().is_root() {
        return Ok("/var/lib/firelink".into());
    }
    let home = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    home.map(|dir| dir.join("firelink"))
        .ok_or_else(|| Failure::usage("neither XDG_STATE_HOME nor HOME is set; name a state directory with --state-dir"))
}
