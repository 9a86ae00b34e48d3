//! The invariants at the end of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, RoomId};
use weft_crdt::{StateVector, Update};
use weft_dag::{Pdu, StateMap, event_flags};
use weft_store::tables::rooms::{EVENTS, MEMBERS, ROOM_SERVERS, TIMELINE};
use weft_testkit::text_of;
use weft_wire::{Role, event_types};

use super::{network::name, server::Server};

/// The text is compared at one of this many events.
const EVENTS_PER_TEXT: usize = 5;

/// A word that a user typed.
pub struct Word {
    pub text: String,
    pub author: usize,
}

/// The acknowledgements, and the reasons for which a word may be missing.
#[derive(Default)]
pub struct Log {
    /// Words whose edit was acknowledged.
    pub acknowledged: Vec<Word>,
    /// Words that a user may have deleted.
    pub deleted: BTreeSet<String>,
    /// What no server may do.
    pub wrong: Vec<String>,
    /// Users who left or lost the right to edit at some time: other servers may have refused their last edits.
    pub suspects: BTreeSet<usize>,
}

/// One server's view of the room.
#[derive(PartialEq)]
pub struct View {
    pub state: StateMap,
    pub text: String,
}

/// A server's view of the room.
pub async fn view(server: &Server, room: &RoomId) -> View {
    let reader = server.rooms.reader();
    View {
        state: reader.state(room).await.unwrap().unwrap().map(),
        text: text_of(&server.rooms.content(room, None).await.unwrap()),
    }
}

/// A description of the difference between two views.
pub fn differs(one: (usize, &View), other: (usize, &View)) -> Option<String> {
    let ((a, one), (b, other)) = (one, other);
    let what = if one.state != other.state {
        let keys = |view: &View| -> BTreeMap<(String, String), OwnedEventId> {
            view.state.0.iter().map(|(key, id)| (key.clone(), id.clone())).collect()
        };
        let (left, right) = (keys(one), keys(other));
        let all: BTreeSet<_> = left.keys().chain(right.keys()).collect();
        let differ: Vec<_> = all
            .into_iter()
            .filter(|key| left.get(*key) != right.get(*key))
            .collect();
        format!("the state: {differ:?}")
    } else if one.text != other.text {
        format!("the text: {:?} and {:?}", one.text, other.text)
    } else {
        return None;
    };
    Some(format!("s{a} and s{b} differ in {what}"))
}

/// The text from the sealed events alone.
pub async fn text_of_events(server: &Server, room: &RoomId) -> Result<String, String> {
    let extremities = server.rooms.reader().extremities(room).await.unwrap();
    let content = server.rooms.content(room, Some(&extremities)).await;
    content
        .map(|content| text_of(&content))
        .map_err(|error| format!("s{}: {error}", server.number))
}

/// The text at some events, from the nearest checkpoint, must be the one that all their ancestors give.
pub async fn check_texts_at_events(server: &Server, room: &RoomId) -> Result<(), String> {
    let rows = server.store.scan_all(TIMELINE.under(&(room,))).await.unwrap();
    let reader = server.rooms.reader();
    for (_, id) in rows.into_iter().step_by(EVENTS_PER_TEXT) {
        let at = [id];
        let quick = reader.content_at(room, &at).await.map(|text| text_of(&text));
        let whole = reader.content_of_events(room, &at).await.map(|text| text_of(&text));
        if let (Ok(quick), Ok(whole)) = (&quick, &whole)
            && quick == whole
        {
            continue;
        }
        let (number, id) = (server.number, &at[0]);
        return Err(format!(
            "s{number}: the text at {id} is {quick:?}, its ancestors give {whole:?}"
        ));
    }
    Ok(())
}

/// Checks the index of versions: the present text follows from a checkpoint and the index, and every version that can be
/// worked out has no more blocks than the one after it.
pub async fn check_versions(server: &Server, room: &RoomId) -> Result<(), String> {
    let (number, reader) = (server.number, server.rooms.reader());
    let now = reader.document_version(room).await.unwrap();
    let from = reader.versions_from(room).await.unwrap();
    let present = text_of(&server.rooms.content(room, None).await.unwrap());
    let mut later: Option<StateVector> = None;
    for version in (from.unwrap_or(now)..=now).rev() {
        let text = reader.text_at_version(room, version).await.unwrap();
        let Some(text) = text else {
            if version == now {
                return Err(format!("s{number}: the present version {now} is unknown"));
            }
            continue;
        };
        if version == now && text_of(&text) != present {
            let text = text_of(&text);
            return Err(format!(
                "s{number}: version {version} is {text:?} in place of {present:?}"
            ));
        }
        let vector = Update::parse(text).unwrap().state_vector();
        if later.is_some_and(|later| !later.covers(&vector)) {
            return Err(format!(
                "s{number}: version {version} has blocks that the next one does not have"
            ));
        }
        later = Some(vector);
    }
    Ok(())
}

