//! The Matrix client-server API, v1.19 (`/_matrix/client`), as far as documents and chat need it.
//!
//! One file for each subject; the method and path precede each endpoint. Handlers take only the services that they use.
//! Must not decide what happens in a room: that is done in `room`. The format of answers is decided here.

mod account_data;
mod admin_register;
mod aggregations;
mod aliases;
mod create_room;
mod deactivate;
mod devices;
mod directory;
mod discovery;
mod event;
mod event_fields;
mod events;
mod filters;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
mod initiator;
mod interactive;
mod join;
mod keys;
mod leave;
pub(crate) mod login;
mod media;
mod members;
mod membership_check;
mod messages;
mod moderation;
mod notifications;
pub mod operator;
mod password;
mod presence;
mod profile;
mod push_rules;
mod receipts;
mod register;
mod relations;
mod remote;
mod search;
mod send;
mod session;
mod settings;
mod state;
mod sync;
mod tags;
mod threads;
pub(crate) mod tokens;
mod typing;
mod unsigned;
mod user_directory;

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use weft_accounts::Accounts;
use weft_fanout::{Ephemeral, Fanout, Presence, Unread};
use weft_http::{
    errors::{unknown_method, unknown_path},
    ratelimit::UserLimiter,
};
use weft_http::{ignored, membership_lock::MembershipLocks, public_rooms::PublicRooms};
use weft_media::Media;
use weft_room::Rooms;
use weft_room_api::Clock;
use weft_room_read::Reader;
use weft_search::Searches;
use weft_store::LanePositions;

pub use remote::Remote;
pub use settings::{ClientSettings, Registration};

/// The services that the client-server API uses.
#[derive(Clone)]
pub struct ClientPorts {
    /// Accounts and access tokens.
    pub accounts: Accounts,
    /// Uploaded files.
    pub media: Media,
    /// Commands and reads.
    pub rooms: Rooms,
    /// Positions of the store that `accounts` and `rooms` use.
    pub positions: LanePositions,
    /// Wakes waiting syncs.
    pub fanout: Fanout,
    /// Typing and receipts.
    pub ephemeral: Ephemeral,
    /// Presence.
    pub presence: Presence,
    /// Numbers of unread events.
    pub unread: Unread,
    /// Requests to other servers.
    pub remote: Arc<dyn Remote>,
    /// Request rate limits.
    pub limiter: UserLimiter,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Locks for membership changes in progress.
    pub membership: MembershipLocks,
    /// The search index.
    pub search: Searches,
    /// The operator's configuration.
    pub settings: ClientSettings,
}

/// The services as axum passes them to handlers, each by its type.
#[derive(Clone, FromRef)]
struct Ports {
    accounts: Accounts,
    media: Media,
    rooms: Rooms,
    reader: Reader,
    positions: LanePositions,
    fanout: Fanout,
    ephemeral: Ephemeral,
    presence: Presence,
    unread: Unread,
    remote: Arc<dyn Remote>,
    limiter: UserLimiter,
    clock: Arc<dyn Clock>,
    settings: Arc<ClientSettings>,
    interactive: Arc<interactive::Interactive>,
    directory: Arc<PublicRooms>,
    open_rooms: Arc<user_directory::OpenRooms>,
    waiting: sync::Waiting,
    membership: MembershipLocks,
    searches: Searches,
    shared_secret: Arc<admin_register::SharedSecretPort>,
}

fn state(ports: ClientPorts) -> Ports {
    Ports {
        reader: ports.rooms.reader().clone(),
        interactive: Arc::default(),
        directory: Arc::default(),
        open_rooms: Arc::default(),
        waiting: sync::Waiting::default(),
        membership: ports.membership,
        searches: ports.search,
        shared_secret: Arc::new(admin_register::SharedSecretPort::new(
            ports.settings.shared_secret.clone(),
        )),
        accounts: ports.accounts,
        media: ports.media,
        rooms: ports.rooms,
        positions: ports.positions,
        fanout: ports.fanout,
        ephemeral: ports.ephemeral,
        presence: ports.presence,
        unread: ports.unread,
        remote: ports.remote,
        limiter: ports.limiter,
        clock: ports.clock,
        settings: Arc::new(ports.settings),
    }
}

/// The routes of the client-server API. It has no fallback for paths outside of it: merge the routers, then call
/// [`with_fallbacks`].
pub fn router(ports: ClientPorts) -> Router {
    Router::new()
        .merge(people())
        .merge(rooms())
        .method_not_allowed_fallback(unknown_method)
        .layer(weft_http::cors::layer())
        .with_state(state(ports))
}

fn people() -> Router<Ports> {
    Router::new()
        .merge(discovery::routes())
        .merge(register::routes())
        .merge(admin_register::routes())
        .merge(login::routes())
        .merge(session::routes())
        .merge(password::routes())
        .merge(deactivate::routes())
        .merge(devices::routes())
        .merge(profile::routes())
        .merge(user_directory::routes())
        .merge(account_data::routes())
        .merge(tags::routes())
        .merge(filters::routes())
        .merge(keys::routes())
        .merge(push_rules::routes())
        .merge(notifications::routes())
        .merge(presence::routes())
        .merge(media::routes())
}

fn rooms() -> Router<Ports> {
    Router::new()
        .merge(create_room::routes())
        .merge(join::routes())
        .merge(leave::routes())
        .merge(moderation::routes())
        .merge(members::routes())
        .merge(state::routes())
        .merge(send::routes())
        .merge(messages::routes())
        .merge(event::routes())
        .merge(relations::routes())
        .merge(threads::routes())
        .merge(search::routes())
        .merge(aliases::routes())
        .merge(directory::routes())
        .merge(typing::routes())
        .merge(receipts::routes())
        .merge(sync::routes())
}

/// Adds the answers for unknown paths, in Matrix's format and with the headers that browsers need. Called once, on the
/// merged router.
pub fn with_fallbacks(router: Router) -> Router {
    let unknown = Router::new().fallback(unknown_path).layer(weft_http::cors::layer());
    router.fallback_service(unknown)
}
