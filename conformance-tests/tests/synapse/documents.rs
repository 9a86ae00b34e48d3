//! Documents with members on Synapse: they chat, they edit according to their role, and their invalid updates reach no
//! editor and do not stop the document. Must not patch Synapse.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    editors::{Editors, Provider},
};
use yrs::{Doc, GetString as _, Transact as _, Update, updates::decoder::Decode as _};

use crate::pair::{Pair, VERSIONS, does, forbidden, set, state, talk, until_gone, until_message, until_state};

const UPDATE: &str = "dev.weft.update";

/// alice's document; each guest joins with a role.
async fn document(alice: &Client, guests: &[(&Client, &str)]) -> Result<String> {
    let room = alice.create_document("Shared plans").await?;
    for (guest, role) in guests {
        alice.give_role(&room, &guest.user, role).await?;
        guest.accept_invitation(&room).await?;
        alice.until_membership(&room, &guest.user, "join").await?;
    }
    Ok(room)
}

#[tokio::test]
async fn users_of_synapse_chat_and_edit_according_to_their_role() -> Result<()> {
    let pair = Pair::new().await?;
    let (alice, bob, carol) = (&pair.ours.one, &pair.theirs.one, &pair.theirs.other);
    let editors = &pair.world.editors;
    let room = document(alice, &[(bob, "commenter"), (carol, "editor")]).await?;
    talk(alice, bob, &room).await?;

    let hers = editors.open("hers", Provider::Plain, alice, &room).await?;
    hers.type_end("alice's line").await?;
    let update = editors.update_event(7_001, "[carol's line]").await?;
    carol.try_send(&room, UPDATE, update).await?.ok()?;
    hers.until_contains("[carol's line]").await?;

    // Synapse does not support documents; it refuses by the power levels alone.
    let update = editors.update_event(7_002, "[bob's line]").await?;
    let refused = bob.try_send(&room, UPDATE, update.clone()).await?;
    assert_eq!(refused.errcode(), "M_FORBIDDEN", "{refused:?}");
    alice.give_role(&room, &bob.user, "editor").await?;
    bob.until("bob may edit", || async {
        let sent = bob.try_send(&room, UPDATE, update.clone()).await?;
        Ok(sent.status.is_success().then_some(()))
    })
    .await?;
    hers.until_contains("[bob's line]").await?;
    let text = hers.text().await?;
    let again = editors.open("again", Provider::Hocuspocus, alice, &room).await?;
    again.until_text(&text).await?;

    let member = format!(
        "/_weft/client/v1/documents/{}/members/{}",
        segment(&room),
        segment(&bob.user)
    );
    alice.request(Method::DELETE, &member, None).await?.ok()?;
    until_gone(bob, &room).await
}

/// An update event of Yjs with changed bytes.
fn changed(event: &Value, change: impl FnOnce(&mut Vec<u8>)) -> Result<Value> {
    let mut bytes = BASE64.decode(event["update"].as_str().context("no update")?)?;
    change(&mut bytes);
    let mut event = event.clone();
    event["update"] = json!(BASE64.encode(bytes));
    Ok(event)
}

/// Offset of the first block's clock in an update of one client whose id has two bytes: after the number of clients,
/// the number of blocks and the id.
const CLOCK_AT: usize = 4;

/// Invalid updates of an editor, each with a description. Client 7001 belongs to another user.
async fn wrong_updates(editors: &Editors) -> Result<Vec<(&'static str, Value)>> {
    let text = "[wrong]";
    let good = editors.update_event(7_100, text).await?;
    let with_clients = |clients: Value| json!({"update": good["update"], "clients": clients});
    let mut gap = changed(&good, |bytes| bytes[CLOCK_AT] = 5)?;
    gap["clients"] = json!({"7100": [5, 12]});
    Ok(vec![
        ("no content", json!({})),
        ("no base64", json!({"update": "!!!", "clients": {"7100": [0, 7]}})),
        (
            "an update that is not a string",
            json!({"update": 7, "clients": {"7100": [0, 7]}}),
        ),
        ("no bytes", json!({"update": "", "clients": {}})),
        ("cut short", changed(&good, |bytes| bytes.truncate(bytes.len() - 3))?),
        ("trailing bytes", changed(&good, |bytes| bytes.push(0))?),
        (
            "an unbounded number of clients",
            changed(&good, |bytes| drop(bytes.splice(0..1, [0xff, 0xff, 0xff, 0x7f])))?,
        ),
        ("a range that is too long", with_clients(json!({"7100": [0, 8]}))),
        ("a range that is too short", with_clients(json!({"7100": [0, 6]}))),
        (
            "an additional client",
            with_clients(json!({"7100": [0, 7], "7101": [0, 1]})),
        ),
        ("another client", with_clients(json!({"7101": [0, 7]}))),
        ("no client", with_clients(json!({}))),
        ("clients that are not a map", with_clients(json!("7100"))),
        ("a gap in the clock", gap),
        (
            "somebody else's client",
            editors.update_event(7_001, &format!("[carol's line]{text}")).await?,
        ),
        ("too large", editors.update_event(7_100, &text.repeat(6_500)).await?),
    ])
}

