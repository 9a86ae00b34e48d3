//! Bodies of share links (`spec/docs/documents-api.md`, "Share links").

use ruma::{OwnedRoomId, OwnedUserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Role;

/// `POST /documents/{id}/links`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MakeLink {
    /// The role that it gives.
    pub role: Role,
    /// How long it lasts, milliseconds; by default [`LINK_LASTS_MS`](crate::limits::LINK_LASTS_MS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = crate::limits::MAX_LINK_LASTS_MS))]
    pub expires_in: Option<u64>,
    /// How many users it may let in; by default any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_uses: Option<u64>,
    /// What everybody who follows it must give as well; as long as the password of an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// People without an account are let in as well, as guests.
    #[serde(default)]
    pub guests: bool,
}

/// The answer to [`MakeLink`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkMade {
    /// What a user needs to follow it. It is in no other answer.
    pub secret: String,
    /// The link.
    #[serde(flatten)]
    pub link: ShareLink,
}

/// A share link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareLink {
    /// By which it is revoked.
    pub link_id: String,
    /// Who made it.
    #[schemars(with = "crate::schema::UserId")]
    pub created_by: OwnedUserId,
    /// The role that it gives.
    pub role: Role,
    /// When it was made, milliseconds since 1970.
    pub created_at: u64,
    /// When it ends, milliseconds since 1970.
    pub expires_at: u64,
    /// How many users it may let in, if that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u64>,
    /// How many it has let in.
    pub uses: u64,
    /// A password is needed to follow it.
    pub has_password: bool,
    /// It lets guests in.
    pub guests: bool,
}

/// `GET /documents/{id}/links`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShareLinks {
    /// The oldest first.
    pub links: Vec<ShareLink>,
}

/// `POST /links/{secret}`. An empty body is one without fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FollowLink {
    /// The password of the link, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// The answer to [`FollowLink`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowedLink {
    /// The document, of which the caller is a member now.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
}

/// `POST /links/{secret}/guest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinAsGuest {
    /// The name of the guest; others see it with a mark.
    pub display_name: String,
    /// The password of the link, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// The answer to [`JoinAsGuest`], 201.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuestJoined {
    /// The document, of which the guest is a member now.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// The guest.
    #[schemars(with = "crate::schema::UserId")]
    pub user_id: OwnedUserId,
    /// The device of the session.
    pub device_id: String,
    /// The access token.
    pub access_token: String,
    /// When all of it ends, milliseconds since 1970.
    pub expires_at: u64,
}
