//! The routes, one line each.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::answer::{Answer, Problem};
use super::{LONGEST_SHOWN, Shared, api, guard, output, pack, pages};
use crate::text::clipped;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new();
    #[cfg(feature = "metrics")]
    let router = router.route("/metrics", get(api::metrics));
    router
        .route("/", get(index))
        .route("/timeline", get(index))
        .route("/jobs/{name}", get(index))
        .route("/runs/{id}", get(index))
        .route("/{file}", get(file))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/api/v1/openapi.json", get(api::openapi))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/graph", get(api::graph))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/runs", get(api::runs))
        .route("/api/v1/runs/{id}", get(api::run))
        .route("/api/v1/runs/{id}/log", get(output::log))
        .route("/api/v1/runs/{id}/log/stream", get(output::stream))
        .route("/api/v1/runs/{id}/cancel", post(api::cancel))
        .route("/api/v1/runs/{id}/retry", post(api::retry))
        .route("/api/v1/jobs/{name}", get(api::job))
        .route("/api/v1/jobs/{name}/trigger", post(api::trigger))
        .route("/api/v1/jobs/{name}/pause", post(api::pause))
        .route("/api/v1/jobs/{name}/resume", post(api::resume))
        .fallback(not_found)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn(pack::pack))
        .layer(from_fn_with_state(Arc::clone(&shared), guard::guard))
        .with_state(shared)
}

async fn index(headers: HeaderMap) -> Answer {
    pages::page(pages::INDEX, &headers)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Answer {
    pages::page(&name, &headers)
}

async fn not_found(request: Request) -> Response {
    Problem::not_found(format!("there is nothing at `{}`", clipped(request.uri().path(), LONGEST_SHOWN))).into_response()
}

async fn other_method(method: Method) -> Response {
    let error = format!("`{method}` is not allowed for this path");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", error).into_response()
}
