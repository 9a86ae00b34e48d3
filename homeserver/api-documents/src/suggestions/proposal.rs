//! The update of a suggestion, checked before an engine gets it (`spec/docs/suggestions.md`). Pure: bytes and the present text in.
//!
//! Must not apply it to anything.

use bytes::Bytes;
use ruma::UserId;
use weft_crdt::{Admission, ClientId, DeleteSet, Document, Id, Known, Parent, Refusal, Update, admit_bytes, merge};
use weft_wire::{
    document::DocumentKind,
    suggestion::{SuggestionContent, SuggestionError},
};

/// Why a suggestion can't be applied to a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProposalError {
    #[error(transparent)]
    Content(#[from] SuggestionError),
    #[error("the update is not admissible: {}", .0.code())]
    Refused(Refusal),
    #[error("the update depends on blocks that are not here")]
    Incomplete,
    #[error("the blocks of the update must have one client id of their own, from clock 0 on")]
    ClientId,
    #[error("the update changes nothing")]
    Nothing,
    #[error("the engine can't apply the update")]
    Engine,
}

/// An update that may be given to an engine together with the text.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    update: Update,
    /// Of its blocks; `None` if it only deletes.
    own: Option<ClientId>,
}

/// A text, of which the blocks belong to others than the author of a suggestion.
struct Others<'a>(&'a Document);

impl Known for Others<'_> {
    fn end(&self, client: ClientId) -> u32 {
        self.0.state_vector().get(client)
    }

    fn owner(&self, client: ClientId) -> Option<&str> {
        (self.end(client) > 0).then_some("")
    }
}

impl Proposal {
    /// Checks the content of a suggestion against a text.
    pub(super) fn of(content: &SuggestionContent, author: &UserId, text: &Document) -> Result<Self, ProposalError> {
        Self::of_bytes(content.bytes()?.into(), author, text)
    }

    /// The same for the bytes of an update.
    pub(super) fn of_bytes(bytes: Bytes, author: &UserId, text: &Document) -> Result<Self, ProposalError> {
        let parsed = Update::parse(bytes.clone()).map_err(|error| ProposalError::Refused(error.into()))?;
        let ranges = parsed.ranges();
        let mut clients = ranges.iter();
        let own = match (clients.next(), clients.next()) {
            (None, _) => None,
            (Some((client, (0, _))), None) if text.state_vector().get(*client) == 0 => Some(*client),
            _ => return Err(ProposalError::ClientId),
        };
        match admit_bytes(bytes, author.as_str(), &Others(text)) {
            Ok(Admission::Admitted { update, .. }) => Ok(Self { update, own }),
            Ok(Admission::Known) => Err(ProposalError::Nothing),
            Ok(Admission::Gap { .. }) => Err(ProposalError::Incomplete),
            Err(refusal) if refusal.may_be_early() => Err(ProposalError::Incomplete),
            Err(refusal) => Err(ProposalError::Refused(refusal)),
        }
    }

    /// Without what was accepted already: these clocks of its own are deleted. What was accepted of its deletions and formats has no
    /// effect any more.
    pub(super) fn without(self, taken: &[(u32, u32)]) -> Result<Self, ProposalError> {
        let Some(own) = self.own.filter(|_| !taken.is_empty()) else {
            return Ok(self);
        };
        let end = self.update.ranges().get(&own).map_or(0, |(_, end)| *end);
        let mut deletes = DeleteSet::new();
        for (from, to) in taken.iter().filter(|(from, _)| *from < end) {
            deletes.insert(own, *from, (*to).min(end));
        }
        let update = merge(&[self.update, Update::from_deletes(deletes)]);
        let update = update.map_err(|_| ProposalError::Engine)?;
        Ok(Self { update, own: Some(own) })
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.update.encode().into()
    }

    /// The client id of its blocks.
    pub(super) fn own(&self) -> Option<u64> {
        self.own.map(ClientId::get)
    }

