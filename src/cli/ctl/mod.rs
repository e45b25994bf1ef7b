//! `firelink ctl`: requests to the daemon.

mod cancel;
mod events;
mod logs;
mod pause;
mod reload;
mod resume;
mod retry;
pub mod status;
pub mod stop;
mod trigger;

use std::path::Path;

use argh::FromArgs;
use serde::de::DeserializeOwned;

use super::out::{Done, Failure};
use crate::control::protocol::{ErrorCode, Request};
use crate::control::{Client, ClientError, socket_path};

/// control the daemon
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "ctl")]
pub struct Args {
    #[argh(subcommand)]
    command: Command,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Command {
    Status(status::Args),
    Trigger(trigger::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    Logs(logs::Args),
    Events(events::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Reload(reload::Args),
    Stop(stop::Args),
}

pub(super) fn run(args: &Args) -> Done {
    match &args.command {
        Command::Status(args) => status::run(args),
        Command::Trigger(args) => trigger::run(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Retry(args) => retry::run(args),
        Command::Logs(args) => logs::run(args),
        Command::Events(args) => events::run(args),
        Command::Pause(args) => pause::run(args),
        Command::Resume(args) => resume::run(args),
        Command::Reload(args) => reload::run(args),
        Command::Stop(args) => stop::run(args),
    }
}

fn connect(socket: Option<&Path>) -> Result<Client, Failure> {
    Client::connect(&socket_path(socket)).map_err(failure)
}

fn ask<T: DeserializeOwned>(client: &mut Client, request: &Request) -> Result<T, Failure> {
    let value = client.ask(request).map_err(failure)?;
    serde_json::from_value(value).map_err(|error| Failure::failed(format!("can't parse the daemon's reply: {error}")))
}

fn failure(error: ClientError) -> Failure {
    match &error {
        ClientError::NoDaemon { .. } => Failure::no_daemon(error.to_string()),
        ClientError::Refused { code: ErrorCode::Invalid, .. } => Failure::usage(error.to_string()),
        ClientError::Broken(_) | ClientError::Refused { .. } => Failure::failed(error.to_string()),
    }
}
