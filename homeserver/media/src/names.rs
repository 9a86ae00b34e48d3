//! Which files something names: every event and update that this server has, also of rooms that its users left, what waits to
//! become one, profiles and account data.
//!
//! A file counts as named if the beginning or the end of its id is anywhere. A text may be divided between two updates within
//! an id, and one of the two parts then has one or the other. So a file may be taken for named that is not. Must not write, and
//! must not hold more than a page of rows.

use std::collections::HashMap;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::Value;
use weft_store::{
    ReadError, Store,
    tables::{
        accounts::{ACCOUNT_DATA, PROFILES, USERS},
        documents::JOURNAL,
        rooms::{EVENTS, ROOMS, STAGING},
    },
};

/// Characters of the beginning and of the end of an id. Half of the shortest id, so that each way to divide an id in two
/// leaves one of them whole.
const PIECE: usize = 12;
/// Rows that are read at a time: events have up to 64 KiB.
const ROWS: usize = 100;
/// Rooms and users that are read at a time.
const LISTED: usize = 500;

/// Base64 with and without padding, as events have it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Files, and whether something names them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    named: Vec<bool>,
    unnamed: usize,
    pieces: HashMap<[u8; PIECE], Vec<usize>>,
}

impl Names {
    /// Adds a file with one of its media ids; `file` is its number.
    pub(crate) fn add(&mut self, file: usize, id: &str) {
        if self.named.len() <= file {
            self.unnamed += file + 1 - self.named.len();
            self.named.resize(file + 1, false);
        }
        let id = id.as_bytes();
        for piece in [id.first_chunk::<PIECE>(), id.last_chunk::<PIECE>()]
            .into_iter()
            .flatten()
        {
            self.pieces.entry(*piece).or_default().push(file);
        }
        // An id that is too short to be recognised.
        if id.len() < PIECE {
            self.mark(file);
        }
    }

    /// Whether something names the file.
    pub(crate) fn is_named(&self, file: usize) -> bool {
        self.named.get(file).copied().unwrap_or(true)
    }

    /// Whether nothing is left to be found.
    pub(crate) const fn are_all_named(&self) -> bool {
        self.unnamed == 0
    }

    fn mark(&mut self, file: usize) {
        if let Some(named) = self.named.get_mut(file).filter(|named| !**named) {
            *named = true;
            self.unnamed -= 1;
        }
    }

    /// Looks for names in bytes.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        let is_of_id = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-';
        for run in bytes.split(|byte| !is_of_id(byte)) {
            for piece in run.windows(PIECE) {
                let found = piece.first_chunk::<PIECE>().and_then(|piece| self.pieces.get(piece));
                for file in found.cloned().unwrap_or_default() {
                    self.mark(file);
                }
            }
        }
    }

    /// Looks for names in JSON, also within its base64.
    pub(crate) fn look_in_json(&mut self, json: &[u8]) {
        self.look(json);
        // Rows that are no JSON have no base64 that a client reads.
        if let Ok(value) = serde_json::from_slice(json) {
            self.look_in_base64(&value);
        }
    }

    fn look_in_base64(&mut self, value: &Value) {
        let mut open = vec![value];
        while let Some(next) = open.pop() {
            match next {
                Value::String(text) if text.len() > PIECE => {
                    if let Ok(bytes) = BASE64.decode(text) {
                        self.look(&bytes);
                    }
                }
                Value::Array(items) => open.extend(items),
                Value::Object(entries) => open.extend(entries.values()),
                _ => {}
            }
        }
    }
}

/// Looks through the store.
pub(crate) async fn look_through(store: &Store, names: &mut Names) -> Result<(), ReadError> {
    let mut after: Option<OwnedUserId> = None;
    loop {
        let query = USERS.under(&());
        let query = match &after {
            Some(user) => query.after(&(user,)),
            None => query,
        };
        let users = store.scan(query.limit(LISTED)).await?;
        for ((user,), _) in &users {
            look_at_user(store, user, names).await?;
        }
        match users.into_iter().last() {
            Some(((user,), _)) => after = Some(user),
            None => break,
        }
    }
    let mut after: Option<OwnedRoomId> = None;
    loop {
        let query = ROOMS.under(&());
        let query = match &after {
            Some(room) => query.after(&(room,)),
            None => query,
        };
        let rooms = store.scan(query.limit(LISTED)).await?;
        for ((room,), _) in &rooms {
            if names.are_all_named() {
                return Ok(());
            }
            look_at_room(store, room, names).await?;
        }
        match rooms.into_iter().last() {
            Some(((room,), _)) => after = Some(room),
            None => return Ok(()),
        }
    }
}