    /// Whether everything that it refers to is deleted in a text: the text between which it would insert, and what it would delete. In
    /// a board only the engine can tell.
    pub(super) fn is_gone(&self, kind: DocumentKind, text: &Document) -> bool {
        let deleted = text.delete_set();
        let deletes = self.update.delete_set().iter().any(|(client, from, to)| {
            let mut clocks = deleted.ranges(client).iter();
            Some(client) != self.own && !clocks.any(|(first, end)| *first <= from && to <= *end)
        });
        if deletes || kind == DocumentKind::Canvas {
            return false;
        }
        let is_there = |id: Id| !deleted.contains(id);
        let mut refers = false;
        for block in self.update.blocks() {
            let parent = match block.parent {
                Some(Parent::Block(id)) => Some(id),
                _ => None,
            };
            let all = [block.origin, block.right_origin, parent];
            let others: Vec<Id> = all
                .into_iter()
                .flatten()
                .filter(|id| Some(id.client) != self.own)
                .collect();
            let is_root = block.origin.is_none() && block.right_origin.is_none() && parent.is_none();
            if is_root || others.iter().copied().any(is_there) {
                return false;
            }
            refers |= !others.is_empty();
        }
        refers || self.own.is_none()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    /// "ab" in the text `body`, by client 1.
    const TEXT: &[u8] = &[1, 1, 1, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 2, b'a', b'b', 0];
    /// "x" by client 5 between the two.
    const BETWEEN: &[u8] = &[1, 1, 5, 0, 0xc4, 1, 0, 1, 1, 1, b'x', 0];
    /// "x" by client 5 at the beginning of an empty text.
    const FIRST: &[u8] = &[1, 1, 5, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'x', 0];
    /// Deletes "a".
    const DELETES: &[u8] = &[0, 1, 1, 1, 0, 1];

    fn text(deleted: &[(u32, u32)]) -> Document {
        let mut text = Document::from_update(Bytes::from_static(TEXT)).unwrap();
        let mut deletes = weft_crdt::DeleteSet::new();
        for (from, to) in deleted {
            deletes.insert(ClientId::new(1).unwrap(), *from, *to);
        }
        text.apply(&Update::from_deletes(deletes)).unwrap();
        text
    }

    fn proposal(bytes: &'static [u8]) -> Result<Proposal, ProposalError> {
        Proposal::of_bytes(Bytes::from_static(bytes), user_id!("@a:x"), &text(&[]))
    }

    #[test]
    fn an_insertion_is_gone_when_both_of_its_neighbours_are() {
        let between = proposal(BETWEEN).unwrap();
        for (deleted, gone) in [
            (&[][..], false),
            (&[(0, 1)], false),
            (&[(1, 2)], false),
            (&[(0, 2)], true),
        ] {
            assert_eq!(between.is_gone(DocumentKind::Text, &text(deleted)), gone, "{deleted:?}");
        }
        assert!(!between.is_gone(DocumentKind::Canvas, &text(&[(0, 2)])));
        assert!(!proposal(FIRST).unwrap().is_gone(DocumentKind::Text, &text(&[(0, 2)])));
    }

    #[test]
    fn a_deletion_is_gone_when_somebody_else_made_it() {
        let deletes = proposal(DELETES).unwrap();
        assert!(!deletes.is_gone(DocumentKind::Text, &text(&[(1, 2)])));
        assert!(deletes.is_gone(DocumentKind::Text, &text(&[(0, 1)])));
    }

    #[test]
    fn blocks_have_one_client_id_of_their_own_and_refer_to_what_is_there() {
        // By client 1, which has written the text.
        let foreign = [1, 1, 1, 2, 0x84, 1, 1, 1, b'x', 0].as_slice();
        let later = [1, 1, 5, 3, 0x84, 1, 1, 1, b'x', 0].as_slice();
        let two = [2, 1, 5, 0, 0x84, 1, 1, 1, b'x', 1, 4, 0, 0x84, 1, 1, 1, b'x', 0].as_slice();
        let unknown = [1, 1, 5, 0, 0x84, 9, 1, 1, b'x', 0].as_slice();
        for (bytes, error) in [
            (foreign, ProposalError::ClientId),
            (later, ProposalError::ClientId),
            (two, ProposalError::ClientId),
            (unknown, ProposalError::Incomplete),
        ] {
            let made = Proposal::of_bytes(Bytes::copy_from_slice(bytes), user_id!("@a:x"), &text(&[]));
            assert_eq!(made.map(|made| made.bytes()), Err(error), "{bytes:?}");
        }
        assert_eq!(proposal(&[0, 0]).map(|made| made.bytes()), Err(ProposalError::Nothing));
        assert!(matches!(proposal(&[1, 2]), Err(ProposalError::Refused(_))));
    }
}
