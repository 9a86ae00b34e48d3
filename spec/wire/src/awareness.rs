//! The awareness EDU: the cursor, name and colour of one client, sent between servers (`spec/docs/awareness.md`). Must not
//! check its user or keep state.

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_AWARENESS_STATE_BYTES, MAX_AWARENESS_STATE_DEPTH};

/// Content of the EDU `dev.weft.awareness`. Its user must belong to the server that sends the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwarenessEdu {
    /// The document.
    pub room_id: OwnedRoomId,
    /// The user of the client.
    pub user_id: OwnedUserId,
    /// The device that owns the socket.
    pub device_id: OwnedDeviceId,
    /// The Yjs client id, below 2^53.
    pub client_id: u64,
    /// Grows with each change of the state; an entry with a lower clock is ignored.
    pub clock: u32,
    /// The state, an object of at most 2,048 bytes without the identity; `null` is a removal. An object with a
    /// number that canonical JSON does not have is written as a string, see [`state_format`].
    #[serde(with = "state_format")]
    pub state: Option<serde_json::Value>,
}

/// Why an awareness state is refused.
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
    /// Checks the client id, and that the state is an object within its limits.
    ///
    /// # Errors
    /// If the state is too large, nested too deeply or not an object, or the client id is not below 2^53.
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
/// If it is too large, nested too deeply or not a JSON object.
pub fn check_state(state: &serde_json::Value) -> Result<(), AwarenessError> {
    if !state.is_object() {
        return Err(AwarenessError::NotAnObject);
    }
    let bytes = counted_bytes(state);
    if bytes > MAX_AWARENESS_STATE_BYTES {
        return Err(AwarenessError::TooLarge { bytes });
    }
    // Iterative, since the depth is external input.
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

/// The format of a state in an EDU: an object, or a string that contains the object's JSON if the object has a number that
/// canonical JSON does not have. A transaction is signed as canonical JSON; one such number would make it impossible to sign
/// the whole transaction.
mod state_format {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::Value;

    /// The integers of canonical JSON are between the negative of this number and this number.
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
            // Any other text stays a string, which `check` refuses.
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

/// The bytes of a state without the identity, which the server sets: the size is the same before and after that.
fn counted_bytes(state: &serde_json::Value) -> usize {
    let mut state = state.clone();
    if let Some(fields) = state.as_object_mut() {
        let has_other_fields = match fields.get_mut("user").and_then(serde_json::Value::as_object_mut) {
            Some(user) => {
                user.remove("id");
                user.remove("name");
                !user.is_empty()
            }
            None => false,
        };
        if !has_other_fields {
            fields.remove("user");
        }
    }
    state.to_string().len()
}

/// Checks that JavaScript can represent a Yjs client id.
///
/// # Errors
/// If it is 2^53 or more.
pub fn check_client_id(id: u64) -> Result<(), AwarenessError> {
    if id < (1 << 53) {
        Ok(())
    } else {
        Err(AwarenessError::ClientId(id))
    }
}
