//! Accounts themselves: making, looking up, changing the password, deactivating.

use ruma::{OwnedUserId, UserId};
use weft_store::{
    Batch, CommitError,
    tables::accounts::{DEVICES, PROFILES, ProfileRow, USERS, UserRow},
};
use weft_wire::limits::MAX_PASSWORD_BYTES;

use crate::{ATTEMPTS, Accounts, AccountsUnavailable, InvalidUsername, sessions, username};

/// An account to make.
#[derive(Clone)]
pub struct NewAccount {
    /// Local part.
    pub username: String,
    /// Password; None: no sign-in by password.
    pub password: Option<String>,
    /// May use the administrators' API.
    pub admin: bool,
    /// Display name; the local part where absent.
    pub display_name: Option<String>,
}

/// What is known of an account, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub user_id: OwnedUserId,
    /// May use the administrators' API.
    pub admin: bool,
    /// Closed for ever.
    pub deactivated: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// Why an account was not made.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name breaks the grammar.
    #[error(transparent)]
    InvalidUsername(#[from] InvalidUsername),
    /// The name belongs to somebody, or did.
    #[error("the user name is taken")]
    Taken,
    /// Over [`MAX_PASSWORD_BYTES`] or empty.
    #[error("a password has 1 to {MAX_PASSWORD_BYTES} bytes")]
    BadPassword,
    /// The store.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SetPasswordError {
    /// No such account, or it is deactivated.
    #[error("no such account")]
    UnknownUser,
    /// Over [`MAX_PASSWORD_BYTES`] or empty.
    #[error("a password has 1 to {MAX_PASSWORD_BYTES} bytes")]
    BadPassword,
    /// The store.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Makes an account.
    ///
    /// # Errors
    /// When the name can't be had or the password can't be used.
    pub async fn register(&self, account: NewAccount) -> Result<OwnedUserId, RegisterError> {
        let user = self.check_available(&account.username).await?;
        let password = match &account.password {
            Some(password) if !usable(password) => return Err(RegisterError::BadPassword),
            Some(password) => Some(self.inner.passwords.hash(password).await?),
            None => None,
        };
        let row = UserRow {
            password,
            admin: account.admin,
            deactivated: false,
            created_at: self.now_ms(),
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

    /// Whether a name can be registered: the id it would get.
    ///
    /// # Errors
    /// When it can't.
    pub async fn check_available(&self, name: &str) -> Result<OwnedUserId, RegisterError> {
        let user = username::local_user_id(name, &self.inner.server_name)?;
        if self.account(&user).await?.is_some() {
            Err(RegisterError::Taken)
        } else {
            Ok(user)
        }
    }

    /// An account, also a deactivated one.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn account(&self, user: &UserId) -> Result<Option<Account>, AccountsUnavailable> {
        let row = self.user_row(user).await?;
        Ok(row.map(|row| Account {
            user_id: user.to_owned(),
            admin: row.admin,
            deactivated: row.deactivated,
            created_at_ms: row.created_at,
        }))
    }

    /// Whether a user of this server exists and is not deactivated.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn exists(&self, user: &UserId) -> Result<bool, AccountsUnavailable> {
        Ok(self.is_local(user) && self.account(user).await?.is_some_and(|account| !account.deactivated))
    }

    /// Makes the user an administrator, or no longer one. False: no such account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_admin(&self, user: &UserId, admin: bool) -> Result<bool, AccountsUnavailable> {
        self.change_user(user, |row| row.admin = admin).await
    }

    /// Whether the password is the account's. Counts nothing: [`Accounts::login`] is what the brake is on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn check_password(&self, user: &UserId, password: &str) -> Result<bool, AccountsUnavailable> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let row = self.user_row(user).await?.filter(|row| !row.deactivated);
        self.inner
            .passwords
            .verify(password, row.and_then(|row| row.password))
            .await
    }

    /// Sets a new password. Sessions stay: see [`Accounts::logout_all`].
    ///
    /// # Errors
    /// When there is no such account or the password can't be used.
    pub async fn set_password(&self, user: &UserId, password: &str) -> Result<(), SetPasswordError> {
        if !usable(password) {
            return Err(SetPasswordError::BadPassword);
        }
        if !self.exists(user).await? {
            return Err(SetPasswordError::UnknownUser);
        }
        let hash = self.inner.passwords.hash(password).await?;
        self.change_user(user, |row| row.password = Some(hash.clone())).await?;
        Ok(())
    }

    /// Closes the account for ever: no sign-in, all sessions ended, profile cleared. Its rooms are the caller's to
    /// leave.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn deactivate(&self, user: &UserId) -> Result<(), AccountsUnavailable> {
        // First the account, so that no new session can begin while the old ones are ended.
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

    pub(crate) async fn user_row(&self, user: &UserId) -> Result<Option<UserRow>, AccountsUnavailable> {
        Ok(self.store().get(&USERS, &(user,)).await?)
    }

    /// Read, change, commit if nobody changed it meanwhile; again where somebody did. False: no such account.
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

    /// Ends all sessions of a user, but for those of one device where it is named.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout_all(&self, user: &UserId, except: Option<&ruma::DeviceId>) -> Result<(), AccountsUnavailable> {
        for ((_, device), row) in self.store().scan_all(DEVICES.under(&(user,))).await? {
            if except.is_some_and(|kept| kept == device) {
                continue;
            }
            self.store().commit(sessions::removal(user, &device, &row)).await?;
        }
        Ok(())
    }
}

fn usable(password: &str) -> bool {
    !password.is_empty() && password.len() <= MAX_PASSWORD_BYTES
}
