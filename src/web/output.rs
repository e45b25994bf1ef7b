//! The output of a run: a part of it, or streamed while it is written.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::Shared;
use super::answer::{Answer, Problem};
use super::hub::{Feed, Follower, Next, event_stream};
use crate::model::RunId;

/// The most output in one answer, in bytes.
const PART: usize = 1 << 20;

/// The most output in one event of a stream, in bytes.
const STREAM_PART: usize = 64 * 1024;

/// How often the log of a running run is read while it is streamed.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

pub(super) async fn log(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    Query(asked): Query<HashMap<String, String>>,
) -> Answer {
    let from = from(&asked)?;
    // Before the file is read: if the run has ended by now, what is read then is all of it.
    let (run, path) = shared.run(RunId(id)).await?;
    let part = read_part(&path, from, PART, run.state.is_end()).map_err(unreadable)?;
    let mut response = Response::new(Body::from(part.text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(HeaderName::from_static("x-log-next"), HeaderValue::from(part.next));
    let end = if part.is_last && run.state.is_end() { "true" } else { "false" };
    headers.insert(HeaderName::from_static("x-log-end"), HeaderValue::from_static(end));
    Ok(response)
}

pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    Query(asked): Query<HashMap<String, String>>,
) -> Answer {
    let (id, from) = (RunId(id), from(&asked)?);
    // Before the run is looked up: otherwise its end could be missed in between.
    let follower = shared.hub.follow();
    let (run, path) = shared.run(id).await?;
    let over = run.state.is_end();
    Ok(event_stream(move |feed| follow(shared, follower, feed, Watched { id, path, at: from, over })))
}

struct Watched {
    id: RunId,
    path: PathBuf,
    at: u64,
    over: bool,
}

async fn follow(shared: Arc<Shared>, mut follower: Follower, feed: Feed, mut run: Watched) {
    loop {
        loop {
            let Ok(part) = read_part(&run.path, run.at, STREAM_PART, run.over) else { return };
            if part.text.is_empty() && part.is_last {
                break;
            }
            run.at = part.next;
            let data = json!({ "next": part.next, "text": part.text });
            if !part.text.is_empty() && feed.send(format!("event: output\ndata: {data}\n\n").into()).await.is_err() {
                return;
            }
        }
        if run.over {
            break;
        }
        match follower.next(POLL_INTERVAL).await {
            Next::Event(event) if event.ended == Some(run.id) => run.over = true,
            Next::Event(_) | Next::Timeout => {}
            Next::Closed => return,
        }
    }
    if let Ok((view, _)) = shared.run(run.id).await
        && let Ok(data) = serde_json::to_string(&view)
    {
        // The stream ends either way.
        let _ = feed.send(format!("event: end\ndata: {data}\n\n").into()).await;
    }
}

fn from(asked: &HashMap<String, String>) -> Result<u64, Problem> {
    match asked.get("from") {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| Problem::bad_request(format!("`from` must be a number of bytes, not `{text}`"))),
    }
}

fn unreadable(error: io::Error) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unreadable", format!("the output can't be read: {error}"))
}

struct Part {
    text: String,
    next: u64,
    /// The file holds no more for now.
    is_last: bool,
}

/// Reads output from the offset `from` on, as text. A UTF-8 sequence that is incomplete at the end is left for the next part,
/// unless the run is `over`.
fn read_part(path: &FilePath, from: u64, limit: usize, over: bool) -> io::Result<Part> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Part { text: String::new(), next: from, is_last: true });
        }
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    let wanted = usize::try_from(size.saturating_sub(from)).unwrap_or(limit).min(limit);
    let mut bytes = vec![0; wanted];
    let mut got = 0;
    while got < wanted {
        match file.read_at(&mut bytes[got..], from + got as u64)? {
            0 => break,
            count => got += count,
        }
    }
    bytes.truncate(got);
    let at_end = from + got as u64 >= size;
    if !(at_end && over) {
        bytes.truncate(got - incomplete_tail(&bytes));
    }
    let next = from + bytes.len() as u64;
    let is_last = at_end && (over || bytes.len() == got) || bytes.is_empty();
    Ok(Part { text: String::from_utf8_lossy(&bytes).into_owned(), next, is_last })
}

/// The length of an incomplete UTF-8 sequence at the end.
fn incomplete_tail(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        // Of invalid bytes, only the beginning of a sequence can become a character.
        Some(chunk) if !chunk.invalid().is_empty() && bytes.ends_with(chunk.invalid()) => {
            let width = match chunk.invalid()[0] {
                0xC2..=0xDF => 2,
                0xE0..=0xEF => 3,
                0xF0..=0xF4 => 4,
                _ => 0,
            };
            if chunk.invalid().len() < width { chunk.invalid().len() } else { 0 }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenated_parts_are_the_output_at_every_part_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let text = "grün und 日本 und 🦀, \u{1b}[31mred\u{1b}[0m\n";
        std::fs::write(&path, text).unwrap();
        for limit in 4..text.len() + 2 {
            let (mut all, mut at) = (String::new(), 0);
            loop {
                let part = read_part(&path, at, limit, true).unwrap();
                all.push_str(&part.text);
                at = part.next;
                if part.is_last {
                    break;
                }
            }
            assert_eq!(all, text, "{limit} bytes a part");
        }
    }

    #[test]
    fn an_incomplete_character_is_held_back_until_the_run_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        std::fs::write(&path, b"gr\xC3").unwrap();
        let part = read_part(&path, 0, 100, false).unwrap();
        assert_eq!((part.text.as_str(), part.next), ("gr", 2));
        let part = read_part(&path, 2, 100, false).unwrap();
        assert_eq!((part.text.as_str(), part.next, part.is_last), ("", 2, true));
        let part = read_part(&path, 2, 100, true).unwrap();
        assert_eq!((part.text.as_str(), part.next, part.is_last), ("\u{FFFD}", 3, true));
        std::fs::write(&path, b"\xFF\xFFx\xFF").unwrap();
        let part = read_part(&path, 0, 100, false).unwrap();
        assert_eq!((part.text.as_str(), part.next), ("\u{FFFD}\u{FFFD}x\u{FFFD}", 4), "invalid bytes are not held back");
    }

    #[test]
    fn a_run_without_output_has_an_empty_log() {
        let part = read_part(FilePath::new("/nowhere/1.log"), 7, 100, true).unwrap();
        assert_eq!((part.text.as_str(), part.next, part.is_last), ("", 7, true));
    }
}
