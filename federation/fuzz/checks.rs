//! Invariants of the parsers of other servers' input: the fuzz targets of `conformance-tests/fuzz` and the replay of
//! their corpora (`corpus/` in this directory) call the same checks. Compiled only for tests and fuzzing. Must not
//! need a network.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a check fails by panicking"
)]

use std::net::IpAddr;

use http::{HeaderValue, Request, header};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, ServerName, UInt,
    api::{
        IncomingResponse, IncomingResponseExt,
        federation::{
            authorization::get_event_authorization, backfill, directory, discovery, event, membership, query,
            transactions::send_transaction_message,
        },
    },
    event_id, owned_room_id, owned_user_id, room_id, server_name,
    signatures::PublicKeyMap,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{RoomVersion, Unchecked, parse_canonical};
use weft_wire::{limits, snapshot::DocumentSnapshot};

use crate::{
    DenyList, KeyRing, StoredKeys,
    handshake::{self, IncomingInvite, template},
    inbound, well_known, xmatrix,
};

fn us() -> &'static ServerName {
    server_name!("a.example")
}

fn them() -> &'static ServerName {
    server_name!("b.example")
}

/// An `Authorization` header: an accepted one has this server as destination and another server as origin.
pub fn header(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let request = Request::builder()
        .header(header::AUTHORIZATION, value)
        .body(())
        .unwrap();
    let Ok(parsed) = xmatrix::parse(request.headers(), us()) else {
        return;
    };
    assert!(data.len() <= limits::MAX_X_MATRIX_BYTES);
    assert_eq!(parsed.destination.as_deref(), Some(us()));
    assert_ne!(parsed.origin, us());
}

/// Names, addresses and `.well-known` bodies: the decision about an address is independent of its notation.
pub fn names(data: &[u8]) {
    if let Some(server) = well_known::parse(data) {
        assert_eq!(ServerName::parse(server.as_str()).as_ref(), Ok(&server));
    }
    let mut headers = header::HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(data) {
        headers.insert(header::CACHE_CONTROL, value);
        assert!(well_known::age(&headers).as_secs() <= 48 * 60 * 60);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(server) = ServerName::parse(text) {
        assert!(!server.host().is_empty() && server.host().len() <= text.len());
        let _ = (
            server.port(),
            server.is_ip_literal(),
            crate::discovery::literal(&server),
        );
        let _ = reqwest::Url::parse(&format!("https://{}:443/.well-known/matrix/server", server.host()));
    }
    if let Ok(IpAddr::V4(address)) = text.parse() {
        let list = DenyList::default();
        assert_eq!(
            list.allows(address.into()),
            list.allows(address.to_ipv6_mapped().into())
        );
    }
}

/// The key response of a server, and our own key file.
pub fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(ring) = KeyRing::from_text(us().to_owned(), text) {
        let published = ring.published(MilliSecondsSinceUnixEpoch(UInt::from(5_u8))).unwrap();
        key_response(us(), published);
    }
    if let Ok(object) = parse_canonical(text) {
        key_response(us(), object.clone());
        key_response(them(), object);
    }
}

fn key_response(server: &ServerName, object: CanonicalJsonObject) {
    let fetched = MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000_u32));
    let notary = StoredKeys::check_notarised(server, object.clone(), fetched, them(), &PublicKeyMap::new());
    assert!(notary.is_err(), "a notary without keys has signed nothing");
    let Ok(stored) = StoredKeys::check(server, object, fetched) else {
        return;
    };
    let week = UInt::from(7 * 24 * 60 * 60 * 1_000_u32);
    for key in stored.keys.values() {
        assert!(key.valid_until.is_none_or(|until| until.get() <= fetched.get() + week));
    }
    assert!(stored.keys.len() <= limits::MAX_KEYS_PER_SERVER);
    let again: StoredKeys = serde_json::from_str(&serde_json::to_string(&stored).unwrap()).unwrap();
    assert_eq!(again, stored);
    let _ = (stored.verify_keys(), stored.valid_at(fetched));
}

/// A transaction: EDUs are accepted only about users of the sending server, and an event that can't be parsed has at
/// most one id.
pub fn transaction(data: &[u8]) {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        pdus: Vec<Box<RawValue>>,
        #[serde(default)]
        edus: Vec<Box<RawValue>>,
    }
    let Ok(body) = serde_json::from_slice::<Body>(data) else {
        return;
    };
    for raw in &body.edus {
        for edu in inbound::edu::parse(them(), raw, &mut crate::tally::Tally::default()) {
            assert_eq!(edu.user_id().server_name(), them());
        }
    }
    for raw in &body.pdus {
        let _ = inbound::room_of(raw);
        for id in RoomVersion::ALL {
            let version = RoomVersion::new(&id).unwrap();
            let named = inbound::best_effort_id(raw, Some(version.clone()));
            if let Ok(event) = Unchecked::parse(raw.get(), &version) {
                assert_eq!(named.as_deref(), Some(event.event_id()), "one id for one event");
            }
        }
    }
}

