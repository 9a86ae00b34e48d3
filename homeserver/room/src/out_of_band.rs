//! Out-of-band memberships: invitations to, and knocks on, rooms that this server is not in.
//!
//! Such a membership is not part of a room's state here: it is one row of the user, with the stripped state from the
//! other server. Any server can send unwanted invitations, so they are counted (T127). Must not change a membership of
//! a room that this server is in: there it follows from the room's events and the authorisation rules.

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId, events::room::member::MembershipState,
    serde::Raw,
};
use serde_json::{Value, json};
use weft_dag::{Pdu, Verified, stripped};
use weft_room_api::{OutOfBandRefusal, RoomChange, RoomError, Unavailable};
use weft_store::{
    Batch, CommitError,
    tables::rooms::{
        MEMBERSHIP, MembershipRow, OUT_OF_BAND, OUT_OF_BAND_SERVERS, OUT_OF_BAND_STATE, OutOfBandRow, OutOfBandState,
    },
};
use weft_wire::limits;

use crate::Rooms;

/// The order in which stripped state is kept if not all of it fits.
const STRIPPED_ORDER: [&str; 7] = [
    "m.room.create",
    "m.room.name",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.avatar",
    "m.room.topic",
];

/// Attempts to read and write a row that changes concurrently.
const MAX_ATTEMPTS: usize = 4;

/// Limits of open invitations and knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvitationBounds {
    /// Per user.
    pub per_user: usize,
    /// Per user and inviting server.
    pub per_user_and_server: usize,
    /// Per inviting server, over all users.
    pub per_server: usize,
}

impl Default for InvitationBounds {
    fn default() -> Self {
        Self {
            per_user: limits::MAX_OPEN_INVITATIONS_PER_USER,
            per_user_and_server: limits::MAX_OPEN_INVITATIONS_PER_USER_AND_SERVER,
            per_server: limits::MAX_OPEN_INVITATIONS_PER_SERVER,
        }
    }
}

/// An invitation of a user of this server, or a knock by one, for a room that this server is not in.
#[derive(Debug, Clone)]
pub struct OutOfBandMembership {
    /// The event: an invitation has the signatures of both servers.
    pub event: Verified,
    /// The room's version.
    pub version: RoomVersionId,
    /// The server that sent the invitation or accepted the knock.
    pub resident: OwnedServerName,
    /// The stripped state of the room, in the client format.
    pub stripped: Vec<Value>,
    /// The user.
    pub user: OwnedUserId,
}

/// After this time an invitation over the limits may be sent again: users may have answered others meanwhile.
const RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

impl Rooms {
    /// Stores an invitation or a knock. For a room that this server is in nothing changes; otherwise any server could
    /// remove a room from its members' lists.
    ///
    /// # Errors
    /// When there are too many, or the store fails.
    pub async fn invited(&self, invited: OutOfBandMembership) -> Result<(), RoomError> {
        let (pdu, user) = (Arc::clone(invited.event.pdu()), invited.user.clone());
        let room = pdu.room_id();
        let ours = self.shared.identity.server_name();
        let shown = shown(&pdu, &invited.stripped)?;
        let row = OutOfBandRow {
            event: pdu.event_id().to_owned(),
            version: invited.version,
            resident: invited.resident,
            bytes: shown.iter().map(bytes_of).sum(),
        };
        // Counting and writing are one step; otherwise concurrent invitations could exceed the limits together.
        let _writing = self.shared.outside.lock().await;
        for _ in 0..MAX_ATTEMPTS {
            let before = self.membership_row(room, &user).await?;
            if self.shared.reader.has_server(room, ours).await? {
                tracing::debug!(%room, %user, "an out-of-band invitation to a room that this server is in is ignored");
                return Ok(());
            }
            self.check_bounds(room, &user, &row).await?;
            let mut batch = Batch::new();
            batch.put(&OUT_OF_BAND, &(&user, room), &row);
            batch.put(&OUT_OF_BAND_STATE, &(&user, room), &OutOfBandState(shown.clone()));
            batch.put(&OUT_OF_BAND_SERVERS, &(&row.resident, &user, room), &());
            let membership = MembershipRow {
                membership: pdu.membership().unwrap_or(MembershipState::Invite).to_string(),
                event: row.event.clone(),
                position: 0,
                stripped: Vec::new(),
                forgotten: false,
            };
            if self.note(batch, room, &user, before.as_ref(), membership).await? {
                return Ok(());
            }
        }
        Err(Unavailable::Conflict {
            table: "MEMBERSHIP".into(),
        }
        .into())
    }

