//! `[limits]`: what one user, or one server, may ask for and keep, and what callers may hold.

use weft_gateway::traffic::TrafficLimits;
use weft_room::InvitationBounds;
use weft_wire::limits::ACCOUNT_DATA_QUOTA_BYTES;

use super::source::Fields;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Is a user who asks too often told to wait? (1,000 requests a minute.)
    pub(crate) rate_limit: bool,
    /// Connections, and bytes in flight.
    pub(crate) traffic: TrafficLimits,
    /// Bytes of account data that one user may keep.
    pub(crate) account_data_bytes: u64,
    /// How many open invitations a user, and a server, may have to rooms that this server is not in.
    pub(crate) invitations: InvitationBounds,
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Limits {
    let rate_limit = fields.truth("rate_limit").is_none_or(|found| found.value);
    let default = TrafficLimits::default();
    let mut number = |name: &str, otherwise: u64| fields.count(name).map_or(otherwise, |found| found.value as u64);
    let traffic = TrafficLimits {
        connections: number("connections", default.connections),
        connections_per_network: number("connections_per_network", default.connections_per_network),
        ..default
    };
    let account_data_bytes = number("account_data_bytes", ACCOUNT_DATA_QUOTA_BYTES);
    let default = InvitationBounds::default();
    let mut count = |name: &str, otherwise: usize| fields.count(name).map_or(otherwise, |found| found.value);
    let invitations = InvitationBounds {
        per_user: count("invitations_per_user", default.per_user),
        per_user_and_server: count("invitations_per_user_and_server", default.per_user_and_server),
        per_server: count("invitations_per_server", default.per_server),
    };
    fields.finish();
    Limits {
        rate_limit,
        traffic,
        account_data_bytes,
        invitations,
    }
}
