//! Around every router: counts each request and its answer, and leaves the connection usable after a request whose body
//! nobody wanted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Version, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};
use weft_wire::limits::{DISCARD_MS, MAX_DISCARDED_BYTES, REQUEST_OVERHEAD_BYTES};

use super::{
    Connection, Network, Requester, Traffic, answer,
    request_body::{Leftover, RequestBody, Rest},
};
use crate::errors::ApiError;

/// Counts everything that goes through the router.
pub fn layer(router: Router, traffic: Traffic) -> Router {
    router.layer(from_fn_with_state(traffic, count))
}

async fn count(State(traffic): State<Traffic>, request: Request, next: Next) -> Response {
    let connection = connection(&request);
    let version = request.version();
    let expects = request.headers().contains_key(header::EXPECT);
    let requester = match Requester::new(&traffic, &connection, cost(&request)) {
        Ok(requester) => requester,
        Err(exhausted) => return closing(ApiError::from(exhausted).into_response(), version),
    };
    let leftover = Leftover::default();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(Arc::clone(&requester));
    let body = if body.is_end_stream() {
        body
    } else {
        Body::new(RequestBody::new(body, Arc::clone(&requester), leftover.clone()))
    };
    let mut answer = next.run(Request::from_parts(parts, body)).await;
    if let Some(rest) = leftover.take() {
        answer = discard(rest, answer, version, expects, &requester);
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return answer;
    }
    answer::charge(answer, requester).unwrap_or_else(|exhausted| ApiError::from(exhausted).into_response())
}

fn connection(request: &Request) -> Arc<Connection> {
    let extensions = request.extensions();
    extensions.get::<Arc<Connection>>().cloned().unwrap_or_else(|| {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        Connection::uncounted(peer.map_or(Network::V6(0), |ConnectInfo(peer)| Network::of(peer.ip())))
    })
}

/// What a request takes before its body is read.
fn cost(request: &Request) -> u64 {
    let headers: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let target = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    REQUEST_OVERHEAD_BYTES + (headers + target) as u64
}

/// Reads on in what nobody wanted, within bounds: a client sends its whole request before it reads the answer, and sees a
/// broken connection where nobody takes it. Where the bounds don't suffice, the answer says that the connection ends.
fn discard(rest: Rest, answer: Response, version: Version, expects: bool, requester: &Arc<Requester>) -> Response {
    if version > Version::HTTP_11 {
        // Dropping it ends the stream, and the connection goes on.
        return answer;
    }
    if expects && !rest.begun {
        // The client waits for leave to send it.
        return closing(answer, version);
    }
    let fits = rest.body.size_hint().lower() <= MAX_DISCARDED_BYTES;
    let requester = Arc::clone(requester);
    tokio::spawn(async move {
        read_on(rest.body).await;
        drop(requester);
    });
    if fits { answer } else { closing(answer, version) }
}

async fn read_on(mut body: Body) {
    let deadline = Instant::now() + Duration::from_millis(DISCARD_MS);
    let mut left = MAX_DISCARDED_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(less) = left.checked_sub(length) else { return };
        left = less;
    }
}

fn closing(mut answer: Response, version: Version) -> Response {
    // HTTP/2 has no such header.
    if version <= Version::HTTP_11 {
        let headers: &mut HeaderMap = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