/// All events of a server, and whether each was rejected.
pub async fn refused(server: &Server, room: &RoomId) -> BTreeMap<OwnedEventId, bool> {
    let rows = server.store.scan_all(EVENTS.under(&(room,))).await.unwrap();
    let rows = rows.into_iter().filter(|(_, row)| !row.has(event_flags::OUTLIER));
    rows.map(|((_, id), row)| (id, row.has(event_flags::REJECTED)))
        .collect()
}

/// Checks that the indexes of members and documents are what a scan of all members and the state give.
pub async fn check_indexes(server: &Server, room: &RoomId) -> Result<(), String> {
    let (store, reader) = (&server.store, server.rooms.reader());
    let members = store.scan_all(MEMBERS.under(&(room,))).await.unwrap();
    let joined = members.into_iter().filter(|(_, membership)| membership == "join");
    let joined: Vec<OwnedUserId> = joined.map(|((_, user), _)| user).collect();
    let mut servers: BTreeMap<OwnedServerName, u64> = BTreeMap::new();
    for user in &joined {
        *servers.entry(user.server_name().to_owned()).or_default() += 1;
    }
    let indexed = store.scan_all(ROOM_SERVERS.under(&(room,))).await.unwrap();
    let indexed: BTreeMap<OwnedServerName, u64> = indexed.into_iter().map(|((_, name), count)| (name, count)).collect();
    if indexed != servers {
        return Err(format!(
            "s{}: servers {indexed:?} in place of {servers:?}",
            server.number
        ));
    }
    let is_local = |user: &&OwnedUserId| user.server_name() == name(server.number);
    let locals: Vec<OwnedUserId> = joined.iter().filter(is_local).cloned().collect();
    let indexed = reader.local_members(room).await.unwrap();
    if indexed != locals {
        return Err(format!(
            "s{}: local members {indexed:?} in place of {locals:?}",
            server.number
        ));
    }
    let Some(state) = reader.state(room).await.unwrap() else {
        return Ok(());
    };
    let user = user(server.number);
    let listed = reader.document_of(&user, room).await.unwrap();
    let title = |pdu: &Arc<Pdu>| {
        pdu.content_as::<serde_json::Value>().ok()?["name"]
            .as_str()
            .map(str::to_owned)
    };
    let title = state.get("m.room.name", "").and_then(title).unwrap_or_default();
    let expected = locals
        .contains(&user)
        .then(|| (title, Role::from_power(state.user_power(&user))));
    let changed = listed.as_ref().map(|document| document.last_modified);
    let listed = listed.map(|document| (document.title, document.role));
    if listed != expected {
        return Err(format!(
            "s{}: the document is listed as {listed:?} in place of {expected:?}",
            server.number
        ));
    }
    let newest = reader.newest_change(room).await.unwrap();
    let newest = newest.filter(|event| event.pdu.kind() != event_types::WITNESS);
    let newest = newest.map(|event| u64::from(event.pdu.origin_server_ts().get()));
    if changed.is_some() && newest.is_some() && changed != newest {
        return Err(format!(
            "s{}: the document changed at {changed:?} in place of {newest:?}",
            server.number
        ));
    }
    Ok(())
}

/// Checks that no acknowledged word is lost or there twice.
pub fn check_words(text: &str, log: &Log, is_malicious: bool) -> Result<(), String> {
    for word in &log.acknowledged {
        let count = text.matches(word.text.as_str()).count();
        let may_be_gone = is_malicious || log.deleted.contains(&word.text) || log.suspects.contains(&word.author);
        if count > 1 || (count == 0 && !may_be_gone) {
            return Err(format!(
                "the acknowledged word {} of s{} is {count} times in {text:?}",
                word.text, word.author
            ));
        }
    }
    Ok(())
}

/// The user of a server.
pub fn user(server: usize) -> OwnedUserId {
    ruma::UserId::parse(format!("@u{server}:s{server}.example")).unwrap()
}
