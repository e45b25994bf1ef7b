//! Listening, and what a connection may cost: how many there are, how long a request may take to come, how long a
//! response may go unread.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::Shared;
use super::hub::Pump;
use super::routes::router;
use crate::config::Listen;
use crate::control::{Bound, bind as bind_file};

/// Connections at once. A browser has six a person; a script that leaks them must not take the daemon's descriptors.
const CONNECTIONS: usize = 256;

/// How long the head of a request may take to come, and how long a connection is kept for the next one.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// How long a peer may not read at all what is sent to it.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// What is kept of a connection in memory at most, each way; also the longest head of a request.
const BUFFER: usize = 32 * 1024;

/// How long to wait when the OS has no descriptor for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What listens, not yet served.
#[derive(Debug)]
pub enum Listener {
    /// An address, and the one that it came to be: a port of 0 is a free one.
    Tcp(TcpListener, SocketAddr),
    /// A socket's file, which goes away with it.
    Unix(Bound),
}

/// Listens.
///
/// # Errors
/// A sentence for a person.
pub fn bind(listen: &Listen) -> Result<Listener, String> {
    match listen {
        Listen::Tcp(address) => {
            let refused = |error: io::Error| format!("can't listen on {address}: {error}");
            let listener = TcpListener::bind(address).map_err(refused)?;
            listener.set_nonblocking(true).map_err(refused)?;
            let address = listener.local_addr().map_err(refused)?;
            Ok(Listener::Tcp(listener, address))
        }
        Listen::Unix(path) => bind_file(path).map(Listener::Unix).map_err(|error| error.to_string()),
    }
}

impl Listener {
    /// How a person reaches it.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(_, address) => format!("http://{address}/"),
            Listener::Unix(bound) => format!("unix:{}", bound.path().display()),
        }
    }

    /// A share of it for the runtime that was entered.
    pub(super) fn share(&self) -> io::Result<Listening> {
        match self {
            Listener::Tcp(listener, _) => Ok(Listening::Tcp(tokio::net::TcpListener::from_std(listener.try_clone()?)?)),
            Listener::Unix(bound) => {
                let listener = bound.listener.try_clone()?;
                listener.set_nonblocking(true)?;
                Ok(Listening::Unix(tokio::net::UnixListener::from_std(listener)?))
            }
        }
    }
}

impl Drop for Listener {
    /// The other thread lets go of its share when it gets to it, but the address must be free at once: a socket that was
    /// shut down does not listen any more (inet_shutdown in Linux, net/ipv4/af_inet.c).
    fn drop(&mut self) {
        if let Listener::Tcp(listener, _) = self {
            // It fails only for what does not listen.
            let _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
    }
}

pub(super) enum Listening {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Serves until it is dropped, and with it every connection.
pub(super) async fn serve(listening: Listening, shared: Arc<Shared>, pump: Pump) {
    let mut tasks = JoinSet::new();
    tasks.spawn(pump.run());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let service = TowerToHyperService::new(router(Arc::clone(&shared)));
    loop {
        let stream = match accept(&listening).await {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(error) => {
                log::warn!("the window can't accept: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            log::warn!("the window has {CONNECTIONS} connections and hung up on another");
            continue;
        };
        let service = service.clone();
        tasks.spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(BUFFER);
            let io = TokioIo::new(Patient { stream, stalled: None });
            // Whatever went wrong, the peer has hung up or was hung up on.
            if let Err(error) = http.serve_connection(io, service).await {
                log::debug!("a connection of the window ended: {error}");
            }
            drop(place);
        });
    }
}

/// One more connection; `None` if it was refused.
async fn accept(listening: &Listening) -> io::Result<Option<Stream>> {
    match listening {
        Listening::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            // It fails only on a connection that is gone.
            let _ = stream.set_nodelay(true);
            Ok(Some(Stream::Tcp(stream)))
        }
        Listening::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if uid != 0 && uid != nix::unistd::Uid::effective().as_raw() {
                log::warn!("the window refused a peer of its socket: user {uid} is neither the daemon's nor root");
                return Ok(None);
            }
            Ok(Some(Stream::Unix(stream)))
        }
    }
}

/// A connection of either kind.
enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

/// A connection that is given up if its peer takes nothing for [`READ_PATIENCE`].
struct Patient {
    stream: Stream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// Counts the time while the peer takes nothing.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(READ_PATIENCE)));
        ready!(stalled.as_mut().poll(cx));
        log::debug!("dropped a peer of the window that does not read");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
