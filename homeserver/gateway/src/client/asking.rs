//! Who causes a request to another server, on endpoints that need no token.
//!
//! Must not refuse anybody: an invalid token makes a stranger, who may ask as little as one without a token.

use axum::{extract::FromRequestParts, http::request::Parts};
use weft_accounts::Accounts;
use weft_federation::Asker;

use crate::{authentication::token, client_address::ClientAddress};

/// Who sends a request, as far as the request says; the token is checked only by [`Asking::asker`].
pub(super) struct Asking {
    token: Option<String>,
    address: ClientAddress,
}

impl<S: Send + Sync> FromRequestParts<S> for Asking {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self {
            token: token(&parts.headers, &parts.uri),
            address: ClientAddress::of(parts),
        })
    }
}

impl Asking {
    /// The user of a valid token, else a stranger at that address.
    pub(super) async fn asker(self, accounts: &Accounts) -> Asker {
        if let Some(token) = self.token
            && let Ok(session) = accounts.authenticate(&token).await
        {
            return Asker::User(session.user_id);
        }
        Asker::Stranger(self.address.0)
    }
}
