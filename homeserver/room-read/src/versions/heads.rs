//! The heads of a version: the events of which the text at a version has something, and that no other one of them follows. What a version
//! is on this server only, its heads are on every server. Must not write.

use ruma::{OwnedEventId, RoomId};
use weft_room_api::RoomError;

use super::EventSteps;
use crate::{Reader, nearest::Walk};

impl Reader {
    /// The heads of a version. A version between two edits of one event has that event among its heads, so its text may have less than
    /// theirs. `None`: this server does not know the version, or its heads are too many or too far apart to be found. The cost follows
    /// the distance to the nearest checkpoint.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn heads_of_version(
        &self,
        room: &RoomId,
        version: u64,
        limit: usize,
    ) -> Result<Option<Vec<OwnedEventId>>, RoomError> {
        let known = self.versions_from(room).await?;
        let Some(known) = known.filter(|from| *from <= version) else {
            return Ok(None);
        };
        let checkpoint = self.checkpoint_below(room, version.saturating_add(1)).await?;
        let (start, base, position) = match checkpoint.filter(|(at, _)| *at >= known) {
            Some((at, row)) => (at, row.heads, row.position),
            None if known == 0 => (0, Vec::new(), 0),
            None => return Ok(None),
        };
        let steps = self.steps_between(room, start.saturating_add(1), version).await?;
        let mut walk = Walk::default();
        let mut heads = Vec::new();
        // An event follows only events that have earlier versions.
        for event in newest_first(steps) {
            if walk.has(&event) {
                continue;
            }
            walk.begin(&event);
            heads.push(event);
            // Where history is missing the walk ends with an error; the heads are for display, so that they are left out.
            if heads.len() > limit || !matches!(walk.back_to(self, room, position).await, Ok(true)) {
                return Ok(None);
            }
        }
        heads.extend(base.into_iter().filter(|head| !walk.has(head)));
        Ok(Some(heads).filter(|heads| heads.len() <= limit))
    }
}

fn newest_first(steps: Vec<EventSteps>) -> impl Iterator<Item = OwnedEventId> {
    let last = |one: &EventSteps| one.steps.iter().map(|step| step.version).max();
    let mut events: Vec<(Option<u64>, OwnedEventId)> = steps
        .into_iter()
        .filter_map(|one| Some((last(&one), one.event?)))
        .collect();
    events.sort();
    events.into_iter().rev().map(|(_, event)| event)
}
