//! Stock editors of both kinds on two servers type concurrently and converge to the same text. Must not depend on the
//! order of arrival.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::{
    editors::{Editor, Provider},
    world::World,
};

/// Types numbered words at changing positions; each word is unique, so that a lost one is noticed.
async fn type_words(editor: &Editor, who: &str, words: usize) -> Result<()> {
    for number in 0..words {
        let word = format!("[{who}{number}]");
        if number % 3 == 0 {
            editor.type_at(0, &word).await?
        } else {
            editor.type_end(&word).await?
        }
    }
    Ok(())
}

#[tokio::test]
async fn four_stock_editors_on_two_servers_converge() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let editors = [
        world.editors.open("a-plain", Provider::Plain, &alice, &room).await?,
        world
            .editors
            .open("a-hocus", Provider::Hocuspocus, &alice, &room)
            .await?,
        world.editors.open("b-plain", Provider::Plain, &bob, &room).await?,
        world.editors.open("b-hocus", Provider::Hocuspocus, &bob, &room).await?,
    ];
    for editor in &editors {
        editor.synced().await?;
    }
    let words = 25;
    let typing = ["w", "x", "y", "z"]
        .into_iter()
        .zip(&editors)
        .map(|(who, editor)| type_words(editor, who, words));
    futures_util::future::try_join_all(typing).await?;
    for editor in &editors {
        for who in ["w", "x", "y", "z"] {
            for number in 0..words {
                editor.until_contains(&format!("[{who}{number}]")).await?;
            }
        }
    }
    let text = editors[0].text().await?;
    for editor in &editors {
        editor.until_text(&text).await?;
    }
    for (who, server) in [("w", "a"), ("z", "b")] {
        for number in 0..words {
            assert_eq!(text.matches(&format!("[{who}{number}]")).count(), 1, "{server}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn cursors_reach_other_servers_with_the_authenticated_identity() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Plain, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    hers.synced().await?;
    his.synced().await?;
    hers.set_awareness(
        "user",
        json!({"name": "Somebody else", "id": "@admin:example", "color": "#0a0"}),
    )
    .await?;
    his.set_awareness("user", json!({"color": "#00a"})).await?;
    his.until_present(&alice.user).await?;
    hers.until_present(&bob.user).await?;
    let states = his.awareness().await?;
    let seen = states
        .as_object()
        .unwrap()
        .values()
        .find(|state| state["user"]["id"] == json!(alice.user))
        .unwrap();
    let name = alice.user.trim_start_matches('@').split(':').next();
    assert_eq!(seen["user"]["name"].as_str(), name);
    assert_eq!(seen["user"]["color"], "#0a0");
    hers.close().await?;
    his.until_gone(&alice.user).await?;
    Ok(())
}

#[tokio::test]
async fn two_documents_share_one_hocuspocus_socket() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let (first, second) = (
        alice.create_document("First").await?,
        alice.create_document("Second").await?,
    );
    let one = world.editors.open("one", Provider::Shared(1), &alice, &first).await?;
    let two = world.editors.open("two", Provider::Shared(1), &alice, &second).await?;
    one.type_end("the first").await?;
    two.type_end("the second").await?;
    one.saved().await?;
    two.saved().await?;
    let again = world.editors.open("again", Provider::Plain, &alice, &second).await?;
    again.until_text("the second").await?;
    assert_eq!(one.text().await?, "the first");
    Ok(())
}

/// F2: a new editor sends its identity when it connects, and its cursor when it has the text. Both arrive, and so does
/// each of eight concurrent moves, although stock y-websocket repeats the states of others.
#[tokio::test]
async fn f2_a_new_editor_and_moves_in_a_busy_document_are_shown() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Busy").await?;
    let mut editors = Vec::new();
    for number in 0..8 {
        let name = format!("e{number}");
        let editor = world.editors.open(&name, Provider::Plain, &alice, &room).await?;
        editor.set_awareness("who", json!(number)).await?;
        editor.synced().await?;
        editor.set_awareness("at", json!(format!("{number}:joined"))).await?;
        for other in &editors {
            let other: &Editor = other;
            other.until_field("at", json!(format!("{number}:joined"))).await?;
        }
        editors.push(editor);
    }
    for step in 0..5 {
        for (number, editor) in editors.iter().enumerate() {
            editor.set_awareness("at", json!(format!("{number}:{step}"))).await?;
        }
        for number in 0..editors.len() {
            editors[(number + 1) % 8]
                .until_field("at", json!(format!("{number}:{step}")))
                .await?;
        }
    }
    Ok(())
}

