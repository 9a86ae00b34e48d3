//! Events of other servers are merged into a text that has left memory.

use std::time::Duration;

use ruma::RoomVersionId;

use super::{ALICE, BOB, net::Net};

#[tokio::test]
async fn events_of_other_servers_are_merged_into_an_evicted_text() {
    let net = Net::with_text_eviction(&["a.example", "b.example"], Duration::ZERO).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "first ").await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.quiet(&room).await;
    let in_memory = |server: &str| net.rooms(server).texts_in_memory();
    for n in 0..5 {
        net.until(async || in_memory("a.example") == 0).await;
        // Chat does not need the text.
        net.message(BOB, &room, "hello").await;
        net.quiet(&room).await;
        assert_eq!(in_memory("a.example"), 0);
        let before = net.text("a.example", &room).await;
        net.edit(BOB, &room, 0, &format!("{n} ")).await;
        net.seal(BOB, &room).await;
        net.quiet(&room).await;
        assert_eq!(net.text("a.example", &room).await, format!("{n} {before}"));
        net.assert_same(&room).await;
    }
}
