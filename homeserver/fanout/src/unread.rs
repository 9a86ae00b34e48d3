//! Counts the events of a room that a user has not read and is to be notified about (client-server API, "Receiving
//! notifications").
//!
//! An event is read if a receipt of the user is at it or after it, or if the user sent it or a later event of the same
//! thread. Must not decide who may see an event: a room is counted from the user's join on, for members alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::try_join;
use moka::sync::Cache;
use ruma::power_levels::NotificationPowerLevels;
use ruma::push::{Action, PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset};
use ruma::room_version_rules::RoomPowerLevelsRules;
use ruma::serde::Raw;
use ruma::{Int, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{Pdu, StateView};
use weft_room_api::Unavailable;
use weft_room_read::{Direction, Page, Reader, TimelineEvent, Types, order_of};
use weft_store::tables::receipts::{RECEIPT_THREADS, RECEIPTS};
use weft_wire::limits::MAX_UNREAD_EVENTS;

/// The thread of events outside of all threads, in receipts and here.
const MAIN: &str = "main";
/// The types of receipts that mark events as read.
const RECEIPT_TYPES: [&str; 2] = ["m.read", "m.read.private"];
/// Bytes of counted events that are kept in memory, of all users together. Without them, a room is counted again.
const MAX_KEPT_BYTES: u64 = 16 * 1024 * 1024;
/// An estimate of the memory of one event, and of a room without any.
const BYTES_PER_EVENT: usize = 160;
const BYTES_PER_ROOM: usize = 300;

/// Events that a user has not read, at most [`MAX_UNREAD_EVENTS`] in a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Events that notify.
    pub notifications: u64,
    /// Those of them that are highlighted: mentions.
    pub highlights: u64,
}

impl Count {
    fn add(&mut self, event: &UnreadEvent) {
        self.notifications = self.notifications.saturating_add(1);
        self.highlights = self.highlights.saturating_add(event.notification.is_highlight.into());
    }
}

/// The unread events of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnreadCounts {
    /// Outside of threads.
    pub main: Count,
    /// In each thread with unread events: by the event id of its root.
    pub threads: BTreeMap<String, Count>,
}

impl UnreadCounts {
    /// All of them together.
    #[must_use]
    pub fn total(&self) -> Count {
        self.threads.values().fold(self.main, |sum, count| Count {
            notifications: sum.notifications.saturating_add(count.notifications),
            highlights: sum.highlights.saturating_add(count.highlights),
        })
    }
}

/// An unread event that notifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The event.
    pub event: OwnedEventId,
    /// Its `origin_server_ts`.
    pub at: u64,
    /// It is highlighted: a mention.
    pub is_highlight: bool,
}

/// Whose events are counted, and how.
pub struct Counting<'a> {
    /// A member of the room.
    pub user: &'a UserId,
    /// The user's push rules.
    pub rules: &'a Ruleset,
    /// The users whose messages are not sent to the user.
    pub is_ignored: &'a (dyn Fn(&UserId) -> bool + Sync),
}

/// Counts unread events, and remembers what it counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unread {
    kept: Cache<(OwnedUserId, OwnedRoomId), Arc<Counted>>,
}

/// What is known of a user's unread events.
#[derive(Debug, Clone, Default)]
struct Counted {
    /// All events up to this stream ordering were examined.
    through: i64,
    /// Oldest first.
    events: Vec<UnreadEvent>,
}

/// An event that notifies.
#[derive(Debug, Clone)]
struct UnreadEvent {
    order: i64,
    /// [`MAIN`] or the event id of the thread's root.
    thread: Arc<str>,
    notification: Notification,
}

/// Up to which event a user has read, as stream orderings.
struct ReadUpTo {
    /// In all threads.
    everywhere: i64,
    threads: BTreeMap<String, i64>,
}

impl ReadUpTo {
    fn has(&self, event: &UnreadEvent) -> bool {
        let in_thread = self.threads.get(&*event.thread).copied().unwrap_or(i64::MIN);
        event.order <= self.everywhere.max(in_thread)
    }
}

impl Default for Unread {
    fn default() -> Self {
        let weight = |_: &(OwnedUserId, OwnedRoomId), counted: &Arc<Counted>| {
            let bytes = BYTES_PER_ROOM.saturating_add(counted.events.len().saturating_mul(BYTES_PER_EVENT));
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            kept: Cache::builder().weigher(weight).max_capacity(MAX_KEPT_BYTES).build(),
        }
    }
}

