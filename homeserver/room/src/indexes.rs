//! The rows by which other parts of the server find a room's servers, its local members, and a user's documents, without
//! reading all members.
//!
//! Kept by the turn: whatever changed the current state, the rows that differ from those on disk are in the same commit.
//! They are computed from the state alone ([`Indexes::of`]), so they can be built from it ([`build`]). Must not be
//! written from anywhere else.

mod build;

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;
use weft_dag::{Pdu, StateView};
use weft_room_read::kind_of;
use weft_store::{
    Batch, Table,
    key::{AsKey, Key},
    tables::{
        documents::{DOCUMENTS, DOCUMENTS_OF, DocumentRow},
        rooms::{LOCAL_MEMBERS, ROOM_SERVERS},
    },
    value::Value,
};
use weft_wire::{
    Role,
    document::{BinContent, RequestContent, TemplateContent},
    event_types,
};

pub use build::build_indexes;

/// The rows of one room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Indexes {
    /// The number of joined users of each server.
    servers: BTreeMap<OwnedServerName, u64>,
    /// The joined users of this server; with their role in a document.
    locals: BTreeMap<OwnedUserId, Option<Role>>,
    /// Of a document.
    document: Option<DocumentRow>,
}

impl Indexes {
    /// The rows that belong to a state.
    pub(crate) fn of(state: &StateView, is_document: bool, ours: &ServerName) -> Self {
        let mut indexes = Self::default();
        for user in state.joined_members() {
            let count = indexes.servers.entry(user.server_name().to_owned()).or_default();
            *count = count.saturating_add(1);
            if user.server_name() == ours {
                let role = is_document.then(|| Role::from_power(state.user_power(&user)));
                indexes.locals.insert(user, role);
            }
        }
        indexes.document = state
            .create()
            .filter(|_| is_document)
            .map(|create| document(state, create));
        indexes
    }

    /// Writes the rows that differ from `written`, which are on disk.
    pub(crate) fn put_changes(&self, batch: &mut Batch, room: &RoomId, written: &Self) {
        put_changed(&self.servers, &written.servers, |server, count| {
            put_or_delete(batch, &ROOM_SERVERS, &(room, server), count);
        });
        let nothing = ();
        put_changed(&self.locals, &written.locals, |user, role| {
            let is_member = role.map(|_| &nothing);
            put_or_delete(batch, &LOCAL_MEMBERS, &(room, user), is_member);
        });
        put_changed(&self.roles(), &written.roles(), |user, role| {
            put_or_delete(batch, &DOCUMENTS_OF, &(user, room), role);
        });
        if self.document != written.document {
            put_or_delete(batch, &DOCUMENTS, &(room,), self.document.as_ref());
        }
    }

    fn roles(&self) -> BTreeMap<&OwnedUserId, String> {
        let locals = self.locals.iter();
        locals
            .filter_map(|(user, role)| Some((user, (*role)?.name().to_owned())))
            .collect()
    }
}

/// Calls `put` for each key with another value than before; `None`: it no longer exists.
fn put_changed<K: Ord, V: PartialEq>(
    now: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    mut put: impl FnMut(&K, Option<&V>),
) {
    for (key, value) in now.iter().filter(|(key, value)| before.get(*key) != Some(*value)) {
        put(key, Some(value));
    }
    for key in before.keys().filter(|key| !now.contains_key(*key)) {
        put(key, None);
    }
}

fn put_or_delete<K: Key, V: Value>(batch: &mut Batch, table: &Table<K, V>, key: &impl AsKey<K>, value: Option<&V>) {
    match value {
        Some(value) => batch.put(table, key, value),
        None => batch.delete(table, key),
    }
}

/// What lists show of a document. A room without a valid kind counts as text.
fn document(state: &StateView, create: &Pdu) -> DocumentRow {
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    let title = state
        .get("m.room.name", "")
        .and_then(|pdu| pdu.content_as::<Name>().ok());
    let bin = state.get(event_types::BIN, "");
    let bin = bin.filter(|pdu| pdu.content_as::<BinContent>().is_ok_and(|bin| bin.in_bin));
    let template = state.get(event_types::TEMPLATE, "");
    let template = template.and_then(|pdu| pdu.content_as::<TemplateContent>().ok());
    let request = state.get(event_types::REQUEST, "");
    let request = request.filter(|pdu| pdu.sender() == create.sender());
    let request = request.and_then(|pdu| pdu.content_as::<RequestContent>().ok());
    DocumentRow {
        title: title.map(|title| title.name).unwrap_or_default(),
        kind: kind_of(state).name().to_owned(),
        owner: create.sender().to_owned(),
        created_at: create.origin_server_ts().get().into(),
        in_bin_since: bin.map(|pdu| pdu.origin_server_ts().get().into()),
        template: template.unwrap_or_default().template,
        locked: state.lock().is_some(),
        request: request.map(|request| (request.key, request.body)),
    }
}