/// F3: an editor that was disconnected for a moment is shown again immediately, on its server and on another one,
/// regardless of how the connection ended.
#[tokio::test]
async fn f3_an_editor_that_reconnects_is_shown_at_once() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let reader = world.editors.open("here", Provider::Plain, &alice, &room).await?;
    let far = world.editors.open("far", Provider::Hocuspocus, &bob, &room).await?;
    reader.synced().await?;
    far.synced().await?;
    for (name, provider) in [("plain", Provider::Plain), ("hocus", Provider::Hocuspocus)] {
        let hers = world.editors.open(name, provider, &alice, &room).await?;
        hers.synced().await?;
        hers.set_awareness("at", json!(name)).await?;
        reader.until_field("at", json!(name)).await?;
        far.until_field("at", json!(name)).await?;
        hers.disconnect().await?;
        for other in [&reader, &far] {
            other
                .does("until_no_field", json!({"field": "at", "value": name}))
                .await?;
        }
        hers.connect().await?;
        reader.until_field("at", json!(name)).await?;
        far.until_field("at", json!(name)).await?;
        // The client reconnects by itself a moment after its connection broke.
        hers.forget_events().await?;
        hers.does("terminate", json!({})).await?;
        hers.until_event("connected").await?;
        hers.until_event("synced").await?;
        reader.until_field("at", json!(name)).await?;
        far.until_field("at", json!(name)).await?;
        hers.close().await?;
    }
    Ok(())
}

/// F4: the connection is dead and the server has not noticed; the client reconnects with the same client id.
#[tokio::test]
async fn f4_the_successor_of_a_half_open_connection_can_move_its_cursor() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Half open").await?;
    let reader = world
        .editors
        .open("reader", Provider::Hocuspocus, &alice, &room)
        .await?;
    let moving = world.editors.open("moving", Provider::Plain, &alice, &room).await?;
    for editor in [&reader, &moving] {
        editor.synced().await?;
    }
    moving.set_awareness("at", json!("before")).await?;
    reader.until_field("at", json!("before")).await?;
    moving.forget_events().await?;
    moving.does("abandon", json!({})).await?;
    moving.until_event("connected").await?;
    moving.set_awareness("at", json!("after")).await?;
    reader.until_field("at", json!("after")).await
}

/// F10: a stock provider continues to send for a document that the server has refused.
#[tokio::test]
async fn f10_a_refused_document_does_not_affect_others_on_its_socket() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let (bad, good) = (
        alice.create_document("Bad").await?,
        alice.create_document("Good").await?,
    );
    let refused = world.editors.open("refused", Provider::Shared(7), &alice, &bad).await?;
    let other = world.editors.open("other", Provider::Shared(7), &alice, &good).await?;
    for editor in [&refused, &other] {
        editor.synced().await?;
    }
    // The name and the nesting of this value fit in no event.
    refused.does("set_named", json!({"letters": 60_000})).await?;
    refused.until_event("close").await?;
    other.forget_events().await?;
    for number in 0..1_200 {
        refused.type_end(&format!("{number} ")).await?;
    }
    other.type_end("goes on").await?;
    other.saved().await?;
    assert!(!other.has_seen("close").await?, "the socket was closed for both");
    Ok(())
}

