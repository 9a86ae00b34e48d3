//! An event whose form, signatures and hash were checked: the only form in which events enter a room.
//!
//! Made by [`crate::Unchecked::verify`], [`crate::Draft::sign`] and [`crate::Signer::cosign`], and by nothing else.

use std::sync::Arc;

use crate::Pdu;

/// An event that its sender's server did sign.
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

    /// Whether the content hash did not fit, so that this is the redacted event.
    #[must_use]
    pub fn redacted_on_receipt(&self) -> bool {
        self.redacted_on_receipt
    }

    /// Reads an event back which was `Verified` when we wrote it down, e.g. in the staging table.
    ///
    /// # Errors
    /// When the text isn't an event: the store is damaged.
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
