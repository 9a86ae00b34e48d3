//! Tables of webhooks: where events are delivered to, and how far. Tags 0x08xx. Must not use tags of other groups.

use std::collections::BTreeMap;

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::lane::Lane;

crate::tables! {
    WEBHOOKS: (Lane, String, String) => WebhookRow, Lane(Lane), Ground, 0x0801,
        "Lane of the owner, owner (the id of a document or of a user), webhook id: a URL to which events are delivered.";
    WEBHOOK_PROGRESS: (Lane, String, String) => WebhookProgressRow, Lane(Lane), Ground, 0x0802,
        "The same key: what was delivered. Only the task of the webhook writes it after the webhook is created.";
}

/// A webhook, as people set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRow {
    /// Where events are delivered to.
    pub url: String,
    /// The names of the events that are delivered; empty: all.
    #[serde(default)]
    pub events: Vec<String>,
    /// The user whose rights decide what is delivered.
    pub creator: OwnedUserId,
    /// In milliseconds since 1970.
    pub created_at: u64,
    /// The secret, as its creator got it.
    pub secret: String,
    /// The secret before it, and until when it is used as well, in milliseconds since 1970.
    #[serde(default)]
    pub old_secret: Option<(String, u64)>,
    /// Nothing is delivered.
    #[serde(default)]
    pub paused: Option<WebhookPauseRow>,
    /// Raised by each change after which a failed delivery is tried at once.
    #[serde(default)]
    pub changes: u64,
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookPauseRow {
    /// Since when, in milliseconds since 1970.
    pub since: u64,
    /// Why the server paused it; `None`: a user did.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What a webhook has delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookProgressRow {
    /// By lane: all events up to this stream position are delivered or are not for the webhook.
    pub positions: BTreeMap<u16, u64>,
    /// The events after it that are being delivered.
    #[serde(default)]
    pub span: Option<WebhookSpanRow>,
    /// Failed attempts of the next delivery.
    #[serde(default)]
    pub attempts: u32,
    /// The time of the first of them, in milliseconds since 1970.
    #[serde(default)]
    pub failing_since: Option<u64>,
    /// The time of the next attempt, in milliseconds since 1970.
    #[serde(default)]
    pub next_at: u64,
    /// The number of changes of the webhook at the last attempt.
    #[serde(default)]
    pub changes: u64,
    /// The newest deliveries, the newest first.
    #[serde(default)]
    pub recent: Vec<WebhookDeliveryRow>,
}

/// Events that are being delivered. Its end is stored before the first delivery, so that deliveries are divided in the same
/// way, and have the same ids, when they are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSpanRow {
    /// The number of the lane.
    pub lane: u16,
    /// Its last stream position.
    pub through: u64,
    /// All deliveries of it whose first event is at or before this position are done.
    pub reached: u64,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDeliveryRow {
    /// Its `webhook-id`.
    pub id: String,
    /// The name of its event.
    pub name: String,
    /// The document.
    pub document: String,
    /// The time of the newest attempt, in milliseconds since 1970.
    pub at: u64,
    /// Attempts, with the successful one.
    pub attempts: u32,
    /// The HTTP status of the newest answer.
    #[serde(default)]
    pub status: Option<u16>,
    /// Why the newest attempt failed.
    #[serde(default)]
    pub error: Option<String>,
}

crate::json_value!(WebhookRow, WebhookProgressRow);
