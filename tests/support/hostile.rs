//! An HTTP server with scripted answers, valid or not, that checks nothing.

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::s3::url_encode;

/// What becomes of one request. Each is answered on a connection of its own.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer.
    Whole { status: u16, headers: Vec<(String, String)>, body: String },
    /// An answer whose head promises more bytes than come.
    Cut { body: String, sent: usize },
    /// An answer without a length, which ends where the connection does.
    UntilClose { body: String },
    /// A whole answer that comes byte by byte.
    Dribble { body: String },
    /// An answer of which a little comes again and again, and never the rest.
    Trickle { body: String },
    /// Bytes that are no HTTP.
    Raw(Vec<u8>),
    /// The connection is closed at once.
    Hangup,
    /// Nothing, until the client gives up.
    Silence,
}

impl Reply {
    pub fn ok(body: String) -> Reply {
        Reply::Whole { status: 200, headers: Vec::new(), body }
    }

    /// A refusal as S3 words it.
    pub fn refusal(status: u16, code: &str) -> Reply {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as told</Message></Error>");
        Reply::Whole { status, headers: Vec::new(), body }
    }
}

/// A page of a listing in S3's XML: keys with their etags, and the token if it goes on.
pub fn listing(objects: &[(&str, &str)], next: Option<&str>) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>box</Name>");
    xml += &format!("<EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>", next.is_some());
    if let Some(token) = next {
        xml += &format!("<NextContinuationToken>{token}</NextContinuationToken>");
    }
    for (key, etag) in objects {
        let key = url_encode(key);
        xml += &format!("<Contents><Key>{key}</Key><Size>1</Size><ETag>&quot;{etag}&quot;</ETag>");
        xml += "<LastModified>2024-05-01T12:00:00.000Z</LastModified></Contents>";
    }
    xml + "</ListBucketResult>"
}

/// A server, until the test process ends.
pub struct Hostile {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

struct Script {
    replies: VecDeque<Reply>,
    /// The answers for targets that begin so; the last one of each stays.
    routes: Vec<(String, VecDeque<Reply>)>,
    /// The answer when there are no others.
    rest: Reply,
    /// The head of each request.
    heads: Vec<String>,
}

impl Script {
    fn next_for(&mut self, target: &str) -> Reply {
        let fits = |(start, _): &&mut (String, _)| target.starts_with(start.as_str());
        if let Some((_, replies)) = self.routes.iter_mut().filter(fits).max_by_key(|(start, _)| start.len()) {
            let reply = if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() };
            return reply.expect("a route has an answer");
        }
        self.replies.pop_front().unwrap_or_else(|| self.rest.clone())
    }
}

impl Hostile {
    /// A server that gives these answers in their order, then an empty listing.
    pub fn start(replies: impl IntoIterator<Item = Reply>) -> Hostile {
        Hostile::start_with(replies, None)
    }

    /// The same over TLS, with this server's certificate.
    pub fn start_tls(replies: impl IntoIterator<Item = Reply>, tls: Arc<ServerConfig>) -> Hostile {
        Hostile::start_with(replies, Some(tls))
    }

    fn start_with(replies: impl IntoIterator<Item = Reply>, tls: Option<Arc<ServerConfig>>) -> Hostile {
        let rest = Reply::ok(listing(&[], None));
        let script = Script { replies: replies.into_iter().collect(), routes: Vec::new(), rest, heads: Vec::new() };
        let script = Arc::new(Mutex::new(script));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("the listener's address");
        std::thread::spawn({
            let script = script.clone();
            move || {
                for stream in listener.incoming().flatten() {
                    let script = script.clone();
                    let tls = tls.clone();
                    std::thread::spawn(move || match tls {
                        None => answer(stream, &script),
                        Some(tls) => {
                            let session = ServerConnection::new(tls).expect("a TLS session");
                            answer(StreamOwned::new(session, stream), &script);
                        }
                    });
                }
            }
        });
        Hostile { address, script }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn host_and_port(&self) -> String {
        self.address.to_string()
    }

    pub fn then(&self, reply: Reply) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).replies.push_back(reply);
    }

    /// Answers everything else so from now on.
    pub fn otherwise(&self, reply: Reply) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).rest = reply;
    }

    /// Answers requests for targets that begin so, in this order; the last answer stays.
    pub fn at(&self, target: &str, replies: impl IntoIterator<Item = Reply>) {
        let route = (target.to_owned(), replies.into_iter().collect());
        self.script.lock().unwrap_or_else(PoisonError::into_inner).routes.push(route);
    }

    /// The request lines so far.
    pub fn requests(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }

    /// The heads of the requests so far, each with its header lines.
    pub fn heads(&self) -> Vec<String> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).heads.clone()
    }
}

fn answer(stream: impl Read + Write, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match reader.read_line(&mut head) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let reply = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        script.heads.push(head);
        script.next_for(&target)
    };
    let mut stream = reader.into_inner();
    // The client may be gone by now, which is its right.
    let done = match reply {
        Reply::Whole { status, headers, body } => {
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
            stream.write_all((head + &body).as_bytes())
        }
        Reply::Cut { body, sent } => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body[..sent]).as_bytes())
        }
        Reply::UntilClose { body } => stream.write_all(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}").as_bytes()),
        Reply::Dribble { body } => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            (head + &body).bytes().try_for_each(|byte| stream.write_all(&[byte]))
        }
        Reply::Trickle { body } => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() * 1_000);
            let endless = body.bytes().cycle();
            stream.write_all(head.as_bytes()).and_then(|()| {
                endless.map(|byte| [byte]).try_for_each(|byte| {
                    std::thread::sleep(Duration::from_millis(50));
                    stream.write_all(&byte).and_then(|()| stream.flush())
                })
            })
        }
        Reply::Raw(bytes) => stream.write_all(&bytes),
        Reply::Hangup => Ok(()),
        Reply::Silence => stream.read(&mut [0]).map(|_| ()),
    };
    let _ = done.and_then(|()| stream.flush());
}
