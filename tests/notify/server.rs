//! A server on loopback that hands each request to the test, and answers with the bytes that the test gives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

use crate::daemon::PATIENCE;

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

pub struct Server {
    pub url: String,
    calls: Receiver<Call>,
}

/// A request, read to its end; its connection is held until this is dropped.
pub struct Call {
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    stream: TcpStream,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a-secret-path", listener.local_addr().unwrap());
        let (send, calls) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let send = send.clone();
                std::thread::spawn(move || read(stream).map(|call| send.send(call)));
            }
        });
        Server { url, calls }
    }

    /// The next request, whatever it is answered with.
    pub fn call(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("nobody called")
    }

    /// The next request, taken.
    pub fn take(&self) -> Call {
        let mut call = self.call();
        call.answer(OK);
        call
    }

    /// The next request within this time.
    pub fn within(&self, time: Duration) -> Result<Call, RecvTimeoutError> {
        self.calls.recv_timeout(time)
    }
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn answer(&mut self, bytes: &[u8]) {
        // The other side may be gone.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends the same until the other side has enough.
    pub fn answer_endlessly(&mut self, bytes: &[u8]) {
        while self.stream.write_all(bytes).is_ok() {}
    }
}

fn read(stream: TcpStream) -> Option<Call> {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line.trim_end().to_owned())
    };
    let line = next()?;
    let mut headers = Vec::new();
    loop {
        let header = next()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Call { line, headers, body, stream: reader.into_inner() })
}
