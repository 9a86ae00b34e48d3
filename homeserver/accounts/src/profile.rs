//! Profiles of this server's users: display name, avatar and other fields (Matrix specification, "Profiles").

use ruma::UserId;
use serde_json::{Map, Value};
use weft_store::{
    Batch, CommitError,
    tables::accounts::{PROFILES, ProfileRow},
};
use weft_wire::document::GUEST_FIELD;
use weft_wire::limits::{MAX_AVATAR_URL_BYTES, MAX_DISPLAY_NAME_BYTES};

use crate::{ATTEMPTS, Accounts, AccountsUnavailable};

/// Limits in bytes of a field's name and of a whole profile as JSON. Source: Matrix 1.16, "Profiles".
const MAX_FIELD_NAME_BYTES: usize = 255;
const MAX_PROFILE_BYTES: usize = 64 * 1024;

/// The reason why a profile was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The display name is longer than the limit.
    #[error("a display name has at most {MAX_DISPLAY_NAME_BYTES} bytes")]
    NameTooLong,
    /// The avatar URL is longer than the limit.
    #[error("an avatar URL has at most {MAX_AVATAR_URL_BYTES} bytes")]
    AvatarUrlTooLong,
    /// The field's name is longer than the limit.
    #[error("a profile field's name has at most {MAX_FIELD_NAME_BYTES} bytes")]
    FieldNameTooLong,
    /// The profile would be larger than the limit.
    #[error("a profile has at most {MAX_PROFILE_BYTES} bytes")]
    TooLarge,
    /// `displayname` and `avatar_url` must be strings.
    #[error("{0} must be a string")]
    NotText(String),
    /// A guest's name is empty or has characters that are not shown.
    #[error("the name of a guest must be one line of text")]
    NotOneLine,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

/// A user's profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// `displayname`
    pub displayname: Option<String>,
    /// `avatar_url`
    pub avatar_url: Option<String>,
    /// All fields, including those two.
    pub fields: Map<String, Value>,
}

impl Profile {
    /// `displayname`, `avatar_url` and the mark of a guest for the content of a member event.
    #[must_use]
    pub fn for_member_event(&self) -> Map<String, Value> {
        let named = self
            .fields
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "displayname" | "avatar_url" | GUEST_FIELD));
        named.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl From<ProfileRow> for Profile {
    fn from(ProfileRow(fields): ProfileRow) -> Self {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            displayname: text("displayname"),
            avatar_url: text("avatar_url"),
            fields,
        }
    }
}

impl Accounts {
    /// Returns a user's profile. `None`: the user does not exist or is deactivated.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn profile(&self, user: &UserId) -> Result<Option<Profile>, AccountsUnavailable> {
        Ok(self.store().get(&PROFILES, &(user,)).await?.map(Profile::from))
    }

    /// `displayname` and `avatar_url` of a user for the content of a member event; empty for a user without a profile
    /// here, as those of other servers.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn member_content(&self, user: &UserId) -> Result<Map<String, Value>, AccountsUnavailable> {
        Ok(self.profile(user).await?.unwrap_or_default().for_member_event())
    }

    /// Sets or removes one field. Returns false if this changes nothing.
    ///
    /// # Errors
    /// If the value is not valid, or the store fails.
    pub async fn set_profile_field(
        &self,
        user: &UserId,
        field: &str,
        value: Option<Value>,
    ) -> Result<bool, ProfileError> {
        check(field, value.as_ref())?;
        for _ in 0..ATTEMPTS {
            let before = self
                .store()
                .get(&PROFILES, &(user,))
                .await
                .map_err(AccountsUnavailable::from)?;
            let mut after = before.clone().unwrap_or_default();
            match value.clone() {
                Some(value) => after.0.insert(field.to_owned(), value),
                None => after.0.remove(field),
            };
            if before.as_ref().unwrap_or(&ProfileRow::default()) == &after {
                return Ok(false);
            }
            if serde_json::to_string(&after).map_or(usize::MAX, |json| json.len()) > MAX_PROFILE_BYTES {
                return Err(ProfileError::TooLarge);
            }
            let mut batch = Batch::new();
            batch.require(&PROFILES, &(user,), before.as_ref());
            batch.put(&PROFILES, &(user,), &after);
            match self.store().commit(batch).await {
                Ok(()) => return Ok(true),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }
}

/// Whether a display name can be stored.
pub(crate) fn check_display_name(name: &str) -> Result<(), ProfileError> {
    if name.len() > MAX_DISPLAY_NAME_BYTES {
        return Err(ProfileError::NameTooLong);
    }
    Ok(())
}

fn check(field: &str, value: Option<&Value>) -> Result<(), ProfileError> {
    if field.len() > MAX_FIELD_NAME_BYTES {
        return Err(ProfileError::FieldNameTooLong);
    }
    let Some(value) = value else { return Ok(()) };
    match (field, value.as_str()) {
        ("displayname", Some(name)) => check_display_name(name),
        ("avatar_url", Some(url)) if url.len() > MAX_AVATAR_URL_BYTES => Err(ProfileError::AvatarUrlTooLong),
        ("displayname" | "avatar_url", None) => Err(ProfileError::NotText(field.to_owned())),
        _ => Ok(()),
    }
}