#[tokio::test]
async fn invalid_updates_reach_no_editor_and_stop_no_document() -> Result<()> {
    let pair = Pair::new().await?;
    let (alice, bob, carol) = (&pair.ours.one, &pair.theirs.one, &pair.theirs.other);
    let editors = &pair.world.editors;
    let room = document(alice, &[(bob, "editor"), (carol, "editor")]).await?;
    let hers = editors.open("hers", Provider::Plain, alice, &room).await?;
    let update = editors.update_event(7_001, "[carol's line]").await?;
    carol.try_send(&room, UPDATE, update).await?.ok()?;
    hers.until_contains("[carol's line]").await?;

    let mut length = "[carol's line]".len();
    for (client, (what, wrong)) in (7_200..).zip(wrong_updates(editors).await?) {
        // Synapse accepts all of them: their event type is unknown to it.
        bob.try_send(&room, UPDATE, wrong).await?.ok().context(what)?;
        bob.say(&room, &format!("sent {what}")).await?;
        until_message(alice, &room, &format!("sent {what}")).await?;
        let valid = format!("[after {what}]");
        let update = editors.update_event(client, &valid).await?;
        bob.try_send(&room, UPDATE, update).await?.ok().context(what)?;
        hers.until_contains(&valid).await.context(what)?;
        hers.type_end(".").await?;
        length += valid.len() + 1;
        let text = hers.text().await?;
        ensure!(text.len() == length && !text.contains("wrong"), "{what}: {text}");
    }
    // The same for a new editor, from the signed events.
    let text = hers.text().await?;
    let again = editors.open("again", Provider::Hocuspocus, alice, &room).await?;
    again.until_text(&text).await?;
    Ok(())
}

/// Edits of a user who was demoted meanwhile and whose server does not know it are soft-failed, and count as soon as an
/// allowed event references them: the same as between Weft servers. Later edits of that user do not count.
#[tokio::test]
async fn edits_of_a_user_demoted_during_a_partition_count_once_referenced() -> Result<()> {
    let pair = Pair::behind_links().await?;
    let (alice, bob) = (&pair.ours.one, &pair.theirs.one);
    let editors = &pair.world.editors;
    let room = document(alice, &[(bob, "editor")]).await?;
    let hers = editors.open("hers", Provider::Plain, alice, &room).await?;
    talk(alice, bob, &room).await?;

    pair.world.cut();
    alice.give_role(&room, &bob.user, "commenter").await?;
    let update = editors.update_event(7_001, "[before the demotion arrived]").await?;
    bob.try_send(&room, UPDATE, update).await?.ok()?;
    hers.type_end("[meanwhile]").await?;
    pair.world.heal();
    bob.say(&room, "bob is back").await?;
    until_message(alice, &room, "bob is back").await?;
    hers.until_contains("[before the demotion arrived]").await?;

    alice.say(&room, "so is alice").await?;
    until_message(bob, &room, "so is alice").await?;
    let level = format!("/users/{}", bob.user);
    until_state(bob, &room, "m.room.power_levels", &level, &json!(10)).await?;
    let update = editors.update_event(7_002, "[too late]").await?;
    forbidden(&bob.try_send(&room, UPDATE, update).await?)?;
    let text = hers.text().await?;
    let again = editors.open("again", Provider::Hocuspocus, alice, &room).await?;
    again.until_text(&text).await?;
    ensure!(text.contains("[meanwhile]"), "{text}");
    Ok(())
}

/// A document that a user of Synapse creates by hand: to Synapse it is a room like any other.
async fn created_on_synapse(bob: &Client, version: &str, invited: &Client) -> Result<String> {
    let kind = json!({"kind": "text", "schema_version": 1, "format": "yjs-13/v1"});
    let levels = json!({"events": {UPDATE: 25}, "events_default": 10});
    let options = json!({
        "room_version": version,
        "preset": "private_chat",
        "creation_content": {"type": "dev.weft.document"},
        "initial_state": [{"type": "dev.weft.document", "state_key": "", "content": kind}],
        "power_level_content_override": levels,
    });
    let room = bob.create_room(options).await?;
    let mut users = state(bob, &room, "m.room.power_levels").await?;
    users["users"][&invited.user] = json!(25);
    set(bob, &room, "m.room.power_levels", users).await?;
    Ok(room)
}

/// The text of the signed events alone, as the user's server has them.
async fn text_of_events(client: &Client, room: &str) -> Result<String> {
    let doc = Doc::new();
    for update in client.sealed_updates(room).await? {
        let mut transaction = doc.transact_mut();
        transaction.apply_update(Update::decode_v1(&update)?)?;
    }
    let text = doc.get_or_insert_text("body");
    Ok(text.get_string(&doc.transact()))
}

#[tokio::test]
async fn a_document_created_on_synapse_works() -> Result<()> {
    let pair = Pair::new().await?;
    let (alice, bob) = (&pair.ours.one, &pair.theirs.one);
    let editors = &pair.world.editors;
    for version in VERSIONS {
        let room = created_on_synapse(bob, version, alice).await?;
        let early = editors.update_event(7_001, "[before anybody came]").await?;
        bob.try_send(&room, UPDATE, early).await?.ok()?;
        does(bob, "invite", alice, &room).await?;
        alice.accept_invitation(&room).await?;
        let hers = editors
            .open(&format!("hers {version}"), Provider::Hocuspocus, alice, &room)
            .await?;
        hers.until_contains("[before anybody came]").await?;
        hers.type_end("[alice's line]").await?;
        let late = editors.update_event(7_002, "[after she came]").await?;
        bob.try_send(&room, UPDATE, late).await?.ok()?;
        hers.until_contains("[after she came]").await?;
        let text = hers.text().await?;
        for client in [bob, alice] {
            client
                .until(&format!("{text} in the events of {}", client.user), || async {
                    Ok((text_of_events(client, &room).await? == text).then_some(()))
                })
                .await
                .with_context(|| format!("version {version}"))?;
        }
    }
    Ok(())
}
