//! Access control.
//!
//! * The `Host` must be a name of this machine or an allowed one: a page of another site can have its own name resolve to
//!   127.0.0.1 (DNS rebinding), but the browser still sends that name.
//! * A request that changes something must come from a page of the web UI or from no browser, and carry the token. Over a
//!   Unix socket, which only the daemon's user and root can open, no token is needed.
//! * If the address is not a loopback one, reading needs the token too.
//!
//! There are no cookies, so no page of another site can make a browser send the token.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Problem;
use super::settings::Settings;
use super::{LONGEST_SHOWN, Shared};
use crate::text::clipped;

/// Scripts and styles from the web UI's own files alone, no other hosts, no framing.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Passes a request on to its handler, or refuses it and logs that.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let checked = check(&shared.settings, &request);
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            shared.refusals.log(request.method(), request.uri().path(), &problem);
            problem.into_response()
        }
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn check(settings: &Settings, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let host = check_host(settings, request)?;
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes {
        check_origin(headers, host)?;
    }
    let Some(address) = settings.address else { return Ok(()) };
    let open = address.is_loopback() || is_public(request.uri().path());
    if !changes && open {
        return Ok(());
    }
    let Some(token) = &settings.token else {
        let error = "changes over TCP need a token, and none is configured; set `web: {token_file: PATH}`";
        return Err(Problem::new(StatusCode::FORBIDDEN, "no_token_configured", error));
    };
    match bearer(headers) {
        Some(given) if same(given, token) => Ok(()),
        Some(_) => Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", "wrong token")),
        None => {
            let error = "a token is needed: `Authorization: Bearer TOKEN`";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "token_needed", error))
        }
    }
}

/// True for what needs no token anywhere: static files, which hold no data, and the health checks.
fn is_public(path: &str) -> bool {
    !path.starts_with("/api/") && path != "/metrics"
}

/// The `Host` of the request, if it is a name of this daemon.
fn check_host<'r>(settings: &Settings, request: &'r Request) -> Result<&'r str, Problem> {
    let refused = |error: String| Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", error);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| refused("the `Host` of the request is not ASCII".into()))?,
        _ => return Err(refused("a request must have exactly one `Host`".into())),
    };
    if let Some(authority) = request.uri().authority()
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err(refused("the request names two hosts".into()));
    }
    if is_own_name(settings, host) {
        return Ok(host);
    }
    let shown = clipped(host, LONGEST_SHOWN);
    Err(refused(format!("`{shown}` is not a name of this daemon; if it should be, add it to `web: {{allowed_hosts: [...]}}`")))
}

fn is_own_name(settings: &Settings, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    if name == "localhost" || settings.allowed_hosts.contains(&name) {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    let Ok(ip) = bare.parse::<IpAddr>() else { return false };
    // DNS rebinding needs a name: in the URL of an address, `Host` is that address.
    ip.is_loopback() || settings.address.is_some_and(|own| own == ip || own.is_unspecified())
}

/// Refuses requests from pages of other sites. Browsers send these headers, and no page can forge them; other clients send
/// none.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let foreign = |what: &str| {
        let error = format!("requests from pages of other sites are refused ({what})");
        Problem::new(StatusCode::FORBIDDEN, "other_origin", error)
    };
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return Err(foreign("Sec-Fetch-Site"));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let own = origin
            .split_once("://")
            .is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest.eq_ignore_ascii_case(host));
        if !own {
            return Err(foreign("Origin"));
        }
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in constant time.
fn same(given: &str, token: &str) -> bool {
    let differ = given.bytes().zip(token.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == token.len() && std::hint::black_box(differ) == 0
}

/// Logs refused requests, rate limited.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When the current period began, and the number of refusals in it.
    period: Mutex<Option<(Instant, u32)>>,
}

impl Refusals {
    const PERIOD: Duration = Duration::from_secs(60);
    const MAX_LINES: u32 = 20;

