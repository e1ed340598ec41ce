//! What is answered to whom.

use super::board::{Board, Snapshot};
use super::guard::{Refusals, guard};
use super::health;
use super::page;
use super::token::Token;
use crate::events;
use crate::stats::prometheus::{self, Format};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The version of the text that Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    board: Arc<Board>,
    /// The word to know, if there is one.
    pub token: Option<Token>,
    /// The address of the listener.
    pub address: IpAddr,
    /// Who was turned away.
    pub refusals: Refusals,
    stats: Rendered,
    metrics: Rendered,
    open_metrics: Rendered,
}

impl Shared {
    /// For a listener at `address`.
    pub fn new(board: Arc<Board>, token: Option<Token>, address: IpAddr) -> Self {
        Self {
            board,
            token,
            address,
            refusals: Refusals::default(),
            stats: Rendered::default(),
            metrics: Rendered::default(),
            open_metrics: Rendered::default(),
        }
    }
}

/// A text of the latest snapshot. It is made once, however many ask for it.
#[derive(Debug, Default)]
struct Rendered(Mutex<Option<(u64, Bytes)>>);

impl Rendered {
    fn of(&self, snapshot: &Snapshot, render: impl FnOnce(&Snapshot) -> Vec<u8>) -> Bytes {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((number, text)) if *number == snapshot.number => text.clone(),
            _ => {
                let text = Bytes::from(render(snapshot));
                *kept = Some((snapshot.number, text.clone()));
                text
            }
        }
    }
}

/// Every path.
pub fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for file in page::FILES {
        let response =
            || async { reply(StatusCode::OK, file.kind, Bytes::from_static(file.bytes)) };
        router = router.route(file.path, get(response));
    }
    router
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/api/stats", get(stats))
        .route("/api/history", get(history))
        .route("/api/slowlog", get(slow))
        .route("/api/events", get(happened))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

/// A reply that is one sentence.
pub fn sentence(status: StatusCode, text: &str) -> Response {
    reply(status, TEXT, Bytes::from(format!("{text}\n")))
}

fn reply(status: StatusCode, kind: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => reply(StatusCode::OK, JSON, text.into()),
        Err(error) => sentence(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn nothing() -> Response {
    sentence(
        StatusCode::NOT_FOUND,
        "there is /, /metrics, /healthz, /api/stats, /api/history, /api/slowlog and /api/events",
    )
}

/// There is no snapshot in the first moments of the manager.
fn starting() -> Response {
    sentence(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting: ask again in a second",
    )
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let Some(snapshot) = shared.board.snapshot() else {
        return starting();
    };
    let (rendered, format, kind) = if takes_open_metrics(&headers) {
        (&shared.open_metrics, Format::OpenMetrics, OPEN_METRICS)
    } else {
        (&shared.metrics, Format::Text, METRICS)
    };
    let text = rendered.of(&snapshot, |snapshot| {
        prometheus::render(&snapshot.stats, format).into_bytes()
    });
    let mut response = reply(StatusCode::OK, kind, text);
    let accept = HeaderValue::from_static("accept");
    response.headers_mut().insert(VARY, accept);
    response
}

/// Whether whoever asks names OpenMetrics 1.0 among what is accepted. Whoever accepts anything gets what everybody reads.
fn takes_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).into_iter();
    let ranges = accepted.filter_map(|value| value.to_str().ok());
    ranges.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().unwrap_or_default();
        let refused = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => value.parse().is_ok_and(|weight: f32| weight <= 0.0),
                "version" => !value.starts_with("1."),
                _ => false,
            }
        };
        named.eq_ignore_ascii_case(OPEN_METRICS_TYPE) && !parts.any(refused)
    })
}

async fn stats(State(shared): State<Arc<Shared>>) -> Response {
    let Some(snapshot) = shared.board.snapshot() else {
        return starting();
    };
    let text = shared.stats.of(&snapshot, |snapshot| {
        // The model has names and numbers alone, all of which JSON can say.
        serde_json::to_vec(&snapshot.stats).unwrap_or_default()
    });
    reply(StatusCode::OK, JSON, text)
}

async fn slow(State(shared): State<Arc<Shared>>) -> Response {
    match shared.board.snapshot() {
        Some(snapshot) => json(&snapshot.slow),
        None => starting(),
    }
}

async fn history(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let Some(from) = from(&uri) else {
        return wrong_query();
    };
    let points = shared.board.history(from);
    json(&points.iter().map(Arc::as_ref).collect::<Vec<_>>())
}

async fn happened(uri: Uri) -> Response {
    match from(&uri) {
        Some(from) => json(&events::since(from)),
        None => wrong_query(),
    }
}

/// The number that the query gives; 0 without a query. `None`: it gives none.
fn from(uri: &Uri) -> Option<u64> {
    let query = uri.query().unwrap_or_default();
    if query.is_empty() {
        return Some(0);
    }
    let value = query.strip_prefix("from=")?;
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

fn wrong_query() -> Response {
    sentence(
        StatusCode::BAD_REQUEST,
        "the query may be from=NUMBER and nothing else",
    )
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let snapshot = shared.board.snapshot();
    match health::complaint(snapshot.as_deref(), Instant::now()) {
        None => sentence(StatusCode::OK, "ok"),
        Some(why) => sentence(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}
