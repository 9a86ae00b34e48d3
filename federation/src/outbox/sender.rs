//! The tasks that send the queues: one for each server with queued rows or EDUs.
//!
//! A task owns its [`Queue`], performs its actions, and ends after some time without work. Must not hold anything
//! that must survive a crash: that is in the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use ruma::{CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedTransactionId, RoomId, ServerName};
use serde_json::value::{RawValue, to_raw_value};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, watch},
    task::JoinSet,
};

use super::{
    Edu, EduQueue, OutboxStore,
    queue::{Action, Input, Outgoing, Queue, SendFailure},
};
use crate::{CallError, Client, Clock};
use weft_clock::millis;

/// Settings of the sender.
#[derive(Debug, Clone, Copy)]
pub struct SenderConfig {
    /// Transactions in flight to all servers together: each may be a TLS handshake.
    pub max_in_flight: usize,
    /// How many of them may go to servers that failed to receive the last transaction. Each may run into its timeout,
    /// and if many servers are unreachable at once, reachable servers would otherwise have to wait for them.
    pub max_failing: usize,
    /// How often the store is searched for rows without a wake-up.
    pub sweep: Duration,
    /// How long a task without work waits before it ends.
    pub linger: Duration,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 64,
            max_failing: 16,
            sweep: Duration::from_secs(60),
            linger: Duration::from_secs(60),
        }
    }
}

/// Delivers transactions.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Delivers one transaction; returns when the other server has acknowledged it.
    async fn deliver(
        &self,
        server: &ServerName,
        id: &str,
        pdus: Vec<Box<RawValue>>,
        edus: Vec<Box<RawValue>>,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<(), SendFailure>;
}

#[async_trait]
impl Transport for Client {
    async fn deliver(
        &self,
        server: &ServerName,
        id: &str,
        pdus: Vec<Box<RawValue>>,
        edus: Vec<Box<RawValue>>,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<(), SendFailure> {
        match self
            .send_transaction(server, OwnedTransactionId::from(id), pdus, edus, now)
            .await
        {
            Ok(()) => Ok(()),
            // A 200 with an unreadable body is still a 200: the other server has the events, and sending them again
            // would have the same result every time.
            Err(CallError::BadAnswer { reason, .. }) => {
                tracing::warn!(
                    event = "outbox.response_unreadable", %server, reason,
                    "transaction accepted with an unreadable response"
                );
                Ok(())
            }
            Err(error) => {
                tracing::info!(%server, %error, "transaction not delivered");
                let malformed = error
                    .refusal()
                    .is_some_and(|refusal| matches!(refusal.status, 400 | 413));
                Err(if malformed {
                    SendFailure::Malformed
                } else {
                    SendFailure::Unreachable
                })
            }
        }
    }
}

/// Sends the contents of the outbox. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    config: SenderConfig,
    transport: Arc<dyn Transport>,
    store: Arc<dyn OutboxStore>,
    clock: Arc<dyn Clock>,
    slots: Semaphore,
    failing_slots: Semaphore,
    mailboxes: Mutex<HashMap<OwnedServerName, Arc<Mailbox>>>,
    tasks: Mutex<JoinSet<()>>,
    stopping: watch::Sender<bool>,
    /// The number of acknowledged transactions with events, of all servers.
    delivered: watch::Sender<u64>,
}

/// The input of a task since its last turn. Bounded by its form: one entry for each kind of input.
#[derive(Default)]
struct Mailbox {
    mail: Mutex<Mail>,
    notify: Notify,
}

#[derive(Default)]
struct Mail {
    wake: bool,
    reachable: bool,
    edus: EduQueue,
}

impl Mail {
    fn is_empty(&self) -> bool {
        !self.wake && !self.reachable && self.edus.is_empty()
    }
}

impl Sender {
    /// Starts the sender, which begins to send everything in the store.
    #[must_use]
    pub fn start(
        config: SenderConfig,
        transport: Arc<dyn Transport>,
        store: Arc<dyn OutboxStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let inner = Inner {
            config,
            transport,
            store,
            clock,
            slots: Semaphore::new(config.max_in_flight),
            failing_slots: Semaphore::new(config.max_failing),
            mailboxes: Mutex::default(),
            tasks: Mutex::default(),
            stopping: watch::Sender::new(false),
            delivered: watch::Sender::new(0),
        };
        let sender = Self { inner: Arc::new(inner) };
        let sweeper = sender.clone();
        sender.inner.tasks.lock().spawn(async move { sweeper.sweep().await });
        sender
    }

