//! Bodies of webhooks: of a document, and of a user (`spec/docs/webhooks.md`).

use ruma::{OwnedRoomId, OwnedUserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /webhooks` and `POST /documents/{id}/webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateWebhook {
    /// Where events are delivered to: `https`, and `http` to addresses that the operator allows.
    pub url: String,
    /// Names of events; empty or absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// `PATCH` of a webhook. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeWebhook {
    /// Another URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Other names of events; empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Pause or resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The id.
    pub webhook_id: String,
    /// The document; absent: all documents of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::RoomId>")]
    pub doc_id: Option<OwnedRoomId>,
    /// Where events are delivered to.
    pub url: String,
    /// Names of events; empty: all.
    pub events: Vec<String>,
    /// The user whose rights decide what is delivered.
    #[schemars(with = "crate::schema::UserId")]
    pub created_by: OwnedUserId,
    /// Time.
    pub created_at: u64,
    /// Nothing is delivered; absent: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<WebhookPause>,
    /// The next delivery has failed and is repeated; absent: it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<WebhookFailing>,
    /// Until when the old secret is used as well; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until: Option<u64>,
}

/// Why and since when nothing is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookPause {
    /// Time.
    pub since: u64,
    /// Why the server paused it; absent: a user did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Failed attempts of the next delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookFailing {
    /// The time of the first one.
    pub since: u64,
    /// Their number.
    pub attempts: u32,
    /// The time of the next one.
    pub next_at: u64,
}

/// Answer to [`CreateWebhook`], 201: the only one with the secret, besides [`WebhookSecret`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookMade {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// `whsec_` and the base64 of the key of the signatures.
    pub secret: String,
}

/// Answer to `GET /webhooks` and `GET /documents/{id}/webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookList {
    /// The oldest first.
    pub webhooks: Vec<Webhook>,
}

/// Answer to `POST` of a webhook's `secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSecret {
    /// The new secret.
    pub secret: String,
    /// Until when the old one is used as well.
    pub old_secret_until: u64,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDelivery {
    /// `webhook-id`, which repetitions have as well.
    pub delivery_id: String,
    /// The name of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// The document.
    pub doc_id: String,
    /// The time of the newest attempt.
    pub at: u64,
    /// Attempts.
    pub attempts: u32,
    /// It is delivered.
    pub delivered: bool,
    /// The HTTP status of the newest answer; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the newest attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Answer to `GET` of a webhook's `deliveries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDeliveries {
    /// The newest first.
    pub deliveries: Vec<WebhookDelivery>,
}

/// Answer to `POST` of a webhook's `test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTest {
    /// The receiver accepted it.
    pub delivered: bool,
    /// The HTTP status of its answer; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