    /// Ends an invitation, a knock, or a membership in a room that this server has left, at the user's request. The
    /// user's clients receive the event that the room's servers accepted; if none of them answered, a local one that
    /// exists only here: clients remove the room only when they receive a leave.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn uninvited(&self, room: &RoomId, user: &UserId, leave: Option<&Pdu>) -> Result<(), RoomError> {
        let now = self.shared.clock.now();
        let show = |row: &MembershipRow| match leave {
            Some(leave) => client_format(leave, user),
            None => json!({
                "event_id": format!("{}-ended", row.event), "origin_server_ts": now,
                "content": {"membership": "leave"}, "type": "m.room.member", "sender": user, "state_key": user,
            }),
        };
        let is_open = |row: &MembershipRow| row.membership != "leave" && row.membership != "ban";
        self.end(room, user, is_open, MembershipState::Leave, show).await
    }

    /// Ends an invitation or a knock that a user in the room withdrew or refused. The caller must check that user's
    /// rights; here the event must cite the open membership.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn withdrawn(&self, event: &Pdu) -> Result<(), RoomError> {
        let user = event.state_key().and_then(|key| UserId::parse(key).ok());
        let (Some(user), Some(to @ (MembershipState::Leave | MembershipState::Ban))) = (user, event.membership())
        else {
            return Err(malformed("the event ends no membership"));
        };
        let is_open = |row: &MembershipRow| {
            matches!(row.membership.as_str(), "invite" | "knock") && event.auth_events().contains(&row.event)
        };
        let show = |_: &MembershipRow| client_format(event, &user);
        self.end(event.room_id(), &user, is_open, to, show).await
    }

    async fn end(
        &self,
        room: &RoomId,
        user: &UserId,
        is_open: impl Fn(&MembershipRow) -> bool,
        to: MembershipState,
        show: impl Fn(&MembershipRow) -> Value,
    ) -> Result<(), RoomError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(before) = self.membership_row(room, user).await?.filter(&is_open) else {
                return Ok(());
            };
            let shown = Raw::new(&show(&before)).map_err(|error| malformed(error.to_string()))?;
            let mut batch = Batch::new();
            if let Some(open) = self.shared.reader.outside(user, room).await? {
                batch.delete(&OUT_OF_BAND_SERVERS, &(&open.resident, user, room));
            }
            batch.delete(&OUT_OF_BAND, &(user, room));
            batch.delete(&OUT_OF_BAND_STATE, &(user, room));
            let row = MembershipRow {
                membership: to.to_string(),
                stripped: vec![shown],
                ..before.clone()
            };
            if self.note(batch, room, user, Some(&before), row).await? {
                return Ok(());
            }
        }
        Err(Unavailable::Conflict {
            table: "MEMBERSHIP".into(),
        }
        .into())
    }

    async fn membership_row(&self, room: &RoomId, user: &UserId) -> Result<Option<MembershipRow>, Unavailable> {
        Ok(self.shared.store.get(&MEMBERSHIP, &(user, room)).await?)
    }

    /// Writes a user's row at a position of its own, so that the user's syncs return it; false if it has changed: the
    /// room may have been joined meanwhile.
    async fn note(
        &self,
        mut batch: Batch,
        room: &RoomId,
        user: &UserId,
        before: Option<&MembershipRow>,
        row: MembershipRow,
    ) -> Result<bool, Unavailable> {
        batch.require(&MEMBERSHIP, &(user, room), before);
        let position = batch.reserve(self.shared.store.positions_of(room), 1);
        batch.put(&MEMBERSHIP, &(user, room), &MembershipRow { position, ..row });
        match self.shared.store.commit(batch).await {
            Ok(()) => {}
            Err(CommitError::Fence { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let lane = self.shared.store.lane_of(room);
        self.shared.changes.publish(Arc::new(RoomChange {
            position,
            users: vec![user.to_owned()],
            ..RoomChange::new(room, lane)
        }));
        Ok(true)
    }

    /// Whether one more is within the limits. An open membership of the same room is replaced and does not count.
    async fn check_bounds(&self, room: &RoomId, user: &UserId, row: &OutOfBandRow) -> Result<(), RoomError> {
        let bounds = self.shared.config.invitations;
        let too_many = OutOfBandRefusal::TooMany {
            retry_after: RETRY_AFTER,
        };
        let query = OUT_OF_BAND.under(&(user,)).limit(bounds.per_user.saturating_add(1));
        let open = self.shared.store.scan(query).await.map_err(Unavailable::from)?;
        let others = || open.iter().filter(|((_, other), _)| other != room).map(|(_, row)| row);
        let bytes: u64 = others().map(|other| other.bytes).sum();
        if others().count() >= bounds.per_user
            || bytes.saturating_add(row.bytes) > limits::MAX_OPEN_INVITATION_BYTES_PER_USER
            || others().filter(|other| other.resident == row.resident).count() >= bounds.per_user_and_server
        {
            return Err(too_many.into());
        }
        if self.open_of_server(&row.resident, bounds.per_server).await? >= bounds.per_server {
            return Err(too_many.into());
        }
        Ok(())
    }

    /// The number of open invitations of a server, counted up to `limit`. Rows of ended invitations are removed.
    async fn open_of_server(&self, server: &ServerName, limit: usize) -> Result<usize, Unavailable> {
        let query = OUT_OF_BAND_SERVERS.under(&(server,)).limit(limit);
        let rows = self.shared.store.scan(query).await?;
        if rows.len() < limit {
            return Ok(rows.len());
        }
        let mut open = 0;
        let mut batch = Batch::new();
        for ((server, user, room), ()) in rows {
            let row = self.shared.store.get(&OUT_OF_BAND, &(&user, &room)).await?;
            if row.as_ref().is_some_and(|row| row.resident == server) {
                open += 1;
            } else {
                // The server may have invited the user again meanwhile.
                batch.require(&OUT_OF_BAND, &(&user, &room), row.as_ref());
                batch.delete(&OUT_OF_BAND_SERVERS, &(server, user, room));
            }
        }
        if batch.is_empty() {
            return Ok(open);
        }
        match self.shared.store.commit(batch).await {
            // The next count removes them.
            Ok(()) | Err(CommitError::Fence { .. }) => Ok(open),
            Err(error) => Err(error.into()),
        }
    }
}

fn malformed(reason: impl Into<String>) -> RoomError {
    OutOfBandRefusal::Malformed { reason: reason.into() }.into()
}

fn bytes_of(event: &Raw<Value>) -> u64 {
    u64::try_from(event.json().get().len()).unwrap_or(u64::MAX)
}

/// The stripped state to store, within [`limits::MAX_STORED_STRIPPED_BYTES`]; the membership itself comes last.
fn shown(pdu: &Arc<Pdu>, stripped: &[Value]) -> Result<Vec<Raw<Value>>, RoomError> {
    let rank = |entry: &Value| {
        let kind = entry.get("type").and_then(Value::as_str).unwrap_or_default();
        STRIPPED_ORDER
            .iter()
            .position(|first| *first == kind)
            .unwrap_or(STRIPPED_ORDER.len())
    };
    let mut entries: Vec<&Value> = stripped.iter().collect();
    entries.sort_by_key(|entry| rank(entry));
    let mut left = limits::MAX_STORED_STRIPPED_BYTES;
    let mut kept = Vec::new();
    for entry in entries {
        let raw = Raw::new(entry).map_err(|error| malformed(error.to_string()))?;
        if let Some(rest) = left.checked_sub(bytes_of(&raw)) {
            left = rest;
            kept.push(raw);
        }
    }
    kept.extend(
        stripped::for_clients(&[Arc::clone(pdu)])
            .into_iter()
            .map(Raw::from_json),
    );
    Ok(kept)
}

/// A leave or ban in the client format. Of its content only the reason is kept, up to a limit of characters: the row is
/// stored permanently.
fn client_format(pdu: &Pdu, user: &UserId) -> Value {
    let mut content = json!({ "membership": pdu.membership().unwrap_or(MembershipState::Leave) });
    let written: Value = pdu.content_as().unwrap_or_default();
    if let (Some(reason), Value::Object(content)) = (written.get("reason").and_then(Value::as_str), &mut content) {
        let reason: String = reason.chars().take(limits::MAX_STORED_REASON_CHARS).collect();
        content.insert("reason".to_owned(), reason.into());
    }
    json!({
        "event_id": pdu.event_id(), "origin_server_ts": pdu.origin_server_ts(), "content": content,
        "type": pdu.kind(), "sender": pdu.sender(), "state_key": user,
    })
}
