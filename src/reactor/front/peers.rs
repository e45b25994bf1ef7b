//! The control socket's peers: accepting, reading, writing, and the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use mio::{Interest, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;

use crate::control::protocol::{ErrorCode, Reply, Request, parse_request};
use crate::control::{Bound, Connection, Input};
use crate::model::Elapsed;
use crate::reactor::io::{Io, PeerId, What};

/// Peers at once. A person has a few; a script that leaks connections must not take the daemon's descriptors. One more
/// takes the place of the one that has been silent longest.
const PEERS: usize = 128;

/// Bytes read from one peer in one turn.
const READ_AT_ONCE: usize = 16 * 1024;

/// A peer with more unread bytes of replies than this is not read from until it has read some.
const UNREAD_LIMIT: usize = 256 * 1024;

struct Peer {
    stream: UnixStream,
    token: Token,
    connection: Connection,
    /// Follows the events.
    follows: bool,
    /// Has hung up its sending side; gone once all is written.
    closing: bool,
    /// Requests without a reply yet.
    pending_replies: usize,
    /// When it was last read from.
    last_read: Elapsed,
}

pub(super) struct Peers {
    bound: Bound,
    peers: BTreeMap<PeerId, Peer>,
    next: PeerId,
    /// Peers with more to read: notice comes once per edge, and one turn takes only so much from one peer.
    unread_backlog: BTreeSet<PeerId>,
}

impl Peers {
    pub fn new(bound: Bound, io: &mut Io) -> std::io::Result<Peers> {
        io.watch(bound.listener.as_raw_fd(), What::Listener, Interest::READABLE)?;
        Ok(Peers { bound, peers: BTreeMap::new(), next: 0, unread_backlog: BTreeSet::new() })
    }

