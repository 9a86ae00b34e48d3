//! Fetches key responses over HTTP.

use async_trait::async_trait;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, ServerName};
use serde_json::json;

use super::KeySource;
use crate::{CallError, Client, client::Bounds};

#[async_trait]
impl KeySource for Client {
    async fn own(&self, server: &ServerName) -> Result<CanonicalJsonObject, CallError> {
        let body = self.plain(server, "/_matrix/key/v2/server", None, Bounds::KEYS).await?;
        parse(server, &body)
    }

    async fn notarised(
        &self,
        notary: &ServerName,
        server: &ServerName,
        valid_until: MilliSecondsSinceUnixEpoch,
    ) -> Result<Vec<CanonicalJsonObject>, CallError> {
        // No key ids: a notary then returns all keys that it has, including old ones.
        let query = json!({ "server_keys": { server.as_str(): {} }, "minimum_valid_until_ts": valid_until });
        let body = serde_json::to_vec(&query).map_err(|error| CallError::Request(error.to_string()))?;
        let body = self
            .plain(notary, "/_matrix/key/v2/query", Some(body), Bounds::KEYS)
            .await?;
        let mut answer = parse(notary, &body)?;
        match answer.remove("server_keys") {
            Some(CanonicalJsonValue::Array(keys)) => Ok(keys.into_iter().filter_map(into_object).collect()),
            _ => Err(CallError::BadAnswer {
                server: notary.to_owned(),
                reason: "no server_keys".to_owned(),
            }),
        }
    }
}

fn parse(server: &ServerName, body: &[u8]) -> Result<CanonicalJsonObject, CallError> {
    let bad = |reason: String| CallError::BadAnswer {
        server: server.to_owned(),
        reason,
    };
    let text = std::str::from_utf8(body).map_err(|error| bad(error.to_string()))?;
    weft_dag::parse_canonical(text).map_err(|error| bad(error.to_string()))
}

fn into_object(value: CanonicalJsonValue) -> Option<CanonicalJsonObject> {
    match value {
        CanonicalJsonValue::Object(object) => Some(object),
        _ => None,
    }
}
