//! The shop's HTTP: 200 acknowledged, 404 nothing there, 503 nothing happened, 504 outcome unknown.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use datamigration::dualwrite::{ReadError, WriteError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::content::Content;
use crate::orders::Orders;

/// A write's answer: which order, and whether there was something to do.
#[derive(Debug, Serialize)]
struct Done {
    id: i64,
    effect: bool,
}

pub fn router(orders: Orders, test_endpoints: bool) -> Router {
    let mut router = Router::new()
        .route("/orders", post(create))
        .route("/orders/{id}", put(upsert).patch(update).delete(delete).get(read))
        .route("/health", get(|| async { "ok" }))
        .route("/ready", get(ready))
        .route("/counters", get(counters))
        .route("/metrics", get(metrics));
    if test_endpoints {
        router = router.route("/test/clock", post(shift_clock));
    }
    router.with_state(orders)
}

fn problem(status: StatusCode, error: &dyn std::fmt::Display) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

fn written<T>(result: Result<T, WriteError>, done: impl FnOnce(T) -> Done) -> Response {
    match result.map(done) {
        Ok(done) if done.effect => Json(done).into_response(),
        Ok(done) => (StatusCode::NOT_FOUND, Json(done)).into_response(),
        Err(error @ WriteError::OutcomeUnknown(_)) => {
            tracing::warn!(%error, "write");
            problem(StatusCode::GATEWAY_TIMEOUT, &error)
        }
        Err(error) => {
            tracing::warn!(%error, "write");
            problem(StatusCode::SERVICE_UNAVAILABLE, &error)
        }
    }
}

async fn create(State(orders): State<Orders>, Json(content): Json<Content>) -> Response {
    written(orders.create(content).await, |id| Done { id, effect: true })
}

async fn upsert(State(orders): State<Orders>, Path(id): Path<i64>, Json(content): Json<Content>) -> Response {
    written(orders.upsert(id, content).await, |()| Done { id, effect: true })
}

async fn update(State(orders): State<Orders>, Path(id): Path<i64>, Json(content): Json<Content>) -> Response {
    written(orders.update(id, content).await, |effect| Done { id, effect })
}

async fn delete(State(orders): State<Orders>, Path(id): Path<i64>) -> Response {
    written(orders.delete(id).await, |effect| Done { id, effect })
}

async fn read(State(orders): State<Orders>, Path(id): Path<i64>) -> Response {
    match orders.read(id).await {
        Ok(Some(order)) => Json(order).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, &format!("there is no order {id}")),
        Err(error @ (ReadError::NoMode(_) | ReadError::NotConfigured { .. } | ReadError::Store(_))) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, &error)
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

async fn ready(State(orders): State<Orders>) -> Response {
    let status = orders.library().status();
    let code = if status.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let stance = status.stance.map(|stance| {
        json!({
            "mode": stance.mode.to_string(),
            "secondaryWrites": stance.secondary.to_string(),
            "epoch": stance.epoch,
        })
    });
    let body = json!({
        "ready": status.ready, "stance": stance, "acknowledged": status.acknowledged, "problem": status.problem,
    });
    (code, Json(body)).into_response()
}

async fn counters(State(orders): State<Orders>) -> Response {
    Json(orders.library().counters()).into_response()
}

async fn metrics(State(orders): State<Orders>) -> String {
    orders.library().counters().prometheus()
}

#[derive(Debug, Deserialize)]
struct Shift {
    ms: i64,
}

async fn shift_clock(State(orders): State<Orders>, Query(shift): Query<Shift>) -> StatusCode {
    orders.shift_clock(shift.ms);
    StatusCode::NO_CONTENT
}
