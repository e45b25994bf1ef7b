//! Long answers are compressed for clients that accept gzip: the status of a thousand jobs is half a megabyte of repetitive
//! JSON.
//!
//! Static files are compressed when the binary is built; streams are not compressed, because no event may wait for the next.

use std::io::Write;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Shorter bodies fit into one packet uncompressed.
const SHORTEST: u64 = 1024;

/// The compressed media types: repetitive text whose body is in memory as a whole.
const KINDS: [&str; 3] = ["application/json", "application/openmetrics-text", "text/plain; version="];

/// Compresses the answer of a handler if that pays.
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
    // From memory, so it can neither fail nor grow.
    let plain = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let to_pack = plain.clone();
    // On a blocking thread: ten thousand jobs take some milliseconds.
    let packed = tokio::task::spawn_blocking(move || gzip(&to_pack)).await;
    let body = match packed {
        Ok(Ok(packed)) => {
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers.remove(header::CONTENT_LENGTH);
            Bytes::from(packed)
        }
        // No thread: uncompressed.
        _ => plain,
    };
    Response::from_parts(head, Body::from(body))
}

/// Level 1: JSON shrinks to a tenth in a fraction of the time of higher levels.
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
    fn gzip_is_sent_to_clients_that_accept_it() {
        for (accepted, takes) in [("", false), ("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("br, *", true)] {
            assert_eq!(takes_gzip(accepted), takes, "{accepted}");
        }
    }
}
