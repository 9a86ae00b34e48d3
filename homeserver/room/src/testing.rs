//! Test support for this crate and the crates above it: a fixed key, and no other servers.
//!
//! Only with the feature `testing`; must not be part of a server build.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use weft_dag::{RoomVersion, Signer, Verified};

use crate::{Identity, PeerError, Peers, StateIds};

/// A server that always signs with the same key.
pub struct FixedIdentity(pub Arc<Signer>);

impl Identity for FixedIdentity {
    fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.0)
    }

    fn server_name(&self) -> &ServerName {
        self.0.server_name()
    }
}

/// Every request to another server fails.
pub struct NoPeers;

fn nobody<T>() -> Result<T, PeerError> {
    Err(PeerError::Unreachable {
        server: "anybody".to_owned(),
        reason: "this test has one server".to_owned(),
    })
}

#[async_trait]
impl Peers for NoPeers {
    async fn missing_events(
        &self,
        _: &RoomId,
        _: &RoomVersion,
        _: &ServerName,
        _: &[OwnedEventId],
        _: &[OwnedEventId],
        _: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        nobody()
    }

    async fn event(&self, _: &RoomVersion, _: &ServerName, _: &EventId) -> Result<Verified, PeerError> {
        nobody()
    }

    async fn events(&self, _: &RoomVersion, _: &ServerName, _: &[OwnedEventId]) -> Result<Vec<Verified>, PeerError> {
        nobody()
    }

    async fn state_ids(&self, _: &RoomId, _: &ServerName, _: &EventId) -> Result<StateIds, PeerError> {
        nobody()
    }

    async fn backfill(
        &self,
        _: &RoomId,
        _: &RoomVersion,
        _: &ServerName,
        _: &[OwnedEventId],
        _: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        nobody()
    }
}
