//! Event ids in 32 bytes: the hash that they are. A log has millions of them. Must not accept an id in two spellings.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{EventId, OwnedEventId};

/// The hash in an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id([u8; 32]);

impl Id {
    /// `None` for text that is not an id of room version 4 or later in its only spelling.
    pub(crate) fn of(id: &EventId) -> Option<Self> {
        let hash = id.as_str().strip_prefix('$')?;
        let bytes = URL_SAFE_NO_PAD.decode(hash).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The event id.
    pub(crate) fn event_id(self) -> Option<OwnedEventId> {
        EventId::parse(format!("${}", URL_SAFE_NO_PAD.encode(self.0))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = EventId::parse(format!("${}A", "b".repeat(42))).unwrap();
        assert_eq!(Id::of(&id).unwrap().event_id().unwrap(), id);
        // The same bytes with other unused bits in the last character.
        for other in [
            format!("${}B", "b".repeat(42)),
            "$b".to_owned(),
            format!("${}A=", "b".repeat(42)),
        ] {
            assert_eq!(Id::of(&EventId::parse(other).unwrap()), None);
        }
    }
}
