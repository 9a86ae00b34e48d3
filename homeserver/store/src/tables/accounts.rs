//! Tables of accounts: users, devices, tokens, profiles, account data, filters. Tags 0x04xx. Must not use tags of other
//! groups.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::lane::Lane;

crate::tables! {
    USERS: (OwnedUserId,) => UserRow, Lane(User), Ground, 0x0401,
        "Every account of this server. A list, so that administrators can read it.";
    DEVICES: (OwnedUserId, OwnedDeviceId) => DeviceRow, User, Ground, 0x0402,
        "User, device: the logins of a user, and the hashes of their valid tokens.";
    ACCESS_TOKENS: (Lane, String) => AccessTokenRow, Lane(Lane), Ground, 0x0403,
        "Lane of the user, hash of an access token: its user and device. Tokens themselves are never stored.";
    REFRESH_TOKENS: (Lane, String) => RefreshTokenRow, Lane(Lane), Ground, 0x0404,
        "Lane of the user, hash of a refresh token: its user and device.";
    PROFILES: (OwnedUserId,) => ProfileRow, User, Ground, 0x0405,
        "Display name, avatar and other profile fields of our users.";
    ACCOUNT_DATA: (OwnedUserId, String, String) => AccountDataRow, User, Ground, 0x0406,
        "User, room (empty: global), type: account data that clients store for their user.";
    FILTERS: (OwnedUserId, u64) => String, User, Ground, 0x0407,
        "User, number: filters that clients stored, as JSON text.";
    ACCOUNT_DATA_STREAM: (OwnedUserId, u64) => AccountDataPlace, User, Derived, 0x0408,
        "User, position: the account data whose last change has this position, so that a sync reads only new entries.";
    ACCOUNT_DATA_USAGE: (OwnedUserId,) => AccountDataUsage, User, Derived, 0x0409,
        "The size of a user's account data, for the quota.";
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// The argon2id hash of the password (PHC string); `None`: no login with a password.
    #[serde(default)]
    pub password: Option<String>,
    /// The user may use the admin API.
    #[serde(default)]
    pub admin: bool,
    /// Login is disabled permanently. The name is never assigned again.
    #[serde(default)]
    pub deactivated: bool,
    /// Creation time, in milliseconds since 1970.
    pub created_at: u64,
    /// A guest, whose sessions end at this time, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_until: Option<u64>,
}

/// The hashes of an access token and, if the client requested one, of its refresh token.
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
    /// The display name that the user chose.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Login time, in milliseconds since 1970.
    pub created_at: u64,
    /// The id of the login: a random number that a refresh keeps and a new login on the same device changes. 0 in rows
    /// that were written before it existed.
    #[serde(default)]
    pub sign_in: u64,
    /// The tokens in use.
    pub current: TokenPair,
    /// The tokens that the last refresh issued and that are not used yet. Their first use revokes the current ones.
    #[serde(default)]
    pub next: Option<TokenPair>,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenRow {
    /// The user.
    pub user: OwnedUserId,
    /// The device.
    pub device: OwnedDeviceId,
    /// Expiry, in milliseconds since 1970; `None`: valid until logout.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// Issued by a refresh and not used yet.
    #[serde(default)]
    pub fresh: bool,
    /// `sign_in` of the device when the token was issued.
    #[serde(default)]
    pub sign_in: u64,
    /// The user is a guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
}

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshTokenRow {
    /// The user.
    pub user: OwnedUserId,
    /// The device.
    pub device: OwnedDeviceId,
}

/// A profile: values by field name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProfileRow(pub serde_json::Map<String, serde_json::Value>);

/// One entry of account data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataRow {
    /// The content; an empty object if it was deleted.
    pub content: serde_json::Value,
    /// The position of the change, for `/sync`.
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

/// The total size of a user's rows of `ACCOUNT_DATA`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataUsage {
    /// The number of rows.
    pub rows: u64,
    /// Bytes of their contents as JSON, and of their types and room ids.
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
