//! A proxy between the daemon and an S3 server that passes requests on or injects scripted faults.
//!
//! Bytes are passed on unchanged, so that signatures stay valid; each request has a connection of its own. Faults depend on the
//! prefix that a request lists and on the number of earlier requests for it, never on time, so that they are the same for
//! each watch however their requests interleave.

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing bad.
    Pass,
    /// It never reaches the server, and the connection is closed.
    Drop,
    /// The server answers, and the answer is dropped.
    DropAnswer,
    /// It is answered well, but late.
    Delay(Duration),
    /// Nothing comes until the client gives up.
    Silence,
    /// Half of the answer's bytes, then the connection's end.
    HalfAnswer,
    /// An answer that is whole for HTTP, with half of a listing in it.
    HalfListing,
    /// The server's refusal: status and code.
    Refuse(u16, &'static str),
    /// A listing with its tags in disorder.
    Malformed,
    /// A listing that goes on for ever, with the objects of its first page on each.
    Endless,
    /// A listing that goes on for ever, with nothing on its pages.
    EndlessEmpty,
}

/// Decides by the prefix and the number of requests that came for it before.
pub type Decide = Box<dyn Fn(&str, usize) -> Fault + Send>;

/// What became of the requests for one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that something was decided about: all but those that follow an endless listing.
    pub decided: usize,
    /// All requests.
    pub all: usize,
    /// Last pages that got through.
    pub whole: usize,
}

/// A proxy, until the test process ends.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    plan: Mutex<Plan>,
    changed: Condvar,
}

struct Plan {
    decide: Decide,
    counts: HashMap<String, Count>,
    /// The pages that endless listings repeat, by their prefix.
    pages: HashMap<String, String>,
}

/// The mark of a token that only this proxy can continue.
const ENDLESS: &str = "endless-";

