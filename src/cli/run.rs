//! `firelink run`: the daemon, in the foreground or in the background.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use log::LevelFilter;

use super::load::{load, state_dir};
use super::logging;
use super::out::{Done, Failure, Format, parse_format};
use super::pid_file::PidFile;
use crate::config::Surroundings;
use crate::control::{Bound, bind, socket_path};
use crate::exec::{Detached, Readiness, detach};
use crate::helper::{self, Client};
use crate::reactor::clocks::KernelClocks;
use crate::reactor::{After, LogFile, Notify, Parts, Reactor, Service, exec, passed_socket};
use crate::store::{DATABASE, Lock, Opened, Store, bring_back};

/// run the daemon, in the foreground unless --detach is given
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "run")]
pub struct Args {
    /// the configuration, a YAML file
    #[argh(positional)]
    config: PathBuf,
    /// detach into the background once the daemon is ready; without --log-file the log is then firelink.log in the state
    /// directory
    #[argh(switch)]
    detach: bool,
    /// the daemon detached before it replaced itself
    #[argh(switch, hidden_help)]
    detached: bool,
    /// write the daemon's pid to this file while it runs
    #[argh(option)]
    pid_file: Option<PathBuf>,
    /// log to this file instead of stderr; SIGUSR1 reopens it
    #[argh(option)]
    log_file: Option<PathBuf>,
    /// off, error, warn, info (default), debug or trace
    #[argh(option, default = "LevelFilter::Info", from_str_fn(logging::parse_level))]
    log_level: LevelFilter,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    log_format: Format,
    /// the state directory, instead of the configuration's or the default
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// the control socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    if !args.detach {
        return serve(args, None);
    }
    match detach().map_err(|error| Failure::failed(format!("can't detach: {error}")))? {
        Detached::Child(readiness) => serve(args, Some(readiness)),
        Detached::Parent(None) => Ok(()),
        // The child has printed the reason.
        Detached::Parent(Some(code)) => Err(Failure::silent(u8::try_from(code).unwrap_or(1).max(1))),
    }
}

fn serve(args: &Args, parent: Option<Readiness>) -> Done {
    let surroundings = Surroundings::of_this_process();
    let config = load(&args.config, &surroundings)?;
    let dir = state_dir(args.state_dir.as_deref(), Some(&config))?;
    let mut lock = Lock::take(&dir).map_err(|error| Failure::failed(error.to_string()))?;
    let log_file = open_log(args, &lock)?;
    logging::start(args.log_level, args.log_format, log_file.clone())?;
    for note in lock.take_notes() {
        log::warn!("{note}");
    }
    let hung_copy = config.sync.as_ref().map(|sync| restore_copy(&dir, &sync.to)).transpose()?.flatten();
    let opened = Store::open(&dir, config.durability, boot_id()).map_err(|error| Failure::failed(error.to_string()))?;
    let Opened { store, mut warnings } = opened;
    for warning in &warnings {
        log::error!("{warning}");
    }
    let keeps_old_copy = hung_copy.is_some();
    warnings.extend(hung_copy);
    let socket = listen(args)?;
    let path = socket.path().to_owned();
    let clocks = KernelClocks::new().map_err(|error| Failure::failed(format!("can't create a timer: {error}")))?;
    // Orphans that left their run's process group are reparented to the daemon instead of init, and it reaps and ends them.
    if let Err(error) = crate::exec::become_subreaper() {
        log::warn!("can't become a subreaper; processes that leave their run's process group will not be found: {error}");
    }
    let (jobs, pid) = (config.jobs.len(), std::process::id());
    let seed = surroundings.machine_seed ^ u64::from(pid);
    let service = Service { notify: Notify::of_this_process(), log_file };
    let state_dir = dir.clone();
    let parts = Parts { store, lock, state_dir, surroundings, socket, clocks, seed, warnings, keeps_old_copy, config, service };
    let reactor = Reactor::new(parts).map_err(|error| Failure::failed(error.to_string()))?;
    let pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    log::info!(
        "firelink {} runs {jobs} jobs of {} (pid {pid}, state in {})",
        env!("CARGO_PKG_VERSION"),
        args.config.display(),
        dir.display()
    );
    let socket_arg = if socket_path(None) == path { String::new() } else { format!(" --socket {}", path.display()) };
    log::info!("ask it from another terminal: {} ctl status{socket_arg}", program_name());
    if let Some(parent) = parent {
        parent.tell().map_err(|error| Failure::failed(format!("can't detach from the terminal: {error}")))?;
    }
    let ended = reactor.run().map_err(|error| error.to_string()).and_then(|after| match after {
        After::Exit => Ok(()),
        After::Replace { program, variable } => {
            // The pid does not change.
            if let Some(file) = pid_file {
                file.keep();
            }
            let error = exec(&program, variable);
            Err(format!("can't execute {}: {error}; running jobs continue and are adopted at the next start", program.display()))
        }
    });
    ended.map_err(|why| {
        if args.detach || args.detached {
            // stderr is /dev/null.
            log::error!("{why}");
        }
        Failure::failed(why)
    })
}