/// F12: a browser has unsent edits of another user. The second user's edits are accepted, and the first user's too once
/// that user is back.
#[tokio::test]
async fn f12_another_users_unsent_edits_do_not_block_a_user() -> Result<()> {
    let world = World::new(1).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(0, "bob").await?);
    let room = alice.create_document("One browser").await?;
    alice.give_role(&room, &bob.user, "editor").await?;
    bob.accept_invitation(&room).await?;
    let hers = world.editors.open("hers", Provider::Plain, &alice, &room).await?;
    hers.synced().await?;
    hers.type_end("sent. ").await?;
    let server = world
        .editors
        .open("server", Provider::Hocuspocus, &alice, &room)
        .await?;
    server.until_text("sent. ").await?;
    hers.disconnect().await?;
    hers.type_end("unsent.").await?;
    for (name, provider) in [("plain", Provider::Plain), ("hocus", Provider::Hocuspocus)] {
        let words = format!("words of bob by {name}. ");
        let his = world
            .editors
            .open_copy(name, provider, &bob, &room, ("hers", 0, &words))
            .await?;
        his.synced().await?;
        server.until_contains(&words).await?;
        his.type_at(3, "typed later ").await?;
        server.until_contains("typed later ").await?;
        if provider == Provider::Hocuspocus {
            his.saved().await?;
            let notice = his.until_event("stateless").await?;
            assert_eq!(
                (&notice["code"], &notice["users"][0]),
                (&json!("foreign_client"), &json!(alice.user))
            );
        }
        assert!(!server.text().await?.contains("unsent."));
        // Next to the other user's unsent text: the edit is pending and the connection stays open.
        his.type_end(&format!("beside, by {name}")).await?;
    }
    hers.connect().await?;
    for part in ["sent. ", "unsent.", "beside, by plain", "beside, by hocus"] {
        server.until_contains(part).await?;
    }
    let text = server.text().await?;
    hers.until_text(&text).await
}

/// F13: a change that fits in no event is rejected alone and reported, and the rest of the text is accepted.
#[tokio::test]
async fn f13_one_inadmissible_change_does_not_stop_a_client() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let reader = world.editors.open("reader", Provider::Plain, &bob, &room).await?;
    reader.synced().await?;
    for (name, provider) in [("plain", Provider::Plain), ("hocus", Provider::Hocuspocus)] {
        let hers = world.editors.open(name, provider, &alice, &room).await?;
        hers.synced().await?;
        hers.type_end(&format!("[{name}]")).await?;
        for (number, (command, request)) in [
            ("embed", json!({"at": 1, "bytes": 200_000})),
            (
                "format",
                json!({"at": 0, "length": 2, "value": "half a pair: \u{fffd}"}),
            ),
            ("format_half", json!({"at": 0, "length": 2})),
            ("set_deep", json!({"key": "deep", "levels": 40})),
        ]
        .into_iter()
        .enumerate()
        {
            hers.does(command, request).await?;
            hers.type_end(&format!("[{name} {number}]")).await?;
            reader.until_contains(&format!("[{name} {number}]")).await?;
        }
        if provider == Provider::Hocuspocus {
            hers.saved().await?;
            assert_eq!(hers.until_event("stateless").await?["type"], "dev.weft.refused");
        }
        let text = reader.text().await?;
        hers.until_text(&text).await?;
        hers.close().await?;
    }
    Ok(())
}

/// F13: a text of 6 MB is accepted, pasted or written while disconnected.
#[tokio::test]
async fn f13_a_text_of_six_megabytes_arrives() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    for (name, provider) in [("plain", Provider::Plain), ("hocus", Provider::Hocuspocus)] {
        let room = alice.create_document(name).await?;
        let hers = world.editors.open(name, provider, &alice, &room).await?;
        hers.synced().await?;
        hers.does("repeat", json!({"at": 0, "text": "word ", "times": 1_200_000}))
            .await?;
        let reader = format!("{name}-reader");
        let reader = world.editors.open(&reader, provider, &alice, &room).await?;
        reader.until_length(6_000_000).await?;
        hers.forget_events().await?;
        hers.disconnect().await?;
        // Hocuspocus ignores a call to connect while it is still closing.
        hers.until_event("disconnected").await?;
        hers.does("repeat", json!({"at": 0, "text": "more ", "times": 200_000}))
            .await?;
        hers.connect().await?;
        reader.until_length(7_000_000).await?;
    }
    Ok(())
}
