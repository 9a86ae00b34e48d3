//! The people of this server: accounts, passwords, devices, access tokens, profiles, account data, filters.
//!
//! Knows nothing of rooms or HTTP. Tokens and passwords exist here in the clear only while a call lasts: the store
//! holds their hashes, and nothing of them may be logged.

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
mod clock;
mod devices;
mod filters;
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
pub use clock::{Clock, SystemClock};
pub use devices::{DeviceError, DeviceInfo};
pub use filters::FilterError;
pub use login::{LoginError, LoginRequest};
pub use network::Network;
pub use password::PasswordCost;
pub use profile::{Profile, ProfileError};
pub use proof::{ProofError, Secret};
pub use refresh::RefreshError;
pub use sessions::{AuthError, NewDevice, NewSession, Session};
pub use username::{InvalidUsername, any_local_user_id, local_user_id};

use login_limiter::LoginLimiter;
use password::Passwords;

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
    /// Too many passwords are being hashed at the moment.
    #[error("too many passwords are being checked")]
    Busy,
}

/// How often a read-change-commit is tried again when its row was changed meanwhile.
const ATTEMPTS: usize = 8;

/// What one user may keep, as the operator sets it.
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

/// Turns by user, for changes that meet at one row. Users whose ids have the same remainder share a turn.
struct Turns {
    turns: [Mutex<()>; TURNS],
    hasher: RandomState,
}

/// Enough that users who change something in the same moment rarely share one.
const TURNS: usize = 64;

impl Default for Turns {
    fn default() -> Self {
        Self {
            turns: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

impl Turns {
    fn of(&self, user: &UserId) -> &Mutex<()> {
        let turn = usize::try_from(self.hasher.hash_one(user) % TURNS as u64).unwrap_or(0);
        self.turns.get(turn).expect("a remainder is below the divisor")
    }
}

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
    login_limiter: LoginLimiter,
    limits: AccountLimits,
    account_data_turns: Turns,
}

impl Accounts {
    /// Accounts in `store`, with password hashes of the usual cost and the usual limits.
    #[must_use]
    pub fn new(store: Store, server_name: OwnedServerName, clock: Arc<dyn Clock>) -> Self {
        Self::with_limits(store, server_name, clock, AccountLimits::default())
    }

    /// The same with the operator's limits.
    #[must_use]
    pub fn with_limits(
        store: Store,
        server_name: OwnedServerName,
        clock: Arc<dyn Clock>,
        limits: AccountLimits,
    ) -> Self {
        Self::build(store, server_name, clock, (PasswordCost::Standard, limits))
    }

    /// The same with another cost of password hashes: tests that make many accounts use a low one.
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
            account_data_turns: Turns::default(),
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

    /// Password hashes that are computed or wait for it, for metrics.
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
