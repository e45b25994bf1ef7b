//! An SQS server in the test process: one queue, in JSON over HTTP on loopback.
//!
//! A received message stays hidden until the test [brings it back](SqsServer::bring_back), or for a time that the test sets,
//! whatever the client asks for; the requests are recorded.

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a test waits for something before it is called stuck.
const STUCK: Duration = Duration::from_secs(60);

/// A message as the server keeps it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub body: String,
    /// How often it was received.
    pub received: usize,
    /// What the client asked for: how long to hide it, each time.
    pub hidden_for: Vec<i64>,
    hidden_until: Option<Instant>,
}

#[derive(Default)]
struct State {
    /// By number, which is the id's end.
    messages: BTreeMap<usize, Kept>,
    sent: usize,
    deleted: Vec<String>,
    /// How often each action was asked for.
    asked: BTreeMap<String, usize>,
    /// Requests for messages that wait now.
    waiting: usize,
    /// The next answers to an action: status, code, words.
    refusals: BTreeMap<String, VecDeque<(u16, String, String)>>,
    /// How long a message is hidden once it was received.
    hides: Option<Duration>,
    /// Requests for messages never wait.
    hasty: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server, until the test process ends.
#[derive(Clone)]
pub struct SqsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl SqsServer {
    pub fn start() -> SqsServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("the listener's address");
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let server = SqsServer { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        server
    }

    /// The URL of its queue.
    pub fn queue(&self) -> String {
        format!("http://{}/123456789012/inbox", self.address)
    }

    /// The variables by which a process may use it.
    pub fn env(&self) -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", "AKIAFIRELINKTEST"), ("AWS_SECRET_ACCESS_KEY", "a secret")]
    }

    /// Puts a message into the queue; answers its id.
    pub fn send(&self, body: &str) -> String {
        let mut state = self.shared.lock();
        state.sent += 1;
        let number = state.sent;
        let kept = Kept { body: body.to_owned(), received: 0, hidden_for: Vec::new(), hidden_until: None };
        state.messages.insert(number, kept);
        self.shared.changed.notify_all();
        id_of(number)
    }

    /// Shows everything that is hidden, as if its time were up.
    pub fn bring_back(&self) {
        self.shared.lock().messages.values_mut().for_each(|kept| kept.hidden_until = None);
        self.shared.changed.notify_all();
    }

    /// From now on what is received is hidden for so long.
    pub fn hide_for(&self, time: Duration) {
        self.shared.lock().hides = Some(time);
    }

    /// From now on nothing waits for messages.
    pub fn answer_at_once(&self) {
        self.shared.lock().hasty = true;
        self.shared.changed.notify_all();
    }

    /// Has the next request for an action refused.
    pub fn refuse(&self, action: &str, status: u16, code: &str, words: &str) {
        let refusal = (status, code.to_owned(), words.to_owned());
        self.shared.lock().refusals.entry(action.to_owned()).or_default().push_back(refusal);
        self.shared.changed.notify_all();
    }

    /// The ids of what was deleted, in that order.
    pub fn deleted(&self) -> Vec<String> {
        self.shared.lock().deleted.clone()
    }

    /// A message that is in the queue, hidden or not.
    pub fn kept(&self, id: &str) -> Option<Kept> {
        self.shared.lock().messages.iter().find(|(number, _)| id_of(**number) == id).map(|(_, kept)| kept.clone())
    }

    /// True if no message is in the queue, hidden or not.
    pub fn is_empty(&self) -> bool {
        self.shared.lock().messages.is_empty()
    }

    /// How often an action was asked for.
    pub fn asked(&self, action: &str) -> usize {
        self.shared.lock().asked.get(action).copied().unwrap_or(0)
    }

    /// Waits until this holds, which is looked at after each request.
    pub fn wait(&self, what: &str, mut holds: impl FnMut(&SqsServer) -> bool) {
        let deadline = Instant::now() + STUCK;
        while !holds(self) {
            let now = Instant::now();
            assert!(now < deadline, "{what} never came; deleted {:?}", self.deleted());
            // A change may fall between the look and the wait: a short wait costs nothing but another look.
            let wait = (deadline - now).min(Duration::from_millis(50));
            drop(self.shared.changed.wait_timeout(self.shared.lock(), wait));
        }
    }

