//! Accounts of guests: users without a password, who have one session until the share link ends by which they came. Must
//! not know the link.

use ruma::UserId;
use serde_json::json;
use weft_store::{
    Batch, CommitError,
    tables::accounts::{PROFILES, ProfileRow, USERS, UserRow},
};
use weft_wire::document::GUEST_FIELD;

use crate::{Accounts, AccountsUnavailable, Network, ProfileError, ProofError, RegisterError, profile};

/// Follows the name that a guest chose, so that every client on every server shows that it is a guest.
const NAME_SUFFIX: &str = " (guest)";

impl Accounts {
    /// Counts the creation of a guest from this network.
    ///
    /// # Errors
    /// If there were too many.
    pub fn count_guest(&self, network: Option<Network>) -> Result<(), ProofError> {
        let counted = self.inner.login_limiter.count_guest(network, self.now_ms());
        counted.map_err(|retry_after| ProofError::Throttled { retry_after })
    }

    /// An unused user id for a guest.
    #[must_use]
    pub fn new_guest_id(&self) -> ruma::OwnedUserId {
        let name = format!("guest-{:016x}", rand::random::<u64>());
        let server = &self.inner.server_name;
        crate::local_user_id(&name, server).unwrap_or_else(|_| UserId::new(server))
    }

    /// The name by which others see a guest.
    ///
    /// # Errors
    /// If the name is empty, has characters that are not shown, or is too long with the mark that is added to it.
    pub fn guest_name(&self, chosen: &str) -> Result<String, ProfileError> {
        let chosen = chosen.trim();
        if chosen.is_empty() || chosen.chars().any(is_hidden) {
            return Err(ProfileError::NotOneLine);
        }
        let name = format!("{chosen}{NAME_SUFFIX}");
        profile::check_display_name(&name)?;
        Ok(name)
    }

    /// Creates the account of a guest with a name of [`Accounts::guest_name`], whose sessions end at `until`, in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// If the name is taken, or the store fails.
    pub async fn register_guest(&self, user: &UserId, name: &str, until: u64) -> Result<(), RegisterError> {
        let row = UserRow {
            password: None,
            admin: false,
            deactivated: false,
            created_at: self.now_ms(),
            guest_until: Some(until),
        };
        let fields = [("displayname", json!(name)), (GUEST_FIELD, json!(true))];
        let profile = ProfileRow(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        let mut batch = Batch::new();
        batch.require(&USERS, &(user,), None);
        batch.put(&USERS, &(user,), &row);
        batch.put(&PROFILES, &(user,), &profile);
        match self.store().commit(batch).await {
            Ok(()) => Ok(()),
            Err(CommitError::Fence { .. }) => Err(RegisterError::Taken),
            Err(error) => Err(AccountsUnavailable::from(error).into()),
        }
    }
}

/// Control characters, and those by which a name changes the direction of the text after it: the mark would be unreadable.
fn is_hidden(c: char) -> bool {
    let changes_direction = matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    c.is_control() || changes_direction
}
