//! The handlers of the API. Each turns a request into one of the control protocol, or reads the history.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::answer::{Answer, Problem, json_ok, json_response, keys_of};
use super::hub::{event_stream, follow_all};
use super::{ApiRequest, Shared};
use crate::control::commands::{cancel, graph, health, job, logs, pause, retry, status, trigger};
use crate::control::object::{self, Object};
use crate::control::protocol::Request;
use crate::cron::{Zone, parse_rfc3339};
use crate::logs::LogPaths;
use crate::model::{Attempt, RunId, RunView, StateWord, WallTime};
use crate::store::{AttemptView, Filter, History, StoredRun};

/// The longest body of a request, in bytes. The largest legitimate one has two flags.
const BODY_LIMIT: usize = 64 * 1024;

/// Within which a body has to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Within which the loop has to answer. It answers within a turn.
const LOOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The most runs in one answer, and the number without a `limit`.
const MAX_RUNS: usize = 1_000;
const DEFAULT_RUNS: usize = 100;

const OPENAPI: &str = include_str!("openapi.json");

type SharedState = State<Arc<Shared>>;

impl Shared {
    /// Sends a request to the loop and waits for its reply.
    pub(super) async fn ask(&self, request: Request) -> Result<Value, Problem> {
        let (answer, answered) = oneshot::channel();
        keys_of(self.answered(Box::new(ApiRequest { request, answer }), answered).await?)
    }

    /// Sends a message to the loop and waits for its answer.
    async fn answered<T>(&self, message: Box<dyn Any + Send>, answered: oneshot::Receiver<T>) -> Result<T, Problem> {
        self.mailbox.send(message);
        match tokio::time::timeout(LOOP_TIMEOUT, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => {
                let error = "the daemon does not answer";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error))
            }
        }
    }

    /// As [`Shared::ask`], for answers that are passed on unchanged.
    async fn show(&self, request: Request) -> Result<Value, Problem> {
        let mut shown = self.ask(request).await?;
        // On the socket it distinguishes a reply from an error; here the HTTP status does.
        if let Value::Object(keys) = &mut shown {
            keys.remove("ok");
        }
        Ok(shown)
    }

    /// The files of a run's output.
    pub(super) fn log_of(&self, run: &RunView) -> LogPaths {
        LogPaths::within(&self.settings.state_dir, &run.job, run.id.unwrap_or(RunId(0)))
    }

    /// The current view of a run.
    pub(super) async fn run(&self, id: RunId) -> Result<RunView, Problem> {
        let answer = self.ask(Request::Logs(logs::Request { of: id.to_string(), wait: false })).await?;
        if let Ok(logs::Logs { run, .. }) = serde_json::from_value(answer)
            && run.id == Some(id)
        {
            return Ok(run);
        }
        // A job has this number as its name.
        let (zone, dir) = (self.settings.zone, self.settings.state_dir.clone());
        let found = self
            .read(move |history| {
                let Some(run) = history.run(id)? else { return Ok(None) };
                let job = history.job_name(run.job_row);
                Ok(Some(run.view(job, zone, &dir)))
            })
            .await?;
        found.flatten().ok_or_else(|| Problem::not_found(format!("there is no run {id}")))
    }

    /// Reads the history on a blocking thread: a long answer must not delay others. `None` if there is no history yet.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&History) -> Result<T, crate::store::StoreError> + Send + 'static,
    ) -> Result<Option<T>, Problem> {
        let dir = self.settings.state_dir.clone();
        let reading = tokio::task::spawn_blocking(move || match History::open(&dir)? {
            Some(history) => read(&history).map(Some),
            None => Ok(None),
        });
        let unreadable = |error: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unreadable", error);
        match reading.await {
            Ok(result) => result.map_err(|error| unreadable(error.to_string())),
            Err(_) => Err(unreadable("the history can't be read".into())),
        }
    }
}

pub(super) async fn healthz(State(shared): SharedState) -> Answer {
    shared.ask(Request::Health(health::Request::default())).await?;
    Ok(Response::new(Body::from("ok\n")))
}

