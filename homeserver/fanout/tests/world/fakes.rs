//! A room with alice and carol on this server and bob on another, a clock that tests set, and a sink that records
//! EDUs.

use std::{collections::BTreeSet, sync::Mutex};

use async_trait::async_trait;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId, room_id, server_name, user_id};
use serde_json::Value;
use weft_fanout::{EduSink, Member, MembershipView};

pub fn room() -> &'static RoomId {
    room_id!("!doc:alpha.example")
}

pub fn alice() -> &'static UserId {
    user_id!("@alice:alpha.example")
}

pub fn bob() -> &'static UserId {
    user_id!("@bob:beta.example")
}

#[derive(Default)]
pub struct FakeMembershipView {
    pub seen_remote: Mutex<usize>,
}

#[async_trait]
impl MembershipView for FakeMembershipView {
    async fn member(&self, _room: &RoomId, user: &UserId) -> Option<Member> {
        match user.localpart() {
            "alice" => Some(Member {
                display_name: Some("Alice".to_owned()),
            }),
            "bob" | "carol" => Some(Member::default()),
            _ => None,
        }
    }

    async fn local_members(&self, _room: &RoomId) -> Vec<OwnedUserId> {
        vec![alice().to_owned(), user_id!("@carol:alpha.example").to_owned()]
    }

    async fn remote_servers(&self, _room: &RoomId) -> Vec<OwnedServerName> {
        vec![server_name!("beta.example").to_owned()]
    }

    async fn rooms_of(&self, _user: &UserId) -> Vec<OwnedRoomId> {
        vec![room().to_owned()]
    }

    async fn companions(&self, user: &UserId, others: &[OwnedUserId]) -> BTreeSet<OwnedUserId> {
        let mut companions = BTreeSet::new();
        for other in others {
            if self.member(room(), user).await.is_some() && self.member(room(), other).await.is_some() {
                companions.insert(other.clone());
            }
        }
        companions
    }

    fn remote_presence(&self, _room: &RoomId) {
        *self.seen_remote.lock().unwrap() += 1;
    }
}

/// A sent EDU: type, content, and the key under which a newer one replaces it.
pub type Sent = (&'static str, Value, Option<String>);

#[derive(Default)]
pub struct Net(pub Mutex<Vec<Sent>>);

impl EduSink for Net {
    fn send(
        &self,
        _: &RoomId,
        destinations: &[OwnedServerName],
        edu_type: &'static str,
        content: Value,
        coalesce: Option<String>,
    ) {
        assert_eq!(destinations, [server_name!("beta.example")]);
        self.0.lock().unwrap().push((edu_type, content, coalesce));
    }
}
