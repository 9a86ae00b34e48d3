//! The task that keeps the index up to date: each second it looks which rooms have new events, by the positions that the store
//! has anyway. What the index has is noted in the index itself, in the same commit, so after a stop or crash the task continues
//! where the index ends, and no row of the store is written for it.
//!
//! Must not answer a search, and must not delay a room: it reads like a client, and a render worker makes the text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde_json::Value;
use tokio::time::Instant;
use weft_dag::Pdu;
use weft_render::{Format, RenderError, RenderRequest, Renderer};
use weft_room::Rooms;
use weft_room_api::Unavailable;
use weft_room_read::{Direction, Reader, Types, kind_of};
use weft_store::Lane;
use weft_wire::{
    document::DocumentKind,
    event_types,
    limits::{MAX_SEARCHED_MESSAGES, SEARCH_CATCH_UP_EVENTS, SEARCH_LATEST_MS, SEARCH_PAUSE_MS},
};

use crate::{documents::all_documents, error::SearchError, index::SearchIndex, query::Part};

/// How often new events are looked for.
const TICK: Duration = Duration::from_secs(1);
/// The pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// Messages that are read at a time.
const MESSAGES_AT_ONCE: usize = 200;

/// Positions of all lanes, by their numbers.
type Positions = Vec<u64>;

/// Why a turn of the task failed. It is repeated.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Index(#[from] SearchError),
    #[error(transparent)]
    Store(#[from] Unavailable),
}

/// A document whose text has changed.
struct Changed {
    /// The positions before the first change that is not indexed.
    before: Positions,
    first: Instant,
    last: Instant,
}

/// See the module.
pub struct Indexer {
    index: Arc<SearchIndex>,
    rooms: Rooms,
    renderer: Arc<dyn Renderer>,
    changed: BTreeMap<OwnedRoomId, Changed>,
}

