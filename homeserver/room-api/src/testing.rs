//! Test support for this crate and the crates above it: a fixed key, no other servers, a bus that calls a function, and a
//! router that sends everything through its serialised form.
//!
//! Only with the feature `testing`; must not be part of a server build.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use serde::{Serialize, de::DeserializeOwned};
use weft_dag::{RoomVersion, Signer, Verified};

use crate::{
    ChangeBus, Changes, Identity, Interest, LocalBus, PeerError, Peers, RoomChange, RoomCommand, RoomError, RoomHint,
    RoomReply, RoomRouter, RoutedCommand, StateIds, Unavailable,
};

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

/// A bus that calls a function with each change, in the task that publishes it, and then distributes the change.
pub struct ObservedBus<F> {
    bus: LocalBus,
    observe: F,
}

impl<F: Fn(&Arc<RoomChange>) + Send + Sync + 'static> ObservedBus<F> {
    /// A bus without subscribers.
    #[must_use]
    pub fn new(observe: F) -> Arc<Self> {
        let bus = LocalBus::new();
        Arc::new(Self { bus, observe })
    }
}

impl<F: Fn(&Arc<RoomChange>) + Send + Sync + 'static> ChangeBus for ObservedBus<F> {
    fn publish(&self, change: Arc<RoomChange>) {
        (self.observe)(&change);
        self.bus.publish(change);
    }

    fn subscribe(&self, interest: Interest) -> Changes {
        self.bus.subscribe(interest)
    }
}

/// Commands and answers with more bytes of an edit or a text are passed on as they are: JSON has a number for each byte.
const MAX_SERIALISED_BYTES: usize = 64 * 1024;

/// Sends each command and each answer through its serialised form, as a link between two processes does.
pub struct SerialisedRouter {
    inner: Arc<dyn RoomRouter>,
    seen: Mutex<BTreeSet<&'static str>>,
}

impl SerialisedRouter {
    /// A link to the rooms behind a router.
    #[must_use]
    pub fn new(inner: Arc<dyn RoomRouter>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            seen: Mutex::default(),
        })
    }

    /// The names of the commands that were answered.
    pub fn seen(&self) -> BTreeSet<&'static str> {
        self.seen.lock().clone()
    }
}

fn bytes_of(command: &RoomCommand) -> usize {
    match command {
        RoomCommand::Edit(edit) => edit.update.len(),
        RoomCommand::RequestEdit(edit) => edit.update.len(),
        RoomCommand::Diff(vector) => vector.len(),
        RoomCommand::Adopt(joined) => joined.snapshot.as_ref().map_or(0, bytes::Bytes::len),
        _ => 0,
    }
}

fn transferred<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, RoomError> {
    let text = serde_json::to_string(value);
    let received = text.and_then(|text| serde_json::from_str(&text));
    received.map_err(|error| Unavailable::Internal(format!("not serialisable: {error}")).into())
}

#[async_trait]
impl RoomRouter for SerialisedRouter {
    async fn call(&self, room: &RoomId, command: RoutedCommand) -> Result<RoomReply, RoomError> {
        let name = command.command.name();
        let command = if bytes_of(&command.command) > MAX_SERIALISED_BYTES {
            command
        } else {
            transferred(&command)?
        };
        let answer = self.inner.call(room, command).await;
        if answer.is_ok() {
            self.seen.lock().insert(name);
        }
        match &answer {
            Ok(RoomReply::Bytes(bytes)) if bytes.len() > MAX_SERIALISED_BYTES => answer,
            Ok(RoomReply::Text(text)) if text.update().len() > MAX_SERIALISED_BYTES => answer,
            answer => transferred(answer)?,
        }
    }

    fn hint(&self, room: &RoomId, hint: RoomHint) {
        if let Ok(hint) = transferred(&hint) {
            self.inner.hint(room, hint);
        }
    }
}
