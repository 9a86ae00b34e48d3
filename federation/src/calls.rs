//! Calls whose answers hold no events: profiles, aliases, public rooms, versions, transactions.
//!
//! Answers are other servers' words: bounded, parsed, and no more believed than that.

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId,
    ServerName,
    api::federation::{
        directory::{get_public_rooms, get_public_rooms_filtered},
        query::{get_profile_information, get_room_information},
        transactions::send_transaction_message,
    },
    directory::{Filter, RoomNetwork},
    profile::{ProfileFieldName, UserProfile},
    serde::Raw,
};
use serde_json::value::RawValue;

use crate::{CallError, Client, client::Bounds};

/// An alias as its server resolves it.
#[derive(Debug, Clone)]
pub struct ResolvedAlias {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers to join it through.
    pub servers: Vec<OwnedServerName>,
}

impl Client {
    /// The profile of a user of another server: one field of it, or all.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn profile(&self, user: OwnedUserId, field: Option<ProfileFieldName>) -> Result<UserProfile, CallError> {
        let server = user.server_name().to_owned();
        let mut request = get_profile_information::v1::Request::new(user);
        request.field = field;
        Ok(self.call(&server, request).await?.data)
    }

    /// The room of an alias, by the server in its name.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn resolve_alias(&self, alias: OwnedRoomAliasId) -> Result<ResolvedAlias, CallError> {
        let server = alias.server_name().to_owned();
        let answer = self
            .call(&server, get_room_information::v1::Request::new(alias))
            .await?;
        Ok(ResolvedAlias {
            room_id: answer.room_id,
            servers: answer.servers,
        })
    }

    /// The rooms that a server shows to everybody.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn public_rooms(
        &self,
        server: &ServerName,
        limit: Option<u32>,
        since: Option<String>,
        filter: Option<Filter>,
    ) -> Result<get_public_rooms_filtered::v1::Response, CallError> {
        if let Some(filter) = filter {
            let mut request = get_public_rooms_filtered::v1::Request::new();
            request.limit = limit.map(Into::into);
            request.since = since;
            request.filter = filter;
            request.room_network = RoomNetwork::Matrix;
            return self.call(server, request).await;
        }
        let mut request = get_public_rooms::v1::Request::new();
        request.limit = limit.map(Into::into);
        request.since = since;
        let answer = self.call(server, request).await?;
        let mut all = get_public_rooms_filtered::v1::Response::new();
        all.chunk = answer.chunk;
        all.next_batch = answer.next_batch;
        all.prev_batch = answer.prev_batch;
        all.total_room_count_estimate = answer.total_room_count_estimate;
        Ok(all)
    }

    /// Delivers a transaction. What the other server says of single events is logged and changes nothing: an event that
    /// it doesn't want is its own affair.
    ///
    /// # Errors
    /// When the call fails: the whole transaction is to be sent again.
    pub async fn send_transaction(
        &self,
        server: &ServerName,
        id: OwnedTransactionId,
        pdus: Vec<Box<RawValue>>,
        edus: Vec<Box<RawValue>>,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<(), CallError> {
        let origin = self.key_ring().server_name().to_owned();
        let mut request = send_transaction_message::v1::Request::new(id, origin, now);
        request.pdus = pdus;
        request.edus = edus.into_iter().map(Raw::from_json).collect();
        let answer = self.call_within(server, request, Bounds::TRANSACTION).await?;
        for (event, result) in answer.pdus {
            if let Err(reason) = result {
                tracing::info!(%server, %event, reason = crate::client::shorten(&reason), "event not taken");
            }
        }
        Ok(())
    }
}
