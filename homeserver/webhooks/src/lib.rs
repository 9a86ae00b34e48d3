//! Webhooks: the events of a document, or of all documents of a user, are sent to a URL (`spec/docs/webhooks.md`), at least once
//! and in order, with signatures as in the Standard Webhooks specification.
//!
//! Each webhook has a position in the stream of events, which is written with the outcome of each delivery; there is no queue,
//! so a pause costs nothing and loses nothing. Must not decide who may manage a webhook: its callers do.

mod error;
mod follow;
mod owner;
mod payload;
mod pending;
mod progress;
mod receivers;
mod registry;
mod secret;
mod target;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod tests_sent;
mod turns;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::Url;
use ruma::{OwnedUserId, UserId};
use tokio::sync::OnceCell;
use weft_accounts::Accounts;
use weft_clock::{Clock, millis};
use weft_room_read::{EVENT_NAMES, Reader};
use weft_store::{
    Batch, CommitError, Store,
    tables::webhooks::{WEBHOOK_PROGRESS, WEBHOOKS, WebhookPauseRow, WebhookProgressRow, WebhookRow},
};
use weft_wire::{
    limits::WEBHOOK_OLD_SECRET_MS,
    rest::{
        ChangeWebhook, CreateWebhook, Webhook, WebhookDelivery, WebhookFailing, WebhookMade, WebhookPause,
        WebhookSecret, WebhookTest,
    },
};

pub use error::WebhookError;
pub use owner::Owner;
pub use receivers::{ReceiverConfig, Receivers};

use owner::Key;
use receivers::{Answer, Message};
use registry::{Registry, Signal};
use task::Task;
use tests_sent::Tests;
use turns::Turns;

/// Random bytes of the id of a webhook.
const ID_BYTES: usize = 12;
/// Attempts to write a row that others change.
const ATTEMPTS: usize = 10;

/// What webhooks work with.
pub struct WebhookPorts {
    /// The rows.
    pub store: Store,
    /// Events and rights.
    pub reader: Reader,
    /// Whether the creator of a webhook still exists.
    pub accounts: Accounts,
    /// Where events are sent to.
    pub receivers: Receivers,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Any number; spreads repetitions.
    pub random: fn() -> u64,
}

/// All webhooks of a server. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

pub(crate) struct Inner {
    store: Store,
    reader: Reader,
    accounts: Accounts,
    receivers: Receivers,
    clock: Arc<dyn Clock>,
    random: fn() -> u64,
    turns: Turns,
    tests: Tests,
    registry: Mutex<Registry>,
    /// The rows are in the registry.
    loaded: OnceCell<()>,
    /// One webhook is created at a time, so that their number is right.
    creating: tokio::sync::Mutex<()>,
}

impl Webhooks {
    /// Webhooks that deliver when [`Webhooks::run`] is called.
    #[must_use]
    pub fn new(ports: WebhookPorts) -> Self {
        Self(Arc::new(Inner {
            store: ports.store,
            reader: ports.reader,
            accounts: ports.accounts,
            receivers: ports.receivers,
            clock: ports.clock,
            random: ports.random,
            turns: Turns::new(),
            tests: Tests::new(),
            registry: Mutex::default(),
            loaded: OnceCell::new(),
            creating: tokio::sync::Mutex::default(),
        }))
    }

    /// Delivers until it is dropped; then [`Webhooks::stop`] ends the deliveries in progress.
    pub async fn run(self) {
        while let Err(error) = self.load().await {
            tracing::error!(event = "webhooks.not_loaded", %error, "webhooks can't be read");
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        }
        follow::follow(self.0).await;
    }

    /// Ends all deliveries. They are made again after the next start.
    pub fn stop(&self) {
        self.0.registry.lock().clear();
    }

    async fn load(&self) -> Result<(), WebhookError> {
        self.0.loaded.get_or_try_init(|| self.read_all()).await.copied()
    }

