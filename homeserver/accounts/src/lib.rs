//! The users of this server: accounts, passwords, devices, access tokens, profiles, account data, filters.
//!
//! Must not depend on rooms or HTTP. Tokens and passwords are in memory in the clear only during a call: the store
//! holds their hashes. They must not be logged.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use tokio::sync::Mutex;
use weft_budget::Budget;
use weft_store::Store;
use weft_wire::limits::{ACCOUNT_DATA_QUOTA_BYTES, FILTERS_QUOTA_BYTES};

mod account;
mod account_data;
mod devices;
mod filters;
mod guests;
mod link_password;
mod login;
mod login_limiter;
mod network;
mod password;
mod profile;
mod proof;
mod refresh;
mod sessions;
pub mod shared_secret;
mod token;
mod username;

pub use account::{Account, NewAccount, PasswordRefused, RegisterError, SetPasswordError, check_new_password};
pub use account_data::{AccountDataChange, SetAccountDataError};
pub use devices::{DeviceError, DeviceInfo};
pub use filters::FilterError;
pub use link_password::Follower;
pub use login::{LoginError, LoginRequest};
pub use network::Network;
pub use password::PasswordCost;
pub use profile::{Profile, ProfileError};
pub use proof::{ProofError, Secret};
pub use refresh::RefreshError;
pub use sessions::{AuthError, NewDevice, NewSession, Session};
pub use username::{InvalidUsername, any_local_user_id, local_user_id};
pub use weft_clock::{Clock, SystemClock};

use login_limiter::LoginLimiter;
use password::Passwords;

/// The operation could not be carried out now: the store failed, or a limit was reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccountsUnavailable {
    /// A read failed.
    #[error(transparent)]
    Read(#[from] weft_store::ReadError),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] weft_store::CommitError),
    /// Each of [`ATTEMPTS`] attempts conflicted with a concurrent change of the same row.
    #[error("every attempt conflicted with a concurrent change of the row")]
    Contended,
    /// The thread that computes password hashes failed.
    #[error("the password could not be hashed")]
    Hash,
    /// Too many passwords are being hashed at the moment.
    #[error("too many passwords are being hashed")]
    Busy,
}

/// Attempts of a compare-and-swap whose row is changed concurrently.
const ATTEMPTS: usize = 8;

/// Quotas of one user, as configured.
#[derive(Debug, Clone, Copy)]
pub struct AccountLimits {
    /// Bytes of account data.
    pub account_data_bytes: u64,
    /// Bytes of stored filters.
    pub filter_bytes: u64,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            account_data_bytes: ACCOUNT_DATA_QUOTA_BYTES,
            filter_bytes: FILTERS_QUOTA_BYTES,
        }
    }
}

/// Locks by user, for changes that update one row. Users whose hashed IDs have the same remainder share a lock.
struct UserLocks {
    locks: [Mutex<()>; USER_LOCKS],
    hasher: RandomState,
}

/// Large enough that users with concurrent changes rarely share a lock.
const USER_LOCKS: usize = 64;

impl Default for UserLocks {
    fn default() -> Self {
        Self {
            locks: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

impl UserLocks {
    fn of(&self, user: &UserId) -> &Mutex<()> {
        let index = usize::try_from(self.hasher.hash_one(user) % USER_LOCKS as u64).unwrap_or(0);
        self.locks.get(index).expect("a remainder is below the divisor")
    }
}

/// The accounts of this server. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    server_name: OwnedServerName,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    login_limiter: LoginLimiter,
    limits: AccountLimits,
    account_data_locks: UserLocks,
}

impl Accounts {
    /// Accounts in `store`, with the standard cost of password hashes and the default limits.
    #[must_use]
    pub fn new(store: Store, server_name: OwnedServerName, clock: Arc<dyn Clock>) -> Self {
        Self::with_limits(store, server_name, clock, AccountLimits::default())
    }

    /// As [`Accounts::new`], with the configured limits.
    #[must_use]
    pub fn with_limits(
        store: Store,
        server_name: OwnedServerName,
        clock: Arc<dyn Clock>,
        limits: AccountLimits,
    ) -> Self {
        Self::build(store, server_name, clock, (PasswordCost::Standard, limits))
    }

    /// As [`Accounts::new`], with another cost of password hashes: tests that create many accounts use a low one.
    #[must_use]
    pub fn with_cost(store: Store, server_name: OwnedServerName, clock: Arc<dyn Clock>, cost: PasswordCost) -> Self {
        Self::build(store, server_name, clock, (cost, AccountLimits::default()))
    }

    fn build(
        store: Store,
        server_name: OwnedServerName,
        clock: Arc<dyn Clock>,
        (cost, limits): (PasswordCost, AccountLimits),
    ) -> Self {
        let inner = Inner {
            store,
            server_name,
            clock,
            passwords: Passwords::new(cost),
            login_limiter: LoginLimiter::default(),
            limits,
            account_data_locks: UserLocks::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// This server's name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.inner.server_name
    }

    /// Whether the user ID belongs to this server, registered or not.
    #[must_use]
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.inner.server_name
    }

    /// The user ID for a local part or a user ID as users type it: `alice`, `@alice:server`.
    ///
    /// # Errors
    /// If it is neither, or belongs to another server.
    pub fn user_id(&self, name: &str) -> Result<OwnedUserId, InvalidUsername> {
        username::any_local_user_id(name, &self.inner.server_name)
    }

    /// Budgets of the password hashes that are being computed or wait for it, for metrics.
    #[must_use]
    pub fn password_hashes(&self) -> [&Arc<Budget>; 2] {
        self.inner.passwords.budgets()
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn now_ms(&self) -> u64 {
        self.inner.clock.now().get().into()
    }
}
