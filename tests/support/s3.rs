//! An S3 server in the test process: objects in memory, real HTTP on loopback, signatures checked.
//!
//! It stores little more than a listing needs, so that a bucket of 100,000 objects is created quickly. Every request must have
//! a valid signature by [`ACCESS_KEY`] and [`SECRET_KEY`].

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use futures::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connections;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    CreateBucketInput, CreateBucketOutput, DeleteObjectInput, DeleteObjectOutput, ETag, EncodingType, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput,
    PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The id of the one access key that the server knows.
pub const ACCESS_KEY: &str = "AKIAFIRELINKTEST";
/// Its secret.
pub const SECRET_KEY: &str = "a secret for tests/of+firelink";

/// A server, until it is dropped.
pub struct S3Server {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    buckets: Mutex<BTreeMap<String, BTreeMap<String, Stored>>>,
    requests: AtomicUsize,
    listings: AtomicUsize,
    connections: AtomicUsize,
}

#[derive(Clone)]
struct Stored {
    body: Vec<u8>,
    etag: String,
    modified: SystemTime,
}

impl S3Server {
    /// Starts a server with one empty bucket.
    pub fn start(bucket: &str) -> S3Server {
        S3Server::start_at("127.0.0.1:0", bucket)
    }

    /// Starts a server at an address of one's choice.
    pub fn start_at(address: &str, bucket: &str) -> S3Server {
        let state = Arc::new(State::default());
        state.lock().insert(bucket.to_owned(), BTreeMap::new());
        let listener = std::net::TcpListener::bind(address).expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the listener's address");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let state = state.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    futures::future::select(Box::pin(serve(listener, state)), stopped).await;
                });
            }
        });
        S3Server { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// For `AWS_ENDPOINT_URL` or `endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The variables by which a process finds the server and may use it.
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Puts an object without a request.
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        self.state.put(bucket, key, body.to_vec()).expect("a bucket that exists");
    }

    /// Puts many objects without a request.
    pub fn put_all(&self, bucket: &str, keys: impl Iterator<Item = String>) {
        for key in keys {
            self.put(bucket, &key, b"x");
        }
    }

    /// Removes an object without a request; true if it was there.
    pub fn delete(&self, bucket: &str, key: &str) -> bool {
        self.state.lock().get_mut(bucket).is_some_and(|objects| objects.remove(key).is_some())
    }

    /// Makes another bucket.
    pub fn add_bucket(&self, bucket: &str) {
        self.state.lock().entry(bucket.to_owned()).or_default();
    }

    /// The etag that an object has in listings, without quotes.
    pub fn etag(&self, bucket: &str, key: &str) -> Option<String> {
        Some(self.state.lock().get(bucket)?.get(key)?.etag.clone())
    }

    /// Requests so far, of any kind, whose signature was right.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Pages listed so far.
    pub fn listings(&self) -> usize {
        self.state.listings.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).expect("a listener for tokio");
    let service = {
        let mut builder = S3ServiceBuilder::new(Service(state.clone()));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        builder.build()
    };
    while let Ok((socket, _)) = listener.accept().await {
        let (service, state) = (service.clone(), state.clone());
        tokio::spawn(async move {
            state.connections.fetch_add(1, Ordering::SeqCst);
            let _ = Connections::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
            state.connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Stored>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the etag, or nothing if there is no such bucket.
    fn put(&self, bucket: &str, key: &str, body: Vec<u8>) -> Option<String> {
        let etag = etag_of(&body);
        let stored = Stored { body, etag: etag.clone(), modified: SystemTime::now() };
        self.lock().get_mut(bucket)?.insert(key.to_owned(), stored);
        Some(etag)
    }

    fn get(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        let buckets = self.lock();
        let objects = buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}

/// The same for the same content, as an MD5 is: FNV-1a in 128 bits.
fn etag_of(body: &[u8]) -> String {
    let hash = body.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}

/// `encoding-type=url` as AWS does it: everything but unreserved characters and `/`, with a `+` for a space.
pub fn url_encode(key: &str) -> String {
    let mut text = String::new();
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => text.push(char::from(byte)),
            b' ' => text.push('+'),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// Continuation tokens are opaque: here the last key of the page, as hex.
fn to_token(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn from_token(token: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> =
        token.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

struct Service(Arc<State>);

#[async_trait::async_trait]
impl S3 for Service {
    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        self.0.listings.fetch_add(1, Ordering::SeqCst);
        let input = request.input;
        let buckets = self.0.lock();
        let objects = buckets.get(&input.bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let token = match &input.continuation_token {
            Some(token) => Some(from_token(token).ok_or_else(|| s3_error!(InvalidArgument))?),
            None => None,
        };
        let limit = usize::try_from(input.max_keys.unwrap_or(1000).clamp(0, 1000)).unwrap_or(0);
        let after = match token.or(input.start_after) {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(prefix.clone()),
        };
        let is_url = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
        let mut matching = objects.range((after, Bound::Unbounded)).filter(|(key, _)| key.starts_with(&prefix));
        let mut contents = Vec::new();
        let mut last = None;
        for (key, stored) in matching.by_ref().take(limit) {
            last = Some(key);
            contents.push(Object {
                key: Some(if is_url { url_encode(key) } else { key.clone() }),
                size: i64::try_from(stored.body.len()).ok(),
                e_tag: Some(ETag::Strong(stored.etag.clone())),
                last_modified: Some(Timestamp::from(stored.modified)),
                ..Object::default()
            });
        }
        let is_truncated = limit > 0 && matching.next().is_some();
        let output = ListObjectsV2Output {
            name: Some(input.bucket.clone()),
            prefix: Some(prefix),
            max_keys: input.max_keys,
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(is_truncated),
            next_continuation_token: last.filter(|_| is_truncated).map(|key| to_token(key)),
            encoding_type: input.encoding_type,
            contents: Some(contents),
            ..ListObjectsV2Output::default()
        };
        Ok(S3Response::new(output))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        let input = request.input;
        let mut body = Vec::new();
        if let Some(mut stream) = input.body {
            while let Some(part) = stream.next().await {
                body.extend_from_slice(&part.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        let etag = self.0.put(&input.bucket, &input.key, body).ok_or_else(|| s3_error!(NoSuchBucket))?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        let stored = self.0.get(&request.input.bucket, &request.input.key)?;
        let output = GetObjectOutput {
            content_length: i64::try_from(stored.body.len()).ok(),
            e_tag: Some(ETag::Strong(stored.etag)),
            body: Some(StreamingBlob::from(s3s::Body::from(stored.body))),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        if let Some(objects) = self.0.lock().get_mut(&request.input.bucket) {
            objects.remove(&request.input.key);
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        self.0.lock().entry(request.input.bucket).or_default();
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        if !self.0.lock().contains_key(&request.input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        Ok(S3Response::new(HeadBucketOutput::default()))
    }
}
