//! Large edits: they are parsed and admitted in a task, against a copy of the vector and the owners, before they reach
//! the worker. The worker uses the result if what it depended on is unchanged.
//!
//! The caller waits until its edit is on disk, as with small ones, so the edits of one connection keep their order. Must
//! not change the text.

use std::{num::NonZero, sync::Arc, thread, time::Duration};

use ruma::RoomId;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    time::timeout,
};
use weft_crdt::LiveUpdate;
use weft_document::{AdmittedUpdate, CopiedPast};
use weft_room_api::{Edit, EditOutcome, RoomError, Unavailable};

use crate::{mailbox::LocalCommand, registry::Shared};

/// An update above this length is admitted in a task. Up to it, parsing and admission take a few milliseconds, the time
/// of a commit; an update of the greatest length takes a hundred.
pub(crate) const LARGE_EDIT_BYTES: usize = 128 * 1024;
/// How often a large edit is admitted in a task, because what this depends on has changed meanwhile; then the worker does
/// it. Only edits under the same client ids change that.
const MAX_ATTEMPTS: u8 = 3;
/// How long a large edit waits for others that are being admitted; then the worker does it.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Limits how many large edits are admitted at a time, so that they leave processors to everything else.
#[derive(Debug)]
pub(crate) struct LargeEdits(Semaphore);

impl Default for LargeEdits {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self(Semaphore::new((processors / 2).max(1)))
    }
}

/// Applies a large edit. `None` if the worker must parse and admit it.
pub(crate) async fn apply(shared: &Arc<Shared>, room: &RoomId, edit: &Edit) -> Result<Option<EditOutcome>, RoomError> {
    let mut parsed = None;
    for attempt in 1..=MAX_ATTEMPTS {
        let user = edit.user.clone();
        let Some(past) = shared.ask(room, |reply| LocalCommand::CopyPast(user, reply)).await? else {
            // The worker refuses the edit without any work.
            return Ok(None);
        };
        let Some(mut update) = admit(shared, edit, parsed.take(), *past).await? else {
            return Ok(None);
        };
        update.is_last = attempt == MAX_ATTEMPTS;
        parsed = update.parsed();
        let (user, session) = (edit.user.clone(), edit.session);
        let command = |reply| LocalCommand::Edit(user, session, Box::new(update), reply);
        if let Some(outcome) = shared.ask(room, command).await? {
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

/// `None` if too many others are being admitted.
async fn admit(
    shared: &Shared,
    edit: &Edit,
    parsed: Option<Arc<LiveUpdate>>,
    past: CopiedPast,
) -> Result<Option<AdmittedUpdate>, Unavailable> {
    let Ok(Ok(_permit)) = timeout(MAX_WAIT, shared.large_edits.0.acquire()).await else {
        return Ok(None);
    };
    let (bytes, user) = (edit.update.clone(), edit.user.clone());
    let work = move || AdmittedUpdate::new(&bytes, parsed, &user, &past);
    // A runtime of one thread, as in tests, is sequential anyway.
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(Some(work()));
    }
    let admitted = tokio::task::spawn_blocking(work).await;
    admitted.map(Some).map_err(|_| Unavailable::Interrupted)
}
