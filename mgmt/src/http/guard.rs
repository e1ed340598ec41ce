//! What every request has to pass, and what every reply carries.

use super::host::is_ours;
use super::limits::LOG_INTERVAL;
use super::routes::{Shared, sentence};
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST,
    REFERRER_POLICY, TRANSFER_ENCODING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Nothing from elsewhere, nothing inline, in nobody's frame, and no text that becomes markup.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Tells at a bounded rate that somebody was refused.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<(u64, Option<Instant>)>);

impl Refusals {
    fn count(&self, why: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        if kept.1.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            kept.1 = Some(Instant::now());
            tracing::warn!("http: {why}; {} requests refused so far", kept.0);
        }
    }
}

/// Refuses what is not to be answered, and dresses every reply.
pub async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&shared, &request) {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(shared: &Shared, request: &Request) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = closing(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered: nothing can be changed here",
        );
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return Some(response);
    }
    if has_body(request.headers()) {
        return Some(closing(
            StatusCode::PAYLOAD_TOO_LARGE,
            "no request here has a body",
        ));
    }
    if let Err((status, text)) = host(shared, request) {
        shared.refusals.count(text);
        return Some(sentence(status, text));
    }
    let token = shared.token.as_ref();
    if needs_token(request.uri().path())
        && token.is_some_and(|token| !token.is_in(request.headers()))
    {
        shared
            .refusals
            .count("a request had no token or a wrong one");
        let text = "this needs the token: Authorization: Bearer TOKEN";
        let mut response = sentence(StatusCode::UNAUTHORIZED, text);
        let scheme = HeaderValue::from_static("Bearer realm=\"tidegate\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        return Some(response);
    }
    None
}

/// The page itself holds nothing: it has to ask for the token. Load balancers that look at `/healthz` have none to send.
fn needs_token(path: &str) -> bool {
    path == "/metrics" || path.starts_with("/api/")
}

/// A refusal of a request that may go on: what follows would be taken for the next one.
fn closing(status: StatusCode, text: &str) -> Response {
    let mut response = sentence(status, text);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// With a token it does not matter by what name we are called: a foreign page does not know it.
fn host(shared: &Shared, request: &Request) -> Result<(), (StatusCode, &'static str)> {
    const FOREIGN: &str =
        "the request is for another host: ask for the address of http_listen, or for localhost";
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() || (first.is_none() && request.version() >= Version::HTTP_11) {
        return Err((
            StatusCode::BAD_REQUEST,
            "a request has one Host header, no more and no less",
        ));
    }
    if shared.token.is_some() {
        return Ok(());
    }
    let authority = request.uri().authority().map(Authority::as_str);
    let said = first.map(|host| host.to_str().unwrap_or_default());
    let mut names = authority.into_iter().chain(said);
    if names.all(|name| is_ours(name, shared.address)) {
        Ok(())
    } else {
        Err((StatusCode::MISDIRECTED_REQUEST, FOREIGN))
    }
}
