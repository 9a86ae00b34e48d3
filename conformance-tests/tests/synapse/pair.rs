//! The fixture of these tests: a Weft server and a Synapse, two users on each, and actions in a room. Must not make
//! assumptions about one of the servers.
//!
//! A walk takes a host and a guest and does not depend on their servers: each is run in both directions.

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Answer, Client, segment},
    synapse::Synapse,
    world::World,
};

/// Room versions of new rooms; both servers support older ones.
pub(crate) const VERSIONS: [&str; 3] = ["10", "11", "12"];

/// A server and two of its users.
pub(crate) struct Side {
    pub(crate) server: String,
    pub(crate) one: Client,
    pub(crate) other: Client,
    /// Synapse removes a knock without informing the room's servers.
    pub(crate) withdraws_knocks: bool,
}

/// Both servers.
pub(crate) struct Pair {
    pub(crate) world: World,
    pub(crate) synapse: Synapse,
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
}

impl Pair {
    pub(crate) async fn new() -> Result<Self> {
        let world = World::new(1).await?;
        let synapse = world.synapse().await?;
        Self::of(world, synapse).await
    }

    /// With a link in front of each: both are cut and restored by [`World::cut`] and [`World::heal`].
    pub(crate) async fn behind_links() -> Result<Self> {
        let mut world = World::with_links(1, "").await?;
        let synapse = world.synapse_behind_link().await?;
        Self::of(world, synapse).await
    }

    async fn of(world: World, synapse: Synapse) -> Result<Self> {
        let ours = Side {
            server: world.servers.first().context("no server")?.name.clone(),
            one: world.user(0, "alice").await?,
            other: world.user(0, "anna").await?,
            withdraws_knocks: true,
        };
        let theirs = Side {
            server: synapse.name.clone(),
            one: synapse.user("bob").await?,
            other: synapse.user("ben").await?,
            withdraws_knocks: false,
        };
        Ok(Self {
            world,
            synapse,
            ours,
            theirs,
        })
    }

    /// Host and guest, in both directions.
    pub(crate) fn directions(&self) -> [(&Side, &Side); 2] {
        [(&self.ours, &self.theirs), (&self.theirs, &self.ours)]
    }
}

pub(crate) async fn until_messages(client: &Client, room: &str, wanted: &[String]) -> Result<()> {
    client
        .until(&format!("{wanted:?} for {}", client.user), || async {
            let seen = client.messages(room).await?;
            Ok(wanted.iter().all(|text| seen.contains(text)).then_some(()))
        })
        .await
}

pub(crate) async fn until_message(client: &Client, room: &str, wanted: &str) -> Result<()> {
    until_messages(client, room, &[wanted.to_owned()]).await
}

/// Each sends a message, and the other receives it.
pub(crate) async fn talk(host: &Client, guest: &Client, room: &str) -> Result<()> {
    host.say(room, "from the host").await?;
    until_message(guest, room, "from the host").await?;
    guest.say(room, "from the guest").await?;
    until_message(host, room, "from the guest").await
}

pub(crate) async fn until_gone(client: &Client, room: &str) -> Result<()> {
    client
        .until(&format!("{} is out of {room}", client.user), || async {
            let joined = client.get("/_matrix/client/v3/joined_rooms").await?;
            let rooms = joined["joined_rooms"].as_array().context("joined_rooms")?;
            Ok((!rooms.contains(&json!(room))).then_some(()))
        })
        .await
}

/// Calls `kick`, `ban`, `unban` or `invite`.
pub(crate) async fn does(who: &Client, what: &str, to: &Client, room: &str) -> Result<()> {
    who.post(&Client::in_room(room, what), json!({"user_id": to.user}))
        .await
        .map(drop)
}

/// The content of a state event.
pub(crate) async fn state(client: &Client, room: &str, kind: &str) -> Result<Value> {
    client.get(&Client::in_room(room, &format!("state/{kind}"))).await
}

/// Sends a state event; returns the response with any status.
pub(crate) async fn try_set(client: &Client, room: &str, kind: &str, content: Value) -> Result<Answer> {
    let path = Client::in_room(room, &format!("state/{kind}"));
    client.request(reqwest::Method::PUT, &path, Some(content)).await
}

pub(crate) async fn set(client: &Client, room: &str, kind: &str, content: Value) -> Result<()> {
    try_set(client, room, kind, content).await?.ok().map(drop)
}

/// Waits until a field of a state event has this value on this user's server.
pub(crate) async fn until_state(client: &Client, room: &str, kind: &str, field: &str, wanted: &Value) -> Result<()> {
    client
        .until(&format!("{wanted} in {kind} for {}", client.user), || async {
            let answer = client
                .request(
                    reqwest::Method::GET,
                    &Client::in_room(room, &format!("state/{kind}")),
                    None,
                )
                .await?;
            Ok((answer.body.pointer(field) == Some(wanted)).then_some(()))
        })
        .await
}

/// Sets a power level and waits until both users see it.
pub(crate) async fn give_level(host: &Client, guest: &Client, room: &str, level: i64) -> Result<()> {
    let mut levels = state(host, room, "m.room.power_levels").await?;
    levels["users"][&guest.user] = json!(level);
    set(host, room, "m.room.power_levels", levels).await?;
    let field = format!("/users/{}", guest.user);
    for client in [host, guest] {
        until_state(client, room, "m.room.power_levels", &field, &json!(level)).await?;
    }
    Ok(())
}

/// Joins by the room's id through a server; returns the response with any status.
pub(crate) async fn try_join(client: &Client, room: &str, via: &str) -> Result<Answer> {
    let via = segment(via);
    let path = format!("/_matrix/client/v3/join/{}?via={via}&server_name={via}", segment(room));
    client.request(reqwest::Method::POST, &path, Some(json!({}))).await
}

pub(crate) fn forbidden(answer: &Answer) -> Result<()> {
    let refused = answer.status == StatusCode::FORBIDDEN && answer.errcode() == "M_FORBIDDEN";
    ensure!(refused, "not refused: {answer:?}");
    Ok(())
}
