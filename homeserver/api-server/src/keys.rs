//! GET /_matrix/key/v2/server, GET and POST /_matrix/key/v2/query: this server's keys, and those of others with its signature.
//!
//! Unsigned, because signatures are checked with these keys. An anonymous client can therefore cause key fetches: few at a time
//! ([`weft_federation::Outgoing`]), and each server is not requested again for a while. Must not exceed these limits: keys that
//! may not be fetched are left out of the answer.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use futures_util::{StreamExt, stream};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::IpAddr};
use weft_federation::Initiator;
use weft_http::{
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
};
use weft_wire::limits;

use super::ServerPorts;

/// Servers whose keys are fetched in parallel for one query.
const PARALLEL: usize = 8;

pub(super) async fn own(State(ports): State<ServerPorts>) -> ApiResult<Json<CanonicalJsonObject>> {
    let published = ports.key_ring.published(ports.keys.now());
    published
        .map(Json)
        .map_err(|error| ApiError::internal("publishing keys", &error))
}

#[derive(Deserialize)]
pub(super) struct Body {
    server_keys: BTreeMap<OwnedServerName, BTreeMap<String, Criteria>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Criteria {
    minimum_valid_until_ts: Option<MilliSecondsSinceUnixEpoch>,
}

pub(super) async fn query(
    State(ports): State<ServerPorts>,
    ClientAddress(address): ClientAddress,
    body: axum::body::Bytes,
) -> ApiResult<Json<Value>> {
    if body.len() > limits::MAX_KEY_RESPONSE_BYTES {
        return Err(ApiError::too_large("The query is too large."));
    }
    let body: Body = serde_json::from_slice(&body)?;
    if body.server_keys.len() > limits::MAX_SERVERS_PER_KEY_QUERY {
        return Err(ApiError::invalid_param("Too many servers in one query."));
    }
    let wanted = body.server_keys.into_iter().map(|(server, keys)| {
        let until = keys
            .into_values()
            .filter_map(|criteria| criteria.minimum_valid_until_ts)
            .max();
        (server, until)
    });
    Ok(answer(&ports, address, wanted.collect()).await)
}

pub(super) async fn query_one(
    State(ports): State<ServerPorts>,
    ClientAddress(address): ClientAddress,
    Path(server): Path<OwnedServerName>,
    Query(criteria): Query<Criteria>,
) -> Json<Value> {
    answer(&ports, address, vec![(server, criteria.minimum_valid_until_ts)]).await
}

/// Servers whose keys can't be fetched are left out.
async fn answer(
    ports: &ServerPorts,
    address: Option<IpAddr>,
    wanted: Vec<(OwnedServerName, Option<MilliSecondsSinceUnixEpoch>)>,
) -> Json<Value> {
    let now = ports.keys.now();
    let keys = &ports.keys.on_behalf_of(Initiator::Stranger(address));
    let found: Vec<Vec<CanonicalJsonObject>> = stream::iter(wanted)
        .map(|(server, until)| async move { keys.notarise(&server, until.unwrap_or(now)).await })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let found: Vec<CanonicalJsonObject> = found.into_iter().flatten().collect();
    Json(json!({ "server_keys": found }))
}
