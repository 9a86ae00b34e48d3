//! Requests whose responses contain no events: profiles, aliases, public rooms, versions, transactions.
//!
//! Responses are untrusted: bounded and parsed, and nothing in them is verified.

use std::time::Duration;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId,
    ServerName,
    api::federation::{
        authentication::ServerSignatures,
        directory::{get_public_rooms, get_public_rooms_filtered},
        query::{get_profile_information, get_room_information},
        transactions::send_transaction_message,
    },
    api::{Metadata, OutgoingRequest, path_builder::SinglePath},
    directory::{Filter, RoomNetwork},
    profile::{ProfileFieldName, UserProfile},
    serde::Raw,
};
use serde_json::value::RawValue;
use weft_wire::limits;

use crate::{CallError, Client, Initiator, client::Bounds, tally::Tally};

/// The response of an alias lookup.
#[derive(Debug, Clone)]
pub struct ResolvedAlias {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers to join the room through.
    pub servers: Vec<OwnedServerName>,
}

impl Client {
    /// Fetches the profile of a user of another server: one field, or all.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn profile(
        &self,
        initiator: &Initiator,
        user: OwnedUserId,
        field: Option<ProfileFieldName>,
    ) -> Result<UserProfile, CallError> {
        let server = user.server_name().to_owned();
        let mut request = get_profile_information::v1::Request::new(user);
        request.field = field;
        let bounds = Bounds::lookup(limits::MAX_PROFILE_RESPONSE_BYTES);
        Ok(self.look_up(initiator, &server, request, bounds).await?.data)
    }

    /// Resolves an alias through the server in its name.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn resolve_alias(
        &self,
        initiator: &Initiator,
        alias: OwnedRoomAliasId,
    ) -> Result<ResolvedAlias, CallError> {
        let server = alias.server_name().to_owned();
        let request = get_room_information::v1::Request::new(alias);
        let bounds = Bounds::lookup(limits::MAX_ALIAS_RESPONSE_BYTES);
        let answer = self.look_up(initiator, &server, request, bounds).await?;
        Ok(ResolvedAlias {
            room_id: answer.room_id,
            servers: answer.servers,
        })
    }

    /// Fetches the public rooms of a server.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn public_rooms(
        &self,
        initiator: &Initiator,
        server: &ServerName,
        limit: Option<u32>,
        since: Option<String>,
        filter: Option<Filter>,
    ) -> Result<get_public_rooms_filtered::v1::Response, CallError> {
        let limit = Some(
            limit
                .unwrap_or(limits::MAX_PUBLIC_ROOMS_PAGE)
                .min(limits::MAX_PUBLIC_ROOMS_PAGE),
        );
        let bounds = Bounds::lookup(limits::MAX_PUBLIC_ROOMS_RESPONSE_BYTES);
        if let Some(filter) = filter {
            let mut request = get_public_rooms_filtered::v1::Request::new();
            request.limit = limit.map(Into::into);
            request.since = since;
            request.filter = filter;
            request.room_network = RoomNetwork::Matrix;
            return self.look_up(initiator, server, request, bounds).await;
        }
        let mut request = get_public_rooms::v1::Request::new();
        request.limit = limit.map(Into::into);
        request.since = since;
        let answer = self.look_up(initiator, server, request, bounds).await?;
        let mut all = get_public_rooms_filtered::v1::Response::new();
        all.chunk = answer.chunk;
        all.next_batch = answer.next_batch;
        all.prev_batch = answer.prev_batch;
        all.total_room_count_estimate = answer.total_room_count_estimate;
        Ok(all)
    }

    /// A lookup that `initiator` causes: counted while it is in flight, and not sent on behalf of a stranger if the
    /// server was unreachable a moment ago.
    async fn look_up<R>(
        &self,
        initiator: &Initiator,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse, CallError>
    where
        R: OutgoingRequest + Metadata<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        let outgoing = self.outgoing();
        if outgoing.is_unreachable(initiator, server) {
            return Err(CallError::Unreachable {
                server: server.to_owned(),
                reason: "it was unreachable a moment ago".to_owned(),
            });
        }
        let _share = outgoing.take(initiator)?;
        // Discovery is part of the lookup: the timeout of the request itself begins after it.
        let time = Duration::from_secs(limits::MAX_LOOKUP_SECONDS);
        let answer = tokio::time::timeout(time, self.call(server, request, bounds)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(CallError::Unreachable {
                server: server.to_owned(),
                reason: "timeout".to_owned(),
            })
        });
        match &answer {
            Err(error) if error.unreachable().is_some() => outgoing.note_unreachable(server),
            _ => outgoing.note_reachable(server),
        }
        answer
    }

    /// Sends a transaction. Errors for single events are logged and ignored: the other server may refuse an event.
    ///
    /// # Errors
    /// When the call fails: the whole transaction must be sent again.
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
        let answer = self.call(server, request, Bounds::TRANSACTION).await?;
        let mut refused = Tally::default();
        for (event, result) in answer.pdus {
            if let Err(reason) = result {
                refused.note(&format_args!("{event}: {reason}"));
            }
        }
        refused.warn(format_args!(
            "{server}: events of a transaction were refused by the other server"
        ));
        Ok(())
    }
}
