//! The people of this server: accounts, passwords, devices, access tokens, profiles, account data, filters.
//!
//! Knows nothing of rooms or HTTP. Tokens and passwords exist here in the clear only while a call lasts: the store
//! holds their hashes, and nothing of them may be logged.

use std::sync::Arc;

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use weft_store::Store;

mod account;
mod account_data;
mod clock;
mod devices;
mod filters;
mod login;
mod password;
mod profile;
mod refresh;
mod sessions;
pub mod shared_secret;
mod throttle;
mod token;
mod username;

pub use account::{Account, NewAccount, RegisterError, SetPasswordError};
pub use account_data::{AccountDataChange, SetAccountDataError};
pub use clock::{Clock, SystemClock};
pub use devices::DeviceInfo;
pub use filters::FilterError;
pub use login::{LoginError, LoginRequest};
pub use password::PasswordCost;
pub use profile::{Profile, ProfileError};
pub use refresh::RefreshError;
pub use sessions::{AuthError, NewDevice, NewSession, Session};
pub use username::{InvalidUsername, local_user_id};

use password::Passwords;
use throttle::Throttle;

/// The store did not answer or did not commit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccountsUnavailable {
    /// A read failed.
    #[error(transparent)]
    Read(#[from] weft_store::ReadError),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] weft_store::CommitError),
    /// Others changed the same row again and again while we tried to.
    #[error("the row was changed by others at the same time, several times in a row")]
    Contended,
    /// The thread that computes password hashes failed.
    #[error("the password could not be hashed")]
    Hash,
}

/// How often a read-change-commit is tried again when its row was changed meanwhile.
const ATTEMPTS: usize = 8;

/// All accounts of this server. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    server_name: OwnedServerName,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    throttle: Throttle,
}

impl Accounts {
    /// Accounts in `store`, with password hashes of the usual cost.
    #[must_use]
    pub fn new(store: Store, server_name: OwnedServerName, clock: Arc<dyn Clock>) -> Self {
        Self::with_cost(store, server_name, clock, PasswordCost::Standard)
    }

    /// The same, with another cost of password hashes: tests that make many accounts use a low one.
    #[must_use]
    pub fn with_cost(store: Store, server_name: OwnedServerName, clock: Arc<dyn Clock>, cost: PasswordCost) -> Self {
        let inner = Inner {
            store,
            server_name,
            clock,
            passwords: Passwords::new(cost),
            throttle: Throttle::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// This server's name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.inner.server_name
    }

    /// Whether the id is one of this server's, whether or not it is registered.
    #[must_use]
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.inner.server_name
    }

    /// The full id of a local part or id as a person types it: `alice`, `@alice:server`.
    ///
    /// # Errors
    /// When it is neither, or belongs to another server.
    pub fn user_id(&self, name: &str) -> Result<OwnedUserId, InvalidUsername> {
        username::any_local_user_id(name, &self.inner.server_name)
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn now_ms(&self) -> u64 {
        self.inner.clock.now().get().into()
    }
}