    async fn read_all(&self) -> Result<(), WebhookError> {
        for lane in self.0.store.lanes().all() {
            let rows = self.0.store.scan_all(WEBHOOKS.under(&(lane,))).await?;
            for ((_, owner, id), row) in rows {
                if let Some(owner) = Owner::parse(&owner) {
                    self.register(Key { owner, id }, row.creator);
                }
            }
        }
        Ok(())
    }

    fn register(&self, key: Key, creator: OwnedUserId) {
        let start = |key: Key, signal: Arc<Signal>| {
            let task = Task::new(Arc::clone(&self.0), key, signal);
            tokio::spawn(task.run()).abort_handle()
        };
        self.0.registry.lock().add(key, creator, start);
    }

    fn now(&self) -> u64 {
        millis(self.0.clock.now())
    }

    /// Creates a webhook for what happens from now on.
    ///
    /// # Errors
    /// The URL or a name of an event is refused, or there are too many webhooks.
    pub async fn create(
        &self,
        owner: Owner,
        creator: &UserId,
        request: CreateWebhook,
    ) -> Result<WebhookMade, WebhookError> {
        self.load().await?;
        target::check(&request.url, &self.0.receivers.addresses)?;
        let row = WebhookRow {
            url: request.url,
            events: checked_names(request.events)?,
            creator: creator.to_owned(),
            created_at: self.now(),
            secret: secret::new_secret(),
            old_secret: None,
            paused: None,
            changes: 0,
        };
        let _creating = self.0.creating.lock().await;
        self.0.registry.lock().check_room(&owner, &row.creator)?;
        let key = Key { owner, id: new_id() };
        let progress = WebhookProgressRow {
            positions: self.positions(&key.owner),
            ..WebhookProgressRow::default()
        };
        let mut batch = Batch::new();
        batch.require(&WEBHOOKS, &key.row(&self.0.store), None);
        batch.put(&WEBHOOKS, &key.row(&self.0.store), &row);
        batch.put(&WEBHOOK_PROGRESS, &key.row(&self.0.store), &progress);
        self.0.store.commit(batch).await?;
        let made = WebhookMade {
            webhook: shown(&key, &row, &progress, row.created_at),
            secret: row.secret.clone(),
        };
        self.register(key, row.creator);
        Ok(made)
    }

    /// Where a new webhook begins, by lane.
    fn positions(&self, owner: &Owner) -> BTreeMap<u16, u64> {
        let visible = self.0.reader.visible_positions();
        let of_lane = |lane: weft_store::Lane| (lane.number(), visible.in_lane(lane));
        match owner {
            Owner::Document(_) => BTreeMap::from([of_lane(owner.lane(&self.0.store))]),
            Owner::User(_) => self.0.store.lanes().all().map(of_lane).collect(),
        }
    }

