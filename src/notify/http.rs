//! An HTTP call: through the proxies of the environment, over TLS with the system's root certificates, reading a bounded
//! amount of the answer.
//!
//! One connection per call: calls are rare, and an idle connection would cost memory and wake-ups.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::service::TowerToHyperService;

/// Limits on the head of an answer: its bytes and its headers.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 100;

/// Limits on reading a body, which is discarded: a server whose answer is not read would see a reset connection.
const MAX_BODY: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

type Direct = HttpsConnector<HttpConnector>;

/// Makes calls. The root certificates are read at the first call that needs them.
pub(super) struct Client {
    proxies: Matcher,
    direct: Mutex<Option<Direct>>,
}

/// A request.
pub(super) struct Outgoing {
    pub uri: Uri,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A JSON body to POST; `None`: GET.
    pub body: Option<String>,
}

/// The part of the answer that matters.
pub(super) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
}

/// Aborts the connection's task when the call ends.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    pub fn new() -> Client {
        Client { proxies: proxies(), direct: Mutex::new(None) }
    }

    /// Reads the root certificates again at the next call.
    pub fn reload_roots(&self) {
        self.direct.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Makes a call. An error never contains the URL, except for the proxy's.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Answer, String> {
        let uri = outgoing.uri.clone();
        let proxy = self.proxies.intercept(&uri);
        if proxy.as_ref().is_some_and(|proxy| proxy.uri().scheme_str() != Some("http")) {
            return Err("the proxy of the environment is not an http:// URL".into());
        }
        let plain = TowerToHyperService::new(HttpConnector::new());
        match (uri.scheme_str(), proxy) {
            (Some("https"), None) => {
                let direct = self.direct().await?;
                exchange(TowerToHyperService::new(direct).call(uri).await.map_err(error_chain)?, request(outgoing, None)?).await
            }
            (Some("https"), Some(proxy)) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpConnector::new());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let tunnel = wrap(tunnel).await?;
                exchange(TowerToHyperService::new(tunnel).call(uri).await.map_err(error_chain)?, request(outgoing, None)?).await
            }
            (_, None) => exchange(plain.call(uri).await.map_err(error_chain)?, request(outgoing, None)?).await,
            (_, Some(proxy)) => {
                let stream = plain.call(proxy.uri().clone()).await.map_err(error_chain)?;
                exchange(stream, request(outgoing, Some(&proxy))?).await
            }
        }
    }

    async fn direct(&self) -> Result<Direct, String> {
        let known = self.direct.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(direct) = known {
            return Ok(direct);
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let direct = wrap(http).await?;
        *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = Some(direct.clone());
        Ok(direct)
    }
}

/// The proxies of the environment, as curl(1) reads it. The matcher's own reading lets an empty variable hide its other
/// spelling, and applies `*` to host names only.
fn proxies() -> Matcher {
    let read = |names: [&str; 2]| {
        let mut values = names.into_iter().filter_map(|name| std::env::var(name).ok());
        values.find(|value| !value.is_empty()).unwrap_or_default()
    };
    let exceptions = read(["NO_PROXY", "no_proxy"]);
    if exceptions.split(',').any(|host| host.trim() == "*") {
        return Matcher::builder().build();
    }
    let proxies = Matcher::builder().all(read(["ALL_PROXY", "all_proxy"])).http(read(["HTTP_PROXY", "http_proxy"]));
    proxies.https(read(["HTTPS_PROXY", "https_proxy"])).no(exceptions).build()
}

/// Wraps a connector in TLS. Reading the root certificates takes milliseconds of disk I/O, so it is done on a blocking thread.
async fn wrap<H: Send + 'static>(inner: H) -> Result<HttpsConnector<H>, String> {
    let read = tokio::task::spawn_blocking(move || {
        let roots = HttpsConnectorBuilder::new().with_native_roots();
        roots.map(|builder| builder.https_or_http().enable_http1().wrap_connector(inner))
    });
    let unreadable = |error: &dyn std::fmt::Display| format!("the system's certificates can't be read: {error}");
    read.await.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))
}

/// The request as sent: with the absolute URL to a proxy, else with the path.
fn request(outgoing: Outgoing, proxy: Option<&Intercept>) -> Result<Request<Full<Bytes>>, String> {
    let Outgoing { uri, headers, body } = outgoing;
    let host = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder().method(method).header(HOST, host).header(CONNECTION, "close");
    request = request.header(USER_AGENT, concat!("firelink/", env!("CARGO_PKG_VERSION")));
    request = if proxy.is_some() { request.uri(uri) } else { request.uri(path) };
    if let Some(auth) = proxy.and_then(Intercept::basic_auth) {
        debug_assert!(!headers.iter().any(|(name, _)| *name == AUTHORIZATION));
        request = request.header(PROXY_AUTHORIZATION, auth);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|_| "the URL is not valid".to_owned())
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let shake = http1::Builder::new().max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS).handshake(stream).await;
    let (mut sender, connection) = shake.map_err(error_chain)?;
    let _driver = Driver(tokio::spawn(async move {
        // The sender gets the same error.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(error_chain)?;
    let answer = Answer { status: response.status(), retry_after: retry_after(&response) };
    let _ = tokio::time::timeout(BODY_TIMEOUT, drain(response)).await;
    Ok(answer)
}

async fn drain(mut response: Response<Incoming>) {
    let mut read = 0;
    while let Some(Ok(frame)) = response.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_BODY {
            break;
        }
    }
}

/// `Retry-After`, a number of seconds or a date.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    (at.to_utc() - chrono::Utc::now()).to_std().ok()
}

/// An error with its causes.
fn error_chain(error: impl Into<Box<dyn Error + Send + Sync>>) -> String {
    let error = error.into();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}
