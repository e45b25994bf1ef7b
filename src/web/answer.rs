//! Answers of the API: JSON, and errors as `{"error": sentence, "code": word}`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::control::protocol::{ErrorCode, Reply};

/// A request that was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: StatusCode,
    /// One of a fixed set of words, for programs.
    pub code: &'static str,
    /// A sentence.
    pub error: String,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Problem {
        Problem { status, code, error: error.into() }
    }

    pub fn bad_request(error: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", error)
    }

    pub fn not_found(error: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", error)
    }

    /// From an error reply of the loop.
    pub fn of_loop(code: ErrorCode, error: String) -> Problem {
        match code {
            ErrorCode::BadRequest => Problem::bad_request(error),
            ErrorCode::NotFound => Problem::not_found(error),
            ErrorCode::Refused => Problem::new(StatusCode::CONFLICT, "refused", error),
            ErrorCode::Invalid => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        json_response(self.status, &json!({ "error": self.error, "code": self.code }))
    }
}

/// The result of a handler.
pub(super) type Answer = Result<Response, Problem>;

/// JSON with a status.
pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// JSON with status 200.
pub(super) fn json_ok(value: &impl Serialize) -> Answer {
    Ok(json_response(StatusCode::OK, value))
}

/// The object in a reply of the loop, or its error.
pub(super) fn keys_of(reply: Reply) -> Result<Value, Problem> {
    match reply {
        Reply::Done(value) => Ok(value),
        Reply::Failed { error, code, .. } => Err(Problem::of_loop(code, error)),
    }
}
