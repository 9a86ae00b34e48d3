//! Reads comments and their threads from the index of relations. Must not show events that the caller may not see, nor those of ignored
//! users.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::try_join_all;
use ruma::{OwnedEventId, RoomId, UserId, push::Ruleset};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_dag::Pdu;
use weft_fanout::unread::{Counting, UnreadCounts};
use weft_http::{
    errors::{ApiError, ApiResult},
    ignored::{Ignored, ignored_users},
};
use weft_render::{Located, Place};
use weft_room_read::{Relation, RelationRow};
use weft_wire::{
    anchor::Anchor,
    event_types,
    limits::{MAX_THREAD_EVENTS, MAX_THREAD_EVENTS_PER_PAGE},
    resolution::{Outcome, Resolution, standing},
    rest::{Comment, CommentRange, ThreadMessage, UnreadMarks},
};

use super::visible_event;
use crate::{
    DocumentPorts,
    resolutions::{Decision, decisions},
};

/// Edits of one message that are examined for the newest.
const EDITS_OF_A_MESSAGE: usize = 50;

/// A request that reads comments.
pub(crate) struct Reading<'a> {
    pub(super) ports: &'a DocumentPorts,
    pub(super) room: &'a RoomId,
    pub(super) user: &'a UserId,
    ignored: Ignored,
    unread: UnreadCounts,
    /// Events of threads that were examined.
    examined: AtomicUsize,
}

/// A comment without its place.
pub(super) struct Root {
    pdu: Arc<Pdu>,
    pub(super) anchor: Option<Anchor>,
    /// `None`: it was redacted.
    message: Option<ThreadMessage>,
    replies: usize,
    last_reply: Option<ThreadMessage>,
    /// The decisions that stand, the one that counts last.
    pub(super) standing: Vec<Resolution<Decision>>,
}

impl Root {
    pub(super) fn is_resolved(&self) -> bool {
        let last = self.standing.last();
        last.is_some_and(|last| last.value.outcome == Outcome::Resolved)
    }
}

/// What a thread is about.
pub(super) enum Found {
    Comment(Box<Root>),
    Suggestion,
}

#[derive(Default, Deserialize)]
struct Message {
    #[serde(default)]
    body: String,
    #[serde(rename = "m.relates_to")]
    relates_to: Option<Related>,
    #[serde(rename = "m.new_content")]
    new_content: Option<NewContent>,
}

#[derive(Deserialize)]
struct Related {
    rel_type: Option<String>,
}

#[derive(Deserialize)]
struct NewContent {
    body: String,
}

/// A malformed anchor is none, and does not make the message unreadable.
#[derive(Deserialize)]
struct Anchored {
    #[serde(rename = "dev.weft.anchor")]
    anchor: Anchor,
}

fn anchor_of(pdu: &Pdu) -> Option<Anchor> {
    let Anchored { anchor } = pdu.content_as().ok()?;
    anchor.target().is_some().then_some(anchor)
}

fn is_redacted(pdu: &Pdu) -> bool {
    pdu.content().get() == "{}"
}

impl<'a> Reading<'a> {
    pub(crate) async fn of(ports: &'a DocumentPorts, room: &'a RoomId, user: &'a UserId) -> ApiResult<Self> {
        let ignored = ignored_users(&ports.accounts, user).await?;
        let reader = ports.rooms.reader();
        let now = reader.last_position(room).await?;
        let counting = Counting {
            user,
            rules: &Ruleset::server_default(user),
            is_ignored: &|user| ignored.contains(user),
        };
        let unread = ports.unread.counts(reader, room, &counting, now).await?;
        Ok(Self {
            ports,
            room,
            user,
            ignored,
            unread,
            examined: AtomicUsize::new(0),
        })
    }

