//! Accounts: creation, lookup, password change, deactivation. Must not return password hashes.

use ruma::{OwnedUserId, UserId};
use weft_store::{
    Batch, CommitError,
    tables::accounts::{
        ACCOUNT_DATA, ACCOUNT_DATA_STREAM, ACCOUNT_DATA_USAGE, FILTERS, PROFILES, ProfileRow, USERS, UserRow,
    },
};
use weft_wire::limits::{MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS};

use crate::{
    ATTEMPTS, Accounts, AccountsUnavailable, InvalidUsername, Network, ProfileError, password::ClientClass, profile,
    username,
};

/// An account to create.
#[derive(Clone)]
pub struct NewAccount {
    /// Local part.
    pub username: String,
    /// Password. `None`: login with a password is not possible.
    pub password: Option<String>,
    /// May use the admin API.
    pub admin: bool,
    /// Display name. `None`: the local part.
    pub display_name: Option<String>,
}

/// A stored account, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user ID.
    pub user_id: OwnedUserId,
    /// May use the admin API.
    pub admin: bool,
    /// Permanently deactivated.
    pub deactivated: bool,
    /// Time of creation, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// The reason why a password can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefused {
    /// Shorter than [`MIN_PASSWORD_CHARS`].
    #[error("a password has at least {MIN_PASSWORD_CHARS} characters")]
    TooShort,
    /// Longer than [`MAX_PASSWORD_BYTES`].
    #[error("a password has at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
}

