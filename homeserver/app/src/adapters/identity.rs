//! Who this server is, for the rooms: the key ring's current key.

use std::sync::Arc;

use ruma::ServerName;
use weft_dag::Signer;
use weft_federation::KeyRing;
use weft_room::Identity;

/// The key ring as rooms see it.
pub(crate) struct KeyRingIdentity(pub(crate) Arc<KeyRing>);

impl Identity for KeyRingIdentity {
    fn signer(&self) -> Arc<Signer> {
        self.0.signer()
    }

    fn server_name(&self) -> &ServerName {
        self.0.server_name()
    }
}