    /// Whether the page must end: what threads cost is up to those who write in them.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.examined.load(Ordering::Relaxed) >= MAX_THREAD_EVENTS_PER_PAGE
    }

    /// The comment that begins with this event, if one does. A redacted message with replies was one.
    pub(super) async fn begun(&self, pdu: Arc<Pdu>) -> ApiResult<Option<Root>> {
        if self.ignored.hides(&pdu) {
            return Ok(None);
        }
        let anchor = anchor_of(&pdu);
        let is_reply = pdu
            .content_as::<Message>()
            .is_ok_and(|message| message.relates_to.is_some_and(|relation| relation.rel_type.is_some()));
        if is_reply || (anchor.is_none() && !is_redacted(&pdu)) {
            return Ok(None);
        }
        let rows = self.relations(pdu.event_id()).await?;
        let replies: Vec<&RelationRow> = rows.iter().filter(|row| is_answer(row)).collect();
        if anchor.is_none() && replies.is_empty() {
            return Ok(None);
        }
        let last_reply = match replies.first() {
            Some(row) => self.message_of(&row.event).await?,
            None => None,
        };
        let message = match anchor.is_some() {
            true => Some(self.with_edits(&pdu, &rows).await?),
            false => None,
        };
        let mut decided = decisions(self.ports, self.room, &rows).await?;
        decided.retain(|one| matches!(one.value.outcome, Outcome::Resolved | Outcome::Open));
        Ok(Some(Root {
            anchor,
            message,
            replies: replies.len(),
            last_reply,
            standing: standing(decided),
            pdu,
        }))
    }

    /// The comment with this id, if it is one that the caller may see.
    pub(super) async fn root(&self, id: &OwnedEventId) -> ApiResult<Option<Root>> {
        let pdu = visible_event(self.ports, self.room, self.user, id).await?;
        if !super::may_begin(&pdu) {
            return Ok(None);
        }
        self.begun(pdu).await
    }

    /// The comment or suggestion with this id; 404 for any other event.
    pub(super) async fn found(&self, id: &OwnedEventId) -> ApiResult<Found> {
        let pdu = visible_event(self.ports, self.room, self.user, id).await?;
        if pdu.kind() == event_types::SUGGESTION && pdu.state_key().is_none() {
            return Ok(Found::Suggestion);
        }
        match super::may_begin(&pdu) {
            true => self.begun(pdu).await?.map(Box::new).map(Found::Comment),
            false => None,
        }
        .ok_or_else(|| ApiError::not_found("This event is no comment."))
    }

    /// Whether the caller ignores the sender.
    pub(crate) fn hides(&self, pdu: &Pdu) -> bool {
        self.ignored.hides(pdu)
    }

    /// What the caller has not read of a thread.
    pub(crate) fn unread_of(&self, root: &ruma::EventId) -> UnreadMarks {
        let unread = self.unread.threads.get(root.as_str());
        unread.map_or_else(UnreadMarks::default, |count| UnreadMarks {
            notifications: count.notifications,
            highlights: count.highlights,
        })
    }

    /// The newest events that relate to a thread's root, newest first.
    pub(crate) async fn relations(&self, of: &ruma::EventId) -> ApiResult<Vec<RelationRow>> {
        let reader = self.ports.rooms.reader();
        let found = reader.relations_to(self.room, of, self.user, MAX_THREAD_EVENTS).await?;
        let (mut rows, examined) = found;
        self.examined.fetch_add(examined, Ordering::Relaxed);
        rows.retain(|row| !self.ignored.contains(&row.sender));
        Ok(rows)
    }

    /// A page of a thread, the newest first, and where the next one begins.
    pub(super) async fn replies(
        &self,
        root: &OwnedEventId,
        mut before: Option<i64>,
        limit: usize,
    ) -> ApiResult<(Vec<ThreadMessage>, Option<i64>)> {
        let reader = self.ports.rooms.reader();
        let (mut found, mut read) = (Vec::new(), 0);
        while found.len() < limit && read < MAX_THREAD_EVENTS {
            let page = reader
                .relations_before(self.room, root, self.user, before, limit)
                .await?;
            read += page.examined;
            before = page.next;
            for (order, row) in page.rows {
                if !is_answer(&row) || self.ignored.contains(&row.sender) {
                    continue;
                }
                if found.len() == limit {
                    // The rest of what was read is on the next page.
                    before = Some(order.saturating_add(1));
                    break;
                }
                found.push(row.event);
            }
            if before.is_none() {
                break;
            }
        }
        let messages = try_join_all(found.iter().map(|id| self.message_of(id))).await?;
        Ok((messages.into_iter().flatten().collect(), before))
    }

    async fn message_of(&self, id: &OwnedEventId) -> ApiResult<Option<ThreadMessage>> {
        let reader = self.ports.rooms.reader();
        let Some(pdu) = reader.event(Some(self.room), id).await? else {
            return Ok(None);
        };
        let (rows, _) = reader
            .relations_to(self.room, id, self.user, EDITS_OF_A_MESSAGE)
            .await?;
        self.with_edits(&pdu, &rows).await.map(Some)
    }

    /// A message as its sender edited it last (client-server API, "Event replacements").
    async fn with_edits(&self, pdu: &Pdu, rows: &[RelationRow]) -> ApiResult<ThreadMessage> {
        let is_edit = |row: &&RelationRow| {
            row.relation == Relation::Replace && row.kind == pdu.kind() && row.sender == pdu.sender()
        };
        let newest = rows.iter().filter(is_edit).max_by_key(|row| (row.at, &row.event));
        let original: Message = pdu.content_as().unwrap_or_default();
        let mut message = ThreadMessage {
            event_id: pdu.event_id().to_owned(),
            author: pdu.sender().to_owned(),
            at: pdu.origin_server_ts().get().into(),
            body: original.body,
            edited_at: None,
        };
        let Some(newest) = newest else { return Ok(message) };
        let edit = self.ports.rooms.reader().event(Some(self.room), &newest.event).await?;
        let edit = edit.and_then(|edit| edit.content_as::<Message>().ok()?.new_content);
        if let Some(content) = edit {
            message.body = content.body;
            message.edited_at = Some(newest.at);
        }
        Ok(message)
    }

    /// The comment with its place.
    pub(super) fn comment(&self, root: Root, place: Option<Located>) -> Comment {
        let unread = self.unread_of(root.pdu.event_id());
        let resolved = root.is_resolved();
        let decided = root.standing.last();
        let (body, edited_at) = match root.message {
            Some(message) => (Some(message.body), message.edited_at),
            None => (None, None),
        };
        Comment {
            event_id: root.pdu.event_id().to_owned(),
            author: root.pdu.sender().to_owned(),
            at: root.pdu.origin_server_ts().get().into(),
            redacted: body.is_none(),
            body,
            edited_at,
            quote: root.anchor.map(|anchor| anchor.quote).unwrap_or_default(),
            orphaned: place.as_ref().map(|place| *place == Located::Gone),
            range: place.and_then(range),
            resolved,
            resolved_by: decided.map(|one| one.value.by.clone()),
            resolved_at: decided.map(|one| one.at),
            replies: root.replies,
            last_reply: root.last_reply,
            unread,
        }
    }
}

/// Whether an event is a message of a thread.
pub(crate) fn is_answer(row: &RelationRow) -> bool {
    row.relation == Relation::Thread && row.kind == "m.room.message"
}

fn range(place: Located) -> Option<CommentRange> {
    let named = |place: &Place| (*place != Place::default()).then(|| json!(place));
    match place {
        Located::Range {
            place,
            from,
            to,
            to_place,
        } => Some(CommentRange {
            place: named(&place),
            from: Some(from),
            to: Some(to),
            to_in: to_place
                .as_ref()
                .and_then(|place: &Place| -> Option<Value> { named(place) }),
        }),
        Located::Whole { place } => Some(CommentRange {
            place: named(&place),
            ..CommentRange::default()
        }),
        Located::Document | Located::Gone => None,
    }
}
