//! The control socket: what may be asked, how it is said, and both ends of the line.
//!
//! One JSON object a line each way: `{"v":1,"cmd":"status"}` and `{"ok":true,…}`. [`protocol`] holds the envelope,
//! [`commands`] one file a command with its request, its reply and its text rendering, [`Connection`] the server's view
//! of one peer as plain bytes (no socket in it, so that it can be tested and fuzzed), [`Client`] the other end.
//!
//! This room imports `model`; `reactor` serves it, the command line asks it.

mod client;
pub mod commands;
mod connection;
pub mod object;
pub mod protocol;
mod socket;

pub use client::{Client, ClientError};
pub use connection::{Connection, Input, REQUEST_LIMIT};
pub use socket::{BindError, Bound, bind, socket_path};