impl Proxy {
    /// A proxy that lets everything through.
    pub fn start(upstream: &str) -> Proxy {
        let upstream = upstream.trim_start_matches("http://").parse().expect("an address");
        let plan = Plan { decide: Box::new(|_, _| Fault::Pass), counts: HashMap::new(), pages: HashMap::new() };
        let state = Arc::new(State { upstream, plan: Mutex::new(plan), changed: Condvar::new() });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("the listener's address");
        std::thread::spawn({
            let state = state.clone();
            move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || state.serve(stream));
                }
            }
        });
        Proxy { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Decides so from now on, and counts from nothing.
    pub fn decide(&self, decide: impl Fn(&str, usize) -> Fault + Send + 'static) {
        let mut plan = self.state.lock();
        plan.decide = Box::new(decide);
        plan.counts.clear();
    }

    /// What became of a prefix's requests since the last change of mind.
    pub fn count(&self, prefix: &str) -> Count {
        self.state.lock().counts.get(prefix).copied().unwrap_or_default()
    }

    /// Waits until this holds for the counts of each prefix.
    pub fn wait_for_each(&self, prefixes: &[String], patience: Duration, holds: impl Fn(Count) -> bool) {
        let deadline = Instant::now() + patience;
        let mut plan = self.state.lock();
        loop {
            let of = |prefix: &String| plan.counts.get(prefix).copied().unwrap_or_default();
            let late: Vec<&String> = prefixes.iter().filter(|prefix| !holds(of(prefix))).collect();
            if late.is_empty() {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "still not so for {late:?}: {:?}", plan.counts);
            let (changed, _) = self.state.changed.wait_timeout(plan, left).unwrap_or_else(PoisonError::into_inner);
            plan = changed;
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, prefix: &str, change: impl FnOnce(&mut Count)) {
        change(self.lock().counts.entry(prefix.to_owned()).or_default());
        self.changed.notify_all();
    }

    /// Serves one request. Every error is the end of the connection, which the client must bear.
    fn serve(&self, mut client: TcpStream) -> Option<()> {
        let head = read_head(&mut client)?;
        let target = head.split(' ').nth(1)?;
        let prefix = parameter(target, "prefix").unwrap_or_default().replace("%2F", "/");
        self.note(&prefix, |count| count.all += 1);
        if let Some(number) = parameter(target, "continuation-token").and_then(|token| token.strip_prefix(ENDLESS)) {
            let number: usize = number.parse().ok()?;
            let page = self.lock().pages.get(&prefix)?.replace("NUMBER", &(number + 1).to_string());
            return client.write_all(page.as_bytes()).ok();
        }
        let fault = {
            let mut plan = self.lock();
            let nth = plan.counts.entry(prefix.clone()).or_default().decided;
            (plan.decide)(&prefix, nth)
        };
        // Counted when it is over, so that who waits for a count finds its consequences.
        let done = self.suffer(fault, &mut client, &head, &prefix);
        self.note(&prefix, |count| {
            count.decided += 1;
            count.whole += usize::from(done == Some(true));
        });
        Some(())
    }

    /// True if the last page of a listing got through.
    fn suffer(&self, fault: Fault, client: &mut TcpStream, head: &str, prefix: &str) -> Option<bool> {
        match fault {
            Fault::Pass => {}
            Fault::Delay(time) => std::thread::sleep(time),
            Fault::Drop => return None,
            Fault::Silence => {
                let _ = client.read(&mut [0]);
                return None;
            }
            Fault::Refuse(status, code) => {
                let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as told</Message></Error>");
                client.write_all(answer(status, &body).as_bytes()).ok()?;
                return None;
            }
            Fault::DropAnswer
            | Fault::HalfAnswer
            | Fault::HalfListing
            | Fault::Malformed
            | Fault::Endless
            | Fault::EndlessEmpty => {}
        }
        let whole = self.ask(head)?;
        let (_, body) = whole.split_once("\r\n\r\n")?;
        let bytes = match fault {
            Fault::DropAnswer => return None,
            Fault::HalfAnswer => whole[..whole.floor_char_boundary(whole.len() - body.len() / 2)].to_owned(),
            Fault::HalfListing => answer(200, &body[..body.floor_char_boundary(body.len() / 2)]),
            Fault::Malformed => answer(200, &body.replacen("</Key>", "</Size>", 1)),
            Fault::Endless | Fault::EndlessEmpty => {
                let page = endless(body, fault == Fault::EndlessEmpty)?;
                let first = page.replace("NUMBER", "1");
                self.lock().pages.insert(prefix.to_owned(), page);
                first
            }
            _ => whole.clone(),
        };
        client.write_all(bytes.as_bytes()).ok()?;
        let _ = client.shutdown(Shutdown::Write);
        Some(bytes == whole && body.contains("<IsTruncated>false"))
    }

    /// The server's answer, from its first byte to its last.
    fn ask(&self, head: &str) -> Option<String> {
        let mut server = TcpStream::connect(self.upstream).ok()?;
        // No signature covers this header.
        let (line, rest) = head.split_once("\r\n")?;
        server.write_all(format!("{line}\r\nconnection: close\r\n{rest}").as_bytes()).ok()?;
        let mut answer = String::new();
        server.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}

fn parameter<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A page like this one that goes on, with `NUMBER` in place of its token's.
fn endless(body: &str, is_empty: bool) -> Option<String> {
    let (before, rest) = body.split_once("<IsTruncated>")?;
    let (_, rest) = rest.split_once("</IsTruncated>")?;
    let without = |text: &str, open: &str, close: &str| match (text.find(open), text.rfind(close)) {
        (Some(start), Some(end)) => format!("{}{}", &text[..start], &text[end + close.len()..]),
        _ => text.to_owned(),
    };
    let mut page = without(&format!("{before}{rest}"), "<NextContinuationToken>", "</NextContinuationToken>");
    if is_empty {
        page = without(&page, "<Contents>", "</Contents>");
    }
    let more = format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{ENDLESS}NUMBER</NextContinuationToken>");
    let body = page.replacen("</ListBucketResult>", &format!("{more}</ListBucketResult>"), 1);
    // Its length varies with the number: it ends where the connection does.
    Some(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"))
}
