//! Registration: only the configured tokens permit it. Must not use open registration.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result};
use reqwest::Client as Http;
use serde_json::{Value, json};
use weft_conformance_tests::{external::needs_own_servers, world::World};

async fn register(http: &Http, url: &str, name: &str, auth: Option<Value>) -> Result<(u16, Value)> {
    let mut body = json!({"username": name, "password": "correct horse"});
    if let Some(auth) = auth {
        body["auth"] = auth;
    }
    let answer = http
        .post(format!("{url}/_matrix/client/v3/register"))
        .json(&body)
        .send()
        .await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

#[tokio::test]
async fn registration_needs_a_configured_token() -> Result<()> {
    if needs_own_servers("registration_needs_a_configured_token") {
        return Ok(());
    }
    let extra = "[registration]\nmode = \"token\"\ntokens = [\"first\", \"second\"]\n";
    let world = World::with_config(1, extra).await?;
    let (http, url) = (world.authority.http()?, world.servers[0].url.clone());
    let (status, asked) = register(&http, &url, "alice", None).await?;
    assert_eq!(
        (status, &asked["flows"]),
        (401, &json!([{"stages": ["m.login.registration_token"]}]))
    );
    let with = |token: &str| json!({"type": "m.login.registration_token", "token": token, "session": asked["session"]});
    for auth in [with("third"), with(""), json!({"type": "m.login.dummy"})] {
        let (status, answer) = register(&http, &url, "alice", Some(auth)).await?;
        assert_eq!(status, 401, "{answer}");
    }
    let (status, answer) = register(&http, &url, "alice", Some(with("second"))).await?;
    assert_eq!(status, 200, "{answer}");
    let who = http
        .get(format!("{url}/_matrix/client/v3/account/whoami"))
        .bearer_auth(answer["access_token"].as_str().context("no token")?)
        .send()
        .await?;
    assert_eq!(who.json::<Value>().await?["user_id"], answer["user_id"]);
    for (token, valid) in [("first", true), ("third", false)] {
        let path = format!("{url}/_matrix/client/v1/register/m.login.registration_token/validity?token={token}");
        let answer: Value = http.get(path).send().await?.json().await?;
        assert_eq!(answer, json!({"valid": valid}));
    }
    assert!(!world.servers[0].log().contains("second"), "a token reached the log");
    Ok(())
}
