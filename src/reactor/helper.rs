//! The helper process ([`crate::helper`]) as the loop sees it: started on first need, asked one thing after another, and
//! killed when it is silent for too long.
//!
//! A process that was killed in D state does not end before its system call does, which may be never. It is not waited for:
//! the next request gets another process, and when the kernel lets go of the old one, those who had asked it hear that
//! ([`Response::Recovered`]). While processes of one asker hang, it gets no more than [`MAX_HUNG`] of them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Child;

use mio::{Interest, Token};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::io::{Io, What};
use crate::exec::{Known, receive_packet, send_packet};
use crate::helper::{self, Answer, Process, Request, Response, TIMEOUT};
use crate::model::Elapsed;

/// Packets read in one turn.
const PACKETS_PER_TURN: usize = 64;

/// How many processes may hang because of one asker.
const MAX_HUNG: usize = 16;

/// The one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A source, by its number.
    Source(u32),
    /// The metrics text file.
    #[cfg(feature = "metrics")]
    Metrics,
    /// The copy of the state.
    Copy,
}

/// Identifies a request.
pub(super) type AskNumber = u64;

/// A part of an answer on its way to the one who asked.
pub(super) struct Delivery {
    pub asker: Asker,
    pub number: AskNumber,
    pub response: Response,
}

struct Ask {
    asker: Asker,
    number: AskNumber,
    request: Vec<u8>,
    fd: Option<OwnedFd>,
    /// The process that had it ended without an answer, and it is asked once more: an idle one ends by itself.
    is_repeated: bool,
}

struct Running {
    process: Process,
    token: Token,
    current: Option<Ask>,
    /// When silence becomes a hang.
    deadline: Elapsed,
}

/// A process that has ended or was killed, and is not reaped yet.
struct Ended {
    child: Child,
    /// Whose request it hangs in.
    hung: Option<(Asker, AskNumber)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Helper {
    running: Option<Running>,
    queue: VecDeque<Ask>,
    ended: Vec<Ended>,
    last_number: AskNumber,
    /// The socket may hold more.
    has_unread: bool,
    /// The daemon ends: what hangs is given up at once.
    closing: bool,
}

impl Helper {
    /// Asks; the answer comes from [`Helper::pump`].
    pub fn ask(&mut self, asker: Asker, request: &Request, fd: Option<OwnedFd>) -> AskNumber {
        self.last_number += 1;
        let number = self.last_number;
        self.queue.push_back(Ask { asker, number, request: request.to_bytes(), fd, is_repeated: false });
        number
    }

    /// Its socket is readable or closed.
    pub fn ready(&mut self) {
        self.has_unread = true;
    }

    /// True if something can be done without any wait.
    pub fn is_busy(&self) -> bool {
        let is_free = self.running.as_ref().is_none_or(|running| running.current.is_none());
        self.has_unread || is_free && !self.queue.is_empty()
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        self.running.as_ref().filter(|running| running.current.is_some()).map(|running| running.deadline)
    }

    /// Reads answers, ends a process that hangs, and sends the next request.
    pub fn pump(&mut self, io: &mut Io, now: Elapsed) -> Vec<Delivery> {
        let mut out = Vec::new();
        let is_overdue = self.next_wake().is_some_and(|at| at <= now);
        // What has come in time is not overdue, however late it is read.
        if std::mem::take(&mut self.has_unread) || is_overdue {
            self.read(io, now, &mut out);
        }
        if self.next_wake().is_some_and(|at| at <= now) {
            self.give_up(io, &mut out);
        }
        while self.running.as_ref().is_none_or(|running| running.current.is_none())
            && let Some(ask) = self.queue.pop_front()
        {
            self.send(io, now, ask, &mut out);
        }
        out
    }

    fn read(&mut self, io: &mut Io, now: Elapsed, out: &mut Vec<Delivery>) {
        for _ in 0..PACKETS_PER_TURN {
            let Some(running) = &mut self.running else { return };
            let (answer, fd) = match receive_packet(running.process.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Some((bytes, fd))) => match Answer::from_bytes(&bytes) {
                    Ok(answer) => (answer, fd),
                    Err(_) => return self.process_ended(io, out),
                },
                Ok(None) | Err(_) => return self.process_ended(io, out),
            };
            running.deadline = now + TIMEOUT;
            let Some(Ask { asker, number, .. }) = running.current else { continue };
            if answer.is_last() {
                running.current = None;
            }
            if answer != Answer::Working {
                out.push(Delivery { asker, number, response: Response::Answer(answer, fd) });
            }
        }
        self.has_unread = true;
    }