async fn look_at_user(store: &Store, user: &UserId, names: &mut Names) -> Result<(), ReadError> {
    if let Some(profile) = store.get(&PROFILES, &(user,)).await? {
        let profile = Value::Object(profile.0);
        names.look_in_json(profile.to_string().as_bytes());
    }
    let mut rows = store.stream(ACCOUNT_DATA.under(&(user,)))?;
    while let Some(page) = rows.page().await? {
        for (_, row) in page {
            names.look_in_json(row.content.to_string().as_bytes());
        }
    }
    Ok(())
}

async fn look_at_room(store: &Store, room: &RoomId, names: &mut Names) -> Result<(), ReadError> {
    // First what waits: it becomes an event while the events are read, and must not be missed in between.
    let mut after = None;
    loop {
        let query = JOURNAL.under(&(room,));
        let query = match after {
            Some(number) => query.after(&(room, number)),
            None => query,
        };
        let rows = store.scan(query.limit(ROWS)).await?;
        rows.iter().for_each(|(_, row)| names.look(&row.update));
        match rows.into_iter().last() {
            Some(((_, number), _)) => after = Some(number),
            None => break,
        }
    }
    let mut after = None;
    loop {
        let query = STAGING.under(&(room,));
        let query = match after {
            Some(number) => query.after(&(room, number)),
            None => query,
        };
        let rows = store.scan(query.limit(ROWS)).await?;
        rows.iter().for_each(|(_, row)| names.look_in_json(&row.json));
        match rows.into_iter().last() {
            Some(((_, number), _)) => after = Some(number),
            None => break,
        }
    }
    let mut after = None;
    loop {
        let query = EVENTS.under(&(room,));
        let query = match &after {
            Some(event) => query.after(&(room, event)),
            None => query,
        };
        let rows = store.scan(query.limit(ROWS)).await?;
        rows.iter().for_each(|(_, row)| names.look_in_json(&row.json));
        match rows.into_iter().last() {
            Some(((_, event), _)) => after = Some(event),
            None => return Ok(()),
        }
        // The rest of the server is not delayed by a large room.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD as PADDED, STANDARD_NO_PAD};

    use super::*;

    const ID: &str = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";

    fn finds(look: impl FnOnce(&mut Names)) -> bool {
        let mut names = Names::default();
        names.add(0, ID);
        names.add(1, "AAAAAAAAAAAAAAAAAAAAAAAA");
        look(&mut names);
        assert!(!names.is_named(1));
        assert!(!names.are_all_named());
        names.is_named(0)
    }

    #[test]
    fn an_id_is_found_wherever_it_is_divided() {
        for at in 0..=ID.len() {
            let (first, second) = ID.split_at(at);
            let found = finds(|names| {
                names.look(format!("x \u{7}mxc://a/{first}").as_bytes());
                names.look(format!("{second}\u{1}").as_bytes());
            });
            assert!(found, "{at}");
        }
        assert!(!finds(|names| names.look(b"mxc://a/LPJNul-wow4 z6DsqxbninhsWHlwfp0")));
    }

    #[test]
    fn an_id_is_found_in_json_and_in_its_base64() {
        let update = [b"\x01\x02w", ID.as_bytes()].concat();
        for encoded in [PADDED.encode(&update), STANDARD_NO_PAD.encode(&update)] {
            let event = format!(r#"{{"content":{{"a":[{{"update":"{encoded}"}}]}}}}"#);
            assert!(finds(|names| names.look_in_json(event.as_bytes())));
        }
        assert!(finds(
            |names| names.look_in_json(format!(r#"{{"url":"mxc://a/{ID}"}}"#).as_bytes())
        ));
        assert!(!finds(|names| names.look_in_json(br#"{"url":"mxc://a/b"}"#)));
    }
}