pub(super) async fn readyz(State(shared): SharedState) -> Answer {
    let health = shared.show(Request::Health(health::Request::default())).await?;
    let status = if health["ready"] == true { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(json_response(status, &health))
}

/// The loop copies its counts; they are formatted here, where that delays no deadline.
#[cfg(feature = "metrics")]
pub(super) async fn metrics(State(shared): SharedState, headers: axum::http::HeaderMap) -> Answer {
    use crate::metrics::{Format, Process};
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::asked(&accepted.collect::<Vec<_>>().join(","));
    let (answer, answered) = oneshot::channel();
    let snapshot = shared.answered(Box::new(super::Scrape { answer }), answered).await?;
    let mut response = Response::new(Body::from(snapshot.text(format, Some(Process::look()))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    Ok(response)
}

pub(super) async fn openapi() -> Answer {
    let mut response = Response::new(Body::from(OPENAPI));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

pub(super) async fn status(State(shared): SharedState) -> Answer {
    let mut shown = shared.show(Request::Status(status::Request::default())).await?;
    let token = match (&shared.settings.address, &shared.settings.token) {
        (None, _) => "none",
        (Some(_), Some(_)) => "needed",
        (Some(_), None) => "not_configured",
    };
    shown["token"] = token.into();
    json_ok(&shown)
}

pub(super) async fn graph(State(shared): SharedState) -> Answer {
    json_ok(&shared.show(Request::Graph(graph::Request::default())).await?)
}

pub(super) async fn job(State(shared): SharedState, Path(job): Path<String>) -> Answer {
    json_ok(&shared.show(Request::Job(job::Request { job })).await?)
}

pub(super) async fn events(State(shared): SharedState) -> Answer {
    let follower = shared.hub.follow();
    Ok(event_stream(|feed| follow_all(follower, feed)))
}

pub(super) async fn runs(State(shared): SharedState, Query(asked): Query<HashMap<String, String>>) -> Answer {
    let filter = filter(asked)?;
    let (zone, dir) = (shared.settings.zone, shared.settings.state_dir.clone());
    let runs = shared.read(move |history| {
        let entries = history.query(&filter)?.into_iter();
        let views = entries.map(|entry| match entry {
            Ok(run) => run.view(history.job_name(run.job_row), zone, &dir),
            Err(missed) => missed.view(history.job_name(missed.job_row), zone),
        });
        Ok(views.collect::<Vec<RunView>>())
    });
    json_ok(&runs.await?.unwrap_or_default())
}

fn filter(asked: HashMap<String, String>) -> Result<Filter, Problem> {
    let mut filter = Filter { limit: DEFAULT_RUNS, ..Filter::default() };
    let instant = |text: &str| -> Result<Option<WallTime>, Problem> {
        parse_rfc3339(text).map(Some).map_err(|error| Problem::bad_request(error.to_string()))
    };
    let number = |name: &str, text: &str| -> Result<u64, Problem> {
        text.parse().map_err(|_| Problem::bad_request(format!("`{name}` must be a number, not `{text}`")))
    };
    for (name, value) in asked {
        match name.as_str() {
            "job" => filter.job = Some(value),
            "state" => {
                let state = StateWord::from_word(&value);
                filter.state = Some(state.ok_or_else(|| Problem::bad_request(format!("unknown state `{value}`")))?);
            }
            "since" => filter.since = instant(&value)?,
            "until" => filter.until = instant(&value)?,
            "before" => filter.before = Some(RunId(number("before", &value)?)),
            "limit" => filter.limit = usize::try_from(number("limit", &value)?).unwrap_or(MAX_RUNS).clamp(1, MAX_RUNS),
            other => return Err(Problem::bad_request(format!("unknown parameter `{other}`"))),
        }
    }
    Ok(filter)
}

pub(super) async fn run(State(shared): SharedState, Path(id): Path<u64>) -> Answer {
    let run = shared.run(RunId(id)).await?;
    let zone = shared.settings.zone;
    let stored = shared.read(move |history| Ok((history.attempts(RunId(id))?, history.run(RunId(id))?))).await?;
    let (failed, stored) = stored.unwrap_or_default();
    let mut attempts: Vec<AttemptView> = failed.into_iter().map(|row| row.view(zone)).collect();
    if run.attempt > attempts.last().map_or(Attempt(0), |last| last.attempt) {
        attempts.push(last_attempt(&run, stored.as_ref(), zone));
    }
    json_ok(&json!({ "event": run.event, "attempts": attempts, "run": run }))
}

/// The attempt that is the run's own row.
fn last_attempt(run: &RunView, stored: Option<&StoredRun>, zone: Zone) -> AttemptView {
    let began = stored.filter(|stored| stored.attempt == run.attempt).and_then(|stored| stored.attempt_at);
    AttemptView {
        attempt: run.attempt,
        started_at: began.map(|at| zone.rfc3339(at)).or_else(|| run.started_at.clone()),
        ended_at: run.ended_at.clone(),
        exit_code: run.exit_code,
        signal: run.signal.clone(),
        reason: run.reason.clone(),
    }
}

pub(super) async fn trigger(State(shared): SharedState, Path(job): Path<String>, body: Body) -> Answer {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Flags {
        force: bool,
        with_deps: bool,
    }
    let Flags { force, with_deps } = read_body(body).await?;
    json_ok(&shared.ask(Request::Trigger(trigger::Request { job, wait: false, force, with_deps })).await?)
}

pub(super) async fn pause(State(shared): SharedState, Path(job): Path<String>, body: Body) -> Answer {
    let Nothing {} = read_body(body).await?;
    json_ok(&shared.ask(Request::Pause(pause::Request { job: Some(job) })).await?)
}

pub(super) async fn resume(State(shared): SharedState, Path(job): Path<String>, body: Body) -> Answer {
    let Nothing {} = read_body(body).await?;
    json_ok(&shared.ask(Request::Resume(pause::Request { job: Some(job) })).await?)
}

pub(super) async fn cancel(State(shared): SharedState, Path(id): Path<u64>, body: Body) -> Answer {
    let Nothing {} = read_body(body).await?;
    json_ok(&shared.ask(Request::Cancel(cancel::Request { run: RunId(id) })).await?)
}

pub(super) async fn retry(State(shared): SharedState, Path(id): Path<u64>, body: Body) -> Answer {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Flags {
        downstream: bool,
    }
    let Flags { downstream } = read_body(body).await?;
    json_ok(&shared.ask(Request::Retry(retry::Request { run: RunId(id), downstream, wait: false })).await?)
}

/// An empty body or an empty object.
#[derive(Default, serde::Deserialize)]
struct Nothing {}

/// Parses a small JSON object; an empty body is an empty object.
async fn read_body<T: DeserializeOwned + Default>(body: Body) -> Result<T, Problem> {
    let too_slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body of the request did not arrive in time");
    let bytes = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_LIMIT)).await.map_err(too_slow)?;
    let bytes = bytes.map_err(|error| {
        let too_long =
            std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if too_long {
            let error = format!("the body of a request may have at most {BODY_LIMIT} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error)
        } else {
            Problem::bad_request("the body of the request is incomplete")
        }
    })?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    // Through a map: serde would accept an array of the values as well.
    let object: Object = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the body is not a JSON object: {error}")))?;
    object::read("the body", object).map_err(|mistake| Problem::bad_request(mistake.to_string()))
}
