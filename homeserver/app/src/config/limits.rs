//! `[limits]`: requests, connections and stored bytes per user, per server and in total.
//!
//! A setting must not be below the need of a single valid request, which would then always be refused.

use weft_federation::OutgoingLimits;
use weft_gateway::traffic::TrafficLimits;
use weft_room::{EditRates, InvitationBounds};
use weft_wire::limits;

use super::source::Fields;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Whether requests are limited to 1,000 per minute and user.
    pub(crate) rate_limit: bool,
    /// Limits of connections and of bytes in flight.
    pub(crate) traffic: TrafficLimits,
    /// Requests to other servers that unauthenticated clients and accounts cause.
    pub(crate) outgoing: OutgoingLimits,
    /// Bytes of account data per user.
    pub(crate) account_data_bytes: u64,
    /// Bytes of stored filters per user.
    pub(crate) filter_bytes: u64,
    /// Bytes of events in transactions that are accepted from one server per day.
    pub(crate) event_bytes_per_server_and_day: u64,
    /// Bytes of events and edits that are accepted from one user per day.
    pub(crate) event_bytes_per_user_and_day: u64,
    /// How often a document may be edited; `None` without `rate_limit`.
    pub(crate) edit_rates: Option<EditRates>,
    /// Users of a document, joined and invited.
    pub(crate) participants_per_document: usize,
    /// Bytes of events of other servers that wait in one room.
    pub(crate) staged_event_bytes_per_room: u64,
    /// Bytes of the fetched history of one room that is not decided yet.
    pub(crate) fetched_history_bytes_per_room: u64,
    /// The same of all rooms.
    pub(crate) fetched_history_bytes: u64,
    /// Open invitations per user and per server to rooms that this server is not in.
    pub(crate) invitations: InvitationBounds,
}

/// Bytes for the headers of a request and for its task.
const REQUEST_ALLOWANCE: u64 = limits::MAX_HEAD_BYTES as u64 + limits::REQUEST_OVERHEAD_BYTES;
/// One federation request of maximum size: its signature can be checked only when it is complete.
const LEAST_STRANGER_BYTES: u64 = limits::MAX_FEDERATION_REQUEST_BYTES as u64 + REQUEST_ALLOWANCE;
/// One document of maximum size.
const LEAST_ACCOUNT_BYTES: u64 = limits::MAX_DOCUMENT_BYTES as u64 + REQUEST_ALLOWANCE;
/// One response of maximum size, and its request.
const LEAST_SERVER_BYTES: u64 =
    (limits::MAX_FEDERATION_RESPONSE_BYTES + limits::MAX_FEDERATION_REQUEST_BYTES) as u64 + REQUEST_ALLOWANCE;

/// The first events of one room, some of which the server adds.
const LEAST_USER_BYTES: u64 = ((limits::MAX_INITIAL_STATE_EVENTS + 16) * limits::MAX_EVENT_BYTES) as u64;
/// A server may use a part of the bytes, and one transaction must fit into that.
const LEAST_STAGED_BYTES: u64 = limits::MAX_FEDERATION_REQUEST_BYTES as u64 * limits::STAGED_BYTES_PARTS;

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Limits {
    let rate_limit = fields.truth("rate_limit").is_none_or(|found| found.value);
    let traffic = traffic(&mut fields);
    let outgoing = outgoing(&mut fields);
    let account_data_bytes = number(
        &mut fields,
        "account_data_bytes",
        limits::ACCOUNT_DATA_QUOTA_BYTES,
        (limits::MAX_ACCOUNT_DATA_BYTES as u64, "one value of account data"),
    );
    let filter_bytes = number(
        &mut fields,
        "filter_bytes",
        limits::FILTERS_QUOTA_BYTES,
        (limits::MAX_FILTER_BYTES as u64, "one filter"),
    );
    let event_bytes_per_server_and_day = number(
        &mut fields,
        "event_bytes_per_server_and_day",
        limits::MAX_EVENT_BYTES_PER_SERVER_AND_DAY,
        (limits::MAX_FEDERATION_REQUEST_BYTES as u64, "one transaction"),
    );
    let event_bytes_per_user_and_day = number(
        &mut fields,
        "event_bytes_per_user_and_day",
        limits::MAX_EVENT_BYTES_PER_USER_AND_DAY,
        (LEAST_USER_BYTES, "one new room with all its first events"),
    );
    let edit_rates = edit_rates(&mut fields);
    let participants_per_document = number(
        &mut fields,
        "participants_per_document",
        limits::MAX_PARTICIPANTS_PER_DOCUMENT as u64,
        (1, "the owner"),
    );
    let staged_event_bytes_per_room = number(
        &mut fields,
        "staged_event_bytes_per_room",
        limits::MAX_STAGED_BYTES_PER_ROOM,
        (LEAST_STAGED_BYTES, "one transaction of each of 4 servers"),
    );
    let (fetched_history_bytes_per_room, fetched_history_bytes) = pair(
        &mut fields,
        ["fetched_history_bytes_per_room", "fetched_history_bytes"],
        (
            limits::MAX_FETCHED_HISTORY_BYTES_PER_ROOM,
            limits::MAX_FETCHED_HISTORY_BYTES,
        ),
        (
            limits::MAX_FEDERATION_RESPONSE_BYTES as u64,
            "one response of maximum size",
        ),
    );
    let invitations = invitations(&mut fields);
    fields.finish();
    Limits {
        rate_limit,
        traffic,
        outgoing,
        account_data_bytes,
        filter_bytes,
        event_bytes_per_server_and_day,
        event_bytes_per_user_and_day,
        edit_rates: Some(edit_rates).filter(|_| rate_limit),
        participants_per_document: usize::try_from(participants_per_document).unwrap_or(usize::MAX),
        staged_event_bytes_per_room,
        fetched_history_bytes_per_room,
        fetched_history_bytes,
        invitations,
    }
}

