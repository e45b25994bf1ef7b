//! Long answers go out gzipped to those who take it: what a page asks for about a thousand jobs is half a megabyte of JSON
//! that repeats itself.
//!
//! The pages' own files are packed when the binary is built; streams are not packed, because a part of them must not wait
//! for the next.

use std::io::Write;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Shorter ones fit into a packet as they are.
const SHORTEST: u64 = 1024;

/// What is packed: text that repeats itself, and is in memory as a whole.
const KINDS: [&str; 3] = ["application/json", "application/openmetrics-text", "text/plain; version="];

/// Packs what a handler answers, if that is worth it.
pub(super) async fn pack(request: Request, next: Next) -> Response {
    let accepted = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let takes = takes_gzip(accepted) && request.method() != Method::HEAD;
    let mut response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if response.headers().contains_key(header::CONTENT_ENCODING) || !KINDS.iter().any(|known| kind.starts_with(known)) {
        return response;
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !takes || response.body().size_hint().exact().is_none_or(|size| size <= SHORTEST) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    // It comes from memory, where it has its size already.
    let plain = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let to_pack = plain.clone();
    // Beside the thread that serves: ten thousand jobs take some time.
    let packed = tokio::task::spawn_blocking(move || gzip(&to_pack)).await;
    let body = match packed {
        Ok(Ok(packed)) => {
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers.remove(header::CONTENT_LENGTH);
            Bytes::from(packed)
        }
        // The thread can't be had: then as it is.
        _ => plain,
    };
    Response::from_parts(head, Body::from(body))
}

/// The first level: for JSON it takes off nine tenths in a fraction of the time of the others.
fn gzip(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Whether an `Accept-Encoding` allows gzip (RFC 9110, 12.5.3).
pub(super) fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let refused = |part: &str| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q == 0.0);
        named && !parts.any(refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (accepted, takes) in [("", false), ("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("br, *", true)] {
            assert_eq!(takes_gzip(accepted), takes, "{accepted}");
        }
    }
}
