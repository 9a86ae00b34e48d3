//! Users of the server, with a session. Must not know an API.

use ruma::OwnedUserId;
use weft_accounts::{Accounts, NewAccount, NewDevice};

/// A logged-in user.
#[derive(Debug, Clone)]
pub struct Person {
    /// The user.
    pub user: OwnedUserId,
    /// An access token.
    pub token: String,
}

impl Person {
    /// Registers an account and logs in.
    ///
    /// # Panics
    /// If the name is in use.
    pub async fn register(accounts: &Accounts, account: NewAccount) -> Self {
        let user = accounts.register(account).await.unwrap();
        let session = accounts.begin_session(&user, NewDevice::default()).await.unwrap();
        Self {
            user,
            token: session.access_token,
        }
    }
}
