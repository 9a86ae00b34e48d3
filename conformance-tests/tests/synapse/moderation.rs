//! Moderation: power levels that change, users who are kicked, banned and unbanned, redactions. The other server sees
//! all of it, and neither accepts what the authorization rules forbid. Must not depend on which server is the host.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use weft_conformance_tests::client::{Answer, Client, segment};

use crate::pair::{
    Pair, Side, VERSIONS, does, forbidden, give_level, state, talk, try_join, try_set, until_gone, until_message,
    until_state,
};

const TOPIC: &str = "m.room.topic";

/// Synapse has a separate error code for it.
fn banned(answer: &Answer) -> Result<()> {
    ensure!(
        answer.status == StatusCode::FORBIDDEN,
        "a banned user was admitted: {answer:?}"
    );
    Ok(())
}

/// A kicked user may rejoin; a banned one may not until unbanned.
async fn kick_and_ban(host: &Side, guest: &Side, room: &str) -> Result<()> {
    let (hers, his) = (&host.one, &guest.one);
    does(hers, "kick", his, room).await?;
    until_gone(his, room).await?;
    try_join(his, room, &host.server).await?.ok()?;
    hers.until_membership(room, &his.user, "join").await?;
    talk(hers, his, room).await?;

    does(hers, "ban", his, room).await?;
    until_gone(his, room).await?;
    hers.until_membership(room, &his.user, "ban").await?;
    banned(&try_join(his, room, &host.server).await?)?;
    let invite = Client::in_room(room, "invite");
    let invited = hers
        .request(Method::POST, &invite, Some(json!({"user_id": his.user})))
        .await?;
    banned(&invited)?;

    does(hers, "unban", his, room).await?;
    hers.until_membership(room, &his.user, "leave").await?;
    his.until("a way back in", || async {
        let answer = try_join(his, room, &host.server).await?;
        Ok(answer.status.is_success().then_some(()))
    })
    .await?;
    hers.until_membership(room, &his.user, "join").await?;
    talk(hers, his, room).await
}

/// The guest has no power, then is a moderator, then has none again; on both servers the guest's rights follow.
async fn raise_and_lower(host: &Side, guest: &Side, room: &str) -> Result<()> {
    let (hers, his) = (&host.one, &guest.one);
    let topic = |text: &str| json!({ "topic": text });
    forbidden(&try_set(his, room, TOPIC, topic("too early")).await?)?;
    let mut levels = state(his, room, "m.room.power_levels").await?;
    levels["users"][&his.user] = json!(100);
    forbidden(&try_set(his, room, "m.room.power_levels", levels.clone()).await?).context("raised himself")?;

    give_level(hers, his, room, 50).await?;
    try_set(his, room, TOPIC, topic("by the guest")).await?.ok()?;
    until_state(hers, room, TOPIC, "/topic", &json!("by the guest")).await?;
    forbidden(&try_set(his, room, "m.room.power_levels", levels).await?)
        .context("a moderator raised their own level")?;
    does(his, "kick", &host.other, room).await?;
    until_gone(&host.other, room).await?;
    host.other.join(room, None).await?;
    his.until_membership(room, &host.other.user, "join").await?;
    does(his, "ban", &host.other, room).await?;
    until_gone(&host.other, room).await?;
    banned(&try_join(&host.other, room, &guest.server).await?)?;
    let kick = Client::in_room(room, "kick");
    let out = his
        .request(Method::POST, &kick, Some(json!({"user_id": hers.user})))
        .await?;
    forbidden(&out).context("a moderator kicked the host")?;

    give_level(hers, his, room, 0).await?;
    forbidden(&try_set(his, room, TOPIC, topic("too late")).await?)?;
    for client in [hers, his] {
        until_state(client, room, TOPIC, "/topic", &json!("by the guest")).await?;
    }
    Ok(())
}

async fn redact(who: &Client, room: &str, event: &str) -> Result<Answer> {
    let path = Client::in_room(room, &format!("redact/{}/{}", segment(event), segment(&who.user)));
    who.request(Method::PUT, &path, Some(json!({"reason": "regretted"})))
        .await
}

async fn until_redacted(client: &Client, room: &str, event: &str) -> Result<()> {
    let path = Client::in_room(room, &format!("event/{}", segment(event)));
    client
        .until("the redaction", || async {
            let seen = client.get(&path).await?;
            Ok(seen["content"]
                .as_object()
                .is_some_and(serde_json::Map::is_empty)
                .then_some(()))
        })
        .await
}

/// Redacts the user's own messages, and with the right to it those of others.
async fn redact_messages(host: &Client, guest: &Client, room: &str) -> Result<()> {
    let (first, second) = (guest.say(room, "first").await?, guest.say(room, "second").await?);
    let kept = host.say(room, "kept").await?;
    until_message(host, room, "second").await?;
    until_message(guest, room, "kept").await?;
    redact(guest, room, &first).await?.ok()?;
    redact(host, room, &second).await?.ok()?;
    // Synapse accepts it and does not apply it; Weft refuses it.
    redact(guest, room, &kept).await?;
    talk(host, guest, room).await?;
    for client in [host, guest] {
        until_redacted(client, room, &first).await?;
        until_redacted(client, room, &second).await?;
        until_message(client, room, "kept").await?;
    }
    Ok(())
}

async fn walk(host: &Side, guest: &Side, version: &str) -> Result<()> {
    let room = host
        .one
        .create_room(json!({"room_version": version, "preset": "public_chat"}))
        .await?;
    host.other.join(&room, None).await?;
    try_join(&guest.one, &room, &host.server).await?.ok()?;
    host.one.until_membership(&room, &guest.one.user, "join").await?;
    redact_messages(&host.one, &guest.one, &room)
        .await
        .context("redaction")?;
    raise_and_lower(host, guest, &room).await.context("power levels")?;
    kick_and_ban(host, guest, &room).await.context("kick and ban")
}

#[tokio::test]
async fn moderation_has_the_same_effect_on_both_servers() -> Result<()> {
    let pair = Pair::new().await?;
    for version in VERSIONS {
        for (host, guest) in pair.directions() {
            walk(host, guest, version)
                .await
                .with_context(|| format!("version {version}, begun by {}", host.one.user))?;
        }
    }
    Ok(())
}

async fn until_section(client: &Client, section: &str, room: &str, since: &mut Option<String>) -> Result<()> {
    let is_there = |sync: &serde_json::Value| sync["rooms"][section].get(room).map(|_| ());
    client
        .sync_until(&format!("{section} of {room}"), since, is_there)
        .await
}

/// W4: an invitation that its sender revokes is gone on the other server, which is not in the room.
#[tokio::test]
async fn a_revoked_invitation_is_gone_on_both() -> Result<()> {
    let pair = Pair::new().await?;
    for version in VERSIONS {
        for (host, guest) in pair.directions() {
            let (hers, his) = (&host.one, &guest.one);
            let room = hers
                .create_room(json!({"room_version": version, "preset": "private_chat", "invite": [his.user]}))
                .await?;
            let mut since = None;
            until_section(his, "invite", &room, &mut since).await?;
            does(hers, "kick", his, &room).await?;
            until_section(his, "leave", &room, &mut since)
                .await
                .with_context(|| format!("version {version}, revoked by {}", hers.user))?;
        }
    }
    Ok(())
}
