//! The headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) of the document API. Must not count
//! requests.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{Extensions, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use parking_lot::Mutex;

use super::Standing;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The window of the policy, seconds.
const WINDOW: u32 = 60;

/// What was left when the request was counted; in the extensions of a request whose answer gets the headers.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<Mutex<Option<Standing>>>);

impl Noted {
    /// Notes what is left for the answer to this request, if it gets the headers.
    pub fn note(extensions: &Extensions, standing: Standing) {
        if let Some(Self(noted)) = extensions.get() {
            *noted.lock() = Some(standing);
        }
    }
}

/// Adds the headers to the answers to requests that were counted.
pub async fn add_headers(mut request: Request, next: Next) -> Response {
    let noted = Noted::default();
    request.extensions_mut().insert(noted.clone());
    let mut answer = next.run(request).await;
    let standing = *noted.0.lock();
    if let Some(standing) = standing {
        write(answer.headers_mut(), &standing);
    }
    answer
}

fn write(headers: &mut HeaderMap, standing: &Standing) {
    let Standing {
        limit,
        remaining,
        more_after,
    } = standing;
    // A client that waits for this time must not be too early.
    let seconds = more_after.as_millis().div_ceil(1_000);
    let policy = format!("\"requests\";q={limit};w={WINDOW}");
    let left = format!("\"requests\";r={remaining};t={seconds}");
    for (name, value) in [(POLICY, policy), (LIMIT, left)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rounded_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            let mut headers = HeaderMap::new();
            let standing = Standing {
                limit: 1_000,
                remaining: 7,
                more_after: Duration::from_millis(millis),
            };
            write(&mut headers, &standing);
            assert_eq!(headers[POLICY], "\"requests\";q=1000;w=60");
            assert_eq!(headers[LIMIT], format!("\"requests\";r=7;t={seconds}"));
        }
    }
}