    /// Accepts the peers that wait.
    pub fn accept(&mut self, now: Elapsed, io: &mut Io) {
        loop {
            let stream = match self.bound.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Out of descriptors, most likely: those that wait stay in the backlog until the next one comes.
                    log::warn!("the control socket can't accept: {error}");
                    return;
                }
            };
            if let Err(error) = self.admit(stream, now, io) {
                log::warn!("a peer of the control socket could not be served: {error}");
            }
        }
    }

    fn admit(&mut self, mut stream: UnixStream, now: Elapsed, io: &mut Io) -> std::io::Result<()> {
        stream.set_nonblocking(true)?;
        let peer = Uid::from_raw(getsockopt(&stream, PeerCredentials)?.uid());
        let refusal = if !peer.is_root() && peer != Uid::effective() {
            log::warn!("refused a peer of the control socket: user {peer} is neither the daemon's nor root");
            Some("this daemon answers its own user and root only")
        } else if self.peers.len() >= PEERS && !self.make_room(io) {
            Some("too many connections to this daemon")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // A fresh socket has room for a line; if not, the peer learns less.
            let _ = stream.write(Reply::failed(ErrorCode::Refused, refusal).to_line().as_bytes());
            return Ok(());
        }
        let id = self.next;
        self.next += 1;
        let token = io.watch(stream.as_raw_fd(), What::Peer(id), Interest::READABLE | Interest::WRITABLE)?;
        let connection = Connection::default();
        self.peers
            .insert(id, Peer { stream, token, connection, follows: false, closing: false, pending_replies: 0, last_read: now });
        Ok(())
    }

    /// Drops the peer that waits for nothing and has been silent longest, if there is one.
    fn make_room(&mut self, io: &mut Io) -> bool {
        let idle = self.peers.iter().filter(|(_, peer)| peer.pending_replies == 0 && !peer.follows);
        let Some(id) = idle.min_by_key(|(_, peer)| peer.last_read).map(|(id, _)| *id) else { return false };
        log::debug!("dropped the peer of the control socket that was silent longest, to make room for another");
        self.drop_peer(id, io);
        true
    }

    /// Peers that can be read on without further notice.
    pub fn take_unread_backlog(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.unread_backlog)
    }

    /// The peer is readable or writable: moves bytes both ways and returns the requests that are complete.
    pub fn ready(&mut self, id: PeerId, now: Elapsed, io: &mut Io) -> Vec<Request> {
        let mut requests = Vec::new();
        let Some(peer) = self.peers.get_mut(&id) else { return requests };
        let mut alive = true;
        let mut chunk = [0; READ_AT_ONCE];
        if !peer.closing && peer.connection.unread() <= UNREAD_LIMIT {
            match peer.stream.read(&mut chunk) {
                Ok(0) => peer.closing = true,
                Ok(count) => {
                    self.unread_backlog.insert(id);
                    peer.last_read = now;
                    peer.connection.received(&chunk[..count], now);
                    alive = peer.take_requests(now, &mut requests);
                    peer.pending_replies += requests.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.unread_backlog.insert(id);
                }
                Err(_) => alive = false,
            }
        }
        if alive {
            self.flush(id, now, io);
        } else {
            self.drop_peer(id, io);
        }
        requests
    }

    pub fn reply(&mut self, id: PeerId, reply: &Reply, now: Elapsed, io: &mut Io) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pending_replies = peer.pending_replies.saturating_sub(1);
            peer.connection.reply(&reply.to_line(), now);
            self.flush(id, now, io);
        }
    }

    /// The peer follows the events.
    pub fn follow(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pending_replies = peer.pending_replies.saturating_sub(1);
            peer.follows = true;
        }
    }

    pub fn has_followers(&self) -> bool {
        self.peers.values().any(|peer| peer.follows)
    }

    /// Sends a line to every follower.
    pub fn stream(&mut self, line: &str, now: Elapsed, io: &mut Io) {
        let followers: Vec<PeerId> = self.peers.iter().filter(|(_, peer)| peer.follows).map(|(id, _)| *id).collect();
        for id in followers {
            if self.peers.get_mut(&id).is_some_and(|peer| peer.connection.stream(line, now)) {
                self.flush(id, now, io);
            } else {
                log::warn!("dropped a follower of the events that does not read");
                self.drop_peer(id, io);
            }
        }
    }

    fn flush(&mut self, id: PeerId, now: Elapsed, io: &mut Io) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let gone = loop {
            let unsent = peer.connection.unsent();
            if unsent.is_empty() {
                // A peer that only hung up its own side still gets its replies.
                break peer.closing && !peer.follows && peer.pending_replies == 0;
            }
            match peer.stream.write(unsent) {
                Ok(count) => {
                    let was_full = peer.connection.unread() > UNREAD_LIMIT;
                    peer.connection.sent(count, now);
                    if was_full && peer.connection.unread() <= UNREAD_LIMIT {
                        self.unread_backlog.insert(id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        if gone {
            self.drop_peer(id, io);
        }
    }

    /// Drops peers whose time is up.
    pub fn drop_overdue(&mut self, now: Elapsed, io: &mut Io) {
        let overdue: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.connection.deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            log::debug!("dropped a peer of the control socket that left a request or a reply half done");
            self.drop_peer(id, io);
        }
    }

    pub fn next_deadline(&self) -> Option<Elapsed> {
        self.peers.values().filter_map(|peer| peer.connection.deadline()).min()
    }

    fn drop_peer(&mut self, id: PeerId, io: &mut Io) {
        self.unread_backlog.remove(&id);
        if let Some(peer) = self.peers.remove(&id) {
            io.deregister(peer.stream.as_raw_fd(), peer.token);
        }
    }
}

impl Peer {
    /// False when the peer must be dropped.
    fn take_requests(&mut self, now: Elapsed, requests: &mut Vec<Request>) -> bool {
        loop {
            match self.connection.next_line(now) {
                Input::Line(line) => match parse_request(&line) {
                    Ok(request) => requests.push(request),
                    Err(refusal) => self.connection.reply(&refusal.to_line(), now),
                },
                Input::Nothing => return true,
                Input::TooLong => {
                    log::warn!("dropped a peer of the control socket: its request is longer than any honest one");
                    return false;
                }
            }
        }
    }
}