fn edit_rates(fields: &mut Fields<'_>) -> EditRates {
    let (per_user, per_document) = pair(
        fields,
        ["edits_per_second_per_user", "edits_per_second_per_document"],
        (
            limits::MAX_EDITS_PER_SECOND_PER_USER,
            limits::MAX_EDITS_PER_SECOND_PER_DOCUMENT,
        ),
        (1, "one edit"),
    );
    EditRates { per_user, per_document }
}

fn invitations(fields: &mut Fields<'_>) -> InvitationBounds {
    let default = InvitationBounds::default();
    let mut count = |name: &str, otherwise: usize| fields.count(name).map_or(otherwise, |found| found.value);
    InvitationBounds {
        per_user: count("invitations_per_user", default.per_user),
        per_user_and_server: count("invitations_per_user_and_server", default.per_user_and_server),
        per_server: count("invitations_per_server", default.per_server),
    }
}

fn traffic(fields: &mut Fields<'_>) -> TrafficLimits {
    let default = TrafficLimits::default();
    let one = (1, "one connection");
    let (connections_per_network, connections) = (
        number(fields, "connections_per_network", default.connections_per_network, one),
        number(fields, "connections", default.connections, one),
    );
    let (stranger_bytes_per_network, stranger_bytes) = pair(
        fields,
        ["stranger_in_flight_bytes_per_network", "stranger_in_flight_bytes"],
        (default.stranger_bytes_per_network, default.stranger_bytes),
        (LEAST_STRANGER_BYTES, "one signed request of another server"),
    );
    let (account_bytes_per_user, account_bytes) = pair(
        fields,
        ["account_in_flight_bytes_per_user", "account_in_flight_bytes"],
        (default.account_bytes_per_user, default.account_bytes),
        (LEAST_ACCOUNT_BYTES, "one document of maximum size"),
    );
    let (server_bytes_per_server, server_bytes) = pair(
        fields,
        ["server_in_flight_bytes_per_server", "server_in_flight_bytes"],
        (default.server_bytes_per_server, default.server_bytes),
        (LEAST_SERVER_BYTES, "one response of maximum size"),
    );
    TrafficLimits {
        connections,
        connections_per_network,
        stranger_bytes_per_network,
        stranger_bytes,
        account_bytes_per_user,
        account_bytes,
        server_bytes_per_server,
        server_bytes,
    }
}

fn outgoing(fields: &mut Fields<'_>) -> OutgoingLimits {
    let default = OutgoingLimits::default();
    let one = (1, "one request");
    let (per_stranger, for_strangers) = pair(
        fields,
        ["outgoing_requests_per_stranger", "outgoing_requests_for_strangers"],
        (default.per_stranger, default.for_strangers),
        one,
    );
    let (per_account, for_accounts) = pair(
        fields,
        ["outgoing_requests_per_account", "outgoing_requests_for_accounts"],
        (default.per_account, default.for_accounts),
        one,
    );
    OutgoingLimits {
        per_stranger,
        for_strangers,
        per_account,
        for_accounts,
    }
}

/// Reads the limit of one caller and that of all callers, which must not be lower.
fn pair(
    fields: &mut Fields<'_>,
    [of_one, of_all]: [&str; 2],
    default: (u64, u64),
    (least, need): (u64, &str),
) -> (u64, u64) {
    let one = number(fields, of_one, default.0, (least, need));
    // The default for all callers rises to the configured number for one caller.
    let all = number(fields, of_all, default.1.max(one), (one, of_one));
    (one, all)
}

/// Reads a number that must be at least what `need` requires.
fn number(fields: &mut Fields<'_>, name: &str, default: u64, (least, need): (u64, &str)) -> u64 {
    let Some(found) = fields.count(name) else {
        return default;
    };
    let value = found.value as u64;
    if value < least {
        let message = format!("must be at least {least}: {need} requires it");
        fields.wrong(name, &found.origin, message);
    }
    value
}
