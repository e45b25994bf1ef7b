//! Requests and their replies: peers of the control socket, requests of the web UI, and those that wait for a run, for a
//! reload or for the daemon's end.

mod describe;
mod peers;
mod requests;
mod status;

use std::collections::{BTreeSet, HashMap};

use super::core::Core;
use super::host::EndedRun;
use super::io::{Io, PeerId};
use super::observers::{Answer, Observers};
use super::show::view;
use super::view::View;
use crate::control::Bound;
use crate::control::commands::{reload, stop, trigger};
use crate::control::protocol::{Reply, Request};
use crate::model::{Elapsed, RunId};
use peers::Peers;

/// The one that a reply goes to.
pub(super) enum Asker {
    /// A peer of the control socket.
    Peer(PeerId),
    /// A connection of the web UI.
    Web(Answer),
}

/// A request that is not for the front to answer.
pub(super) enum Command {
    /// The daemon is to stop; at once with `now`.
    Stop { now: bool },
    /// The configuration is to be read again.
    Reload(Asker, reload::Request),
}

struct Waiter {
    asker: Asker,
    what: WaitFor,
}

enum WaitFor {
    /// `trigger --wait`.
    Run(RunId),
    /// `logs -f`.
    Logs(RunId),
    /// `stop`.
    Stop,
}

/// A `trigger` that the engine has yet to answer.
struct Ticket {
    asker: Asker,
    wait: bool,
}

/// Everything about requests and replies.
pub(super) struct Front {
    peers: Peers,
    tickets: HashMap<u64, Ticket>,
    next_ticket: u64,
    waiters: Vec<Waiter>,
    /// Those that wait for a reload: as many as asked in this turn.
    reloading: Vec<Asker>,
    /// The reply at the daemon's end, if it is not that of `stop`.
    last_reply: Option<Reply>,
    /// Replies for the other thread, held back to the end of the turn.
    held_back: Vec<(Answer, Reply)>,
}

impl Front {
    pub fn new(socket: Bound, io: &mut Io) -> std::io::Result<Front> {
        Ok(Front {
            peers: Peers::new(socket, io)?,
            tickets: HashMap::new(),
            next_ticket: 0,
            waiters: Vec::new(),
            reloading: Vec::new(),
            last_reply: None,
            held_back: Vec::new(),
        })
    }

    /// Accepts the peers that wait.
    pub fn accept(&mut self, now: Elapsed, io: &mut Io) {
        self.peers.accept(now, io);
    }

    /// Peers that can be read on without further notice.
    pub fn take_unread_backlog(&mut self) -> BTreeSet<PeerId> {
        self.peers.take_unread_backlog()
    }

    /// The peer is readable or writable: moves bytes both ways and returns the requests that are complete.
    pub fn ready(&mut self, peer: PeerId, now: Elapsed, io: &mut Io) -> Vec<Request> {
        self.peers.ready(peer, now, io)
    }

    /// Drops peers whose time is up.
    pub fn drop_overdue(&mut self, now: Elapsed, io: &mut Io) {
        self.peers.drop_overdue(now, io);
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        self.peers.next_deadline()
    }

    /// True if a peer follows the events.
    pub fn has_followers(&self) -> bool {
        self.peers.has_followers()
    }

    /// Sends a line to every follower.
    pub fn stream(&mut self, line: &str, now: Elapsed, io: &mut Io) {
        self.peers.stream(line, now, io);
    }

    /// Answers a request, or returns what it commands.
    pub fn request(
        &mut self,
        asker: Asker,
        request: Request,
        core: &mut Core,
        view: View<'_>,
        observers: &Observers,
        io: &mut Io,
    ) -> Option<Command> {
        let reply = match request {
            Request::Status(request) => status::status(core, &request, view, observers),
            Request::Job(request) => describe::whole_job(core, &request, view),
            Request::Graph(_) => Ok(describe::graph(core, view)),
            Request::Health(_) => Ok(describe::health(core)),
            Request::Trigger(request) => match requests::trigger(core, &request, self.next_ticket) {
                Ok(()) => return self.ticket(asker, request.wait),
                Err(refusal) => Err(refusal),
            },
            Request::Retry(request) => match requests::retry(core, &request, self.next_ticket) {
                Ok(()) => return self.ticket(asker, request.wait),
                Err(refusal) => Err(refusal),
            },
            Request::Cancel(request) => requests::cancel(core, request.run),
            Request::Logs(request) => match requests::logs(core, &request) {
                Ok(answer) if request.wait && !answer.run.state.is_end() => {
                    return self.wait(asker, answer.run.id.map(WaitFor::Logs));
                }
                answer => answer.map(|answer| Reply::done(&answer)),
            },
            Request::Events(_) => {
                if let Asker::Peer(peer) = asker {
                    self.peers.follow(peer);
                }
                return None;
            }
            Request::Pause(request) => requests::pause(core, &request, true),
            Request::Resume(request) => requests::pause(core, &request, false),
            Request::Reload(request) => return Some(Command::Reload(asker, request)),
            Request::Stop(request) => {
                self.wait(asker, Some(WaitFor::Stop));
                return Some(Command::Stop { now: request.now });
            }
        };
        self.reply(asker, &reply.unwrap_or_else(|refusal| refusal), core.now.elapsed, io);
        None
    }

