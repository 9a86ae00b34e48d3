//! Events of other servers: staged on disk, answered, drained by the room's worker.

use ruma::ServerName;
use weft_dag::Verified;

use crate::{Rooms, Unavailable, turn::Turn, worker::Worker};

/// Why events could not be staged. Nothing of the transaction is then on disk.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[expect(clippy::unimplemented, reason = "signatures first")]
impl Rooms {
    /// Stages events durably; they are checked and merged by the workers of their rooms afterwards.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn receive(&self, _origin: &ServerName, _events: Vec<Verified>) -> Result<(), ReceiveError> {
        unimplemented!()
    }
}

impl Worker {
    /// Merges what is staged.
    pub(crate) async fn drain(&mut self, turn: &mut Turn) {
        self.seal(turn);
    }
}
