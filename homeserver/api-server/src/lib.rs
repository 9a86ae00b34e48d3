//! The server-server API, `/_matrix/federation` and `/_matrix/key`, and this project's `/_weft/federation`.
//!
//! Every request except those for keys and the version is signed by the requesting server ([`Signed`]); every request about
//! a room is checked against the room's ACL ([`acl`]). Must not grant further access by default: each endpoint checks its own.

mod acl;
mod backfill;
mod document;
mod event;
mod event_auth;
mod invite;
mod keys;
mod media;
mod membership;
mod missing_events;
mod profile;
mod public_rooms;
mod query_directory;
mod send;
mod send_join;
mod send_knock;
mod send_leave;
mod signed;
mod state;
mod templates;
mod version;

use std::sync::Arc;

use axum::{
    Extension, Router,
    routing::{get, post, put},
};
use ruma::{OwnedServerName, api::federation as api};
use weft_accounts::Accounts;
use weft_budget::DailyBudget;
use weft_federation::{
    KeyRing, RemoteEvents, RemoteKeys,
    handshake::Handshake,
    inbound::{InboundHandler, Transactions},
    outbox::Sender,
};
use weft_media::Media;
use weft_room::Rooms;
use weft_room_read::Reader;

use signed::Signed;
use weft_http::public_rooms::PublicRooms;
use weft_http::{errors::unknown_method, ruma_json::RumaRoutes};

/// The services that the server-server API uses.
#[derive(Clone)]
pub struct ServerPorts {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// Commands and reads.
    pub rooms: Rooms,
    /// Profiles and the existence of users.
    pub accounts: Accounts,
    /// Uploaded files.
    pub media: Media,
    /// The signing keys of this server, to publish.
    pub key_ring: Arc<KeyRing>,
    /// The keys of other servers, for checking signatures and as a notary.
    pub keys: RemoteKeys,
    /// Checks of single events.
    pub events: RemoteEvents,
    /// Checks of invitations, joins, leaves and knocks.
    pub handshake: Handshake,
    /// Answers to earlier transactions.
    pub transactions: Arc<Transactions>,
    /// Receives events and EDUs.
    pub intake: Arc<dyn InboundHandler>,
    /// Is notified which servers are reachable.
    pub sender: Sender,
    /// Bytes of events of each server in a day.
    pub event_bytes: Arc<DailyBudget<OwnedServerName>>,
}

impl ServerPorts {
    fn reader(&self) -> &Reader {
        self.rooms.reader()
    }
}

/// The routes of the server-server API.
pub fn router(ports: ServerPorts) -> Router {
    Router::<ServerPorts>::new()
        .endpoint::<api::discovery::get_server_version::v1::Request, _, _>(version::version)
        .route("/_matrix/key/v2/server", get(keys::own))
        .route("/_matrix/key/v2/server/{key_id}", get(keys::own))
        .route("/_matrix/key/v2/query", post(keys::query))
        .route("/_matrix/key/v2/query/{server_name}", get(keys::query_one))
        .endpoint::<api::transactions::send_transaction_message::v1::Request, _, _>(send::send)
        .endpoint::<api::membership::prepare_join_event::v1::Request, _, _>(templates::make_join)
        .endpoint::<api::membership::prepare_leave_event::v1::Request, _, _>(templates::make_leave)
        .endpoint::<api::membership::prepare_knock_event::v1::Request, _, _>(templates::make_knock)
        .endpoint::<api::membership::create_join_event::v2::Request, _, _>(send_join::send_join)
        .endpoint::<api::membership::create_leave_event::v2::Request, _, _>(send_leave::send_leave)
        .endpoint::<api::membership::create_knock_event::v1::Request, _, _>(send_knock::send_knock)
        .endpoint::<api::membership::create_invite::v2::Request, _, _>(invite::invite)
        .route(
            "/_matrix/federation/v1/invite/{room_id}/{event_id}",
            put(invite::invite_v1),
        )
        .endpoint::<api::event::get_event::v1::Request, _, _>(event::event)
        .endpoint::<api::event::get_room_state::v1::Request, _, _>(state::state)
        .endpoint::<api::event::get_room_state_ids::v1::Request, _, _>(state::state_ids)
        .endpoint::<api::authorization::get_event_authorization::v1::Request, _, _>(event_auth::event_auth)
        .endpoint::<api::backfill::get_backfill::v1::Request, _, _>(backfill::backfill)
        .endpoint::<api::event::get_missing_events::v1::Request, _, _>(missing_events::missing_events)
        .endpoint::<api::query::get_profile_information::v1::Request, _, _>(profile::profile)
        .endpoint::<api::query::get_room_information::v1::Request, _, _>(query_directory::alias)
        .endpoint::<api::authenticated_media::get_content::v1::Request, _, _>(media::download)
        .endpoint::<api::authenticated_media::get_content_thumbnail::v1::Request, _, _>(media::thumbnail)
        .endpoint::<api::directory::get_public_rooms::v1::Request, _, _>(public_rooms::all)
        .endpoint::<api::directory::get_public_rooms_filtered::v1::Request, _, _>(public_rooms::filtered)
        .route("/_weft/federation/v1/document/{room_id}", get(document::document))
        .method_not_allowed_fallback(unknown_method)
        .layer(Extension(Arc::<PublicRooms>::default()))
        .with_state(ports)
}
