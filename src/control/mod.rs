//! The control socket: requests, replies, and both ends of a connection.
//!
//! One JSON object per line each way: `{"v":1,"cmd":"status"}` and `{"ok":true,…}`. [`protocol`] holds the envelope,
//! [`commands`] one file per command with its request, its reply and its text rendering, [`Connection`] the server's view
//! of one peer as plain bytes (without a socket, so that it can be tested and fuzzed), [`Client`] the other end.
//!
//! This room imports `model` and `text`; `reactor` is the server, `cli` the client.

mod client;
pub mod commands;
mod connection;
pub mod object;
pub mod protocol;
mod socket;

pub use client::{Client, ClientError};
pub use connection::{Connection, Input, REQUEST_LIMIT};
pub use socket::{BindError, Bound, bind, socket_path};
