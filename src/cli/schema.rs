//! `firelink schema`: the JSON Schema of a configuration, for editors.

use argh::FromArgs;

use super::out::{Done, print_json};
use crate::config::reference;

/// print the JSON Schema of the configuration, for completion and checks in editors
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "schema")]
pub struct Args {}

pub(super) fn run(_: &Args) -> Done {
    print_json(&reference::schema())
}
