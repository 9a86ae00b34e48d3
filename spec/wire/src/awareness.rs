//! The awareness EDU: one client's cursor, name and colour on its way to another server (`spec/docs/awareness.md`).

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_AWARENESS_STATE_BYTES, MAX_AWARENESS_STATE_DEPTH};

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
    /// The state, an object of at most 2,048 bytes beside the identity; `null` when the client has gone. An object with a
    /// number that canonical JSON does not have is written as a string, see [`on_the_wire`].
    #[serde(with = "on_the_wire")]
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
    /// Over [`MAX_AWARENESS_STATE_DEPTH`].
    #[error("the state is nested more than {MAX_AWARENESS_STATE_DEPTH} deep")]
    TooDeep,
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
    // A walk with a list of its own: the input decides about the depth.
    let mut open = vec![(state, 1)];
    while let Some((value, depth)) = open.pop() {
        let inner: Vec<&serde_json::Value> = match value {
            serde_json::Value::Object(fields) => fields.values().collect(),
            serde_json::Value::Array(items) => items.iter().collect(),
            _ => continue,
        };
        if depth > MAX_AWARENESS_STATE_DEPTH {
            return Err(AwarenessError::TooDeep);
        }
        open.extend(inner.into_iter().map(|value| (value, depth + 1)));
    }
    Ok(())
}

/// How a state is written in an EDU: as an object, or as a string that holds the object's JSON where a number in it is
/// none of canonical JSON. A transaction is signed as canonical JSON; one such number in it, and the whole transaction
/// cannot be signed.
mod on_the_wire {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::Value;

    /// The integers of canonical JSON lie between -(2^53 - 1) and this.
    const LARGEST_INTEGER: u64 = (1 << 53) - 1;

    pub(super) fn serialize<S: Serializer>(state: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        match state {
            Some(state) if !is_canonical(state) => serializer.serialize_some(&state.to_string()),
            state => state.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        let state = Option::<Value>::deserialize(deserializer)?;
        Ok(state.map(|state| match &state {
            // A text that is no object is no state: the check says so.
            Value::String(text) => serde_json::from_str(text)
                .ok()
                .filter(Value::is_object)
                .unwrap_or(state),
            _ => state,
        }))
    }

    fn is_canonical(state: &Value) -> bool {
        let mut open = vec![state];
        while let Some(value) = open.pop() {
            match value {
                Value::Number(number) => {
                    let magnitude = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
                    if magnitude.is_none_or(|magnitude| magnitude > LARGEST_INTEGER) {
                        return false;
                    }
                }
                Value::Array(items) => open.extend(items),
                Value::Object(fields) => open.extend(fields.values()),
                _ => {}
            }
        }
        true
    }
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
