//! What a worker can be asked to do.

use bytes::Bytes;
use ruma::{CanonicalJsonObject, OwnedEventId, OwnedServerName, RoomVersionId};
use tokio::sync::oneshot;
use weft_crdt::StateVector;
use weft_dag::{StateMap, Verified};

use crate::{
    AcceptError, AdoptError, CreateError, Edit, EditError, EditOutcome, JoinedRoom, NewEvent, OpenError, SendError,
    Template, TemplateError, Unavailable, UnsentEvent,
    create::Plan,
    dispute::WorkedOut,
    ingest::{Lacks, Portion},
    membership_templates::Accepted,
};

/// Where an answer goes. Whoever asked may have gone away; that is nothing to mind.
pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// A command to the worker of one room.
pub(crate) enum Command {
    /// Make the room; its create event is signed already, because it may name the room.
    Create(Box<Plan>, Reply<(), CreateError>),
    /// Send an event.
    Send(Box<NewEvent>, Reply<OwnedEventId, SendError>),
    /// Build an event and keep it out of the room.
    Draft(Box<NewEvent>, Reply<UnsentEvent, SendError>),
    /// Take an edit.
    Edit(Edit, Reply<EditOutcome, EditError>),
    /// The state vector of all that was acknowledged.
    Vector(Reply<Bytes, OpenError>),
    /// What somebody with this vector lacks.
    Diff(StateVector, Reply<Bytes, OpenError>),
    /// Seal what is pending.
    Seal(Reply<(), Unavailable>),
    /// Look at the clock again: somebody on another server became live.
    Nudge,
    /// Merge what is staged.
    Ingest,
    /// The same, and look in any case at this row and those after it: what some of them wait for has come.
    Resume(u64),
    /// Merge a portion of what was fetched. The answer names what its events lack.
    Merge(Box<Portion>, Reply<Vec<Lacks>, Unavailable>),
    /// Work the text out again, if rival claims make that due.
    Settle,
    /// Put the text that was worked out in its place.
    Install(Box<WorkedOut>),
    /// Follow the updates that others hold back, if nobody has.
    Reconcile,
    /// Send the witness event that was due at this time, unless another event made it needless.
    Witness(u64, Reply<(), Unavailable>),
    /// Take over a room that was joined through another server.
    Adopt(Box<JoinedRoom>, Reply<(), AdoptError>),
    /// Take in events from before our time, oldest first; none: they are all here, work the text out.
    History(Vec<Verified>, Reply<(), Unavailable>),
    /// Put these in the places of their hollow copies; none: delete the room's marker if no copy is left.
    RestoreUpdates(Vec<Verified>, Reply<(), Unavailable>),
    /// A membership event for another server's user to sign.
    Template(Template, Reply<(RoomVersionId, CanonicalJsonObject), TemplateError>),
    /// A membership event that another server signed, and the state before it as it was told, where that was fetched.
    Accept(
        OwnedServerName,
        Box<Verified>,
        Option<StateMap>,
        Reply<Accepted, AcceptError>,
    ),
}
