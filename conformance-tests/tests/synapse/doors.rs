//! Every way to join and leave a room: invitation accepted and declined, alias, id, restricted join, knock. Must not
//! depend on which server is the host.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use weft_conformance_tests::client::{Client, segment};

use crate::pair::{Pair, Side, VERSIONS, does, forbidden, talk, try_join, until_gone, until_message};

async fn leave(client: &Client, room: &str) -> Result<()> {
    client.post(&Client::in_room(room, "leave"), json!({})).await.map(drop)
}

/// Invited, declines, is invited again, joins, sends, leaves, joins again, is kicked.
async fn by_invitation(host: &Client, guest: &Client, version: &str) -> Result<()> {
    let room = host
        .create_room(json!({"room_version": version, "preset": "private_chat", "invite": [guest.user]}))
        .await?;
    host.say(&room, "before anybody came").await?;
    guest
        .until("the invitation", || async {
            let sync = guest.get("/_matrix/client/v3/sync?timeout=0").await?;
            let invitations = sync.pointer("/rooms/invite");
            Ok(invitations.and_then(|rooms| rooms.get(&room)).map(drop))
        })
        .await?;
    leave(guest, &room).await.context("declining")?;
    host.until_membership(&room, &guest.user, "leave")
        .await
        .context("declining")?;

    does(host, "invite", guest, &room).await?;
    guest.accept_invitation(&room).await?;
    host.until_membership(&room, &guest.user, "join").await?;
    talk(host, guest, &room).await?;
    until_message(guest, &room, "before anybody came").await?;

    leave(guest, &room).await?;
    host.until_membership(&room, &guest.user, "leave").await?;
    does(host, "invite", guest, &room).await?;
    guest.accept_invitation(&room).await?;
    host.until_membership(&room, &guest.user, "join").await?;
    does(host, "kick", guest, &room).await?;
    until_gone(guest, &room).await
}

/// A room with these join rules.
async fn with_join_rules(host: &Client, version: &str, rules: Value) -> Result<String> {
    let rules = json!({"type": "m.room.join_rules", "state_key": "", "content": rules});
    host.create_room(json!({"room_version": version, "initial_state": [rules]}))
        .await
}

async fn knock(host: &Side, guest: &Side, room: &str) -> Result<()> {
    let via = segment(&host.server);
    let path = format!("/_matrix/client/v3/knock/{}?via={via}&server_name={via}", segment(room));
    guest.one.post(&path, json!({"reason": "let me in"})).await?;
    host.one.until_membership(room, &guest.one.user, "knock").await
}

/// Joins by alias; by id if the room is public or restricted to members of the first room; by knocking, and not
/// without.
async fn by_other_ways(host: &Side, guest: &Side, version: &str) -> Result<()> {
    let (hers, his) = (&host.one, &guest.one);
    let alias = format!("open{version}");
    let open = hers
        .create_room(json!({"room_version": version, "preset": "public_chat", "room_alias_name": alias}))
        .await?;
    his.join(&format!("#{alias}:{}", host.server), None).await?;
    hers.until_membership(&open, &his.user, "join").await?;
    talk(hers, his, &open).await?;

    let by_id = with_join_rules(hers, version, json!({"join_rule": "public"})).await?;
    try_join(his, &by_id, &host.server).await?.ok()?;
    talk(hers, his, &by_id).await?;

    let allow = json!([{"type": "m.room_membership", "room_id": open}]);
    let restricted = with_join_rules(hers, version, json!({"join_rule": "restricted", "allow": allow})).await?;
    forbidden(&try_join(&guest.other, &restricted, &host.server).await?).context("is in no allowed room")?;
    try_join(his, &restricted, &host.server).await?.ok()?;
    talk(hers, his, &restricted).await?;

    let knocked = with_join_rules(hers, version, json!({"join_rule": "knock"})).await?;
    forbidden(&try_join(his, &knocked, &host.server).await?).context("joined without a knock")?;
    if guest.withdraws_knocks {
        knock(host, guest, &knocked).await?;
        leave(his, &knocked).await.context("withdrawing")?;
        let left = hers.until_membership(&knocked, &his.user, "leave").await;
        left.context("withdrawing")?;
    }
    knock(host, guest, &knocked).await?;
    does(hers, "kick", his, &knocked).await.context("refusing")?;
    hers.until_membership(&knocked, &his.user, "leave").await?;
    knock(host, guest, &knocked).await?;
    does(hers, "invite", his, &knocked).await?;
    his.accept_invitation(&knocked).await?;
    talk(hers, his, &knocked).await
}

#[tokio::test]
async fn rooms_of_each_version_can_be_joined_in_every_way() -> Result<()> {
    let pair = Pair::new().await?;
    for version in VERSIONS {
        for (host, guest) in pair.directions() {
            let what = || format!("version {version}, begun by {}", host.one.user);
            by_invitation(&host.one, &guest.one, version).await.with_context(what)?;
            by_other_ways(host, guest, version).await.with_context(what)?;
        }
    }
    Ok(())
}
