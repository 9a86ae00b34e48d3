//! The upgrade request of a live socket: reads the token that it may carry and refuses early what can be refused.
//!
//! y-websocket reconnects after every close code, so a wrong token is refused before the upgrade.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use weft_http::{authentication, errors::ApiError, traffic::Requester};
use weft_wire::live::close::{self, Close};

use super::{LivePorts, meter::Meter, socket, target, websocket::Handshake};

/// When a refused socket may be opened: the limit allows some requests a second.
const RATE_LIMITED_FOR: Duration = Duration::from_secs(1);

/// Opens a live socket. A request without a token is accepted: Hocuspocus authenticates by its first frames.
pub(super) async fn upgrade(State(ports): State<LivePorts>, Path(name): Path<String>, request: Request) -> Response {
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let meter = Meter::new(Requester::of(request.extensions()));
    let handshake = match Handshake::read(request) {
        Ok(handshake) => handshake,
        Err(error) => return error.into_response(),
    };
    let offered = offered_protocols(&headers);
    let token = authentication::token(&headers, &uri).filter(|token| !token.is_empty());
    let (token, protocol) = match token {
        Some(token) => (Some(token), offered.first().cloned()),
        None => match first_valid(&ports, &offered).await {
            Ok(found) => (found.clone(), found),
            Err(close) => return refusal(close).into_response(),
        },
    };
    let target = match token {
        None => None,
        Some(token) => match target::find(&ports, &name, &token).await {
            Ok(target) => Some(target),
            Err(close) => return refusal(close).into_response(),
        },
    };
    if let Some(target) = &target
        && let Err(exhausted) = meter.sign_in(&target.session.user_id)
    {
        return ApiError::from(exhausted).into_response();
    }
    // The offered protocol came from a header.
    let protocol = protocol.and_then(|protocol| protocol.try_into().ok());
    let accepted = Arc::clone(&meter);
    handshake.accept(protocol, accepted, move |socket| {
        socket::serve(ports, target, socket, meter)
    })
}

fn offered_protocols(headers: &HeaderMap) -> Vec<String> {
    const PROTOCOL: HeaderName = header::SEC_WEBSOCKET_PROTOCOL;
    headers
        .get_all(PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .take(4)
        .collect()
}

/// The offered protocol that is a valid token. Offers without a valid token are refused: a browser would fail anyway.
async fn first_valid(ports: &LivePorts, offered: &[String]) -> Result<Option<String>, Close> {
    let mut refused = None;
    for protocol in offered {
        match target::authenticate(ports, protocol).await {
            Ok(_) => return Ok(Some(protocol.clone())),
            Err(close) => refused = Some(close),
        }
    }
    refused.map_or(Ok(None), Err)
}

fn refusal(close: Close) -> ApiError {
    match close.code {
        code if code == close::UNAUTHORIZED.code => ApiError::unknown_token(false),
        code if code == close::FORBIDDEN.code => ApiError::forbidden("You are not a member of this document."),
        code if code == close::NOT_FOUND.code => ApiError::not_found("The document does not exist."),
        code if code == close::RATE_LIMITED.code => ApiError::limit_exceeded(RATE_LIMITED_FOR),
        _ => ApiError::unavailable("The document cannot be opened now. Try again."),
    }
}
