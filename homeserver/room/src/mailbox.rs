//! The commands that a worker accepts.

use bytes::Bytes;
use ruma::{CanonicalJsonObject, OwnedEventId, OwnedServerName, RoomVersionId};
use tokio::sync::oneshot;
use weft_crdt::StateVector;
use weft_dag::{StateMap, Verified};

use crate::{
    Edit, EditOutcome, JoinedRoom, NewEvent, RoomError, Template, Unavailable, UnsentEvent,
    create::Plan,
    dispute::WorkedOut,
    ingest::{Lacks, Portion},
    membership_templates::Accepted,
};

/// The channel for an answer. The receiver may be gone; that is no error.
pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// A command to the worker of one room.
pub(crate) enum Command {
    /// Create the room; its create event is already signed, because it may determine the room id.
    Create(Box<Plan>, Reply<(), RoomError>),
    /// Send an event.
    Send(Box<NewEvent>, Reply<OwnedEventId, RoomError>),
    /// Build and sign an event without persisting it.
    Draft(Box<NewEvent>, Reply<UnsentEvent, RoomError>),
    /// Apply an edit.
    Edit(Edit, Reply<EditOutcome, RoomError>),
    /// The state vector of everything acknowledged.
    Vector(Reply<Bytes, RoomError>),
    /// The update with what is missing from this state vector.
    Diff(StateVector, Reply<Bytes, RoomError>),
    /// Seal the pending edits.
    Seal(Reply<(), Unavailable>),
    /// Recompute when the seal is due: a user of another server became live.
    Nudge,
    /// Merge staged events.
    Ingest,
    /// The same, and process this row and those after it in any case: something that they wait for is here.
    Resume(u64),
    /// Merge a portion of the fetched events. The answer lists what its events still need.
    Merge(Box<Portion>, Reply<Vec<Lacks>, Unavailable>),
    /// Work the text out again, if rival claims make that due.
    Settle,
    /// Replace the text by the one that was worked out.
    Install(Box<WorkedOut>),
    /// Reference the updates that other servers may have soft-failed, if no event does yet.
    Reconcile,
    /// Send the witness event that was due at this time, unless another event made it unnecessary.
    Witness(u64, Reply<(), Unavailable>),
    /// Adopt a room that was joined through another server.
    Adopt(Box<JoinedRoom>, Reply<(), RoomError>),
    /// Persist backfilled events, oldest first. Empty: all of them are here; work the text out.
    History(Vec<Verified>, Reply<(), Unavailable>),
    /// Replace pruned updates by these complete copies. Empty: delete the room's marker if no pruned update is left.
    RestoreUpdates(Vec<Verified>, Reply<(), Unavailable>),
    /// Build a membership event for a user of another server to sign.
    Template(Template, Reply<(RoomVersionId, CanonicalJsonObject), RoomError>),
    /// A membership event that another server signed, and the remote state before it, if that was fetched.
    Accept(
        OwnedServerName,
        Box<Verified>,
        Option<StateMap>,
        Reply<Accepted, RoomError>,
    ),
}