impl Unread {
    /// The unread events of a room up to a stream position.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn counts(
        &self,
        reader: &Reader,
        room: &RoomId,
        counting: &Counting<'_>,
        through: u64,
    ) -> Result<UnreadCounts, Unavailable> {
        let mut counts = UnreadCounts::default();
        for event in self.events(reader, room, counting, through).await? {
            match &*event.thread {
                MAIN => counts.main.add(&event),
                thread => counts.threads.entry(thread.to_owned()).or_default().add(&event),
            }
        }
        Ok(counts)
    }

    /// The same events, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn notifications(
        &self,
        reader: &Reader,
        room: &RoomId,
        counting: &Counting<'_>,
        through: u64,
    ) -> Result<Vec<Notification>, Unavailable> {
        let events = self.events(reader, room, counting, through).await?;
        Ok(events.into_iter().map(|event| event.notification).collect())
    }

    async fn events(
        &self,
        reader: &Reader,
        room: &RoomId,
        counting: &Counting<'_>,
        through: u64,
    ) -> Result<Vec<UnreadEvent>, Unavailable> {
        let through = order_of(through);
        let key = (counting.user.to_owned(), room.to_owned());
        let kept = self.kept.get(&key);
        let room = RoomEvents { reader, room, counting };
        let (read, newer) = try_join!(room.read_up_to(), room.newer(kept.as_deref(), through))?;
        let counted = match (kept, newer) {
            (Some(kept), Newer::Nothing) => kept,
            (kept, newer) => {
                let counted = match (kept, newer) {
                    (Some(kept), Newer::Following(events)) => room.continued(&kept, &events, through).await?,
                    (_, Newer::Newest(events)) => room.counted(events, &read, through).await?,
                    _ => room.counted(room.newest(through).await?, &read, through).await?,
                };
                let counted = Arc::new(counted);
                self.kept.insert(key, Arc::clone(&counted));
                counted
            }
        };
        let events = counted.events.iter().filter(|event| event.order <= through);
        Ok(events.filter(|event| !read.has(event)).cloned().collect())
    }
}

/// What is read besides what was counted before.
enum Newer {
    Nothing,
    /// The events since then, oldest first.
    Following(Vec<TimelineEvent>),
    /// The newest events, newest first: nothing was counted before.
    Newest(Vec<TimelineEvent>),
    /// There are too many since then, or one of them may redact a counted event: the newest are to be read.
    Unusable,
}

/// The events of a room, examined for one user.
struct RoomEvents<'a> {
    reader: &'a Reader,
    room: &'a RoomId,
    counting: &'a Counting<'a>,
}

