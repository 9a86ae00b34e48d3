//! Incoming signed requests: valid ones, and every way in which they can be wrong (T47).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and a table of cases stays in one function"
)]

use std::sync::Arc;

use async_trait::async_trait;
use http::{Request, header};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName, UInt,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
    server_name,
};
use weft_dag::{
    Signer,
    testing::{object, signer},
};
use weft_federation::{
    AuthError, Client, ClientConfig, KeyCache, KeyCacheError, KeyRing, RemoteKeys, StoredKeys, SystemClock,
    verify_request,
};

/// A key cache with beta's keys, one current and one old, so that no key is fetched.
struct Known;

fn old() -> Signer {
    Signer::from_seed(
        server_name!("beta.test").to_owned(),
        b"a seed of thirty-two bytes, old!",
        "old",
    )
    .unwrap()
}

fn public(signer: &Signer) -> String {
    ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(signer.public_key().to_vec()).encode()
}

#[async_trait]
impl KeyCache for Known {
    async fn load(&self, server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError> {
        if server != "beta.test" {
            return Ok(None);
        }
        let current = signer(server);
        let now = MilliSecondsSinceUnixEpoch::now();
        let mut keys = ruma::CanonicalJsonObject::new();
        let current_key = object(serde_json::json!({ "key": public(&current) }));
        keys.insert(current.key_id(), current_key.into());
        let later = now.get() + UInt::from(86_400_000_u32);
        let mut answer = object(serde_json::json!({
            "server_name": server, "valid_until_ts": later,
            "old_verify_keys": { old().key_id(): { "key": public(&old()), "expired_ts": 5 } },
        }));
        answer.insert("verify_keys".to_owned(), keys.into());
        current.sign_json(&mut answer).unwrap();
        Ok(Some(StoredKeys::check(server, answer, now).unwrap()))
    }

    async fn save(&self, _keys: &StoredKeys) -> Result<(), KeyCacheError> {
        Ok(())
    }
}

fn alpha() -> &'static ServerName {
    server_name!("alpha.test")
}

fn keys() -> RemoteKeys {
    let ring = Arc::new(KeyRing::generate(alpha().to_owned()).unwrap());
    let client = Client::new(ring, ClientConfig::default()).unwrap();
    RemoteKeys::new(client, Arc::new(Known), Vec::new(), Arc::new(SystemClock))
}

const PATH: &str = "/_matrix/federation/v1/state/%21room%2Fa%3Abeta.test?event_id=%24x";
const BODY: &str = r#"{"b":1,"a":[true,null]}"#;

fn request(path: &str, body: &str) -> Request<Vec<u8>> {
    Request::put(path).body(body.as_bytes().to_vec()).unwrap()
}

/// A request signed by `signer`, with `origin` and `destination` in its header.
fn signed(signer: &Signer, origin: &str, destination: &str) -> Request<Vec<u8>> {
    let mut request = request(PATH, BODY);
    let input = XMatrixSigningInput::new(
        OwnedServerName::try_from(origin).unwrap(),
        OwnedServerName::try_from(destination).unwrap(),
        signer.key_pair(),
    );
    let header = XMatrix::sign_http_request(&request, input).unwrap().to_string();
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, header.parse().unwrap());
    request
}

fn with_header(header: &str) -> Request<Vec<u8>> {
    let mut request = request(PATH, BODY);
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, header.parse().unwrap());
    request
}

#[tokio::test]
async fn a_signed_request_has_an_origin() {
    let right = signed(&signer(server_name!("beta.test")), "beta.test", "alpha.test");
    assert_eq!(verify_request(&right, alpha(), &keys()).await.unwrap(), "beta.test");
    // White space and the order of keys don't matter; the canonical form is signed.
    let mut spaced = right.clone();
    *spaced.body_mut() = br#"{ "a": [true, null], "b": 1 }"#.to_vec();
    assert_eq!(verify_request(&spaced, alpha(), &keys()).await.unwrap(), "beta.test");
}

#[tokio::test]
async fn any_change_after_signing_is_detected() {
    let right = || signed(&signer(server_name!("beta.test")), "beta.test", "alpha.test");
    let keys = keys();
    let mut body = right();
    *body.body_mut() = br#"{"b":2,"a":[true,null]}"#.to_vec();
    let mut no_body = right();
    no_body.body_mut().clear();
    let mut not_json = right();
    *not_json.body_mut() = b"{".to_vec();
    let mut method = right();
    *method.method_mut() = http::Method::POST;
    let mut unescaped = right();
    *unescaped.uri_mut() = PATH.replace("%2F", "/").parse().unwrap();
    let mut no_query = right();
    *no_query.uri_mut() = PATH.split('?').next().unwrap().parse().unwrap();
    for (name, changed) in [
        ("body", body),
        ("no body", no_body),
        ("not JSON", not_json),
        ("method", method),
        ("unescaped path", unescaped),
        ("no query", no_query),
    ] {
        let error = verify_request(&changed, alpha(), &keys).await.unwrap_err();
        assert!(matches!(error, AuthError::Signature(_)), "{name}: {error}");
    }
}

#[tokio::test]
async fn no_server_can_impersonate_another() {
    let keys = keys();
    let beta = signer(server_name!("beta.test"));
    let gamma = signer(server_name!("gamma.test"));
    for (name, request) in [
        ("replayed from another server", signed(&beta, "beta.test", "gamma.test")),
        ("with our name as origin", signed(&beta, "alpha.test", "alpha.test")),
        (
            "signed by another server with the same key id",
            signed(&gamma, "beta.test", "alpha.test"),
        ),
        (
            "from a server whose keys are unavailable",
            signed(&gamma, "gamma.invalid", "alpha.test"),
        ),
        ("with an old key", signed(&old(), "beta.test", "alpha.test")),
    ] {
        assert!(verify_request(&request, alpha(), &keys).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn invalid_headers_are_refused_before_any_key_is_fetched() {
    let right = signed(&signer(server_name!("beta.test")), "beta.test", "alpha.test");
    let header = right.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
    let keys = keys();
    let mut twice = right.clone();
    twice
        .headers_mut()
        .append(header::AUTHORIZATION, header.parse().unwrap());
    let mut none = right.clone();
    none.headers_mut().clear();
    for request in [twice, none] {
        assert_eq!(verify_request(&request, alpha(), &keys).await, Err(AuthError::Header));
    }
    let without = |name: &str| {
        let rest: Vec<&str> = header
            .trim_start_matches("X-Matrix ")
            .split(',')
            .filter(|part| !part.starts_with(name))
            .collect();
        format!("X-Matrix {}", rest.join(","))
    };
    for wrong in [
        without("origin"),
        without("key"),
        without("sig"),
        format!("{header},origin=beta.test"),
        format!("{header},sig=AAAA"),
        format!("{header},destination=alpha.test"),
        header.replace("X-Matrix", "Bearer"),
        "X-Matrix".to_owned(),
        "X-Matrix origin=beta.test".to_owned(),
        header.replace("sig=", &format!("sig={}", "A".repeat(8_000))),
        header.replace("origin=beta.test", "origin=\"be ta\""),
        header.replace("origin=beta.test", "origin=\"\""),
        header.replace("sig=", "sig=!"),
    ] {
        let error = verify_request(&with_header(&wrong), alpha(), &keys).await.unwrap_err();
        assert!(matches!(error, AuthError::Form(_)), "{wrong}: {error}");
    }
    let error = verify_request(&with_header(&without("destination")), alpha(), &keys)
        .await
        .unwrap_err();
    assert_eq!(error, AuthError::Destination);
}