impl Indexer {
    /// The task of an index.
    #[must_use]
    pub fn new(index: Arc<SearchIndex>, rooms: Rooms, renderer: Arc<dyn Renderer>) -> Self {
        Self {
            index,
            rooms,
            renderer,
            changed: BTreeMap::new(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut through = None;
        loop {
            match self.turn(&mut through).await {
                Ok(()) => tokio::time::sleep(TICK).await,
                Err(error) => {
                    tracing::warn!(event = "search.not_indexed", %error, "the search index can't be brought up to date");
                    // What the failed turn had in memory is read again.
                    through = None;
                    self.changed.clear();
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    /// Indexes what is new after `through`.
    async fn turn(&mut self, through: &mut Option<Positions>) -> Result<(), TurnError> {
        let now = self.now();
        let known = match through.take() {
            Some(known) => Some(known),
            None => self.noted().await?,
        };
        let is_rebuild_wanted = self.index.is_rebuild_wanted();
        let known = known.filter(|known| !is_rebuild_wanted && is_before(known, &now));
        let Some(known) = known else {
            self.rebuild(&now).await?;
            *through = Some(now);
            return Ok(());
        };
        if known != now {
            let spans = spans(&known, &now);
            match self.reader().moved(spans, SEARCH_CATCH_UP_EVENTS).await? {
                Some(moved) => {
                    for (room, events) in moved {
                        self.room(&room, &events, &known).await?;
                    }
                }
                None => {
                    self.rebuild(&now).await?;
                    *through = Some(now);
                    return Ok(());
                }
            }
        }
        let is_new = known != now;
        if self.texts().await? || is_new {
            self.commit(&now).await?;
        }
        *through = Some(now);
        Ok(())
    }

    fn reader(&self) -> &Reader {
        self.rooms.reader()
    }

    fn now(&self) -> Positions {
        let visible = self.reader().visible_positions();
        let lanes = visible.since(&weft_store::VisiblePositions::default());
        lanes.into_iter().map(|(_, _, position)| position).collect()
    }

    async fn noted(&self) -> Result<Option<Positions>, SearchError> {
        let index = Arc::clone(&self.index);
        let note = blocking(move || index.noted()).await?;
        Ok(note.and_then(|note| serde_json::from_str(&note).ok()))
    }

    /// Commits. The index then has everything up to these positions, except the texts that are still to be rendered.
    async fn commit(&self, now: &Positions) -> Result<(), SearchError> {
        let oldest = self.changed.values().min_by_key(|changed| changed.first);
        let note = serde_json::to_string(oldest.map_or(now, |changed| &changed.before)).unwrap_or_default();
        let index = Arc::clone(&self.index);
        blocking(move || index.commit(&note)).await
    }

    /// Indexes new events of a room.
    async fn room(&mut self, room: &RoomId, events: &[OwnedEventId], known: &Positions) -> Result<(), TurnError> {
        if !self.reader().is_document(room).await? {
            return Ok(());
        }
        let (mut text_changed, mut title_changed) = (false, false);
        for stored in self.reader().events(room, events).await? {
            if !stored.is_visible() {
                continue;
            }
            match stored.pdu.kind() {
                event_types::UPDATE => text_changed = true,
                "m.room.name" | "m.room.create" => title_changed = true,
                "m.room.message" => self.message(room, &stored.pdu).await?,
                "m.room.redaction" => self.redacted(room, &stored.pdu).await?,
                _ => {}
            }
        }
        if title_changed {
            self.title(room).await?;
        }
        if text_changed {
            self.note_change(room, known);
        }
        Ok(())
    }

    fn note_change(&mut self, room: &RoomId, known: &Positions) {
        let now = Instant::now();
        let changed = self.changed.entry(room.to_owned()).or_insert_with(|| Changed {
            before: known.clone(),
            first: now,
            last: now,
        });
        changed.last = now;
    }

    /// Indexes a message, or the new text of an edited one.
    async fn message(&self, room: &RoomId, event: &Pdu) -> Result<(), TurnError> {
        let Ok(mut content) = event.content_as::<Value>() else {
            return Ok(());
        };
        let mut id = event.event_id().to_owned();
        if let Some(edited) = target_of_edit(event).and_then(|target| EventId::parse(target).ok()) {
            let original = self.reader().events(room, std::slice::from_ref(&edited)).await?;
            // Nobody edits the messages of others.
            let original = original
                .first()
                .filter(|original| original.pdu.sender() == event.sender());
            let new = content.get_mut("m.new_content").map(Value::take);
            let (Some(original), Some(Value::Object(mut new))) = (original, new) else {
                return Ok(());
            };
            let original: Value = original.pdu.content_as().unwrap_or_default();
            if original.get("body").is_none() {
                return Ok(());
            }
            // An edit has neither an anchor nor a thread: those of the original count.
            for field in [event_types::ANCHOR, "m.relates_to"] {
                new.extend(original.get(field).map(|value| (field.to_owned(), value.clone())));
            }
            (id, content) = (edited, new.into());
        }
        let is_in_thread = content
            .get("m.relates_to")
            .and_then(|relation| relation.get("rel_type")?.as_str())
            == Some("m.thread");
        let is_comment = is_in_thread || content.get(event_types::ANCHOR).is_some();
        let part = if is_comment { Part::Comment } else { Part::Chat };
        let body = content.get("body").and_then(Value::as_str).unwrap_or_default();
        Ok(self.index.replace_message(room, part, &id, body)?)
    }

    async fn redacted(&self, room: &RoomId, redaction: &Pdu) -> Result<(), TurnError> {
        let content: Option<Value> = redaction.content_as().ok();
        let in_content = content.as_ref().and_then(|content| content.get("redacts")?.as_str());
        let redacted = in_content.and_then(|id| EventId::parse(id).ok());
        let redacted = redacted.or_else(|| redaction.redacts().map(ToOwned::to_owned));
        let Some(redacted) = redacted else { return Ok(()) };
        // Whether the redaction counts shows the event itself.
        let stored = self.reader().events(room, std::slice::from_ref(&redacted)).await?;
        match stored.first().and_then(|stored| stored.pdu.content_as::<Value>().ok()) {
            Some(content) if content.get("body").is_some() => {}
            _ => self.index.delete_message(&redacted),
        }
        Ok(())
    }

    async fn title(&self, room: &RoomId) -> Result<(), TurnError> {
        let state = self.reader().state_entries(room, &[("m.room.name", "")]).await?;
        let name = state.as_ref().and_then(|state| state.get("m.room.name", ""));
        let name = name.and_then(|name| name.content_as::<Value>().ok());
        let name = name.as_ref().and_then(|name| name.get("name")?.as_str());
        Ok(self.index.replace(room, Part::Title, name.unwrap_or_default())?)
    }

    /// Indexes the texts that nobody edits just now, and those that have waited long. Returns whether there were any.
    async fn texts(&mut self) -> Result<bool, TurnError> {
        let now = Instant::now();
        let pause = Duration::from_millis(SEARCH_PAUSE_MS);
        let latest = Duration::from_millis(SEARCH_LATEST_MS);
        let due = self.changed.iter().filter(|(_, changed)| {
            now.duration_since(changed.last) >= pause || now.duration_since(changed.first) >= latest
        });
        let due: Vec<OwnedRoomId> = due.map(|(room, _)| room.clone()).collect();
        for room in &due {
            if self.text(room).await? {
                self.changed.remove(room);
            }
        }
        Ok(!due.is_empty())
    }

    /// Indexes a text. False: all render workers are in use.
    async fn text(&self, room: &RoomId) -> Result<bool, TurnError> {
        let Ok(text) = self.rooms.current_text(room).await else {
            // The room is being moved or the server is stopping: it is tried again.
            return Ok(false);
        };
        let request = RenderRequest {
            kind: self.kind(room).await?,
            state: text.update(),
            format: Format::Text,
        };
        let text = match self.renderer.render(room.as_str(), request).await {
            Ok(rendered) => rendered.content,
            Err(RenderError::Busy { .. } | RenderError::Unavailable { .. }) => return Ok(false),
            // It has no text on this server, and must not be found by an earlier one.
            Err(_) => String::new(),
        };
        let (index, room) = (Arc::clone(&self.index), room.to_owned());
        blocking(move || index.replace(&room, Part::Text, &text)).await?;
        Ok(true)
    }

    async fn kind(&self, room: &RoomId) -> Result<DocumentKind, Unavailable> {
        let state = self
            .reader()
            .state_entries(room, &[(event_types::DOCUMENT, "")])
            .await?;
        Ok(state.as_ref().map_or(DocumentKind::Text, kind_of))
    }

    /// Builds the index from all documents.
    async fn rebuild(&mut self, now: &Positions) -> Result<(), TurnError> {
        tracing::info!("building the search index");
        let index = Arc::clone(&self.index);
        blocking(move || index.clear()).await?;
        self.changed.clear();
        let documents = all_documents(self.reader()).await?;
        for room in &documents {
            self.title(room).await?;
            self.messages(room).await?;
            while !self.text(room).await? {
                tokio::time::sleep(TICK).await;
            }
        }
        self.commit(now).await?;
        tracing::info!(documents = documents.len(), "the search index is built");
        Ok(())
    }

    /// The newest messages of a room.
    async fn messages(&self, room: &RoomId) -> Result<(), TurnError> {
        let (mut before, mut read) = (None, 0);
        let mut replaced = BTreeSet::new();
        loop {
            let page = self.reader().timeline(
                room,
                before,
                Direction::Backward,
                Types::WithoutUpdates,
                MESSAGES_AT_ONCE,
            );
            let page = page.await?;
            read += page.events.len();
            for event in page.events.iter().filter(|event| event.pdu.kind() == "m.room.message") {
                // Newest first: an edited message has its newest text already.
                let target = target_of_edit(&event.pdu);
                let is_known = replaced.contains(target.as_deref().unwrap_or_else(|| event.pdu.event_id().as_str()));
                if !is_known {
                    self.message(room, &event.pdu).await?;
                }
                replaced.extend(target);
            }
            before = page.next;
            if before.is_none() || read >= MAX_SEARCHED_MESSAGES {
                return Ok(());
            }
        }
    }
}

/// The message that this one replaces.
fn target_of_edit(event: &Pdu) -> Option<String> {
    let content: Value = event.content_as().ok()?;
    let relation = content.get("m.relates_to")?;
    let is_edit = relation.get("rel_type")?.as_str()? == "m.replace";
    is_edit.then(|| relation.get("event_id")?.as_str().map(ToOwned::to_owned))?
}

/// Whether an index with these positions is one of this store. A store that lost commits has lower ones.
fn is_before(known: &Positions, now: &Positions) -> bool {
    known.len() == now.len() && known.iter().zip(now).all(|(known, now)| known <= now)
}

fn spans(known: &Positions, now: &Positions) -> Vec<(Lane, u64, u64)> {
    let lanes = (0..).map_while(Lane::new);
    let both = lanes.zip(known.iter().zip(now));
    both.map(|(lane, (known, now))| (lane, *known, *now)).collect()
}

/// Runs a call that reads or writes files.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, SearchError> + Send + 'static,
) -> Result<T, SearchError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|_| SearchError::Ended)?
}
