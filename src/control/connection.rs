//! One peer, as the server sees it: bytes in, lines out, and limits that protect the daemon.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Elapsed;

/// The longest request in bytes. The largest legitimate one contains a job's name.
pub const REQUEST_LIMIT: usize = 64 * 1024;

/// How long a peer may take to complete a request, or to read a reply.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// The limit of unread events of a follower, in bytes; past it the follower is dropped.
const STREAM_LIMIT: usize = 1 << 20;

/// The next part of a peer's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A whole line, without its end.
    Line(Vec<u8>),
    /// More bytes are needed.
    Nothing,
    /// A request grew past [`REQUEST_LIMIT`]: drop the peer.
    TooLong,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Connection {
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// When the peer is dropped, unless it makes progress.
    deadline: Option<Elapsed>,
}

impl Connection {
    /// Adds bytes received from the peer.
    pub fn received(&mut self, bytes: &[u8], now: Elapsed) {
        self.input.extend_from_slice(bytes);
        self.renew(now);
    }

    /// The next request, if it is complete.
    pub fn next_line(&mut self, now: Elapsed) -> Input {
        match self.input.iter().position(|byte| *byte == b'\n') {
            Some(end) if end <= REQUEST_LIMIT => {
                let mut line: Vec<u8> = self.input.drain(..=end).collect();
                line.pop();
                self.renew(now);
                Input::Line(line)
            }
            None if self.input.len() <= REQUEST_LIMIT => Input::Nothing,
            Some(_) | None => Input::TooLong,
        }
    }

    /// Queues a reply.
    pub fn reply(&mut self, line: &str, now: Elapsed) {
        self.output.extend(line.as_bytes());
        self.renew(now);
    }

    /// Queues an event for a follower; false if it has too much unread and must be dropped.
    #[must_use]
    pub fn stream(&mut self, line: &str, now: Elapsed) -> bool {
        if self.output.len() + line.len() > STREAM_LIMIT {
            return false;
        }
        self.reply(line, now);
        true
    }

    /// The bytes to write next; empty if there are none.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        self.output.as_slices().0
    }

    /// The number of unsent bytes.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.output.len()
    }

    /// Removes bytes that have been written.
    pub fn sent(&mut self, bytes: usize, now: Elapsed) {
        self.output.drain(..bytes.min(self.output.len()));
        if self.output.is_empty() {
            self.output.shrink_to(4096);
        }
        self.deadline = None;
        self.renew(now);
    }

    /// When the peer is dropped unless it makes progress: a request is incomplete, or a reply unread.
    #[must_use]
    pub fn deadline(&self) -> Option<Elapsed> {
        self.deadline
    }

    fn renew(&mut self, now: Elapsed) {
        let waits = !self.input.is_empty() || !self.output.is_empty();
        // From the first byte of a request on: a peer that sends one byte per second gets no more time.
        self.deadline = if waits { self.deadline.or(Some(now + PEER_TIMEOUT)) } else { None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Elapsed = Elapsed::from_nanos(0);

    #[test]
    fn lines_come_out_whole_however_the_bytes_came_in() {
        let mut peer = Connection::default();
        for byte in b"one\ntwo\nthr" {
            peer.received(&[*byte], T0);
        }
        assert_eq!(peer.next_line(T0), Input::Line(b"one".to_vec()));
        assert_eq!(peer.next_line(T0), Input::Line(b"two".to_vec()));
        assert_eq!(peer.next_line(T0), Input::Nothing);
        peer.received(b"ee\n", T0);
        assert_eq!(peer.next_line(T0), Input::Line(b"three".to_vec()));
        assert_eq!(peer.deadline(), None);
    }

    #[test]
    fn an_endless_request_is_noticed_at_the_limit() {
        let mut peer = Connection::default();
        peer.received(&vec![b'x'; REQUEST_LIMIT], T0);
        assert_eq!(peer.next_line(T0), Input::Nothing);
        peer.received(b"x", T0);
        assert_eq!(peer.next_line(T0), Input::TooLong);
        let mut peer = Connection::default();
        peer.received(&vec![b'x'; REQUEST_LIMIT + 1], T0);
        peer.received(b"\n", T0);
        assert_eq!(peer.next_line(T0), Input::TooLong);
    }

    #[test]
    fn a_half_sent_request_has_a_deadline_that_dripping_bytes_do_not_move() {
        let mut peer = Connection::default();
        peer.received(b"x", T0);
        let deadline = peer.deadline();
        assert_eq!(deadline, Some(T0 + PEER_TIMEOUT));
        peer.received(b"x", T0 + Duration::from_secs(5));
        assert_eq!(peer.deadline(), deadline);
    }

    #[test]
    fn a_reader_that_makes_progress_is_kept_and_one_that_does_not_has_a_deadline() {
        let mut peer = Connection::default();
        peer.reply("hello\n", T0);
        assert_eq!(peer.deadline(), Some(T0 + PEER_TIMEOUT));
        peer.sent(2, T0 + Duration::from_secs(9));
        assert_eq!(peer.deadline(), Some(T0 + Duration::from_secs(9) + PEER_TIMEOUT));
        assert_eq!(peer.unsent(), b"llo\n");
        peer.sent(4, T0);
        assert_eq!((peer.deadline(), peer.unsent()), (None, &b""[..]));
    }

    #[test]
    fn a_follower_that_does_not_read_is_dropped_at_the_limit() {
        let mut peer = Connection::default();
        let line = "x".repeat(STREAM_LIMIT / 2);
        assert!(peer.stream(&line, T0));
        assert!(peer.stream(&line, T0));
        assert!(!peer.stream("x", T0));
    }
}
