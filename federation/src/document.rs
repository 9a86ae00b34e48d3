//! `GET /_weft/federation/v1/document/{roomId}`: fetches the compacted document from another server
//! (`spec/docs/federation.md`).
//!
//! The response is untrusted: the caller may show it and must check it against signed events.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{OwnedEventId, RoomId, ServerName};
use weft_wire::{limits, snapshot::DocumentSnapshot};

use crate::{
    CallError, Client,
    client::{Bounds, shorten},
};

/// Why there is no snapshot.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// The call failed; a server without this endpoint answers 404.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The response is not a snapshot of that room.
    #[error("not a snapshot: {0}")]
    Answer(String),
}

impl Client {
    /// The document at `at` (at the current forward extremities if `at` is empty) as `from` has it: a Yjs v1 update,
    /// unchecked, and the events that it should contain.
    ///
    /// # Errors
    /// When the call fails or the response has the wrong form.
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
                "it belongs to another room, or names too many events".to_owned(),
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

/// The characters of a path segment that are percent-encoded: all but unreserved ones (RFC 3986). Room ids contain `!` and
/// `:`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn ids_are_percent_encoded_in_a_path() {
        assert_eq!(encode("!a/b:c.d"), "%21a%2Fb%3Ac.d");
        assert_eq!(encode("$x-_~é"), "%24x-_~%C3%A9");
    }
}
