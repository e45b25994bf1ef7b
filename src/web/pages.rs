//! Static files, compressed into the binary by `build.rs`. They are sent as they are: every browser accepts gzip.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::answer::{Answer, Problem};
use super::pack::takes_gzip;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// The file behind every page's URL; its script reads the URL.
pub(super) const INDEX: &str = "index.html";

/// A static file.
pub(super) fn page(name: &str, asked: &HeaderMap) -> Answer {
    let found = PAGES.iter().find(|(known, ..)| *known == name);
    let (_, packed, mark) = found.ok_or_else(|| Problem::not_found(format!("there is no page `/{name}`")))?;
    let etag = format!("\"{mark:08x}\"");
    let text = |name: header::HeaderName| asked.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if text(header::IF_NONE_MATCH).split(',').any(|known| known.trim() == etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else if takes_gzip(text(header::ACCEPT_ENCODING)) {
        let mut response = Response::new(Body::from(*packed));
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        let error = "pages are sent compressed; send `Accept-Encoding: gzip` (curl --compressed)";
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", error));
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("json" | "webmanifest") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pages_together_are_small() {
        let total: usize = PAGES.iter().map(|(_, packed, _)| packed.len()).sum();
        assert!(total < 250_000, "{total} bytes");
    }
}
