//! The poller's registry, and what its tokens mean.

use std::io;
use std::os::fd::RawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::tokens::Tokens;
use crate::model::RunId;
use crate::triggers::FdId;

/// A peer of the control socket.
pub(super) type PeerId = u64;

/// A hook that runs.
pub(super) type HookId = u32;

/// What a registered descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    WallTimer,
    ElapsedTimer,
    Signals,
    Bridge,
    Helper,
    Mounts,
    Listener,
    Peer(PeerId),
    Start(RunId),
    Exit(RunId),
    Output(RunId),
    HookStart(HookId),
    HookExit(HookId),
    HookOutput(HookId),
    Source(u32, FdId),
    SourceStart(u32),
    SourceExit(u32),
}

#[derive(Debug)]
pub(super) struct Io {
    registry: Registry,
    tokens: Tokens<What>,
}

impl Io {
    pub fn new(registry: Registry) -> Io {
        Io { registry, tokens: Tokens::new() }
    }

    pub fn what(&self, token: Token) -> Option<What> {
        self.tokens.get(token)
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A token for something that registers itself.
    pub fn token(&mut self, what: What) -> io::Result<Token> {
        self.tokens.add(what).ok_or_else(|| io::Error::other("a million descriptors are being watched"))
    }

    pub fn watch(&mut self, fd: RawFd, what: What, interest: Interest) -> io::Result<Token> {
        let token = self.token(what)?;
        let registered = self.registry.register(&mut SourceFd(&fd), token, interest);
        registered.map(|()| token).inspect_err(|_| self.tokens.remove(token))
    }

    /// For a descriptor of this process alone that is closed before the loop waits again, which ends its registration
    /// (epoll(7)). A child that has not executed its program yet holds a copy of it, which keeps the registration until
    /// then: its events have a token that means nothing.
    pub fn release(&mut self, token: Token) {
        self.tokens.remove(token);
    }

    /// Before the descriptor is closed: a duplicate of it elsewhere would keep its registration alive.
    pub fn deregister(&mut self, fd: RawFd, token: Token) {
        // It fails only for what is not registered, which is what is wanted.
        let _ = self.registry.deregister(&mut SourceFd(&fd));
        self.tokens.remove(token);
    }
}
