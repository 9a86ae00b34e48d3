//! Content of `dev.weft.update`: an update, and the ranges of clocks that it declares.
//!
//! The declaration lets a server index an event without decoding the update twice. A declaration that differs from the bytes
//! makes the event inadmissible (`spec/docs/admission.md`). Must not parse the update.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::limits::MAX_SEALED_UPDATE_BYTES;

/// Content of a `dev.weft.update` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateContent {
    /// A Yjs v1 update, unpadded standard base64, at most 45,000 bytes decoded.
    pub update: String,
    /// For each Yjs client id (decimal) the clocks `[from, to)` that the update brings. Empty for pure deletions.
    pub clients: BTreeMap<String, (u32, u32)>,
}

/// Errors of the content of an update event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateContentError {
    /// Not unpadded standard base64.
    #[error("the update is not unpadded standard base64: {0}")]
    Base64(String),
    /// Over [`MAX_SEALED_UPDATE_BYTES`].
    #[error("the update has {bytes} bytes, the limit is {MAX_SEALED_UPDATE_BYTES}")]
    TooLarge {
        /// Decoded size.
        bytes: usize,
    },
    /// A key of `clients` is not a client id, or a range is not `from < to`.
    #[error("the declaration of client {client:?} is invalid")]
    Declaration {
        /// The key in the event.
        client: String,
    },
}

impl UpdateContent {
    /// Builds the content from the bytes of an update and the ranges that it brings.
    #[must_use]
    pub fn new(update: &[u8], ranges: impl IntoIterator<Item = (u64, (u32, u32))>) -> Self {
        Self {
            update: STANDARD_NO_PAD.encode(update),
            clients: ranges
                .into_iter()
                .map(|(client, range)| (client.to_string(), range))
                .collect(),
        }
    }

    /// The update's bytes.
    ///
    /// # Errors
    /// If it is not unpadded standard base64, or exceeds [`MAX_SEALED_UPDATE_BYTES`].
    pub fn bytes(&self) -> Result<Vec<u8>, UpdateContentError> {
        let announced = self.update.len() / 4 * 3;
        if announced > MAX_SEALED_UPDATE_BYTES + 3 {
            return Err(UpdateContentError::TooLarge { bytes: announced });
        }
        let bytes = STANDARD_NO_PAD
            .decode(&self.update)
            .map_err(|error| UpdateContentError::Base64(error.to_string()))?;
        if bytes.len() > MAX_SEALED_UPDATE_BYTES {
            return Err(UpdateContentError::TooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// The declared ranges by client id.
    ///
    /// # Errors
    /// If a key is not a canonical decimal client id below 2^53, or a range is not `from < to`.
    pub fn ranges(&self) -> Result<BTreeMap<u64, (u32, u32)>, UpdateContentError> {
        self.clients
            .iter()
            .map(|(key, &(from, to))| {
                let id = key
                    .parse::<u64>()
                    .ok()
                    .filter(|id| *id < (1 << 53) && id.to_string() == *key);
                id.filter(|_| from < to)
                    .map(|id| (id, (from, to)))
                    .ok_or_else(|| UpdateContentError::Declaration { client: key.clone() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_content_is_read_back_unchanged() {
        let content = UpdateContent::new(&[1, 2, 3, 255], [(1234, (0, 5)), (7, (2, 3))]);
        assert_eq!(content.bytes().unwrap(), [1, 2, 3, 255]);
        assert_eq!(content.ranges().unwrap(), BTreeMap::from([(7, (2, 3)), (1234, (0, 5))]));
        assert_eq!(
            serde_json::to_value(&content).unwrap(),
            serde_json::json!({"update": "AQID/w", "clients": {"7": [2, 3], "1234": [0, 5]}})
        );
    }

    #[test]
    fn invalid_declarations_are_refused() {
        for key in [
            "",
            "-1",
            "+1",
            "01",
            " 1",
            "1.0",
            "9007199254740992",
            "18446744073709551616",
        ] {
            let content = UpdateContent {
                update: String::new(),
                clients: BTreeMap::from([(key.to_owned(), (0, 1))]),
            };
            assert!(content.ranges().is_err(), "{key:?}");
        }
        for range in [(1, 1), (2, 1)] {
            let content = UpdateContent {
                update: String::new(),
                clients: BTreeMap::from([("1".to_owned(), range)]),
            };
            assert!(content.ranges().is_err(), "{range:?}");
        }
    }

    #[test]
    fn the_size_is_checked_before_and_after_decoding() {
        let full = UpdateContent::new(&vec![0; MAX_SEALED_UPDATE_BYTES], []);
        assert_eq!(full.bytes().unwrap().len(), MAX_SEALED_UPDATE_BYTES);
        let over = UpdateContent::new(&vec![0; MAX_SEALED_UPDATE_BYTES + 1], []);
        assert_eq!(
            over.bytes(),
            Err(UpdateContentError::TooLarge {
                bytes: MAX_SEALED_UPDATE_BYTES + 1
            })
        );
        let padded = UpdateContent {
            update: "AQ==".to_owned(),
            clients: BTreeMap::new(),
        };
        assert!(matches!(padded.bytes(), Err(UpdateContentError::Base64(_))));
    }
}