/// The reason why an account was not created.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name does not follow the grammar.
    #[error(transparent)]
    InvalidUsername(#[from] InvalidUsername),
    /// The name is in use, or belonged to a deactivated account.
    #[error("the user name is taken")]
    Taken,
    /// The password is too short or too long.
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    /// The display name is too long.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

/// The reason why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SetPasswordError {
    /// No such account, or it is deactivated.
    #[error("account not found")]
    UnknownUser,
    /// The password is too short or too long.
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Creates an account on behalf of the operator.
    ///
    /// # Errors
    /// If the name is invalid or taken, or the password is not allowed.
    pub async fn register(&self, account: NewAccount) -> Result<OwnedUserId, RegisterError> {
        self.register_for(account, ClientClass::Known(None)).await
    }

    /// Creates an account for a request from this network.
    ///
    /// # Errors
    /// If the name is invalid or taken, or the password is not allowed.
    pub async fn register_from(
        &self,
        account: NewAccount,
        network: Option<Network>,
    ) -> Result<OwnedUserId, RegisterError> {
        let user = self.register_for(account, ClientClass::Stranger(network)).await?;
        self.note_network(&user, network);
        Ok(user)
    }

    async fn register_for(&self, account: NewAccount, class: ClientClass) -> Result<OwnedUserId, RegisterError> {
        let user = self.check_available(&account.username).await?;
        account
            .display_name
            .as_deref()
            .map_or(Ok(()), profile::check_display_name)?;
        let password = match &account.password {
            Some(password) => {
                check_new_password(password)?;
                Some(self.inner.passwords.hash(password, class).await?)
            }
            None => None,
        };
        let row = UserRow {
            password,
            admin: account.admin,
            deactivated: false,
            created_at: self.now_ms(),
            guest_until: None,
        };
        let name = account.display_name.unwrap_or_else(|| user.localpart().to_owned());
        let profile = ProfileRow([("displayname".to_owned(), name.into())].into_iter().collect());
        let mut batch = Batch::new();
        batch.require(&USERS, &(&user,), None);
        batch.put(&USERS, &(&user,), &row);
        batch.put(&PROFILES, &(&user,), &profile);
        match self.store().commit(batch).await {
            Ok(()) => Ok(user),
            Err(CommitError::Fence { .. }) => Err(RegisterError::Taken),
            Err(error) => Err(AccountsUnavailable::from(error).into()),
        }
    }

    /// Checks that a name can be registered; returns the user ID that it would get.
    ///
    /// # Errors
    /// If the name can't be registered.
    pub async fn check_available(&self, name: &str) -> Result<OwnedUserId, RegisterError> {
        let user = username::local_user_id(name, &self.inner.server_name)?;
        if self.account(&user).await?.is_some() {
            Err(RegisterError::Taken)
        } else {
            Ok(user)
        }
    }

    /// Returns an account, also a deactivated one.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn account(&self, user: &UserId) -> Result<Option<Account>, AccountsUnavailable> {
        let row = self.user_row(user).await?;
        Ok(row.map(|row| account(user.to_owned(), &row)))
    }

    /// Lists up to `limit` accounts ordered by user ID, starting after `after`. Deactivated accounts are included.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn list(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<Account>, AccountsUnavailable> {
        let mut query = USERS.under(&());
        if let Some(after) = after {
            query = query.after(&(after,));
        }
        let rows = self.store().scan(query.limit(limit)).await?;
        Ok(rows.into_iter().map(|((user,), row)| account(user, &row)).collect())
    }

    /// Whether a user of this server exists and is not deactivated.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn exists(&self, user: &UserId) -> Result<bool, AccountsUnavailable> {
        Ok(self.is_local(user) && self.account(user).await?.is_some_and(|account| !account.deactivated))
    }

    /// Grants or revokes the admin flag. Returns false if there is no such account.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn set_admin(&self, user: &UserId, admin: bool) -> Result<bool, AccountsUnavailable> {
        self.change_user(user, |row| row.admin = admin).await
    }

    /// Sets a new password. The caller must have authenticated the user or the operator; `network` is the network of
    /// the request. Sessions stay valid: see [`Accounts::logout_all`].
    ///
    /// # Errors
    /// If there is no such account or the password is not allowed.
    pub async fn set_password(
        &self,
        user: &UserId,
        password: &str,
        network: Option<Network>,
    ) -> Result<(), SetPasswordError> {
        check_new_password(password)?;
        if !self.exists(user).await? {
            return Err(SetPasswordError::UnknownUser);
        }
        let hash = self.inner.passwords.hash(password, ClientClass::Known(network)).await?;
        let change = |row: &mut UserRow| {
            // The account may have been deactivated concurrently.
            row.password = Some(hash.clone()).filter(|_| !row.deactivated);
        };
        self.change_user(user, change).await?;
        Ok(())
    }

    /// Deactivates the account permanently: no login, all sessions ended, profile cleared. The caller must make the user
    /// leave their rooms.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn deactivate(&self, user: &UserId) -> Result<(), AccountsUnavailable> {
        // The account comes first, so that no new session can begin while the old ones are ended.
        self.change_user(user, |row| {
            row.deactivated = true;
            row.password = None;
        })
        .await?;
        self.logout_all(user, None).await?;
        let mut batch = Batch::new();
        batch.delete(&PROFILES, &(user,));
        Ok(self.store().commit(batch).await?)
    }

    /// Deletes the private data of a deactivated user: account data and filters.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn erase(&self, user: &UserId) -> Result<(), AccountsUnavailable> {
        let mut batch = Batch::new();
        for ((_, room, kind), row) in self.store().scan_all(ACCOUNT_DATA.under(&(user,))).await? {
            batch.delete(&ACCOUNT_DATA, &(user, &room, &kind));
            batch.delete(&ACCOUNT_DATA_STREAM, &(user, row.position));
        }
        batch.delete(&ACCOUNT_DATA_USAGE, &(user,));
        for ((_, id), _) in self.store().scan_all(FILTERS.under(&(user,))).await? {
            batch.delete(&FILTERS, &(user, id));
        }
        Ok(self.store().commit(batch).await?)
    }

    pub(crate) async fn user_row(&self, user: &UserId) -> Result<Option<UserRow>, AccountsUnavailable> {
        Ok(self.store().get(&USERS, &(user,)).await?)
    }

    /// Changes a row with a compare-and-swap and retries on a conflict. Returns false if there is no such account.
    async fn change_user(&self, user: &UserId, change: impl Fn(&mut UserRow)) -> Result<bool, AccountsUnavailable> {
        for _ in 0..ATTEMPTS {
            let Some(before) = self.user_row(user).await? else {
                return Ok(false);
            };
            let mut after = before.clone();
            change(&mut after);
            let mut batch = Batch::new();
            batch.require(&USERS, &(user,), Some(&before));
            batch.put(&USERS, &(user,), &after);
            match self.store().commit(batch).await {
                Ok(()) => return Ok(true),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AccountsUnavailable::Contended)
    }
}

fn account(user_id: OwnedUserId, row: &UserRow) -> Account {
    Account {
        user_id,
        admin: row.admin,
        deactivated: row.deactivated,
        created_at_ms: row.created_at,
    }
}

/// Checks a new password. The same rule holds for registration, password changes and the operator.
///
/// # Errors
/// If it is too short or too long.
pub fn check_new_password(password: &str) -> Result<(), PasswordRefused> {
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Err(PasswordRefused::TooShort);
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordRefused::TooLong);
    }
    Ok(())
}