/// Restores the state from the copy in `from`, if there is no state in `dir`. A copy that does not answer is a warning: jobs are
/// not to wait for it.
fn restore_copy(dir: &Path, from: &Path) -> Result<Option<String>, Failure> {
    let mut hung = None;
    let restored = bring_back(dir, |file| {
        let fetched = Client::start()
            .and_then(|mut client| client.ask(&helper::Request::Get(from.join(DATABASE)), Some(file.as_fd()), |_| {}));
        fetched.map_err(|failure| match failure {
            helper::Failure::Refused(error) => error,
            helper::Failure::Unavailable(_) => io::Error::other(failure.to_string()),
            helper::Failure::Hung => {
                hung = Some(format!(
                    "the copy of the state in {} could not be restored: {failure}; the daemon starts with an empty state, and \
                     keeps that copy as {DATABASE}.kept-.. when it makes the next one",
                    from.display()
                ));
                io::ErrorKind::TimedOut.into()
            }
        })
    });
    match (restored, hung) {
        (_, Some(warning)) => {
            log::error!("{warning}");
            Ok(Some(warning))
        }
        (Ok(restored), None) => {
            if restored {
                log::info!("restored the state from {}", from.display());
            }
            Ok(None)
        }
        (Err(error), None) => Err(Failure::failed(format!("can't restore the state from {}: {error}", from.display()))),
    }
}

/// The log file; none for stderr.
fn open_log(args: &Args, state: &Lock) -> Result<Option<LogFile>, Failure> {
    const IN_STATE: &str = "firelink.log";
    let failed = |path: &Path, error| Failure::failed(format!("can't open the log {}: {error}", path.display()));
    if let Some(path) = &args.log_file {
        return LogFile::open(path).map(Some).map_err(|error| failed(path, error));
    }
    if !args.detach && !args.detached {
        return Ok(None);
    }
    let dir = state.dir();
    let path = dir.path().join(IN_STATE);
    LogFile::open_in(dir, IN_STATE).map(Some).map_err(|error| failed(&path, error))
}

/// The socket passed by a supervisor, else a new one.
fn listen(args: &Args) -> Result<Bound, Failure> {
    let passed = passed_socket().and_then(|listener| listener.map(Bound::passed).transpose());
    match passed.map_err(|error| Failure::failed(format!("can't use the socket passed by the supervisor: {error}")))? {
        Some(bound) => Ok(bound),
        None => bind(&socket_path(args.socket.as_deref())).map_err(|error| Failure::failed(error.to_string())),
    }
}

/// `argv[0]`, for a command line that the user can copy.
fn program_name() -> String {
    let name = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "firelink".into())
}

/// The kernel's boot id (random(4)); if it is unknown, empty, which makes all boots one.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
