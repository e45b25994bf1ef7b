//! `firelink run`: the daemon, in the foreground.

use std::path::PathBuf;

use argh::FromArgs;
use log::LevelFilter;

use super::load::{load, state_dir};
use super::logging;
use super::out::{Done, Failure, Format, parse_format};
use crate::config::Surroundings;
use crate::control::{bind, socket_path};
use crate::reactor::clocks::KernelClocks;
use crate::reactor::{After, Parts, Reactor, exec};
use crate::store::{Lock, Opened, Store, bring_back};

/// run the daemon in the foreground
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "run")]
pub struct Args {
    /// the configuration, a YAML file
    #[argh(positional)]
    config: PathBuf,
    /// off, error, warn, info (default), debug or trace
    #[argh(option, default = "LevelFilter::Info", from_str_fn(logging::parse_level))]
    log_level: LevelFilter,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    log_format: Format,
    /// where the state is kept, instead of the configuration's or the default place
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// the control socket, instead of $FIRELINK_SOCKET or the default place
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    let surroundings = Surroundings::of_this_process();
    let config = load(&args.config, &surroundings)?;
    logging::start(args.log_level, args.log_format)?;
    let dir = state_dir(args.state_dir.as_deref(), Some(&config))?;
    let lock = Lock::take(&dir).map_err(|error| Failure::failed(error.to_string()))?;
    if let Some(sync) = &config.sync
        && bring_back(&dir, &sync.to)
            .map_err(|error| Failure::failed(format!("the state can't be brought back from {}: {error}", sync.to.display())))?
    {
        log::info!("the state was brought back from {}", sync.to.display());
    }
    let opened = Store::open(&dir, config.durability, boot_id()).map_err(|error| Failure::failed(error.to_string()))?;
    let Opened { store, warnings } = opened;
    for warning in &warnings {
        log::error!("{warning}");
    }
    let path = socket_path(args.socket.as_deref());
    let socket = bind(&path).map_err(|error| Failure::failed(error.to_string()))?;
    let clocks = KernelClocks::new().map_err(|error| Failure::failed(format!("can't make a timer: {error}")))?;
    // Grandchildren that leave their run's process group come to the daemon instead of init, which reaps and ends them.
    if let Err(error) = crate::exec::become_subreaper() {
        log::warn!("processes that leave their run's process group can't be found: {error}");
    }
    let (jobs, pid) = (config.jobs.len(), std::process::id());
    let seed = surroundings.machine_seed ^ u64::from(pid);
    let parts = Parts { store, lock, state_dir: dir.clone(), surroundings, socket, clocks, seed, warnings, config };
    let reactor = Reactor::new(parts).map_err(|error| Failure::failed(error.to_string()))?;
    log::info!(
        "firelink {} runs {jobs} jobs of {} (pid {pid}, state in {})",
        env!("CARGO_PKG_VERSION"),
        args.config.display(),
        dir.display()
    );
    let socket_arg = if socket_path(None) == path { String::new() } else { format!(" --socket {}", path.display()) };
    log::info!("ask it from another terminal: {} ctl status{socket_arg}", called());
    match reactor.run().map_err(|error| Failure::failed(error.to_string()))? {
        After::Exit => Ok(()),
        After::Replace(program) => {
            let error = exec(&program);
            Err(Failure::failed(format!(
                "can't become {}: {error}; what runs goes on and is watched at the next start",
                program.display()
            )))
        }
    }
}

/// How firelink was called, which is how it can be called again.
fn called() -> String {
    let name = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "firelink".into())
}

/// Tells one boot from another (random(4)); empty if the kernel does not say, which then counts as one boot.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