/// An invite that this server is requested to sign (T32): sent by a user of the requesting server to one of ours, and
/// nothing else.
pub fn invite(data: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Box<RawValue>>(data) else {
        return;
    };
    for id in RoomVersion::ALL {
        let version = RoomVersion::new(&id).unwrap();
        let Ok(unchecked) = Unchecked::parse(event.get(), &version) else {
            continue;
        };
        let invite = IncomingInvite {
            origin: them(),
            room_id: unchecked.room_id(),
            event_id: unchecked.event_id(),
            version: &id,
            event: &event,
            stripped: Vec::new(),
        };
        if let Ok(user) = handshake::invite::shape(&invite, &version, us()) {
            assert_eq!(user.server_name(), us());
            assert_eq!(unchecked.sender().server_name(), them());
            assert_eq!(unchecked.kind(), "m.room.member");
        }
        let elsewhere = IncomingInvite {
            room_id: room_id!("!other:b.example"),
            event_id: event_id!("$x"),
            ..invite
        };
        assert!(handshake::invite::shape(&elsewhere, &version, us()).is_err());
    }
}

type Parse = fn(&[u8]);

fn parse<T: IncomingResponse>(body: &[u8]) {
    let _ = T::try_from_http_response(http::Response::new(body));
}

/// All responses that are parsed; the first byte selects one.
pub fn answers(data: &[u8]) {
    const ALL: [Parse; 20] = [
        templates,
        |body| drop(serde_json::from_slice::<DocumentSnapshot>(body)),
        parse::<membership::prepare_join_event::v1::Response>,
        parse::<membership::create_join_event::v2::Response>,
        parse::<membership::prepare_leave_event::v1::Response>,
        parse::<membership::create_leave_event::v2::Response>,
        parse::<membership::prepare_knock_event::v1::Response>,
        parse::<membership::create_knock_event::v1::Response>,
        parse::<membership::create_invite::v2::Response>,
        parse::<backfill::get_backfill::v1::Response>,
        parse::<event::get_event::v1::Response>,
        parse::<event::get_missing_events::v1::Response>,
        parse::<event::get_room_state::v1::Response>,
        parse::<event::get_room_state_ids::v1::Response>,
        parse::<get_event_authorization::v1::Response>,
        parse::<query::get_profile_information::v1::Response>,
        parse::<query::get_room_information::v1::Response>,
        parse::<directory::get_public_rooms_filtered::v1::Response>,
        parse::<discovery::get_remote_server_keys::v2::Response>,
        parse::<send_transaction_message::v1::Response>,
    ];
    if let Some((first, body)) = data.split_first()
        && let Some(check) = ALL.get(usize::from(*first) % ALL.len())
    {
        check(body);
    }
}

/// A template for our own membership (T33): whatever its content, the signed event is our own.
fn templates(body: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(body) else {
        return;
    };
    let wanted = handshake::Wanted {
        room_id: owned_room_id!("!room:b.example"),
        via: Vec::new(),
        user: owned_user_id!("@alice:a.example"),
        content: CanonicalJsonObject::new(),
    };
    let signer = weft_dag::testing::signer(us());
    let version = RoomVersion::new(&ruma::RoomVersionId::V11).unwrap();
    let now = MilliSecondsSinceUnixEpoch(UInt::from(5_u8));
    let Ok(hints) = template::hints(them(), &raw) else {
        return;
    };
    let Ok(signed) = template::sign(&wanted, "join", hints, &version, now, &signer) else {
        return;
    };
    let pdu = signed.pdu;
    assert_eq!(
        (pdu.sender(), pdu.state_key()),
        (&*wanted.user, Some(wanted.user.as_str()))
    );
    assert_eq!((pdu.room_id(), pdu.kind()), (&*wanted.room_id, "m.room.member"));
    let content: serde_json::Map<String, serde_json::Value> = serde_json::from_str(pdu.content().get()).unwrap();
    let authoriser = content
        .get("join_authorised_via_users_server")
        .and_then(|user| user.as_str());
    assert!(
        authoriser.is_none_or(|user| !user.ends_with(":a.example")),
        "no user of ours authorises the join"
    );
    assert_eq!(content.len(), 1 + usize::from(authoriser.is_some()));
}

#[cfg(test)]
#[test]
fn every_corpus_entry_passes_its_check() {
    let targets: [(&str, Parse); 6] = [
        ("header", header),
        ("names", names),
        ("keys", keys),
        ("transaction", transaction),
        ("invite", invite),
        ("answers", answers),
    ];
    for (target, check) in targets {
        let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty(), "{folder} is empty");
        inputs
            .iter()
            .for_each(|input| check(&std::fs::read(input.path()).unwrap()));
    }
}
