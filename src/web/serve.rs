//! Listening, and limits on connections: their number, the time for a request to arrive, the time for a response to be
//! read.

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

/// Concurrent connections. A browser opens six; a script that leaks them must not use up the daemon's descriptors.
const MAX_CONNECTIONS: usize = 256;

/// Within which the head of a request has to arrive; also the keep-alive of an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may go without reading any of its response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The buffer of a connection, each way, in bytes; also the longest head of a request.
const BUFFER: usize = 32 * 1024;

/// The wait before the next accept(2) when descriptors have run out.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// A TCP listener and its address, with the actual port if 0 was asked for.
    Tcp(TcpListener, SocketAddr),
    /// A Unix socket, whose file is removed on drop.
    Unix(Bound),
}

/// Binds the configured address or socket.
///
/// # Errors
/// A sentence for the log.
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
    /// A URL, or the path of the socket after `unix:`.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(_, address) => format!("http://{address}/"),
            Listener::Unix(bound) => format!("unix:{}", bound.path().display()),
        }
    }

    /// A duplicate, registered with the current runtime.
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
    /// The other thread closes its duplicate some time later, but the address must be free at once: shutdown(2) ends the
    /// listening of every duplicate (inet_shutdown in Linux, net/ipv4/af_inet.c).
    fn drop(&mut self) {
        if let Listener::Tcp(listener, _) = self {
            // It fails only for a socket that does not listen.
            let _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
    }
}

pub(super) enum Listening {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Serves until the future is dropped, which closes every connection.
pub(super) async fn serve(listening: Listening, shared: Arc<Shared>, pump: Pump) {
    let mut tasks = JoinSet::new();
    tasks.spawn(pump.run());
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let service = TowerToHyperService::new(router(Arc::clone(&shared)));
    loop {
        let stream = match accept(&listening).await {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(error) => {
                log::warn!("the web UI can't accept a connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            log::warn!("the web UI closed a connection: {MAX_CONNECTIONS} are open already");
            continue;
        };
        let service = service.clone();
        tasks.spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER);
            let io = TokioIo::new(WithWriteTimeout { stream, stalled: None });
            // Errors concern this connection alone, which is closed by now.
            if let Err(error) = http.serve_connection(io, service).await {
                log::debug!("a connection of the web UI ended: {error}");
            }
            drop(place);
        });
    }
}

/// Accepts a connection; `None` if its peer was refused.
async fn accept(listening: &Listening) -> io::Result<Option<Stream>> {
    match listening {
        Listening::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            // It fails only for a connection that is closed.
            let _ = stream.set_nodelay(true);
            Ok(Some(Stream::Tcp(stream)))
        }
        Listening::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if uid != 0 && uid != nix::unistd::Uid::effective().as_raw() {
                log::warn!("the web UI refused a peer of its socket: user {uid} is neither the daemon's user nor root");
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

/// A connection that fails when its peer has read nothing for [`WRITE_TIMEOUT`].
struct WithWriteTimeout {
    stream: Stream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl WithWriteTimeout {
    /// Runs the timeout while a write is pending.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        log::debug!("the web UI closed a connection whose peer does not read");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for WithWriteTimeout {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for WithWriteTimeout {
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