    /// Waits until a client waits for messages.
    pub fn wait_for_client(&self) {
        self.wait("a request for messages", |server| server.shared.lock().waiting > 0);
    }
}

fn id_of(number: usize) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

/// Requests on one connection, until it closes.
fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some((action, body)) = read_request(&mut reader) {
        let (status, answer) = shared.answer(&action, &body);
        let text = answer.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n", text.len());
        shared.changed.notify_all();
        let mut stream = stream;
        if stream.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<(String, Value)> {
    let (mut action, mut length) = (String::new(), 0);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "x-amz-target" => action = value.trim().trim_start_matches("AmazonSQS.").to_owned(),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((action, serde_json::from_slice(&body).ok()?))
}

impl Shared {
    fn answer(&self, action: &str, body: &Value) -> (u16, Value) {
        let mut state = self.lock();
        *state.asked.entry(action.to_owned()).or_default() += 1;
        if action == "ReceiveMessage" {
            drop(state);
            return self.receive(body);
        }
        if let Some(refusal) = state.refusal(action) {
            return refusal;
        }
        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let done = match action {
                "DeleteMessageBatch" => state.delete(&entry["ReceiptHandle"]),
                "ChangeMessageVisibilityBatch" => state.hide(&entry["ReceiptHandle"], &entry["VisibilityTimeout"]),
                _ => false,
            };
            if done {
                successful.push(json!({ "Id": entry["Id"] }));
            } else {
                failed.push(json!({ "Id": entry["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": true }));
            }
        }
        (200, json!({ "Successful": successful, "Failed": failed }))
    }

    /// Waits as long as it is asked to, or until there is something.
    fn receive(&self, body: &Value) -> (u16, Value) {
        let number = |name: &str| body[name].as_u64().unwrap_or(0);
        let deadline = Instant::now() + Duration::from_secs(number("WaitTimeSeconds"));
        let most = usize::try_from(number("MaxNumberOfMessages")).unwrap_or(1);
        let hidden_for = body["VisibilityTimeout"].as_i64();
        let mut state = self.lock();
        loop {
            if let Some(refusal) = state.refusal("ReceiveMessage") {
                return refusal;
            }
            let messages = state.take(most, hidden_for);
            let now = Instant::now();
            if !messages.is_empty() || now >= deadline || state.hasty {
                return (200, json!({ "Messages": messages }));
            }
            state.waiting += 1;
            self.changed.notify_all();
            // Hidden messages come back by the clock.
            let wait = (deadline - now).min(Duration::from_millis(50));
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }
}

impl State {
    fn refusal(&mut self, action: &str) -> Option<(u16, Value)> {
        let (status, code, words) = self.refusals.get_mut(action)?.pop_front()?;
        Some((status, json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": words })))
    }

    fn take(&mut self, most: usize, hidden_for: Option<i64>) -> Vec<Value> {
        let now = Instant::now();
        let until = now + self.hides.unwrap_or(Duration::from_secs(86_400));
        let visible = self.messages.iter_mut().filter(|(_, kept)| kept.hidden_until.is_none_or(|until| until <= now));
        let taken = visible.take(most).map(|(number, kept)| {
            kept.received += 1;
            kept.hidden_for.extend(hidden_for);
            kept.hidden_until = Some(until);
            let receipt = format!("{number}/{}", kept.received);
            json!({ "MessageId": id_of(*number), "ReceiptHandle": receipt, "Body": kept.body })
        });
        taken.collect()
    }

    /// The message of a receipt, if it is the latest one.
    fn of_receipt(&self, receipt: &Value) -> Option<usize> {
        let (number, received) = receipt.as_str()?.split_once('/')?;
        let number = number.parse().ok()?;
        self.messages.get(&number).filter(|kept| kept.received.to_string() == received).map(|_| number)
    }

    fn delete(&mut self, receipt: &Value) -> bool {
        let Some(number) = self.of_receipt(receipt) else { return false };
        self.messages.remove(&number);
        self.deleted.push(id_of(number));
        true
    }

    fn hide(&mut self, receipt: &Value, seconds: &Value) -> bool {
        let Some(number) = self.of_receipt(receipt) else { return false };
        self.messages.get_mut(&number).is_some_and(|kept| {
            kept.hidden_for.extend(seconds.as_i64());
            true
        })
    }
}
