//! Properties that hold for any bytes from clients: the fuzz targets of `conformance-tests/fuzz` and the replay
//! of their corpora (`corpus/`, next to this file) call the same checks. Must only be compiled in tests and fuzzing.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a check fails by panicking"
)]

use axum::http::Request;
use ruma::api::{
    IncomingRequest, IncomingRequestExt,
    client::{
        account, alias, config, context, device, directory, filter, keys, membership, message, profile, read_marker,
        receipt, redact, relations, room, session, state, sync, tag, typing, user_directory,
    },
    federation::{backfill, event, membership as federated, query, transactions},
};

use weft_store::Lane;

use crate::{
    login,
    tokens::{SyncToken, TimelineToken},
};

/// Pagination tokens from clients.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = SyncToken::parse(text) {
        assert_eq!(SyncToken::parse(&token.to_string()).unwrap(), token);
    }
    if let Ok(token) = TimelineToken::parse(text, Lane::FIRST) {
        assert_eq!(TimelineToken::parse(&token.to_string(), Lane::FIRST).unwrap(), token);
    }
}

type Parse = fn(&str, &[u8]);

/// A request whose path has valid ids: only its query and its body vary.
fn parse<T: IncomingRequest>(query: &str, body: &[u8]) {
    const ARGUMENTS: [&str; 4] = [
        "!room:a.example",
        "@alice:a.example",
        "m.room.topic",
        "$event:a.example",
    ];
    let Ok(uri) = format!("https://a.example/x?{query}").parse::<axum::http::Uri>() else {
        return;
    };
    let mut request = Request::new(body);
    *request.uri_mut() = uri;
    *request.method_mut() = T::METHOD;
    // The path determines the number of arguments; a wrong one is an error like any other.
    for count in 0..=ARGUMENTS.len() {
        let _ = T::try_from_http_request(request.clone(), ARGUMENTS.get(..count).unwrap_or_default());
    }
}

/// Every kind of request with a query or a body; the first byte selects the kind, the query ends at a line feed.
pub fn requests(data: &[u8]) {
    const ALL: [Parse; 40] = [
        parse::<filter::create_filter::v3::Request>,
        parse::<sync::sync_events::v3::Request>,
        parse::<message::get_message_events::v3::Request>,
        parse::<message::send_message_event::v3::Request>,
        parse::<context::get_context::v3::Request>,
        parse::<relations::get_relating_events::v1::Request>,
        parse::<state::send_state_event::v3::Request>,
        parse::<room::create_room::v3::Request>,
        parse::<membership::join_room_by_id_or_alias::v3::Request>,
        parse::<membership::join_room_by_id::v3::Request>,
        parse::<membership::invite_user::v3::Request>,
        parse::<membership::kick_user::v3::Request>,
        parse::<membership::ban_user::v3::Request>,
        parse::<membership::get_member_events::v3::Request>,
        parse::<redact::redact_event::v3::Request>,
        parse::<receipt::create_receipt::v3::Request>,
        parse::<read_marker::set_read_marker::v3::Request>,
        parse::<typing::create_typing_event::v3::Request>,
        parse::<tag::create_tag::v3::Request>,
        parse::<config::set_global_account_data::v3::Request>,
        parse::<profile::set_display_name::v3::Request>,
        parse::<device::update_device::v3::Request>,
        parse::<device::delete_devices::v3::Request>,
        parse::<account::register::v3::Request>,
        parse::<account::change_password::v3::Request>,
        parse::<account::deactivate::v3::Request>,
        |_, body| drop(serde_json::from_slice::<login::Request>(body)),
        parse::<session::refresh_token::v3::Request>,
        parse::<alias::create_alias::v3::Request>,
        parse::<directory::get_public_rooms_filtered::v3::Request>,
        parse::<user_directory::search_users::v3::Request>,
        parse::<keys::get_keys::v3::Request>,
        parse::<keys::upload_keys::v3::Request>,
        parse::<transactions::send_transaction_message::v1::Request>,
        parse::<federated::create_join_event::v2::Request>,
        parse::<federated::prepare_join_event::v1::Request>,
        parse::<federated::create_invite::v2::Request>,
        parse::<event::get_missing_events::v1::Request>,
        parse::<backfill::get_backfill::v1::Request>,
        parse::<query::get_profile_information::v1::Request>,
    ];
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    let (query, body) = rest.split_at(end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    if let (Some(check), Ok(query)) = (ALL.get(usize::from(*first) % ALL.len()), std::str::from_utf8(query)) {
        check(query, body);
    }
}

#[cfg(test)]
#[test]
fn the_corpora_pass() {
    for (target, check) in [("tokens", tokens as fn(&[u8])), ("requests", requests)] {
        let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty(), "{folder} is in the repository");
        inputs
            .iter()
            .for_each(|input| check(&std::fs::read(input.path()).unwrap()));
    }
}
