//! Tables of accounts: users, devices, tokens, profiles, account data, filters. Tags 0x04xx.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

crate::tables! {
    USERS: (OwnedUserId,) => UserRow, Global, Ground, 0x0401,
        "Every account of this server. Global, so that administrators can list them.";
    DEVICES: (OwnedUserId, OwnedDeviceId) => DeviceRow, User, Ground, 0x0402,
        "User, device: where a person is signed in, and the hashes of the tokens that work there.";
    ACCESS_TOKENS: (String,) => AccessTokenRow, Global, Ground, 0x0403,
        "Hash of an access token: whose it is. Tokens themselves are never stored.";
    REFRESH_TOKENS: (String,) => RefreshTokenRow, Global, Ground, 0x0404,
        "Hash of a refresh token: whose it is.";
    PROFILES: (OwnedUserId,) => ProfileRow, User, Ground, 0x0405,
        "Display name, avatar and other profile fields of our users.";
    ACCOUNT_DATA: (OwnedUserId, String, String) => AccountDataRow, User, Ground, 0x0406,
        "User, room (empty: global), type: what clients keep on the server for their user.";
    FILTERS: (OwnedUserId, u64) => String, User, Ground, 0x0407,
        "User, number: filters that clients stored, as JSON text.";
    ACCOUNT_DATA_STREAM: (OwnedUserId, u64) => AccountDataPlace, User, Derived, 0x0408,
        "User, position: which piece of account data changed there last, so that a sync reads only what is new.";
    ACCOUNT_DATA_USAGE: (OwnedUserId,) => AccountDataUsage, User, Derived, 0x0409,
        "How much account data a user has, for the quota.";
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// argon2id hash of the password (PHC string); None: no sign-in by password.
    #[serde(default)]
    pub password: Option<String>,
    /// May use the administrators' API.
    #[serde(default)]
    pub admin: bool,
    /// No sign-in at all, for ever. The name is never given to anybody else.
    #[serde(default)]
    pub deactivated: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_at: u64,
}

/// The hashes of an access token and, where the client asked for one, of its refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPair {
    /// Key in `ACCESS_TOKENS`.
    pub access: String,
    /// Key in `REFRESH_TOKENS`.
    #[serde(default)]
    pub refresh: Option<String>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// What the person calls it.
    #[serde(default)]
    pub display_name: Option<String>,
    /// When it signed in, in milliseconds since 1970.
    pub created_at: u64,
    /// Which sign-in this is: a random number that a refresh keeps and a new sign-in on the same device changes. 0 in rows
    /// that were written before it existed.
    #[serde(default)]
    pub sign_in: u64,
    /// The tokens in use.
    pub current: TokenPair,
    /// The tokens that the last refresh gave out and nobody has used yet. Their first use ends the current ones.
    #[serde(default)]
    pub next: Option<TokenPair>,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenRow {
    /// Whose.
    pub user: OwnedUserId,
    /// On which device.
    pub device: OwnedDeviceId,
    /// Until when, in milliseconds since 1970; None: until sign-out.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// Given out by a refresh and not used yet.
    #[serde(default)]
    pub fresh: bool,
    /// `sign_in` of the device when the token was given out.
    #[serde(default)]
    pub sign_in: u64,
}

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshTokenRow {
    /// Whose.
    pub user: OwnedUserId,
    /// On which device.
    pub device: OwnedDeviceId,
}

/// A profile: field name to value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProfileRow(pub serde_json::Map<String, serde_json::Value>);

/// One piece of account data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataRow {
    /// The content; an empty object where it was deleted.
    pub content: serde_json::Value,
    /// Position of the change, for /sync.
    pub position: u64,
}

/// The key of a row of `ACCOUNT_DATA`, without the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataPlace {
    /// The room; empty: global.
    pub room: String,
    /// The type.
    pub kind: String,
}

/// What all of a user's rows of `ACCOUNT_DATA` take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataUsage {
    /// Rows.
    pub rows: u64,
    /// Bytes of their contents as JSON, of their types and room ids.
    pub bytes: u64,
}

impl AccountDataUsage {
    /// The usage of one row.
    #[must_use]
    pub fn of(room: &str, kind: &str, content: &serde_json::Value) -> Self {
        let bytes = content.to_string().len() + room.len() + kind.len();
        Self {
            rows: 1,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        }
    }
}

crate::json_value!(
    UserRow,
    DeviceRow,
    AccessTokenRow,
    RefreshTokenRow,
    ProfileRow,
    AccountDataRow,
    AccountDataPlace,
    AccountDataUsage
);
