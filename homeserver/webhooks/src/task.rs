//! The task of one webhook: delivers what is due, in order, one after the other, and waits.
//!
//! What was delivered is written with the outcome. Before the first delivery of a span its end is written, so that after a crash
//! the same deliveries are made again with the same ids. Must not deliver anything to a user who may not read it at that moment.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _, clock::DefaultClock};
use reqwest::Url;
use ruma::{RoomId, UserId, events::room::member::MembershipState};
use tokio::time::{Instant, sleep};
use weft_clock::millis;
use weft_dag::Pdu;
use weft_room_read::{EDIT, StoredEvent};
use weft_store::{
    Batch, CommitError, Lane, VisiblePositions,
    tables::webhooks::{WEBHOOK_PROGRESS, WEBHOOKS, WebhookPauseRow, WebhookProgressRow, WebhookRow, WebhookSpanRow},
};
use weft_wire::limits::{
    WEBHOOK_DELIVERIES_AT_ONCE, WEBHOOK_DELIVERIES_PER_HOUR, WEBHOOK_EDITS_MS, WEBHOOK_POSITION_STEP,
};

use crate::{
    Inner, WebhookError,
    owner::{Key, Owner},
    payload,
    pending::{Page, Pending, Source},
    progress::{Attempt, note, settle},
    receivers::Answer,
    registry::Signal,
    target,
};

/// The pause after the store or a room could not be read.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// What a task does next.
enum Next {
    /// The webhook was deleted.
    End,
    /// Waits until it is woken.
    Rest,
    /// The same, at most this long.
    After(Duration),
    Go,
}

/// See the module.
pub(crate) struct Task {
    inner: Arc<Inner>,
    key: Key,
    signal: Arc<Signal>,
    limiter: Option<DefaultDirectRateLimiter>,
    /// By lane: up to where nothing is to be delivered. It may be ahead of what is written.
    read: BTreeMap<u16, u64>,
    /// When the oldest edit that waits for others was read.
    edits_since: Option<Instant>,
    /// The deliveries of the span of the progress, for these names of events.
    open: Option<(WebhookSpanRow, Vec<String>, Vec<Pending>)>,
}

/// A webhook as it was read.
struct State {
    row: WebhookRow,
    progress: WebhookProgressRow,
}

impl Task {
    pub(crate) fn new(inner: Arc<Inner>, key: Key, signal: Arc<Signal>) -> Self {
        let burst = NonZeroU32::new(WEBHOOK_DELIVERIES_AT_ONCE);
        let quota = NonZeroU32::new(WEBHOOK_DELIVERIES_PER_HOUR).map(Quota::per_hour);
        let quota = quota.zip(burst).map(|(quota, burst)| quota.allow_burst(burst));
        Self {
            inner,
            key,
            signal,
            limiter: quota.map(RateLimiter::direct),
            read: BTreeMap::new(),
            edits_since: None,
            open: None,
        }
    }

