//! What guests may request: their session, and reading, editing, suggesting, commenting and chatting in the document of their
//! share link, as far as their role there allows. Everything else is refused, also every endpoint that is added later.

use axum::{
    extract::MatchedPath,
    http::{Method, StatusCode, request::Parts},
};

use crate::errors::{ApiError, ApiResult};

const GET: &str = "GET";
const POST: &str = "POST";
const PUT: &str = "PUT";

/// Endpoints of `/_matrix/client`, below the version. A parameter is `{}`.
const MATRIX: &[(&str, &str)] = &[
    (GET, "account/whoami"),
    (GET, "capabilities"),
    (GET, "joined_rooms"),
    (GET, "media/config"),
    (GET, "media/download/{}/{}"),
    (GET, "media/download/{}/{}/{}"),
    (GET, "media/thumbnail/{}/{}"),
    (GET, "notifications"),
    (GET, "pushrules/"),
    (GET, "pushrules/global/"),
    (GET, "rooms/{}/context/{}"),
    (GET, "rooms/{}/event/{}"),
    (GET, "rooms/{}/joined_members"),
    (GET, "rooms/{}/members"),
    (GET, "rooms/{}/messages"),
    (GET, "rooms/{}/relations/{}"),
    (GET, "rooms/{}/relations/{}/{}"),
    (GET, "rooms/{}/relations/{}/{}/{}"),
    (GET, "rooms/{}/state"),
    (GET, "rooms/{}/state/{}/{}"),
    (GET, "rooms/{}/threads"),
    (GET, "sync"),
    (GET, "user/{}/filter/{}"),
    (POST, "logout"),
    (POST, "logout/all"),
    (POST, "rooms/{}/leave"),
    (POST, "rooms/{}/read_markers"),
    (POST, "rooms/{}/receipt/{}/{}"),
    (POST, "user/{}/filter"),
    (PUT, "rooms/{}/redact/{}/{}"),
    (PUT, "rooms/{}/send/{}/{}"),
    (PUT, "rooms/{}/typing/{}"),
];

/// Endpoints of `/_weft/client/v1`.
const DOCUMENTS: &[(&str, &str)] = &[
    (GET, "documents"),
    (GET, "documents/{}"),
    (GET, "documents/{}/access"),
    (GET, "documents/{}/approvals"),
    (GET, "documents/{}/blame"),
    (GET, "documents/{}/comments"),
    (GET, "documents/{}/comments/{}"),
    (GET, "documents/{}/content"),
    (GET, "documents/{}/diff"),
    (GET, "documents/{}/events"),
    (GET, "documents/{}/export"),
    (GET, "documents/{}/history"),
    (GET, "documents/{}/history/activity"),
    (GET, "documents/{}/lock"),
    (GET, "documents/{}/members"),
    (GET, "documents/{}/suggestions"),
    (GET, "documents/{}/suggestions/{}"),
    (GET, "search"),
    ("PATCH", "documents/{}/edit"),
    (POST, "documents/{}/chat"),
    (POST, "documents/{}/comments"),
    (POST, "documents/{}/comments/{}/reopen"),
    (POST, "documents/{}/comments/{}/replies"),
    (POST, "documents/{}/comments/{}/resolve"),
    (POST, "documents/{}/suggestions"),
    (POST, "documents/{}/suggestions/{}/accept"),
    (POST, "documents/{}/suggestions/{}/reject"),
    (POST, "documents/{}/suggestions/{}/withdraw"),
    (POST, "documents/{}/sync"),
    (POST, "documents/{}/updates"),
];

/// Checks that guests may make this request.
///
/// # Errors
/// 403 if they may not.
pub(crate) fn check(parts: &Parts) -> ApiResult<()> {
    let route = parts.extensions.get::<MatchedPath>();
    if route.is_some_and(|route| may_request(&parts.method, route.as_str())) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "M_GUEST_ACCESS_FORBIDDEN",
        "Guests may not do this.",
    ))
}

fn may_request(method: &Method, route: &str) -> bool {
    let (known, rest) = if let Some(rest) = route.strip_prefix("/_weft/client/v1/") {
        (DOCUMENTS, rest)
    } else if let Some((_, rest)) = route
        .strip_prefix("/_matrix/client/")
        .and_then(|rest| rest.split_once('/'))
    {
        (MATRIX, rest)
    } else {
        return false;
    };
    let pattern: Vec<&str> = rest
        .split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part })
        .collect();
    known.contains(&(method.as_str(), &*pattern.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_requests_are_allowed() {
        for (method, route, allowed) in [
            (Method::GET, "/_matrix/client/v3/sync", true),
            (Method::GET, "/_matrix/client/r0/sync", true),
            (
                Method::PUT,
                "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{txn_id}",
                true,
            ),
            (
                Method::PUT,
                "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
                false,
            ),
            (Method::POST, "/_matrix/client/v3/createRoom", false),
            (Method::POST, "/_matrix/client/v3/rooms/{room_id}/invite", false),
            (Method::POST, "/_matrix/media/v3/upload", false),
            (Method::PATCH, "/_weft/client/v1/documents/{id}/edit", true),
            (Method::PATCH, "/_weft/client/v1/documents/{id}", false),
            (Method::POST, "/_weft/client/v1/documents", false),
            (Method::POST, "/_weft/client/v1/links/{secret}", false),
            (Method::GET, "/elsewhere", false),
        ] {
            assert_eq!(may_request(&method, route), allowed, "{method} {route}");
        }
    }
}