    pub fn reply(&mut self, asker: Asker, reply: &Reply, now: Elapsed, io: &mut Io) {
        match asker {
            Asker::Peer(peer) => self.peers.reply(peer, reply, now, io),
            Asker::Web(answer) => self.held_back.push((answer, reply.clone())),
        }
    }

    /// The turn is over: the other thread gets its replies. Any sooner, its next request could meet the state from before
    /// the turn.
    pub fn send_held_back(&mut self) {
        self.held_back.drain(..).for_each(|(answer, reply)| answer(reply));
    }

    fn ticket(&mut self, asker: Asker, wait: bool) -> Option<Command> {
        self.tickets.insert(self.next_ticket, Ticket { asker, wait });
        self.next_ticket += 1;
        None
    }

    fn wait(&mut self, asker: Asker, what: Option<WaitFor>) -> Option<Command> {
        self.waiters.extend(what.map(|what| Waiter { asker, what }));
        None
    }

    /// The engine has made the run of a ticket.
    pub fn triggered(&mut self, ticket: u64, run: RunId, ended: &[EndedRun], core: &mut Core, io: &mut Io) {
        let Some(Ticket { asker, wait }) = self.tickets.remove(&ticket) else { return };
        let Some(view) = view(core, run, ended) else { return };
        if wait && !view.state.is_end() {
            self.waiters.push(Waiter { asker, what: WaitFor::Run(run) });
        } else {
            self.reply(asker, &Reply::done(&trigger::Triggered { run: view }), core.now.elapsed, io);
        }
    }

    /// The run has ended: answers those that wait for that.
    pub fn ended(&mut self, ended: &EndedRun, core: &mut Core, io: &mut Io) {
        let run = ended.row.id;
        let waits = |waiter: &Waiter| matches!(waiter.what, WaitFor::Run(of) | WaitFor::Logs(of) if of == run);
        if !self.waiters.iter().any(waits) {
            return;
        }
        let Some(view) = view(core, run, std::slice::from_ref(ended)) else { return };
        for waiter in self.waiters.extract_if(.., |waiter| waits(waiter)).collect::<Vec<_>>() {
            let reply = match waiter.what {
                WaitFor::Logs(_) => Reply::done(&requests::located(core, view.clone())),
                WaitFor::Run(_) | WaitFor::Stop => Reply::done(&trigger::Triggered { run: view.clone() }),
            };
            self.reply(waiter.asker, &reply, core.now.elapsed, io);
        }
    }

    /// The reply comes with the end of the reload that follows.
    pub fn wait_for_reload(&mut self, asker: Asker) {
        self.reloading.push(asker);
    }

    /// A reload is over.
    pub fn answer_reload(&mut self, reply: &Reply, now: Elapsed, io: &mut Io) {
        for asker in std::mem::take(&mut self.reloading) {
            self.reply(asker, reply, now, io);
        }
    }

    /// The daemon replaces itself: this reply comes at its end.
    pub fn wait_for_replacement(&mut self, asker: Asker, reply: Reply) {
        self.last_reply = Some(reply);
        self.wait(asker, Some(WaitFor::Stop));
    }

    /// The daemon ends: answers those that wait for that.
    pub fn answer_stop(&mut self, now: Elapsed, io: &mut Io) {
        let reply = self.last_reply.take().unwrap_or_else(|| Reply::done(&stop::Stopped { pid: std::process::id() }));
        for waiter in std::mem::take(&mut self.waiters) {
            if matches!(waiter.what, WaitFor::Stop) {
                self.reply(waiter.asker, &reply, now, io);
            }
        }
    }
}
