//! Editors that return after a long time offline: nothing is lost on either side, and an editor without the right any more
//! is told which of its edits are not saved. Must not depend on how long the servers took.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::segment,
    editors::{Editor, Provider},
    world::World,
};

/// Edits made by each side while they could not see each other's.
const EDITS: usize = 10_000;

async fn write(editor: &Editor, prefix: &str) -> Result<()> {
    editor.does("write", json!({"prefix": prefix, "edits": EDITS})).await
}

async fn has_all(editor: &Editor, prefix: &str) -> Result<()> {
    // The first merge of 20,000 concurrent edits takes a stock editor several seconds.
    let request = json!({"prefix": prefix, "words": EDITS, "timeout": 120_000});
    editor.does("until_written", request).await
}

#[tokio::test]
async fn an_editor_that_was_away_for_ten_thousand_edits_loses_nothing() -> Result<()> {
    let mut world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.type_end("common ground").await?;
    hers.saved().await?;
    for (name, provider) in [("away-hocus", Provider::Hocuspocus), ("away-plain", Provider::Plain)] {
        let his = world.editors.open(name, provider, &bob, &room).await?;
        his.until_contains("ground").await?;
        his.disconnect().await?;
        let (here, there) = (format!("{name}-on"), format!("{name}-off"));
        write(&hers, &here).await?;
        hers.saved().await?;
        write(&his, &there).await?;
        // A week has passed: the servers were restarted, and nothing of the document is in memory.
        for server in &mut world.servers {
            server.terminate().await?;
            server.boot().await?;
        }
        his.connect().await?;
        for editor in [&his, &hers] {
            has_all(editor, &here).await?;
            has_all(editor, &there).await?;
        }
        assert_eq!(his.text().await?, hers.text().await?);
        his.close().await?;
    }
    let fresh = world.editors.open("fresh", Provider::Plain, &bob, &room).await?;
    fresh.until_text(&hers.text().await?).await
}

#[tokio::test]
async fn an_editor_without_the_right_any_more_is_told_which_edits_are_not_saved() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.type_end("kept forever").await?;
    hers.saved().await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    his.until_text("kept forever").await?;
    his.type_end("!").await?;
    his.saved().await?;
    his.disconnect().await?;
    his.type_end(" not saved").await?;
    his.delete(0, 5).await?;
    his.forget_events().await?;
    hers.until_text("kept forever!").await?;
    alice.give_role(&room, &bob.user, "viewer").await?;
    let path = format!("/_weft/client/v1/documents/{}", segment(&room));
    bob.until("the viewer's role", || async {
        let document = bob.get(&path).await?;
        Ok((document["role"] == json!("viewer")).then_some(()))
    })
    .await?;
    his.connect().await?;
    // The provider sends its edits one by one and also together, in the answer to the server's step 1.
    let notice = bob
        .until("a notice of all refused edits", || async {
            let notices = his.details_of("stateless").await?;
            assert!(
                notices.iter().all(|notice| notice["code"] == json!("read_only")),
                "{notices:?}"
            );
            let has_both = |notice: &Value| notice.get("deleted").is_some() && notice.get("blocks").is_some();
            Ok(notices.into_iter().find(has_both))
        })
        .await?;
    let own = &his.state().await?["client"];
    assert_eq!(
        notice["blocks"],
        json!([{"client": own, "clock": 1, "length": " not saved".len()}]),
        "what was typed offline, and not what was saved before"
    );
    assert_eq!(notice["deleted"][0]["length"], json!(5), "{notice}");
    let fresh = world.editors.open("fresh", Provider::Plain, &bob, &room).await?;
    fresh.until_text("kept forever!").await
}
