//! The output of a run: a part of it, or streamed while it is written.

use std::collections::HashMap;
use std::io;
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
use crate::logs::LogReader;
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
    let run = shared.run(RunId(id)).await?;
    let mut reader = LogReader::new(shared.log_of(&run), from);
    let part = reader.text(PART, run.state.is_end()).map_err(unreadable)?;
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
    let run = shared.run(id).await?;
    let over = run.state.is_end();
    let reader = LogReader::new(shared.log_of(&run), from);
    Ok(event_stream(move |feed| follow(shared, follower, feed, Watched { id, reader, over })))
}

struct Watched {
    id: RunId,
    reader: LogReader,
    over: bool,
}

async fn follow(shared: Arc<Shared>, mut follower: Follower, feed: Feed, mut run: Watched) {
    loop {
        loop {
            let Ok(part) = run.reader.text(STREAM_PART, run.over) else { return };
            if part.text.is_empty() && part.is_last {
                break;
            }
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
    if let Ok(view) = shared.run(run.id).await
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
