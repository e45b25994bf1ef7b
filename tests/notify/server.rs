//! A server on loopback that hands each request to the test, and answers with the bytes that the test gives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::daemon::TEST_TIMEOUT;

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
    stream: Box<dyn Stream>,
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A file of `tests/data/tls`.
pub fn tls(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(file)
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a-secret-path", listener.local_addr().unwrap());
        Server { url, calls: serve(listener, |stream| Some(Box::new(stream))) }
    }

    /// A server that speaks TLS. `ca.pem` vouches for the certificate `server`, for `localhost` and `127.0.0.1`; the others
    /// vouch for themselves.
    pub fn start_tls(certificate: &str) -> Server {
        let server = Server::start_tls_at("127.0.0.1", certificate);
        Server { url: server.url.replacen("127.0.0.1", "localhost", 1), ..server }
    }

    pub fn start_tls_at(host: &str, certificate: &str) -> Server {
        let key = PrivateKeyDer::from_pem_file(tls(&format!("{certificate}.key"))).unwrap();
        let certificate = CertificateDer::from_pem_file(tls(&format!("{certificate}.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        let listener = TcpListener::bind((host, 0)).unwrap();
        let url = format!("https://{}/a-secret-path", listener.local_addr().unwrap());
        let speak = move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(Box::new(StreamOwned::new(session, stream)) as Box<dyn Stream>)
        };
        Server { url, calls: serve(listener, speak) }
    }

    /// Its host and port.
    pub fn authority(&self) -> &str {
        self.url.split('/').nth(2).unwrap()
    }

    /// The next request, whatever it is answered with.
    pub fn call(&self) -> Call {
        self.calls.recv_timeout(TEST_TIMEOUT).expect("nobody called")
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

fn serve(listener: TcpListener, speak: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + 'static) -> Receiver<Call> {
    let (send, calls) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok).filter_map(speak) {
            let send = send.clone();
            std::thread::spawn(move || read(stream).map(|call| send.send(call)));
        }
    });
    calls
}

fn read(stream: Box<dyn Stream>) -> Option<Call> {
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
