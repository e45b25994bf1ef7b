//! A small HTTP client that gives a test control over each byte sent.

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::daemon::{Daemon, TEST_TIMEOUT};

/// The address of a web UI.
#[derive(Clone, Debug)]
pub struct At {
    /// Its address and port.
    pub address: String,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// The head's lines after the first, in lower case.
    pub headers: Vec<String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| line.split_once(':').filter(|(known, _)| *known == name).is_some();
        self.headers.iter().find(|line| of(line)).map(|line| line.split_once(':').unwrap().1.trim())
    }
}

impl At {
    /// Waits until the daemon says where its web UI is.
    pub fn of(daemon: &mut Daemon<'_>) -> At {
        let line = daemon.wait_for_log_ever("the web UI is open: http://");
        let (_, address) = line.split_once("http://").expect("an address");
        At { address: address.trim_end().trim_end_matches('/').to_owned() }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the web UI answers");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a timeout");
        stream
    }

    /// Sends a request and reads the response; headers are whole lines.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        let mut stream = self.connect();
        let host = if headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        write!(stream, "{method} {path} HTTP/1.1\r\n{host}{more}{length}Connection: close\r\n\r\n{body}").expect("a request");
        read_response(stream)
    }

    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], "")
    }

    pub fn json(&self, path: &str) -> Value {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    pub fn post(&self, path: &str, token: &str, body: &str) -> Response {
        self.send("POST", path, &[&format!("Authorization: Bearer {token}")], body)
    }

    /// Opens a stream of server-sent events.
    pub fn events(&self, path: &str) -> Events {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).expect("a request");
        let mut lines = BufReader::new(stream);
        let mut first = String::new();
        lines.read_line(&mut first).expect("a response");
        assert!(first.contains(" 200 "), "{first}");
        Events { lines }
    }
}

pub fn read_response(stream: impl Read) -> Response {
    let mut bytes = Vec::new();
    let mut stream = stream;
    // A peer that hangs up early has said what it says.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok()).unwrap_or(0);
    let lower = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    };
    let headers: Vec<String> = lines.map(lower).collect();
    let chunked = headers.iter().any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked"));
    Response { status, headers, body: if chunked { unchunk(&body) } else { body } }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap_or("0").trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size).unwrap_or_default());
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

/// A stream of server-sent events. Each part that the daemon sends is one event, so lines of the chunked encoding are
/// lines of their own.
pub struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    /// The next event that is no comment: its name and its data.
    pub fn next(&mut self) -> Option<(String, Value)> {
        let mut name = "message".to_owned();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("a line in time") == 0 {
                return None;
            }
            if let Some(word) = line.strip_prefix("event: ") {
                name = word.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).expect("JSON")));
            }
        }
    }

    /// Waits for the comment at the start of a stream: it contains all events from now on.
    pub fn wait_for_begin(&mut self) {
        let mut line = String::new();
        while !line.starts_with(": ") {
            line.clear();
            assert!(self.lines.read_line(&mut line).expect("a line in time") > 0, "the stream ended");
        }
    }

    /// Waits for an event for which `is` holds.
    pub fn wait(&mut self, what: &str, is: impl Fn(&str, &Value) -> bool) -> Value {
        while let Some((name, data)) = self.next() {
            if is(&name, &data) {
                return data;
            }
        }
        panic!("{what} never came");
    }
}
