//! The awareness EDU: one client's cursor, name and colour on its way to another server (`spec/docs/awareness.md`).

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::limits::MAX_AWARENESS_STATE_BYTES;

/// Content of the EDU `dev.weft.awareness`. Its user must belong to the server that sends the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwarenessEdu {
    /// The document.
    pub room_id: OwnedRoomId,
    /// Whose cursor it is.
    pub user_id: OwnedUserId,
    /// The device that holds the socket.
    pub device_id: OwnedDeviceId,
    /// The Yjs client id, below 2^53.
    pub client_id: u64,
    /// Grows with each change of the state; an older one is ignored.
    pub clock: u32,
    /// The state, an object of at most 2,048 bytes beside the identity; `null` when the client has gone.
    pub state: Option<serde_json::Value>,
}

/// Why an awareness state isn't taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwarenessError {
    /// Over [`MAX_AWARENESS_STATE_BYTES`].
    #[error("the state has {bytes} bytes, the limit is {MAX_AWARENESS_STATE_BYTES}")]
    TooLarge {
        /// Size as JSON, without the identity.
        bytes: usize,
    },
    /// Not a JSON object.
    #[error("the state is not a JSON object")]
    NotAnObject,
    /// The client id does not fit 53 bits.
    #[error("client id {0} is not below 2^53")]
    ClientId(u64),
}

impl AwarenessEdu {
    /// Checks what the type system can't: sizes, and that the state is an object.
    ///
    /// # Errors
    /// When the state is too large or no object, or the client id too large.
    pub fn check(&self) -> Result<(), AwarenessError> {
        check_client_id(self.client_id)?;
        match &self.state {
            None => Ok(()),
            Some(state) => check_state(state),
        }
    }
}

/// Checks one state, from a socket or from another server.
///
/// # Errors
/// When it is too large or no JSON object.
pub fn check_state(state: &serde_json::Value) -> Result<(), AwarenessError> {
    if !state.is_object() {
        return Err(AwarenessError::NotAnObject);
    }
    let bytes = counted_bytes(state);
    if bytes > MAX_AWARENESS_STATE_BYTES {
        return Err(AwarenessError::TooLarge { bytes });
    }
    Ok(())
}

/// What counts of a state: all but the identity, which the server writes. So it has the same length before and after that.
fn counted_bytes(state: &serde_json::Value) -> usize {
    let mut state = state.clone();
    if let Some(fields) = state.as_object_mut() {
        let own = match fields.get_mut("user").and_then(serde_json::Value::as_object_mut) {
            Some(user) => {
                user.remove("id");
                user.remove("name");
                !user.is_empty()
            }
            None => false,
        };
        if !own {
            fields.remove("user");
        }
    }
    state.to_string().len()
}

/// Checks that a Yjs client id is one that JavaScript can hold.
///
/// # Errors
/// When it is 2^53 or more.
pub fn check_client_id(id: u64) -> Result<(), AwarenessError> {
    if id < (1 << 53) {
        Ok(())
    } else {
        Err(AwarenessError::ClientId(id))
    }
}
