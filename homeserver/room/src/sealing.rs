//! Sealing, the part that changes the room: turns the plan of [`weft_document::seal`] into signed events.
//!
//! Every change of the state seals first, so pending edits are always sealed under the state in which they were
//! acknowledged, and no right to edit can be lost in between. This includes state changes from other servers: pending
//! edits are sealed before events are merged, so the local events reference the extremities from before and are allowed
//! by the state before them. A server that has the new state may soft-fail them, and merges them with the next event
//! that references them. Must not drop an acknowledged edit.

use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId};
use weft_convergence::admission::{Judgement, judge};
use weft_document::{
    Origin,
    seal::{self, Part},
};
use weft_room_api::{EventRefusal, RoomError, Unavailable};
use weft_wire::{event_types, update::UpdateContent};

use crate::{
    active_room::ActiveRoom,
    compose::{ProtoEvent, canonical},
    mailbox::Reply,
    pending_commit::PendingCommit,
    worker::Worker,
};

/// Why a part was not sealed. Its rows stay in the journal.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error("{0}")]
    Plan(#[from] seal::PlanError),
    #[error("{0}")]
    Event(#[from] RoomError),
    #[error("not admissible: {0}")]
    Inadmissible(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Worker {
    /// Seals the pending edits, if the room is active. Edits that can't be sealed stay in the journal and are logged as
    /// errors, because they were acknowledged.
    pub(crate) fn seal(&mut self, commit: &mut PendingCommit) {
        let (signer, ours) = (self.signer(), self.ours().to_owned());
        let Some(active) = self.active.as_mut() else { return };
        let Some(document) = active
            .document
            .as_ref()
            .filter(|document| !document.pending().is_empty())
        else {
            return;
        };
        let parts = seal::plan(document.pending()).map_err(SealError::from);
        let sealed = parts.and_then(|parts| {
            parts
                .into_iter()
                .try_for_each(|part| seal_part(active, commit, part, &signer, &ours))
        });
        if let Err(error) = sealed {
            tracing::error!(
                event = "room.seal_failed", room = %active.id, %error,
                "acknowledged edits could not be sealed; they stay in the journal"
            );
            if let Some(document) = active.document.as_mut() {
                document.put_off();
            }
        }
    }

    pub(crate) async fn seal_now(&mut self, commit: &mut PendingCommit, reply: Reply<()>) {
        if let Err(error) = self.open().await {
            reply.send(Err(error.into()));
            return;
        }
        self.seal(commit);
        commit.answer(reply, ());
    }
}

fn seal_part(
    active: &mut ActiveRoom,
    commit: &mut PendingCommit,
    part: Part,
    signer: &weft_dag::Signer,
    ours: &ruma::ServerName,
) -> Result<(), SealError> {
    let ranges = part
        .update
        .ranges()
        .into_iter()
        .map(|(client, range)| (client.get(), range));
    let content = UpdateContent::new(&part.update.encode(), ranges);
    let Some(document) = active.document.as_ref() else {
        return Ok(());
    };
    // The same check as on every other server.
    let update = match judge(&content, &part.author, &document.past()) {
        Judgement::Admitted { update, .. } => Some(update),
        Judgement::NothingNew => None,
        Judgement::Inadmissible { reason } => return Err(SealError::Inadmissible(reason)),
    };
    if let Some(update) = update {
        let named = active.names_for_update(update.wire_len());
        let proto = ProtoEvent {
            sender: part.author.clone(),
            kind: event_types::UPDATE.to_owned(),
            state_key: None,
            content: with_names(update_content(&content)?, &named),
            redacts: None,
        };
        #[cfg(debug_assertions)]
        fail::fail_point!("room::seal_begun");
        let pdu = active.compose(proto, signer, commit.now)?;
        let event = pdu.event_id().to_owned();
        commit.weigh(pdu.json().len());
        active.append(commit, pdu, ours)?;
        if !named.is_empty() {
            active.note_named(&mut commit.batch, &named);
        }
        if let Some(document) = active.document.as_mut() {
            let (into, of) = ((&mut commit.batch, commit.now.get().into()), (&*event, &*part.author));
            document.merge(into, &active.id, of, &update, &Origin::Sealed(&part.steps))?;
            document.place(&mut commit.batch, &active.id, &event);
        }
    }
    if let Some(document) = active.document.as_mut() {
        document.unjournal(&mut commit.batch, &active.id, &part.rows);
    }
    #[cfg(debug_assertions)]
    fail::fail_point!("room::sealed");
    Ok(())
}

/// The content with the field that names updates that stand; without the field if there are none. Names that a client
/// wrote there are removed, because only the server may set them.
pub(crate) fn with_names(mut content: CanonicalJsonObject, named: &[OwnedEventId]) -> CanonicalJsonObject {
    content.remove(event_types::STANDS);
    if !named.is_empty() {
        let names = named.iter().map(|id| id.as_str().into()).collect();
        content.insert(event_types::STANDS.to_owned(), CanonicalJsonValue::Array(names));
    }
    content
}

fn update_content(content: &UpdateContent) -> Result<CanonicalJsonObject, RoomError> {
    let bad = |reason: String| RoomError::from(EventRefusal::BadContent { reason });
    match serde_json::to_value(content).map_err(|error| bad(error.to_string()))? {
        serde_json::Value::Object(map) => canonical(map),
        _ => Err(bad("not an object".to_owned())),
    }
}
