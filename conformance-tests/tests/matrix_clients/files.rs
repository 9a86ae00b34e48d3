//! An image that one client uploads and sends, and the other downloads from its own server. Must not use raw HTTP where the
//! client has a call.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::matrix::{Kind, Stock, text};

use crate::pair::Pair;

/// An image of one pixel, in base64.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGgAAACEAIHJde6SAAAAAElFTkSuQmCC";

async fn show(from: &Stock, to: &Stock, room: &str) -> Result<()> {
    let picture = json!({"name": "a.png", "type": "image/png", "base64": PNG});
    let uri = text(&from.ask("upload", picture).await?, "uri")?;
    let image = json!({"msgtype": "m.image", "body": "a.png", "url": uri});
    let event = from.send(room, "m.room.message", image).await?;
    let seen: Value = to
        .until_seen(json!({"event_id": event, "content": {"url": uri}}))
        .await?;
    for stock in [from, to] {
        let file = stock.ask("download", json!({"uri": seen["content"]["url"]})).await?;
        assert_eq!(
            file,
            json!({"base64": PNG, "type": "image/png", "thumbnail": "image/jpeg"})
        );
    }
    Ok(())
}

async fn both_ways(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let room = pair.room().await?;
    show(&pair.host, &pair.guest, &room).await?;
    show(&pair.guest, &pair.host, &room).await
}

#[tokio::test]
async fn an_image_is_shown_with_js_sdk_as_host_and_nio_as_guest() -> Result<()> {
    both_ways(Kind::JsSdk, Kind::Nio).await
}
