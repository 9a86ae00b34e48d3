//! Fields in the content of `dev.weft.update` that tell what the update is for (`spec/docs/events.md`).
//!
//! For display only: no field changes what the update brings, and a field of another form is as if it were missing. Must not decide
//! anything.

use ruma::{OwnedEventId, OwnedUserId};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::limits::{MAX_PURPOSE_HEADS, MAX_TAKEN_RANGES};

/// What an update is for, as its sender's server states it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// It turns the text into that of an earlier point.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub restores: Option<Restores>,
    /// It undoes edits of a user.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<RollsBack>,
    /// It accepts this suggestion, or what is left of it.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub accepts: Option<OwnedEventId>,
    /// It accepts a part of a suggestion, the rest of which stays open.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub accepts_part: Option<AcceptsPart>,
}

/// The earlier point that is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restores {
    /// The newest events of which the restored text has something, at most [`MAX_PURPOSE_HEADS`]. Empty: nothing was written yet, or
    /// the sender's server can't tell.
    #[serde(default)]
    pub heads: Vec<OwnedEventId>,
    /// The state hash of the restored text (`spec/docs/updates.md`) in unpadded URL-safe base64. Another one than that of the text at
    /// `heads`: the point was between two edits of one event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
}

/// The edits that are undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollsBack {
    /// Whose edits.
    pub user: OwnedUserId,
    /// After these events and their ancestors; empty: from the beginning.
    #[serde(default)]
    pub after: Vec<OwnedEventId>,
    /// Up to these events. Both lists have at most [`MAX_PURPOSE_HEADS`].
    #[serde(default)]
    pub heads: Vec<OwnedEventId>,
}

/// The part of a suggestion that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptsPart {
    /// The suggestion.
    pub suggestion: OwnedEventId,
    /// Clocks `[from, to)` of the suggestion's client id: what it inserts and the update has a copy of. At most [`MAX_TAKEN_RANGES`].
    #[serde(default)]
    pub taken: Vec<(u32, u32)>,
}

/// A field with a limit.
trait Bounded {
    fn is_within_limits(&self) -> bool;
}

impl Bounded for Restores {
    fn is_within_limits(&self) -> bool {
        self.heads.len() <= MAX_PURPOSE_HEADS
    }
}

impl Bounded for RollsBack {
    fn is_within_limits(&self) -> bool {
        self.after.len() <= MAX_PURPOSE_HEADS && self.heads.len() <= MAX_PURPOSE_HEADS
    }
}

impl Bounded for AcceptsPart {
    fn is_within_limits(&self) -> bool {
        self.taken.len() <= MAX_TAKEN_RANGES && self.taken.iter().all(|(from, to)| from < to)
    }
}

impl Bounded for OwnedEventId {
    fn is_within_limits(&self) -> bool {
        true
    }
}

/// The field, if it has its form; a list where an object is expected has not.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Bounded>(from: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(from)?;
    let read = (!value.is_array())
        .then(|| serde_json::from_value(value).ok())
        .flatten();
    Ok(read.filter(T::is_within_limits))
}

impl Purpose {
    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.restores.is_none() && self.rolls_back.is_none() && self.accepted().is_none()
    }

    /// The suggestion that it accepts, as a whole or a part of it.
    #[must_use]
    pub const fn accepted(&self) -> Option<&OwnedEventId> {
        match (&self.accepts, &self.accepts_part) {
            (Some(suggestion), _) | (None, Some(AcceptsPart { suggestion, .. })) => Some(suggestion),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_match_the_vectors() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/purposes");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let purpose: Purpose = serde_json::from_value(filled(&vector["content"])).unwrap();
            let expected = filled(&vector["expect"]);
            assert_eq!(serde_json::to_value(&purpose).unwrap(), expected, "{}", path.display());
            assert_eq!(purpose.is_empty(), expected == serde_json::json!({}));
            seen += 1;
        }
        assert!(seen >= 25, "{seen} vectors");
    }

    /// With the lists that are written as `{"repeat", "times"}`.
    fn filled(value: &Value) -> Value {
        let Some(fields) = value.as_object() else {
            return value.clone();
        };
        if let (Some(one), Some(times)) = (fields.get("repeat"), fields.get("times")) {
            return vec![one.clone(); times.as_u64().unwrap() as usize].into();
        }
        fields.iter().map(|(key, value)| (key.clone(), filled(value))).collect()
    }
}
