//! An event with checked form, signatures and hash: the only form in which events enter a room.
//!
//! Must only be made by [`crate::Unchecked::verify`], [`crate::Draft::sign`] and [`crate::Signer::cosign`].

use std::sync::Arc;

use crate::Pdu;

/// An event with a valid signature of the sender's server.
#[derive(Clone, Debug)]
pub struct Verified {
    pdu: Arc<Pdu>,
    redacted_on_receipt: bool,
}

impl Verified {
    pub(crate) fn new(pdu: Arc<Pdu>, redacted_on_receipt: bool) -> Self {
        Self {
            pdu,
            redacted_on_receipt,
        }
    }

    /// The event.
    #[must_use]
    pub fn pdu(&self) -> &Arc<Pdu> {
        &self.pdu
    }

    /// The event, by value.
    #[must_use]
    pub fn into_pdu(self) -> Arc<Pdu> {
        self.pdu
    }

    /// Whether the content hash did not match, so that this is the redacted event.
    #[must_use]
    pub fn redacted_on_receipt(&self) -> bool {
        self.redacted_on_receipt
    }

    /// Reads a stored event that was `Verified` when it was stored, for example in the staging table.
    ///
    /// # Errors
    /// The text is not an event: the store is damaged.
    pub fn from_trusted_json(
        json: &str,
        event_id: ruma::OwnedEventId,
        version: &crate::RoomVersion,
        redacted_on_receipt: bool,
    ) -> Result<Self, crate::TrustedJsonError> {
        let pdu = Pdu::from_trusted_json(json, event_id, version, false)?;
        Ok(Self::new(Arc::new(pdu), redacted_on_receipt))
    }
}
