//! The client: one blocking connection.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::protocol::{ErrorCode, Reply, Request, request_line};

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why a request failed.
#[derive(Debug)]
pub enum ClientError {
    /// No daemon listens on the socket.
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// Of connect(2).
        error: std::io::Error,
    },
    /// The connection failed or was closed.
    Broken(std::io::Error),
    /// The daemon refused the request.
    Refused {
        /// Why, for a person.
        error: String,
        /// Why, for a program.
        code: ErrorCode,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NoDaemon { path, error } if error.kind() == std::io::ErrorKind::PermissionDenied => {
                write!(f, "can't open the daemon's socket {}: {error}; run this as the daemon's user or as root", path.display())
            }
            ClientError::NoDaemon { path, error } => write!(
                f,
                "no daemon listens on {} ({error}); start one with `firelink run CONFIG`, or name its socket with --socket or \
                 $FIRELINK_SOCKET",
                path.display()
            ),
            ClientError::Broken(error) => write!(f, "lost the connection to the daemon: {error}"),
            ClientError::Refused { error, .. } => f.write_str(error),
        }
    }
}

impl std::error::Error for ClientError {}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// When no daemon listens there.
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| ClientError::NoDaemon { path: path.into(), error })?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// When the connection fails or the daemon refuses.
    pub fn ask(&mut self, request: &Request) -> Result<Value, ClientError> {
        self.send(request)?;
        match self.next_line()? {
            Some(line) => match serde_json::from_str::<Reply>(&line) {
                Ok(Reply::Done(value)) => Ok(value),
                Ok(Reply::Failed { error, code, .. }) => Err(ClientError::Refused { error, code }),
                Err(error) => Err(ClientError::Broken(std::io::Error::new(std::io::ErrorKind::InvalidData, error))),
            },
            None => Err(ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Sends a request without waiting for a reply.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        self.stream.get_mut().write_all(request_line(request).as_bytes()).map_err(ClientError::Broken)
    }

    /// The next line from the daemon; `None` after the end of the connection.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn next_line(&mut self) -> Result<Option<String>, ClientError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line)),
            Err(error) => Err(ClientError::Broken(error)),
        }
    }

    /// The socket, for poll(2).
    #[must_use]
    pub fn socket(&self) -> &UnixStream {
        self.stream.get_ref()
    }
}