    /// Runs until the webhook is deleted.
    pub(crate) async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(Next::End) => return,
                Ok(Next::Rest) => self.signal.wake.notified().await,
                Ok(Next::After(wait)) => {
                    tokio::select! {
                        () = self.signal.wake.notified() => {}
                        () = sleep(wait) => {}
                    }
                }
                Ok(Next::Go) => {}
                Err(error) => {
                    tracing::warn!(event = "webhooks.interrupted", webhook = self.key.id, %error, "a webhook can't go on");
                    self.open = None;
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<Next, WebhookError> {
        let store = &self.inner.store;
        let key = self.key.row(store);
        let Some(row) = store.get(&WEBHOOKS, &key).await? else {
            return Ok(Next::End);
        };
        let progress = store.get(&WEBHOOK_PROGRESS, &key).await?;
        let mut state = State {
            row,
            progress: progress.unwrap_or_default(),
        };
        self.rise();
        if state.row.paused.is_some() {
            return Ok(Next::Rest);
        }
        if state.progress.changes != state.row.changes {
            state.progress.changes = state.row.changes;
            settle(&mut state.progress);
        }
        let wait = state.progress.next_at.saturating_sub(self.now());
        if wait > 0 {
            return Ok(Next::After(Duration::from_millis(wait)));
        }
        match state.progress.span {
            Some(span) => self.go_on(state, span).await,
            None => self.begin(state).await,
        }
    }

    fn now(&self) -> u64 {
        millis(self.inner.clock.now())
    }

    fn source<'a>(&'a self, row: &'a WebhookRow) -> Source<'a> {
        Source {
            reader: &self.inner.reader,
            owner: &self.key.owner,
            names: &row.events,
        }
    }

    /// Finds what is due, and writes the end of the span.
    async fn begin(&mut self, mut state: State) -> Result<Next, WebhookError> {
        let visible = self.inner.reader.visible_positions();
        let lanes: Vec<(u16, u64)> = state.progress.positions.iter().map(|(lane, at)| (*lane, *at)).collect();
        for (number, stored) in &lanes {
            let Some(lane) = Lane::new(*number) else { continue };
            let to = visible.in_lane(lane);
            let read = self.read.get(number).copied().unwrap_or(0);
            // A store that lost commits may be behind.
            let mut from = read.max(*stored).min(to);
            while from < to {
                let page = self.source(&state.row).page(lane, (from, to)).await?;
                if !page.deliveries.is_empty() {
                    return self.open_span(state, *number, from, page).await;
                }
                from = page.through;
                self.read.insert(*number, from);
            }
            state.progress.positions.insert(*number, from);
        }
        self.edits_since = None;
        self.signal.rest(&visible);
        let is_far = lanes.iter().any(|(lane, stored)| {
            let now = state.progress.positions.get(lane).copied().unwrap_or(0);
            now.saturating_sub(*stored) >= WEBHOOK_POSITION_STEP
        });
        if is_far {
            self.commit(&state, None).await?;
        }
        Ok(Next::Rest)
    }

    /// Takes over what the webhook need not read because nothing of it was for its user.
    fn rise(&mut self) {
        let Some(idle) = self.signal.rise() else { return };
        for (lane, _, position) in idle.since(&VisiblePositions::default()) {
            let read = self.read.entry(lane.number()).or_default();
            *read = position.max(*read);
        }
    }

    async fn open_span(&mut self, mut state: State, lane: u16, from: u64, page: Page) -> Result<Next, WebhookError> {
        let only_edits = page.deliveries.iter().all(|pending| pending.name == EDIT);
        if only_edits && !page.is_full {
            let since = *self.edits_since.get_or_insert_with(Instant::now);
            let wait = Duration::from_millis(WEBHOOK_EDITS_MS).saturating_sub(since.elapsed());
            if !wait.is_zero() {
                return Ok(Next::After(wait));
            }
        }
        self.edits_since = None;
        let span = WebhookSpanRow {
            lane,
            through: page.through,
            reached: from,
        };
        state.progress.positions.insert(lane, from);
        state.progress.span = Some(span);
        if self.commit(&state, None).await? {
            self.open = Some((span, state.row.events, page.deliveries));
        }
        Ok(Next::Go)
    }

    /// Makes the next delivery of a span, or ends it.
    async fn go_on(&mut self, mut state: State, span: WebhookSpanRow) -> Result<Next, WebhookError> {
        let deliveries = match self.open.take() {
            Some((of, names, deliveries))
                if (of.lane, of.through) == (span.lane, span.through) && names == state.row.events =>
            {
                deliveries
            }
            _ => self.read_again(&state, span).await?,
        };
        let next = deliveries.iter().position(|pending| pending.first > span.reached);
        let Some(pending) = next.and_then(|index| deliveries.get(index)) else {
            state.progress.positions.insert(span.lane, span.through);
            state.progress.span = None;
            self.commit(&state, None).await?;
            return Ok(Next::Go);
        };
        let result = self.deliver(&mut state, pending).await;
        self.open = Some((span, state.row.events.clone(), deliveries));
        result
    }

    async fn read_again(&self, state: &State, span: WebhookSpanRow) -> Result<Vec<Pending>, WebhookError> {
        let lane = Lane::new(span.lane).unwrap_or_default();
        let from = state
            .progress
            .positions
            .get(&span.lane)
            .copied()
            .unwrap_or(span.reached);
        let page = self.source(&state.row).page(lane, (from, span.through)).await?;
        Ok(page.deliveries)
    }

    async fn deliver(&self, state: &mut State, pending: &Pending) -> Result<Next, WebhookError> {
        let url = target::check(&state.row.url, &self.inner.receivers.addresses);
        let host = url.as_ref().ok().and_then(Url::host_str).unwrap_or_default();
        let _turn = self.inner.turns.take(host, state.row.creator.as_str()).await;
        // Rights, as late as possible.
        let body = match self.permitted(&state.row, pending).await? {
            Permitted::Body(body) => body,
            Permitted::Nothing => {
                if let Some(span) = &mut state.progress.span {
                    span.reached = pending.first;
                }
                self.commit(state, None).await?;
                return Ok(Next::Go);
            }
            Permitted::Pause(reason) => return self.pause(state, reason).await,
        };
        if let Some(wait) = self.limited() {
            return Ok(Next::After(wait));
        }
        let first = pending.events.first().map_or("", |event| event.as_str());
        let id = payload::delivery_id(&self.key.id, first);
        let answer = match url {
            Ok(url) => self.inner.send(&state.row, &url, &id, body).await,
            // The operator allows fewer addresses now.
            Err(error) => Answer::None {
                reason: error.to_string(),
            },
        };
        let attempt = Attempt {
            id,
            name: pending.name.to_owned(),
            document: pending.room.to_string(),
            first: pending.first,
            at: self.now(),
            answer,
        };
        match note(&mut state.progress, attempt, (self.inner.random)()) {
            Some(reason) => self.pause(state, reason).await,
            None => {
                self.commit(state, None).await?;
                Ok(Next::Go)
            }
        }
    }

    /// How long the webhook has to wait because it delivered too much.
    fn limited(&self) -> Option<Duration> {
        let refused = self.limiter.as_ref()?.check().err()?;
        Some(
            refused
                .wait_time_from(DefaultClock::default().now())
                .max(Duration::from_millis(1)),
        )
    }

    async fn permitted(&self, row: &WebhookRow, pending: &Pending) -> Result<Permitted, WebhookError> {
        let (reader, room, user) = (&self.inner.reader, &pending.room, &row.creator);
        if !self.inner.accounts.exists(user).await? {
            return Ok(Permitted::Pause(format!("The account of {user} is deactivated.")));
        }
        let access = reader.access(room, user).await?;
        let access = access.filter(|access| access.membership == MembershipState::Join);
        if matches!(self.key.owner, Owner::Document(_))
            && !access.as_ref().is_some_and(|access| access.role.can_manage())
        {
            return Ok(Permitted::Pause(format!(
                "{user} does not manage the document any more."
            )));
        }
        if access.is_none() {
            return Ok(Permitted::Nothing);
        }
        let events = reader.events(room, &pending.events).await?.into_iter();
        let events: Vec<Arc<Pdu>> = events.filter(StoredEvent::is_visible).map(|event| event.pdu).collect();
        let events = self.visible(room, user, events).await?;
        let body = if pending.name == EDIT {
            payload::of_edits(room, &events, self.versions(pending).await?)
        } else {
            events.first().and_then(|event| payload::of_event(room, event))
        };
        Ok(body.map_or(Permitted::Nothing, Permitted::Body))
    }

    async fn visible(
        &self,
        room: &RoomId,
        user: &UserId,
        events: Vec<Arc<Pdu>>,
    ) -> Result<Vec<Arc<Pdu>>, WebhookError> {
        Ok(self.inner.reader.visible_to_user(room, user, events).await?)
    }

    /// The first and the last version of edits.
    async fn versions(&self, pending: &Pending) -> Result<Option<(u64, u64)>, WebhookError> {
        let steps = self.inner.reader.steps_of(&pending.room, &pending.events).await?;
        let versions = steps
            .iter()
            .flatten()
            .flat_map(|one| &one.steps)
            .map(|step| step.version);
        Ok(versions.clone().min().zip(versions.max()))
    }

    async fn pause(&self, state: &mut State, reason: String) -> Result<Next, WebhookError> {
        tracing::info!(webhook = self.key.id, reason, "a webhook is paused");
        let mut row = state.row.clone();
        row.paused = Some(WebhookPauseRow {
            since: self.now(),
            reason: Some(reason),
        });
        self.commit(state, Some(&row)).await?;
        Ok(Next::Go)
    }

    /// Writes the progress, if the webhook is as it was read; otherwise, if it still exists, without the changed webhook.
    /// Returns whether it was as it was read.
    async fn commit(&self, state: &State, changed: Option<&WebhookRow>) -> Result<bool, WebhookError> {
        let store = &self.inner.store;
        let key = self.key.row(store);
        let (mut row, mut is_first) = (state.row.clone(), true);
        loop {
            let mut batch = Batch::new();
            batch.require(&WEBHOOKS, &key, Some(&row));
            if let Some(changed) = changed.filter(|_| is_first) {
                batch.put(&WEBHOOKS, &key, changed);
            }
            batch.put(&WEBHOOK_PROGRESS, &key, &state.progress);
            match store.commit(batch).await {
                Ok(()) => return Ok(is_first),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            match store.get(&WEBHOOKS, &key).await? {
                Some(current) => row = current,
                None => return Ok(false),
            }
            is_first = false;
        }
    }
}

/// What a user may get of a delivery.
enum Permitted {
    Body(Bytes),
    /// The user may not see it.
    Nothing,
    /// The webhook has nobody any more on whose behalf it delivers.
    Pause(String),
}
