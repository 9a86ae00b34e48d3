//! T68: the compacted document is sent only to servers in the room, and its history can't be hidden from any of them.
//! Must not read the store.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use weft_conformance_tests::{
    client::{Client, segment},
    editors::Provider,
    malicious::Room,
};

use crate::stage::Stage;

#[tokio::test]
async fn t68_a_server_gets_the_document_only_while_it_is_in_the_room() -> Result<()> {
    let stage = Stage::new().await?;
    let alice = &stage.alice;
    let mallory = stage.malicious.user("mallory");
    let document = alice.create_document("Plans").await?;
    // A document is one text: a user who reads the present text reads its past, so the history visibility can't be
    // restricted.
    let path = Client::in_room(&document, "state/m.room.history_visibility/");
    for visibility in ["joined", "invited"] {
        let rule = json!({ "history_visibility": visibility });
        let refused = alice.request(Method::PUT, &path, Some(rule)).await?;
        assert_eq!(refused.status, 403, "{}", refused.body);
    }
    let editor = stage
        .world
        .editors
        .open("alice", Provider::Hocuspocus, alice, &document)
        .await?;
    editor.type_end("written before ").await?;
    editor.saved().await?;
    let early = alice.say(&document, "before").await?;
    let of = |at: &str| format!("/_weft/federation/v1/document/{}{at}", segment(&document));
    let ask = async |path: String| stage.malicious.ask(stage.server(), Method::GET, &path, None).await;
    let at_early = of(&format!("?at={}", segment(&early)));
    assert_eq!(ask(of("")).await?.status, 403, "a server that is not in the room");
    assert_eq!(ask(at_early.clone()).await?.status, 403);

    alice.give_role(&document, &mallory, "viewer").await?;
    assert_eq!(ask(of("")).await?.status, 403, "invited is not joined");
    let room = Room::join(&stage.malicious, stage.server(), &document, &mallory).await?;
    alice.until_membership(&document, &mallory, "join").await?;
    ask(at_early.clone()).await?.ok()?;
    let join = segment(&room.heads[0]);
    let now = ask(of(&format!("?at={join}"))).await?.ok()?;
    assert_eq!(now["at"], json!([room.heads[0]]));
    assert!(now["update"].as_str().unwrap().len() > 20);
    assert_eq!(ask(of("?at=%24unknown")).await?.status, 404);
    let many: Vec<String> = (0..101).map(|_| format!("at={join}")).collect();
    assert_eq!(ask(of(&format!("?{}", many.join("&")))).await?.status, 400);

    alice
        .post(&Client::in_room(&document, "kick"), json!({ "user_id": mallory }))
        .await?;
    assert_eq!(ask(of("")).await?.status, 403, "a server that was removed");
    assert_eq!(ask(of(&format!("?at={join}"))).await?.status, 403);
    Ok(())
}
