//! Authentication of requests by access token.
//!
//! The token is in the `Authorization` header or, deprecated, in the query. It must not reach a log.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, Uri, header, request::Parts},
};
use weft_accounts::{Accounts, AuthError, Session};

use crate::{
    errors::{ApiError, ApiResult},
    guests,
    ratelimit::{Noted, UserLimiter},
    traffic::Requester,
};

/// The session of a request that has a valid token and is within its user's rate limit.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Session);

impl std::ops::Deref for Authenticated {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl<S> FromRequestParts<S> for Authenticated
where
    S: Send + Sync,
    Accounts: FromRef<S>,
    UserLimiter: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let session = session(parts, &Accounts::from_ref(state)).await?;
        match UserLimiter::from_ref(state).count(&session.user_id) {
            Ok(None) => {}
            Ok(Some(standing)) => Noted::note(&parts.extensions, standing),
            Err(refused) => {
                Noted::note(&parts.extensions, refused);
                return Err(refused.error());
            }
        }
        Ok(Self(session))
    }
}

/// The session of a request's token; from now on the request is charged to its account. Applies no rate limit: callers
/// that need one check it themselves.
///
/// # Errors
/// 401 if there is no valid token, 403 if the user is a guest and the endpoint is not for guests, 429 if the account holds too much.
pub async fn session(parts: &Parts, accounts: &Accounts) -> ApiResult<Session> {
    let token = token(&parts.headers, &parts.uri).ok_or_else(ApiError::missing_token)?;
    let session = accounts.authenticate(&token).await?;
    Requester::of(&parts.extensions).is_account(&session.user_id)?;
    if session.guest {
        guests::check(parts)?;
    }
    Ok(session)
}

/// The access token of a request, from the header or the query.
#[must_use]
pub fn token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    from_header(headers).or_else(|| from_query(uri))
}

fn from_header(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim().to_owned())
}

fn from_query(uri: &Uri) -> Option<String> {
    // Tokens consist of unreserved characters, so no decoding is needed.
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| *name == "access_token")
        .map(|(_, token)| token.to_owned())
        .find(|token| !token.is_empty())
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unknown => Self::unknown_token(false),
            AuthError::Expired => Self::unknown_token(true),
            AuthError::Unavailable(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: Option<&str>, uri: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        token(&headers, &uri.parse().unwrap())
    }

    #[test]
    fn the_token_is_found_in_the_header_or_the_query() {
        assert_eq!(found(Some("Bearer abc"), "/x").as_deref(), Some("abc"));
        assert_eq!(found(Some("bearer  abc "), "/x").as_deref(), Some("abc"));
        assert_eq!(found(None, "/x?a=b&access_token=q").as_deref(), Some("q"));
        assert_eq!(found(Some("Bearer h"), "/x?access_token=q").as_deref(), Some("h"));
        for (header, uri) in [
            (None, "/x"),
            (Some("Basic abc"), "/x"),
            (Some("Bearer "), "/x?access_token="),
        ] {
            assert_eq!(found(header, uri), None, "{header:?} {uri}");
        }
    }
}
