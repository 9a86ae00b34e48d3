//! Ignored users (client-server API, "Ignoring users").
//!
//! Their message events and invitations are not sent. Their state events are sent, because the room's state would otherwise be
//! wrong. Must not hide an event that a client requests by its id.

use std::collections::BTreeSet;

use crate::errors::ApiResult;
use ruma::UserId;
use serde::Deserialize;
use serde_json::{Map, Value};
use weft_accounts::Accounts;
use weft_dag::Pdu;

/// The type of the account data that contains the list.
pub const IGNORED_USER_LIST: &str = "m.ignored_user_list";

/// The user ids in a user's list.
#[derive(Debug, Default)]
pub struct Ignored(BTreeSet<String>);

impl Ignored {
    /// Whether an event must not be sent to the user.
    #[must_use]
    pub fn hides(&self, pdu: &Pdu) -> bool {
        pdu.state_key().is_none() && self.contains(pdu.sender())
    }

    /// Whether a user is in the list.
    #[must_use]
    pub fn contains(&self, user: &UserId) -> bool {
        self.0.contains(user.as_str())
    }
}

/// The users whom this user ignores; empty if the list is malformed.
///
/// # Errors
/// When the account data can't be read.
pub async fn ignored_users(accounts: &Accounts, user: &UserId) -> ApiResult<Ignored> {
    #[derive(Deserialize)]
    struct List {
        ignored_users: Map<String, Value>,
    }
    let content = accounts.account_data(user, None, IGNORED_USER_LIST).await?;
    let list = content.and_then(|content| serde_json::from_value::<List>(content).ok());
    let mut users: BTreeSet<String> = list
        .into_iter()
        .flat_map(|list| list.ignored_users)
        .map(|(id, _)| id)
        .collect();
    // A user cannot ignore themselves.
    users.remove(user.as_str());
    Ok(Ignored(users))
}
