//! Access of `weft user ...` to the accounts: over the socket of the running server or, if none runs, in the store. Must
//! give the same results both ways.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method};
use ruma::OwnedUserId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_accounts::{AccountLimits, Accounts, InvalidUsername, NewAccount, SystemClock};
use weft_gateway::client::operator::{AddUser, Deactivate, ListedUser, SetPassword, Users};
use weft_store::Store;
use weft_telemetry::Metrics;
use weft_wire::limits::OPERATOR_PAGE_ACCOUNTS;

use crate::config::Config;
use crate::operator_client::{self, OperatorError, answer, encoded, url};
use crate::serve::storage;
use crate::user_command::UserError;

/// Timeout of a request. A deactivation leaves the user's rooms and waits for other servers.
const TIMEOUT: Duration = Duration::from_secs(300);

/// See the module.
pub(crate) enum UserAccess {
    /// A server is running.
    Running(Client),
    /// No server is running: this process has the store open.
    Stopped(Store, Accounts),
}

impl UserAccess {
    /// Connects to the running server, or opens the store if there is none.
    pub(crate) async fn open(config: &Config) -> Result<Self, UserError> {
        match operator_client::builder(config).await? {
            Some(client) => Ok(Self::Running(
                client.timeout(TIMEOUT).build().map_err(OperatorError::from)?,
            )),
            None => Self::open_store(config).await,
        }
    }

    async fn open_store(config: &Config) -> Result<Self, UserError> {
        let store = storage::open(config, &Metrics::default()).await?;
        let limits = AccountLimits {
            account_data_bytes: config.limits.account_data_bytes,
            filter_bytes: config.limits.filter_bytes,
        };
        let clock = Arc::new(SystemClock);
        let accounts = Accounts::with_limits(store.clone(), config.server_name.clone(), clock, limits);
        Ok(Self::Stopped(store, accounts))
    }

    /// Closes the store, if it was opened.
    pub(crate) async fn close(self) {
        if let Self::Stopped(store, _) = self {
            store.close().await;
        }
    }

    /// Adds an account.
    pub(crate) async fn add(&self, user: &OwnedUserId, password: String, admin: bool) -> Result<(), UserError> {
        match self {
            Self::Running(client) => {
                let request = AddUser {
                    name: user.to_string(),
                    password,
                    admin,
                };
                send_request::<Value>(client, Method::POST, "users", &request)
                    .await
                    .map(drop)
            }
            Self::Stopped(_, accounts) => {
                let account = NewAccount {
                    username: user.localpart().to_owned(),
                    password: Some(password),
                    admin,
                    display_name: None,
                };
                accounts.register(account).await?;
                Ok(())
            }
        }
    }

    /// Lists accounts after this one, not necessarily all.
    pub(crate) async fn list(&self, after: Option<OwnedUserId>) -> Result<Vec<ListedUser>, UserError> {
        match self {
            Self::Running(client) => {
                let query = after.map(|after| format!("?after={}", encoded(after.as_str())));
                let path = format!("users{}", query.unwrap_or_default());
                Ok(answer::<Users>(client.get(url(&path))).await?.users)
            }
            Self::Stopped(_, accounts) => {
                let users = accounts.list(after.as_deref(), OPERATOR_PAGE_ACCOUNTS).await?;
                Ok(users.into_iter().map(Into::into).collect())
            }
        }
    }

    /// Sets a password.
    pub(crate) async fn set_password(
        &self,
        user: &OwnedUserId,
        password: String,
        end_sessions: bool,
    ) -> Result<(), UserError> {
        match self {
            Self::Running(client) => {
                let request = SetPassword { password, end_sessions };
                let path = format!("users/{}/password", encoded(user.as_str()));
                send_request::<Value>(client, Method::POST, &path, &request)
                    .await
                    .map(drop)
            }
            Self::Stopped(_, accounts) => {
                accounts.set_password(user, &password, None).await?;
                if end_sessions {
                    accounts.logout_all(user, None).await?;
                }
                Ok(())
            }
        }
    }

    /// Deactivates an account. Returns true if its rooms were left as well, which needs a running server.
    pub(crate) async fn deactivate(&self, user: &OwnedUserId, erase: bool) -> Result<bool, UserError> {
        match self {
            Self::Running(client) => {
                let path = format!("users/{}/deactivate", encoded(user.as_str()));
                send_request::<Value>(client, Method::POST, &path, &Deactivate { erase }).await?;
                Ok(true)
            }
            Self::Stopped(_, accounts) => {
                if accounts.account(user).await?.is_none() {
                    return Err(UserError::Refused("Account not found.".to_owned()));
                }
                accounts.deactivate(user).await?;
                if erase {
                    accounts.erase(user).await?;
                }
                Ok(false)
            }
        }
    }
}

/// The user ID for a name as users type it.
pub(crate) fn user_id(config: &Config, name: &str) -> Result<OwnedUserId, UserError> {
    weft_accounts::any_local_user_id(name, &config.server_name).map_err(|source| match source {
        InvalidUsername::Foreign => UserError::Foreign {
            name: name.to_owned(),
            server: config.server_name.to_string(),
        },
        source => UserError::Name {
            name: name.to_owned(),
            source,
        },
    })
}

async fn send_request<T: DeserializeOwned>(
    client: &Client,
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> Result<T, UserError> {
    let request = client.request(method, url(path)).json(body);
    Ok(answer(request).await?)
}