    pub fn log(&self, method: &Method, path: &str, problem: &Problem) {
        let Ok(mut period) = self.period.lock() else { return };
        let (since, count) = period.take().filter(|(since, _)| since.elapsed() < Self::PERIOD).unwrap_or((Instant::now(), 0));
        *period = Some((since, count.saturating_add(1)));
        if count < Self::MAX_LINES {
            log::warn!("the web UI refused {method} {}: {}", clipped(path, LONGEST_SHOWN), problem.error);
        } else if count == Self::MAX_LINES {
            log::warn!("the web UI refuses more requests; suppressing further messages of this kind for 60 s");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    const TOKEN: &str = "0123456789abcdef";

    fn settings(address: Option<&str>, token: bool) -> Settings {
        Settings {
            address: address.map(|address| address.parse().unwrap()),
            token: token.then(|| TOKEN.to_owned()),
            allowed_hosts: vec!["box.example".into()],
            state_dir: "/".into(),
            zone: crate::cron::Zone::utc(),
        }
    }

    fn refusal(settings: &Settings, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(settings, &request.body(Body::empty()).unwrap()).err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn requests_to_other_host_names_are_refused() {
        let local = settings(Some("127.0.0.1"), false);
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:80", "Box.Example:443"] {
            assert_eq!(refusal(&local, "GET", "/", &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "192.0.2.1", "[::1", "", "127.0.0.1.evil.example:8080"] {
            assert_eq!(refusal(&local, "GET", "/", &[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(refusal(&local, "GET", "/", &[]), Some(421));
        assert_eq!(refusal(&local, "GET", "/", &[("host", "localhost"), ("host", "localhost")]), Some(421));
        assert_eq!(refusal(&local, "GET", "http://evil.example/", &[("host", "localhost")]), Some(421));
        let everywhere = settings(Some("0.0.0.0"), true);
        assert_eq!(refusal(&everywhere, "GET", "/", &[("host", "192.0.2.1:8080")]), None);
        assert_eq!(refusal(&everywhere, "GET", "/", &[("host", "evil.example")]), Some(421));
    }

    #[test]
    fn changes_from_pages_of_other_sites_are_refused() {
        let socket = settings(None, false);
        let post = |headers: &[(&str, &str)]| {
            refusal(&socket, "POST", "/api/v1/jobs/a/trigger", &[&[("host", "localhost:8080")], headers].concat())
        };
        assert_eq!(post(&[]), None, "clients other than browsers send no origin");
        assert_eq!(post(&[("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(post(&[("origin", "https://localhost:8080")]), None, "behind a proxy");
        for origin in
            ["http://evil.example", "null", "http://localhost", "http://localhost:8080.evil.example", "file://localhost:8080"]
        {
            assert_eq!(post(&[("origin", origin)]), Some(403), "{origin}");
        }
        for site in ["cross-site", "same-site", "?"] {
            assert_eq!(post(&[("sec-fetch-site", site)]), Some(403), "{site}");
        }
    }

    #[test]
    fn changes_over_tcp_need_the_token() {
        let local = settings(Some("127.0.0.1"), true);
        let post = |settings: &Settings, value: Option<&str>| {
            let headers: Vec<(&str, &str)> =
                [("host", "localhost")].into_iter().chain(value.map(|v| ("authorization", v))).collect();
            refusal(settings, "POST", "/api/v1/jobs/a/trigger", &headers)
        };
        assert_eq!(post(&local, Some(&format!("Bearer {TOKEN}"))), None);
        assert_eq!(post(&local, Some(&format!("bearer  {TOKEN}"))), None);
        for wrong in [None, Some("Bearer"), Some("Bearer x"), Some("Basic MDEyMw=="), Some("Bearer 0123456789abcdeX")] {
            assert_eq!(post(&local, wrong), Some(401), "{wrong:?}");
        }
        let without = settings(Some("127.0.0.1"), false);
        assert_eq!(post(&without, Some(&format!("Bearer {TOKEN}"))), Some(403));
        assert_eq!(refusal(&local, "GET", "/api/v1/status", &[("host", "localhost")]), None);
    }

    #[test]
    fn reading_from_other_machines_needs_the_token() {
        let everywhere = settings(Some("0.0.0.0"), true);
        let auth = format!("Bearer {TOKEN}");
        for path in ["/api/v1/status", "/api/v1/events", "/metrics"] {
            assert_eq!(refusal(&everywhere, "GET", path, &[("host", "localhost")]), Some(401), "{path}");
            assert_eq!(refusal(&everywhere, "GET", path, &[("host", "localhost"), ("authorization", &auth)]), None, "{path}");
        }
        for path in ["/", "/jobs/a", "/app.js", "/healthz", "/readyz"] {
            assert_eq!(refusal(&everywhere, "GET", path, &[("host", "localhost")]), None, "{path}");
        }
    }
}
