//! This server's name and current signing key, for the rooms. Must not cache the key: it changes at a rotation.

use std::sync::Arc;

use ruma::ServerName;
use weft_dag::Signer;
use weft_federation::KeyRing;
use weft_room_api::Identity;

/// Implements the rooms' port with the key ring.
pub(crate) struct KeyRingIdentity(pub(crate) Arc<KeyRing>);

impl Identity for KeyRingIdentity {
    fn signer(&self) -> Arc<Signer> {
        self.0.signer()
    }

    fn server_name(&self) -> &ServerName {
        self.0.server_name()
    }
}
