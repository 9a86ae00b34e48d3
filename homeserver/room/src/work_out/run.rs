//! One run that works the text out: the graph of the room without its events first, then the events in its order, a
//! portion at a time. Memory has the graph (ids and references), the text and a portion, and not the events.
//!
//! If a clock is claimed twice, the claims have to be compared with each other, and the run reads all events at once
//! instead ([`weft_convergence::rivals`]). Must not change the worker's text.

use std::{collections::HashMap, sync::Arc};

use ruma::{OwnedRoomId, OwnedServerName};
use tokio::runtime::{Handle, RuntimeFlavor};
use weft_convergence::{
    rebuild::{PersistedEvent, Standing, claim_of, rebuild},
    sequence::{Decision, Sequence, known_after, known_before},
    skeleton::InOrder,
};
use weft_crdt::StateVector;
use weft_dag::RoomVersion;
use weft_document::{GrowingText, PointOfText, Replacement, ReservedNumbers, RunId};
use weft_ingest::stored::{read_events, skeleton};
use weft_room_api::Unavailable;
use weft_room_read::damaged;

use super::Since;
use crate::{fold::write_portions, registry::Shared};

/// Events of a portion: at most 6.5 MB.
const PORTION: usize = 100;

/// The result of a run.
pub(super) enum Outcome {
    /// Events are missing, so that the text can't be worked out.
    Incomplete,
    /// All events are here, and the room is not a document.
    NoText,
    Text(Box<Replacement>),
}

/// What a run needs.
pub(super) struct Run {
    pub(super) id: RunId,
    /// The place of the text in the graph.
    pub(super) point: PointOfText,
    pub(super) shared: Arc<Shared>,
    pub(super) room: OwnedRoomId,
    pub(super) version: RoomVersion,
    pub(super) ours: OwnedServerName,
    /// `None` if the room is not a document.
    pub(super) numbers: Option<ReservedNumbers>,
    /// The last run found clocks that are claimed twice.
    pub(super) has_rivals: bool,
    pub(super) since: Since,
}

/// A text that is worked out event by event.
struct Growing {
    sequence: Sequence,
    text: GrowingText,
    /// The state vectors after events that later ones reference, each with the number of these.
    frontier: HashMap<usize, (Arc<StateVector>, usize)>,
}

/// The end of the work event by event.
enum EventByEvent {
    Text(Box<Replacement>),
    /// A clock is claimed twice. The numbers are unused.
    ClaimedTwice(ReservedNumbers),
    /// Another run has begun, or the room was loaded again.
    Obsolete,
}

impl Run {
    /// From the events that are on disk; the rows that nothing refers to yet are written. `None`: the run is obsolete.
    pub(super) async fn work_out(&self) -> Result<Option<Outcome>, Unavailable> {
        let mut graph = skeleton(&self.shared.reader, &self.room, &self.version).await?;
        for id in self.since.lock().iter() {
            graph.remove(id);
        }
        let Some(order) = graph.in_order().map(Arc::new) else {
            return Ok(Some(Outcome::Incomplete));
        };
        let Some(mut numbers) = self.numbers else {
            return Ok(Some(Outcome::NoText));
        };
        if !self.has_rivals {
            match self.event_by_event(&order, numbers).await? {
                EventByEvent::Text(text) => return self.write_rest(text).await,
                EventByEvent::Obsolete => return Ok(None),
                EventByEvent::ClaimedTwice(unused) => numbers = unused,
            }
        }
        let text = self.with_all_events(&order, numbers).await?;
        self.write_rest(text).await
    }

    async fn write_rest(&self, mut text: Box<Replacement>) -> Result<Option<Outcome>, Unavailable> {
        let is_current = write_portions(&self.shared, &self.room, &self.id, text.take_ahead()).await?;
        Ok(is_current.then_some(Outcome::Text(text)))
    }

