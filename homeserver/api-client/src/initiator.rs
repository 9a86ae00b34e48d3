//! Identifies the client that causes a federation request, on endpoints that require no token.
//!
//! Must not refuse a request: with an invalid token the client counts as anonymous, as without a token.

use axum::{extract::FromRequestParts, http::request::Parts};
use weft_accounts::Accounts;
use weft_federation::Initiator;
use weft_http::{authentication::token, client_address::ClientAddress};

/// The client of a request, unverified; the token is only checked by [`UnverifiedInitiator::verify`].
pub(super) struct UnverifiedInitiator {
    token: Option<String>,
    address: ClientAddress,
}

impl<S: Send + Sync> FromRequestParts<S> for UnverifiedInitiator {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self {
            token: token(&parts.headers, &parts.uri),
            address: ClientAddress::of(parts),
        })
    }
}

impl UnverifiedInitiator {
    /// The user of a valid token; otherwise an anonymous client at that address.
    pub(super) async fn verify(self, accounts: &Accounts) -> Initiator {
        if let Some(token) = self.token
            && let Ok(session) = accounts.authenticate(&token).await
        {
            return Initiator::User(session.user_id);
        }
        Initiator::Stranger(self.address.0)
    }
}