    /// Takes the process away from the loop; whether it still runs or not, it is reaped when it has ended.
    fn take_process(&mut self, io: &mut Io) -> Option<(Child, Option<Ask>)> {
        let Running { process: Process { mut child, socket }, token, current, .. } = self.running.take()?;
        io.deregister(socket.as_raw_fd(), token);
        self.has_unread = false;
        // It fails only for a process that was reaped.
        let _ = child.kill();
        Some((child, current))
    }

    /// It has ended by itself, or does not make sense.
    fn process_ended(&mut self, io: &mut Io, out: &mut Vec<Delivery>) {
        let Some((child, current)) = self.take_process(io) else { return };
        self.add_ended(Ended { child, hung: None });
        match current {
            Some(ask) if !ask.is_repeated => self.queue.push_front(Ask { is_repeated: true, ..ask }),
            Some(ask) => {
                let why = "the process that looks at files ended".to_owned();
                out.push(Delivery { asker: ask.asker, number: ask.number, response: Response::Unavailable(why) });
            }
            None => {}
        }
    }

    /// It has been silent for too long.
    fn give_up(&mut self, io: &mut Io, out: &mut Vec<Delivery>) {
        let Some((child, Some(ask))) = self.take_process(io) else { return };
        let (asker, number) = (ask.asker, ask.number);
        log::debug!("the process {} that looks at files hangs, and is left behind", child.id());
        self.add_ended(Ended { child, hung: Some((asker, number)) });
        out.push(Delivery { asker, number, response: Response::Hung });
    }

    fn add_ended(&mut self, mut ended: Ended) {
        if !matches!(ended.child.try_wait(), Ok(Some(_))) {
            self.ended.push(ended);
        }
    }

    fn send(&mut self, io: &mut Io, now: Elapsed, ask: Ask, out: &mut Vec<Delivery>) {
        let (asker, number) = (ask.asker, ask.number);
        let hung = self.ended.iter().filter(|ended| ended.hung.is_some_and(|(of, _)| of == asker)).count();
        if hung >= MAX_HUNG || self.closing && hung > 0 {
            out.push(Delivery { asker, number, response: Response::Hung });
            return;
        }
        if self.running.is_none() {
            match start(io, now) {
                Ok(running) => self.running = Some(running),
                Err(error) => {
                    let why = format!("the process that looks at files can't be started: {error}");
                    out.push(Delivery { asker, number, response: Response::Unavailable(why) });
                    return;
                }
            }
        }
        let Some(running) = &mut self.running else { return };
        running.deadline = now + TIMEOUT;
        let socket = running.process.socket.as_fd();
        let sent = send_packet(socket, &ask.request, ask.fd.as_ref().map(AsFd::as_fd));
        running.current = Some(ask);
        if sent.is_err() {
            // It has just ended, having been idle.
            self.process_ended(io, out);
        }
    }

    /// SIGCHLD: reaps what has ended. Those whose requests had hung hear of it.
    pub fn reap(&mut self) -> Vec<Delivery> {
        let mut recovered = Vec::new();
        self.ended.retain_mut(|ended| {
            if !matches!(ended.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            if let Some((asker, number)) = ended.hung {
                recovered.push(Delivery { asker, number, response: Response::Recovered });
            }
            false
        });
        recovered
    }

    /// Processes that are not reaped yet.
    pub fn known(&self) -> impl Iterator<Item = Known> + '_ {
        let running = self.running.iter().map(|running| &running.process.child);
        let all = running.chain(self.ended.iter().map(|ended| &ended.child));
        // A pid that is not reaped is not reused, so that the start is not needed to identify it.
        all.filter_map(|child| Some(Known::childless(i32::try_from(child.id()).ok()?)))
    }

    /// The daemon ends: what sources have asked is of no use any more, and what hung is not waited for again.
    pub fn close(&mut self, io: &mut Io) {
        self.closing = true;
        let is_of_source = |ask: &Ask| matches!(ask.asker, Asker::Source(_));
        self.queue.retain(|ask| !is_of_source(ask));
        if self.running.as_ref().is_some_and(|running| running.current.as_ref().is_some_and(is_of_source))
            && let Some((child, _)) = self.take_process(io)
        {
            self.add_ended(Ended { child, hung: None });
        }
    }

    /// True while an answer is to come.
    pub fn is_asked(&self) -> bool {
        !self.queue.is_empty() || self.running.as_ref().is_some_and(|running| running.current.is_some())
    }
}

fn start(io: &mut Io, now: Elapsed) -> io::Result<Running> {
    let mut process = helper::start()?;
    let watched = fcntl(&process.socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(io::Error::from)
        .and_then(|_| io.watch(process.socket.as_raw_fd(), What::Helper, Interest::READABLE));
    match watched {
        Ok(token) => Ok(Running { process, token, current: None, deadline: now }),
        Err(error) => {
            let _ = process.child.kill();
            // It has made no system call on a path yet.
            let _ = process.child.wait();
            Err(error)
        }
    }
}