    async fn event_by_event(
        &self,
        order: &Arc<InOrder>,
        numbers: ReservedNumbers,
    ) -> Result<EventByEvent, Unavailable> {
        let mut text = GrowingText::new(&self.room, numbers);
        text.begin();
        let mut growing = Growing {
            sequence: Sequence::default(),
            text,
            frontier: HashMap::new(),
        };
        for (number, ids) in order.ids().chunks(PORTION).enumerate() {
            let events = read_events(&self.shared.reader, &self.room, &self.version, ids).await?;
            let (order, room, first) = (Arc::clone(order), self.room.clone(), number * PORTION);
            let work = move || {
                let is_single = growing.take_all(&order, first, &events);
                is_single
                    .map(|is_single| (growing, is_single))
                    .map_err(|error| damaged(&room, &error))
            };
            let is_single;
            (growing, is_single) = apart(work).await??;
            if !is_single {
                return Ok(EventByEvent::ClaimedTwice(growing.text.into_numbers()));
            }
            if !write_portions(&self.shared, &self.room, &self.id, growing.text.take_ahead()).await? {
                return Ok(EventByEvent::Obsolete);
            }
        }
        let (point, events) = (self.point.clone(), order.ids().to_vec());
        let text = apart(move || Box::new(growing.text.into_replacement(point, events))).await?;
        Ok(EventByEvent::Text(text))
    }

    /// From all events at once: memory has all of them.
    async fn with_all_events(
        &self,
        order: &InOrder,
        numbers: ReservedNumbers,
    ) -> Result<Box<Replacement>, Unavailable> {
        let mut events: Vec<PersistedEvent> = Vec::with_capacity(order.ids().len());
        for ids in order.ids().chunks(PORTION) {
            events.extend(read_events(&self.shared.reader, &self.room, &self.version, ids).await?);
        }
        let (room, ours, point) = (self.room.clone(), self.ours.clone(), self.point.clone());
        let work = move || {
            let rebuilt = rebuild(events, Some(&ours));
            let text = Replacement::new(&room, rebuilt, numbers, point).map_err(|error| damaged(&room, &error))?;
            Ok(Box::new(text))
        };
        apart(work).await?
    }
}

impl Growing {
    /// The next events, the first of which has this place. False: a clock is claimed twice.
    fn take_all(
        &mut self,
        order: &InOrder,
        first: usize,
        events: &[PersistedEvent],
    ) -> Result<bool, weft_crdt::ApplyError> {
        for (place, event) in (first..).zip(events) {
            if !self.take(order, place, event)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, order: &InOrder, place: usize, event: &PersistedEvent) -> Result<bool, weft_crdt::ApplyError> {
        let before = order.prev(place).iter().filter_map(|prev| self.frontier.get(prev));
        let known = known_before(before.map(|(vector, _)| vector));
        let admitted = match claim_of(&event.pdu, event.flags) {
            None => None,
            Some(claim) => match self.sequence.next(&claim, &known) {
                Decision::Stands(admitted) => Some(admitted),
                Decision::Falls => None,
                Decision::ClaimedTwice(_) => return Ok(false),
            },
        };
        let after = known_after(known, admitted.as_ref());
        let standing = admitted.map(|admitted| Standing {
            event: event.pdu.event_id().to_owned(),
            sender: event.pdu.sender().to_owned(),
            update: admitted.update,
        });
        self.text.take(event.pdu.event_id(), &after, standing.as_ref())?;
        for prev in order.prev(place) {
            if let Some((_, left)) = self.frontier.get_mut(prev) {
                *left -= 1;
                if *left == 0 {
                    self.frontier.remove(prev);
                }
            }
        }
        if order.followers(place) > 0 {
            self.frontier.insert(place, (after, order.followers(place)));
        }
        Ok(true)
    }
}

/// Does work that takes long on another thread. A runtime of one thread, as in tests, is sequential anyway.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unavailable> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Unavailable::Interrupted)
}
