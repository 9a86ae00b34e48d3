//! Which redactions removed which content. A redaction may come before or after its target in a file, so this is decided at
//! the end. Must not excuse content that the rules keep: a server never redacts an update.

use std::collections::HashMap;

use ruma::{OwnedEventId, OwnedServerName, state_res::events::RoomPowerLevelsIntField};
use weft_dag::{Pdu, StateView};
use weft_wire::witness::is_kept_whole;

use crate::{Doubt, ids::Id};

/// A redaction of a target.
#[derive(Debug)]
struct Redaction {
    server: OwnedServerName,
    /// Its sender has the power level to redact any event.
    has_power: bool,
}

/// An event without its content.
#[derive(Debug)]
struct Stripped {
    event: OwnedEventId,
    server: OwnedServerName,
    is_kept_whole: bool,
}

/// The redactions and the events without content so far.
#[derive(Debug, Default)]
pub(crate) struct Redactions {
    by_target: HashMap<Id, Vec<Redaction>>,
    stripped: Vec<Stripped>,
}

impl Redactions {
    /// Notes an accepted event, if it redacts another one. `before`: the state before it.
    pub(crate) fn note(&mut self, pdu: &Pdu, before: &StateView) {
        let Some(target) = pdu.redacts().and_then(Id::of) else {
            return;
        };
        let needed = before.needed_power_to(RoomPowerLevelsIntField::Redact);
        self.by_target.entry(target).or_default().push(Redaction {
            server: pdu.sender().server_name().to_owned(),
            has_power: before.user_power(pdu.sender()) >= needed,
        });
    }

    /// Notes an event without its content.
    pub(crate) fn note_stripped(&mut self, pdu: &Pdu) {
        self.stripped.push(Stripped {
            event: pdu.event_id().to_owned(),
            server: pdu.sender().server_name().to_owned(),
            is_kept_whole: pdu.state_key().is_none() && is_kept_whole(pdu.kind()),
        });
    }

    /// The number of redacted events, and what is missing without a redaction.
    pub(crate) fn settle(&self) -> (u64, Option<Doubt>) {
        let is_redacted = |stripped: &&Stripped| {
            let redactions = Id::of(&stripped.event).and_then(|id| self.by_target.get(&id));
            let mut redactions = redactions.into_iter().flatten();
            !stripped.is_kept_whole && redactions.any(|by| by.has_power || by.server == stripped.server)
        };
        let redacted = self.stripped.iter().filter(is_redacted).count();
        let first = self.stripped.iter().find(|stripped| !is_redacted(stripped));
        let missing = first.map(|first| Doubt::Content {
            events: (self.stripped.len() - redacted) as u64,
            first: first.event.clone(),
        });
        (redacted as u64, missing)
    }
}
