//! The daemon as a process of the system: what it was started with, its supervisor, its log file, its replacement.

mod log_file;
mod notify;
mod replace;
mod sockets;

use std::path::PathBuf;

use super::core::Core;
use crate::config::{self, Config, Refused, load};
use crate::control::protocol::{ErrorCode, Reply};
use crate::model::Now;
pub use log_file::LogFile;
pub use notify::Notify;
pub use replace::exec;
pub use sockets::passed_socket;

/// The daemon's ties to its supervisor. The default has none.
#[derive(Debug, Default)]
pub struct Service {
    /// The supervisor, which is notified.
    pub notify: Notify,
    /// The log, if it is a file.
    pub log_file: Option<LogFile>,
}

/// See the module.
pub(super) struct Lifecycle {
    pub service: Service,
    pub started: Now,
    /// What a person should know of the start, shown in `status`.
    pub warnings: Vec<String>,
    /// What the configuration is read with.
    surroundings: config::Surroundings,
    /// The program that the daemon is.
    program: Option<PathBuf>,
    /// The daemon replaces itself when it ends.
    pub replaces: bool,
    /// Everything has ended: this turn was the last.
    pub done: bool,
}

impl Lifecycle {
    pub fn new(service: Service, surroundings: config::Surroundings, started: Now, warnings: Vec<String>) -> Lifecycle {
        let program = replace::own_program();
        Lifecycle { service, started, warnings, surroundings, program, replaces: false, done: false }
    }

    /// Notifies the supervisor that every deadline is armed.
    pub fn ready(&mut self, core: &Core) {
        let jobs = core.configured;
        let status = format!("{jobs} job{} of {}", if jobs == 1 { "" } else { "s" }, core.config.path.display());
        self.service.notify.ready(&status);
    }

    /// The configuration as the file has it now, checked.
    pub fn read_config(&self, core: &Core) -> Result<Config, Reply> {
        if core.engine.is_stopping() {
            return Err(Reply::failed(ErrorCode::Refused, "the daemon is stopping"));
        }
        load(&core.config.path, &self.surroundings).map_err(|Refused(diagnostics)| {
            let all: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.rendered.as_str()).collect();
            let text = format!("{}\n\nthe configuration is wrong; nothing was changed", all.join("\n\n"));
            Reply::failed(ErrorCode::Invalid, text)
        })
    }

    /// Checks that the daemon can replace itself.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn check_program(&self) -> Result<(), String> {
        let program = self.program.as_deref().ok_or("the daemon does not know its own program's path")?;
        nix::unistd::access(program, nix::unistd::AccessFlags::X_OK)
            .map_err(|error| format!("{} can't be executed: {error}", program.display()))
    }

    /// The program that follows this daemon, if it replaces itself.
    pub fn into_successor(self) -> Option<PathBuf> {
        self.program.filter(|_| self.replaces)
    }

    /// SIGUSR1.
    pub fn reopen_log(&self) {
        match &self.service.log_file {
            None => log::info!("SIGUSR1: the log goes to stderr, there is no file to reopen"),
            Some(file) => match file.reopen() {
                Ok(()) => log::info!("SIGUSR1: the log goes on in this file"),
                Err(error) => log::error!("SIGUSR1: {} can't be opened: {error}; the log goes on here", file.path().display()),
            },
        }
    }
}