    /// Wakes the tasks of these servers: there are new rows.
    pub fn wake<'a>(&self, servers: impl IntoIterator<Item = &'a OwnedServerName>) {
        for server in servers {
            self.post(server, |mail| mail.wake = true);
        }
    }

    /// Queues an EDU for these servers.
    pub fn edu<'a>(&self, servers: impl IntoIterator<Item = &'a OwnedServerName>, edu: &Edu) {
        for server in servers {
            self.post(server, |mail| mail.edus.push(edu.clone()));
        }
    }

    /// Records that a server sent a request: its pause ends.
    pub fn mark_reachable(&self, server: &ServerName) {
        let known = self.inner.mailboxes.lock().get(server).cloned();
        if let Some(mailbox) = known {
            mailbox.mail.lock().reachable = true;
            mailbox.notify.notify_one();
        }
    }

    /// Waits until the outbox has no rows for a server, for at most this time. Returns true if there were rows: the
    /// other server has acknowledged them and may still be processing them.
    pub async fn flush(&self, server: &ServerName, at_most: Duration) -> bool {
        let mut delivered = self.inner.delivered.subscribe();
        let mut was_pending = false;
        let emptied = async {
            loop {
                // Marked before the store is read: a delivery after that ends the wait.
                delivered.borrow_and_update();
                match self.inner.store.pending(server, 0, 1).await {
                    Ok(rows) if rows.is_empty() => return,
                    Ok(_) if !was_pending => {
                        was_pending = true;
                        self.wake([&server.to_owned()]);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(event = "outbox.read_failed", %server, %error, "the outbox can't be read");
                        return;
                    }
                }
                if delivered.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(at_most, emptied).await.is_err() {
            tracing::info!(%server, "the outbox was not emptied in time");
        }
        was_pending
    }

    /// Stops the tasks; those that can deliver have `grace` to do so. Undelivered rows stay in the store.
    pub async fn stop(&self, grace: Duration) {
        self.inner.stopping.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        let ended = tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tasks.shutdown().await;
        }
    }

    fn post(&self, server: &ServerName, change: impl FnOnce(&mut Mail)) {
        if *self.inner.stopping.borrow() {
            return;
        }
        let mut mailboxes = self.inner.mailboxes.lock();
        let mailbox = mailboxes.entry(server.to_owned()).or_insert_with(|| {
            let mailbox = Arc::new(Mailbox::default());
            let (sender, server, inbox) = (self.clone(), server.to_owned(), Arc::clone(&mailbox));
            let mut tasks = self.inner.tasks.lock();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move { sender.run(server, &inbox).await });
            mailbox
        });
        change(&mut mailbox.mail.lock());
        mailbox.notify.notify_one();
    }

    async fn sweep(&self) {
        let mut stopping = self.inner.stopping.subscribe();
        loop {
            match self.inner.store.backlog().await {
                Ok(servers) => self.wake(&servers),
                Err(error) => tracing::error!(event = "outbox.read_failed", %error, "the outbox can't be read"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.inner.config.sweep) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    async fn run(&self, server: OwnedServerName, mailbox: &Mailbox) {
        let mut stopping = self.inner.stopping.subscribe();
        let mut queue = Queue::new(millis(self.inner.clock.now()));
        let retry = self.inner.store.load_retry(&server).await.unwrap_or_default();
        let mut inputs = VecDeque::from([Input::Started(retry)]);
        let mut wake_at = None;
        loop {
            while let Some(input) = inputs.pop_front() {
                for action in queue.step(input, self.inner.clock.now(), rand::random()) {
                    self.perform(&server, action, &mut inputs, &mut wake_at).await;
                }
            }
            collect(mailbox, &mut inputs);
            if !inputs.is_empty() {
                continue;
            }
            if *stopping.borrow() {
                return;
            }
            let pause = if queue.is_waiting() {
                self.until(wake_at)
            } else {
                self.inner.config.linger
            };
            tokio::select! {
                () = mailbox.notify.notified() => collect(mailbox, &mut inputs),
                () = tokio::time::sleep(pause) => {
                    if queue.is_idle() && self.retire(&server, mailbox) {
                        return;
                    }
                    inputs.push_back(Input::Tick);
                }
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }

    async fn perform(
        &self,
        server: &ServerName,
        action: Action,
        inputs: &mut VecDeque<Input>,
        wake_at: &mut Option<MilliSecondsSinceUnixEpoch>,
    ) {
        match action {
            Action::Load { after, limit } => match self.inner.store.pending(server, after, limit).await {
                Ok(rows) => inputs.push_back(Input::Loaded(rows)),
                Err(error) => {
                    tracing::error!(event = "outbox.read_failed", %server, %error, "the outbox can't be read");
                    inputs.push_back(Input::LoadFailed);
                }
            },
            Action::Send(outgoing) => inputs.push_back(Input::Sent(self.send(server, outgoing).await)),
            Action::Acknowledge { rows } => {
                // Rows that were not deleted are sent again after a restart: the other server ignores known event
                // ids.
                if let Err(error) = self.inner.store.acknowledge(server, &rows).await {
                    tracing::error!(
                        event = "outbox.not_acknowledged", %server, rows = rows.len(), %error,
                        "delivered events stay in the outbox"
                    );
                }
                self.inner.delivered.send_modify(|count| *count = count.wrapping_add(1));
                inputs.push_back(Input::Acknowledged);
            }
            Action::SaveRetry(retry) => {
                if let Err(error) = self.inner.store.save_retry(server, retry).await {
                    tracing::warn!(
                        event = "outbox.retry_not_saved", %server, %error,
                        "the retry state could not be saved"
                    );
                }
            }
            Action::WakeAt(at) => *wake_at = Some(at),
            Action::Skipped(event) => {
                tracing::error!(
                    event = "outbox.event_skipped", %server, event_id = %event,
                    "event refused as malformed several times; skipped, the other server can still fetch it"
                );
            }
        }
    }

    async fn send(&self, server: &ServerName, outgoing: Outgoing) -> Result<(), SendFailure> {
        let Some(_slots) = self.slots(outgoing.failing).await else {
            return Err(SendFailure::Unreachable);
        };
        #[cfg(debug_assertions)]
        fail::fail_point!("outbox::before_send");
        let pdus = outgoing.rows.into_iter().map(|row| row.pdu).collect();
        let edus: Vec<_> = self
            .still_relevant(server, &outgoing.edus)
            .await
            .filter_map(envelope)
            .collect();
        let sent = self
            .inner
            .transport
            .deliver(server, &outgoing.id, pdus, edus, self.inner.clock.now())
            .await;
        #[cfg(debug_assertions)]
        fail::fail_point!("outbox::sent");
        sent
    }

    /// The permits to hold while a transaction is in flight.
    async fn slots(&self, failing: bool) -> Option<(Option<SemaphorePermit<'_>>, SemaphorePermit<'_>)> {
        let among_few = match failing {
            true => Some(self.inner.failing_slots.acquire().await.ok()?),
            false => None,
        };
        Some((among_few, self.inner.slots.acquire().await.ok()?))
    }

    /// The EDUs of rooms that the server is still in: it may have been removed since they were queued (T62).
    async fn still_relevant<'a>(
        &self,
        server: &ServerName,
        edus: &'a [Edu],
    ) -> impl Iterator<Item = &'a Edu> + use<'a> {
        let mut is_in: HashMap<&RoomId, bool> = HashMap::new();
        for room in edus.iter().filter_map(|edu| edu.room.as_deref()) {
            if !is_in.contains_key(room) {
                is_in.insert(room, self.inner.store.is_in(server, room).await);
            }
        }
        edus.iter().filter(move |edu| {
            edu.room
                .as_deref()
                .is_none_or(|room| is_in.get(room).copied().unwrap_or(false))
        })
    }

    fn until(&self, at: Option<MilliSecondsSinceUnixEpoch>) -> Duration {
        let now = millis(self.inner.clock.now());
        Duration::from_millis(at.map_or(0, millis).saturating_sub(now).max(1))
    }

    /// Removes the mailbox of the task, unless there is new input.
    fn retire(&self, server: &ServerName, mailbox: &Mailbox) -> bool {
        let mut mailboxes = self.inner.mailboxes.lock();
        let empty = mailbox.mail.lock().is_empty();
        if empty {
            mailboxes.remove(server);
        }
        empty
    }
}

fn collect(mailbox: &Mailbox, inputs: &mut VecDeque<Input>) {
    let mut mail = std::mem::take(&mut *mailbox.mail.lock());
    if mail.reachable {
        inputs.push_back(Input::Reachable);
    }
    // EDUs before rows: both go into the same transaction.
    inputs.extend(mail.edus.drain().map(Input::Edu));
    if mail.wake {
        inputs.push_back(Input::Wake);
    }
}

/// The EDU in the form of a transaction. Content that is not canonical JSON is left out: the transaction could not be
/// signed with it.
fn envelope(edu: &Edu) -> Option<Box<RawValue>> {
    if let Err(error) = serde_json::from_str::<CanonicalJsonValue>(edu.content.get()) {
        tracing::warn!(event = "outbox.edu_dropped", kind = edu.kind, %error, "EDU is not canonical JSON");
        return None;
    }
    #[derive(serde::Serialize)]
    struct Envelope<'a> {
        edu_type: &'a str,
        content: &'a RawValue,
    }
    to_raw_value(&Envelope {
        edu_type: &edu.kind,
        content: &edu.content,
    })
    .ok()
}