impl RoomEvents<'_> {
    async fn page(&self, from: i64, direction: Direction) -> Result<Page, Unavailable> {
        let types = Types::WithoutUpdates;
        let page = self
            .reader
            .timeline(self.room, Some(from), direction, types, MAX_UNREAD_EVENTS);
        page.await
    }

    async fn newest(&self, through: i64) -> Result<Vec<TimelineEvent>, Unavailable> {
        let page = self.page(through.saturating_add(1), Direction::Backward).await?;
        Ok(page.events)
    }

    /// Needs no receipts, so both are read at the same time.
    async fn newer(&self, kept: Option<&Counted>, through: i64) -> Result<Newer, Unavailable> {
        let Some(kept) = kept else {
            return Ok(Newer::Newest(self.newest(through).await?));
        };
        if kept.through >= through {
            return Ok(Newer::Nothing);
        }
        let mut page = self.page(kept.through, Direction::Forward).await?;
        let is_redaction = |event: &TimelineEvent| event.pdu.kind() == "m.room.redaction";
        if page.next.is_some() || page.events.iter().any(is_redaction) {
            return Ok(Newer::Unusable);
        }
        page.events.retain(|event| event.order <= through);
        Ok(Newer::Following(page.events))
    }

    /// Counts the newest events, back to one that was read everywhere.
    async fn counted(&self, newest: Vec<TimelineEvent>, read: &ReadUpTo, through: i64) -> Result<Counted, Unavailable> {
        let unread = newest.into_iter().take_while(|event| event.order > read.everywhere);
        let mut oldest_first: Vec<TimelineEvent> = unread.collect();
        oldest_first.reverse();
        let mut counted = Counted::default();
        self.add(&mut counted, &oldest_first, through).await?;
        Ok(counted)
    }

    /// Adds the events that came since.
    async fn continued(&self, kept: &Counted, events: &[TimelineEvent], through: i64) -> Result<Counted, Unavailable> {
        let mut counted = kept.clone();
        self.add(&mut counted, events, through).await?;
        Ok(counted)
    }

    async fn add(&self, counted: &mut Counted, events: &[TimelineEvent], through: i64) -> Result<(), Unavailable> {
        let mut context = None;
        for TimelineEvent { order, pdu } in events {
            let thread = thread_of(pdu);
            if pdu.sender() == self.counting.user {
                // A user who writes in a thread has read it.
                counted.events.retain(|event| event.thread != thread);
                continue;
            }
            // A message without content was redacted.
            let is_empty = pdu.state_key().is_none() && pdu.content().get() == "{}";
            if is_empty || (self.counting.is_ignored)(pdu.sender()) {
                continue;
            }
            let context = match &context {
                Some(context) => context,
                None => context.insert(self.context(events).await?),
            };
            let actions = actions(self.counting.rules, pdu, context).await;
            if actions.iter().any(Action::should_notify) {
                counted.events.push(UnreadEvent {
                    order: *order,
                    thread,
                    notification: Notification {
                        event: pdu.event_id().to_owned(),
                        at: pdu.origin_server_ts().get().into(),
                        is_highlight: actions.iter().any(Action::is_highlight),
                    },
                });
            }
        }
        let surplus = counted.events.len().saturating_sub(MAX_UNREAD_EVENTS);
        counted.events.drain(..surplus);
        counted.through = through;
        Ok(())
    }

    /// What the conditions of push rules refer to.
    async fn context(&self, events: &[TimelineEvent]) -> Result<PushConditionRoomCtx, Unavailable> {
        #[derive(Deserialize)]
        struct Member {
            displayname: Option<String>,
        }
        let user = self.counting.user;
        let keys = [
            ("m.room.create", ""),
            ("m.room.power_levels", ""),
            ("m.room.member", user.as_str()),
        ];
        let state = self.reader.state_entries(self.room, &keys).await?;
        let member = state
            .as_ref()
            .and_then(|state| state.get("m.room.member", user.as_str()));
        let name = member.and_then(|pdu| pdu.content_as::<Member>().ok()?.displayname);
        let members = UInt::try_from(self.reader.joined_count(self.room).await?).unwrap_or(UInt::MAX);
        let name = name.unwrap_or_else(|| user.localpart().to_owned());
        let mut context = PushConditionRoomCtx::new(self.room.to_owned(), members, user.to_owned(), name);
        context.power_levels = state.map(|state| levels(&state, events));
        Ok(context)
    }

    /// The receipts of the user, and the user's membership: what was before the join doesn't count.
    async fn read_up_to(&self) -> Result<ReadUpTo, Unavailable> {
        let (store, room, user) = (self.reader.store(), self.room, self.counting.user);
        let threads = async {
            let threads = store.get(&RECEIPT_THREADS, &(room, user)).await?;
            Ok::<_, Unavailable>(threads.unwrap_or_default().0)
        };
        let outside = ["", MAIN].into_iter().flat_map(|thread| {
            let receipt = |kind: &str| (kind.to_owned(), thread.to_owned());
            RECEIPT_TYPES.map(receipt)
        });
        let outside = self.receipts(outside.collect());
        let (joined, threads, mut receipts) = try_join!(self.reader.room_of_user(user, room), threads, outside)?;
        if !threads.is_empty() {
            receipts.extend(self.receipts(threads).await?);
        }
        let mut read = ReadUpTo {
            everywhere: order_of(joined.map_or(0, |member| member.row.position)),
            threads: BTreeMap::new(),
        };
        for (thread, order) in receipts {
            let up_to = match thread.as_str() {
                "" => &mut read.everywhere,
                _ => read.threads.entry(thread).or_insert(i64::MIN),
            };
            *up_to = order.max(*up_to);
        }
        Ok(read)
    }

    /// The threads and orders of receipts, of those that exist; each is given by its type and thread.
    async fn receipts(&self, wanted: Vec<(String, String)>) -> Result<Vec<(String, i64)>, Unavailable> {
        let (store, room, user) = (self.reader.store(), self.room, self.counting.user);
        let keys = wanted.iter().map(|(kind, thread)| (room, &**kind, &**thread, user));
        let rows = store.get_many(&RECEIPTS, keys).await?;
        let found = wanted.into_iter().zip(rows);
        let orders =
            found.filter_map(|((_, thread), row)| {
                let event = row?.event;
                Some(async move {
                    Ok::<_, Unavailable>(self.reader.order(room, &event).await?.map(|order| (thread, order)))
                })
            });
        Ok(try_join_all(orders).await?.into_iter().flatten().collect())
    }
}

/// The power levels of the events' senders, and those that mentions of the whole room require.
fn levels(state: &StateView, events: &[TimelineEvent]) -> PushConditionPowerLevelsCtx {
    #[derive(Deserialize)]
    struct Levels {
        notifications: NotificationPowerLevels,
    }
    let senders = events.iter().map(|event| event.pdu.sender().to_owned());
    let power = |user: &UserId| Int::try_from(state.user_power(user)).unwrap_or(Int::MAX);
    let users = senders.map(|user| (user.clone(), power(&user))).collect();
    let levels = state.get("m.room.power_levels", "");
    let levels = levels.and_then(|pdu| pdu.content_as::<Levels>().ok());
    let needed = levels.map_or_else(NotificationPowerLevels::new, |levels| levels.notifications);
    // The creators' power is in `users`.
    let rules = RoomPowerLevelsRules::new(&state.version().rules().authorization, []);
    PushConditionPowerLevelsCtx::new(users, Int::MIN, needed, rules)
}

async fn actions<'a>(rules: &'a Ruleset, pdu: &Pdu, context: &PushConditionRoomCtx) -> &'a [Action] {
    match RawValue::from_string(pdu.json().to_owned()) {
        Ok(json) => rules.get_actions(&Raw::<()>::from_json(json), context).await,
        Err(_) => &[],
    }
}

/// The thread of an event (client-server API, "Threading").
fn thread_of(pdu: &Pdu) -> Arc<str> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: Relation,
    }
    #[derive(Deserialize)]
    struct Relation {
        rel_type: String,
        event_id: String,
    }
    match pdu.content_as::<Content>() {
        Ok(Content { relates_to }) if relates_to.rel_type == "m.thread" => relates_to.event_id.into(),
        _ => MAIN.into(),
    }
}
