//! `GET /_weft/federation/v1/document/{roomId}`: the compacted document from a server that has it
//! (`spec/docs/federation.md`).
//!
//! What comes is a promise and no proof: the caller shows it and checks it against signed events.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use ruma::{OwnedEventId, RoomId, ServerName};
use weft_wire::{limits, snapshot::DocumentSnapshot};

use crate::{
    CallError, Client,
    client::{Bounds, shorten},
};

/// Why there is no snapshot.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// The call failed; a server that speaks Matrix alone answers 404.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer isn't a snapshot of that room.
    #[error("not a snapshot: {0}")]
    Answer(String),
}

impl Client {
    /// The document at `at` (its current heads where that is empty), as `from` tells it: a Yjs v1 update, unchecked,
    /// and the events that it says to hold.
    ///
    /// # Errors
    /// When the call fails or the answer has the wrong form.
    pub async fn document(
        &self,
        from: &ServerName,
        room: &RoomId,
        at: &[OwnedEventId],
    ) -> Result<(Vec<OwnedEventId>, Bytes), SnapshotError> {
        let at: Vec<String> = at.iter().map(|id| format!("at={}", encode(id.as_str()))).collect();
        let mark = if at.is_empty() { "" } else { "?" };
        let path = format!(
            "/_weft/federation/v1/document/{}{mark}{}",
            encode(room.as_str()),
            at.join("&")
        );
        let answer = self.get_signed(from, &path, Bounds::SNAPSHOT).await?;
        let snapshot: DocumentSnapshot =
            serde_json::from_slice(&answer.body).map_err(|error| SnapshotError::Answer(shorten(&error.to_string())))?;
        if snapshot.room_id != room || snapshot.at.len() > limits::MAX_EVENT_IDS_PER_REQUEST {
            return Err(SnapshotError::Answer(
                "it is of another room, or at too many events".to_owned(),
            ));
        }
        let update = STANDARD_NO_PAD
            .decode(snapshot.update.trim_end_matches('='))
            .map_err(|error| SnapshotError::Answer(error.to_string()))?;
        if update.len() > limits::MAX_DOCUMENT_BYTES {
            return Err(SnapshotError::Answer("it is larger than a document may be".to_owned()));
        }
        Ok((snapshot.at, update.into()))
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986): room ids have `!` and `:`.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn ids_survive_a_path() {
        assert_eq!(encode("!a/b:c.d"), "%21a%2Fb%3Ac.d");
        assert_eq!(encode("$x-_~é"), "%24x-_~%C3%A9");
    }
}