    /// The webhooks of an owner, the oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list(&self, owner: &Owner) -> Result<Vec<Webhook>, WebhookError> {
        let prefix = (owner.lane(&self.0.store), owner.as_str());
        let rows = self.0.store.scan_all(WEBHOOKS.under(&prefix)).await?;
        let now = self.now();
        let mut webhooks = Vec::with_capacity(rows.len());
        for ((_, _, id), row) in rows {
            let key = Key {
                owner: owner.clone(),
                id,
            };
            let progress = self.progress(&key).await?;
            webhooks.push(shown(&key, &row, &progress, now));
        }
        webhooks.sort_by(|one, other| (one.created_at, &one.webhook_id).cmp(&(other.created_at, &other.webhook_id)));
        Ok(webhooks)
    }

    async fn progress(&self, key: &Key) -> Result<WebhookProgressRow, WebhookError> {
        let progress = self.0.store.get(&WEBHOOK_PROGRESS, &key.row(&self.0.store)).await?;
        Ok(progress.unwrap_or_default())
    }

    async fn row(&self, key: &Key) -> Result<WebhookRow, WebhookError> {
        let row = self.0.store.get(&WEBHOOKS, &key.row(&self.0.store)).await?;
        row.ok_or(WebhookError::NotFound)
    }

    /// A webhook.
    ///
    /// # Errors
    /// When the owner has none with this id.
    pub async fn show(&self, owner: &Owner, id: &str) -> Result<Webhook, WebhookError> {
        let key = key(owner, id);
        let (row, progress) = (self.row(&key).await?, self.progress(&key).await?);
        Ok(shown(&key, &row, &progress, self.now()))
    }

    /// Changes, pauses or resumes a webhook. The user who resumes it, or gives it another URL, is the one whose rights count from
    /// then on. A failed delivery is tried again at once.
    ///
    /// # Errors
    /// When the owner has none with this id, or as [`Webhooks::create`].
    pub async fn change(
        &self,
        owner: &Owner,
        id: &str,
        user: &UserId,
        request: ChangeWebhook,
    ) -> Result<Webhook, WebhookError> {
        if let Some(url) = &request.url {
            target::check(url, &self.0.receivers.addresses)?;
        }
        let events = request.events.map(checked_names).transpose()?;
        let now = self.now();
        let key = key(owner, id);
        let row = self
            .rewrite(&key, |row| {
                if request.url.is_some() || request.paused == Some(false) {
                    row.creator = user.to_owned();
                    row.changes = row.changes.saturating_add(1);
                }
                row.url = request.url.clone().unwrap_or_else(|| row.url.clone());
                row.events = events.clone().unwrap_or_else(|| row.events.clone());
                match request.paused {
                    Some(true) if row.paused.is_none() => {
                        row.paused = Some(WebhookPauseRow {
                            since: now,
                            reason: None,
                        });
                    }
                    Some(false) => row.paused = None,
                    _ => {}
                }
            })
            .await?;
        Ok(shown(&key, &row, &self.progress(&key).await?, now))
    }

    /// Replaces the secret. The old one is used beside it for a day.
    ///
    /// # Errors
    /// When the owner has none with this id.
    pub async fn rotate(&self, owner: &Owner, id: &str) -> Result<WebhookSecret, WebhookError> {
        let (secret, until) = (secret::new_secret(), self.now().saturating_add(WEBHOOK_OLD_SECRET_MS));
        self.rewrite(&key(owner, id), |row| {
            let old = std::mem::replace(&mut row.secret, secret.clone());
            row.old_secret = Some((old, until));
        })
        .await?;
        Ok(WebhookSecret {
            secret,
            old_secret_until: until,
        })
    }

    async fn rewrite(&self, key: &Key, change: impl Fn(&mut WebhookRow)) -> Result<WebhookRow, WebhookError> {
        let place = key.row(&self.0.store);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let before = self.row(key).await?;
            let mut row = before.clone();
            change(&mut row);
            let mut batch = Batch::new();
            batch.require(&WEBHOOKS, &place, Some(&before));
            batch.put(&WEBHOOKS, &place, &row);
            match self.0.store.commit(batch).await {
                Ok(()) => {
                    self.0.registry.lock().changed(key, &row.creator);
                    return Ok(row);
                }
                Err(error @ CommitError::Fence { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.map_or(WebhookError::NotFound, WebhookError::from))
    }

    /// Deletes a webhook; a delivery in progress is ended.
    ///
    /// # Errors
    /// When the owner has none with this id.
    pub async fn delete(&self, owner: &Owner, id: &str) -> Result<(), WebhookError> {
        let key = key(owner, id);
        self.row(&key).await?;
        let mut batch = Batch::new();
        batch.delete(&WEBHOOKS, &key.row(&self.0.store));
        batch.delete(&WEBHOOK_PROGRESS, &key.row(&self.0.store));
        self.0.store.commit(batch).await?;
        self.0.registry.lock().remove(&key);
        Ok(())
    }

    /// The newest deliveries, the newest first.
    ///
    /// # Errors
    /// When the owner has none with this id.
    pub async fn deliveries(&self, owner: &Owner, id: &str) -> Result<Vec<WebhookDelivery>, WebhookError> {
        let key = key(owner, id);
        self.row(&key).await?;
        let recent = self.progress(&key).await?.recent.into_iter();
        Ok(recent
            .map(|row| WebhookDelivery {
                delivery_id: row.id,
                kind: row.name,
                doc_id: row.document,
                at: row.at,
                attempts: row.attempts,
                delivered: row.error.is_none(),
                status: row.status,
                error: row.error,
            })
            .collect())
    }

    /// Sends an event of the type `test` once, also if the webhook is paused, and returns what the receiver answered.
    ///
    /// # Errors
    /// When the owner has none with this id, or the user has sent too many tests.
    pub async fn test(&self, owner: &Owner, id: &str, user: &UserId) -> Result<WebhookTest, WebhookError> {
        let row = self.row(&key(owner, id)).await?;
        self.0.tests.count(user)?;
        let url = target::check(&row.url, &self.0.receivers.addresses)?;
        let _turn = self
            .0
            .turns
            .take(url.host_str().unwrap_or_default(), user.as_str())
            .await;
        let now = self.now();
        let delivery = payload::delivery_id(id, &format!("{}-{now}-{}", payload::TEST, (self.0.random)()));
        let answer = self.0.send(&row, &url, &delivery, payload::of_test(id, now)).await;
        Ok(WebhookTest {
            delivered: answer.is_accepted(),
            status: answer.status(),
            error: answer.failure(),
        })
    }
}

impl Inner {
    /// Signs an event and sends it once.
    async fn send(&self, row: &WebhookRow, url: &Url, id: &str, body: Bytes) -> Answer {
        let now = millis(self.clock.now());
        let mut secrets = vec![&*row.secret];
        secrets.extend(
            row.old_secret
                .iter()
                .filter(|(_, until)| now < *until)
                .map(|(old, _)| &**old),
        );
        let at = now / 1_000;
        let message = Message {
            id: id.to_owned(),
            at,
            signatures: secret::signatures(&secrets, id, at, &body),
            body,
        };
        self.receivers.post(url, message).await
    }
}

fn key(owner: &Owner, id: &str) -> Key {
    Key {
        owner: owner.clone(),
        id: id.to_owned(),
    }
}

fn new_id() -> String {
    let mut bytes = [0_u8; ID_BYTES];
    rand::fill(&mut bytes);
    format!("wh_{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn checked_names(mut names: Vec<String>) -> Result<Vec<String>, WebhookError> {
    names.sort();
    names.dedup();
    match names.iter().find(|name| !EVENT_NAMES.contains(&name.as_str())) {
        Some(unknown) => Err(WebhookError::EventName(unknown.chars().take(100).collect())),
        None => Ok(names),
    }
}

fn shown(key: &Key, row: &WebhookRow, progress: &WebhookProgressRow, now: u64) -> Webhook {
    let failing = progress.failing_since.filter(|_| progress.changes == row.changes);
    Webhook {
        webhook_id: key.id.clone(),
        doc_id: match &key.owner {
            Owner::Document(room) => Some(room.clone()),
            Owner::User(_) => None,
        },
        url: row.url.clone(),
        events: row.events.clone(),
        created_by: row.creator.clone(),
        created_at: row.created_at,
        paused: row.paused.clone().map(|pause| WebhookPause {
            since: pause.since,
            reason: pause.reason,
        }),
        failing: failing.map(|since| WebhookFailing {
            since,
            attempts: progress.attempts,
            next_at: progress.next_at,
        }),
        old_secret_until: row
            .old_secret
            .as_ref()
            .map(|(_, until)| *until)
            .filter(|until| now < *until),
    }
}
