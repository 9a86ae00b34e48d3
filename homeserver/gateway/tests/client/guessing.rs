//! Rate limits on attempts with passwords, registration tokens and the shared secret: which clients they affect.

use std::net::{IpAddr, SocketAddr};

use axum::{body::Body, extract::ConnectInfo};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use weft_gateway::{client::Registration, client_address::TrustedProxies, ratelimit::UserLimiter};

use super::world::{Person, SECRET, World};

const LOGIN: &str = "/_matrix/client/v3/login";
const VALIDITY: &str = "/_matrix/client/v1/register/m.login.registration_token/validity";

/// The origin of requests: the address of the connection, and its headers.
#[derive(Clone, Copy)]
struct From<'a> {
    peer: &'a str,
    forwarded_for: Option<&'a str>,
}

const fn from(peer: &str) -> From<'_> {
    From {
        peer,
        forwarded_for: None,
    }
}

/// The header that a proxy sends for its client.
const fn proxied(client: &str) -> From<'_> {
    From {
        peer: "10.0.0.1",
        forwarded_for: Some(client),
    }
}

/// A server behind a proxy at 10.0.0.1, and requests to it.
struct BehindProxy(World);

impl BehindProxy {
    async fn new() -> Self {
        Self(World::new().await)
    }

    async fn ask(&self, from: From<'_>, request: (&str, &str, Option<&str>), body: Value) -> (u16, Value) {
        let (method, path, token) = request;
        let mut request = World::request(method, path, token);
        if let Some(forwarded_for) = from.forwarded_for {
            request = request.header("x-forwarded-for", forwarded_for);
        }
        let peer: IpAddr = from.peer.parse().unwrap();
        let request = request
            .extension(ConnectInfo(SocketAddr::new(peer, 4711)))
            .extension(TrustedProxies::new(vec!["10.0.0.1/32".parse().unwrap()]));
        let (status, _, body) = self.0.send(request.body(Body::from(body.to_string())).unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn login(&self, from: From<'_>, user: &str, password: &str) -> u16 {
        let body = json!({"type": "m.login.password", "user": user, "password": password});
        self.ask(from, ("POST", LOGIN, None), body).await.0
    }

    /// Attempts logins until the rate limit applies; returns their number.
    async fn attempt_until_limited(&self, from: From<'_>, user: &str) -> usize {
        for guesses in 0..200 {
            match self.login(from, user, "a guess").await {
                403 => {}
                429 => return guesses,
                other => panic!("{other}"),
            }
        }
        panic!("the login attempts are not limited")
    }
}

#[tokio::test]
async fn unknown_user_names_do_not_block_a_right_password_from_the_same_address() {
    let world = BehindProxy::new().await;
    world.0.person("alice").await;
    for n in 0..60 {
        assert_eq!(world.login(from("192.0.2.1"), &format!("made-up-{n}"), "x").await, 403);
    }
    assert_eq!(world.login(from("192.0.2.1"), "alice", "correct horse").await, 200);
}

#[tokio::test]
async fn failed_logins_of_others_do_not_lock_out_the_user() {
    let world = BehindProxy::new().await;
    world.0.person("alice").await;
    for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        assert_eq!(world.attempt_until_limited(from(address), "alice").await, 10);
        assert_eq!(world.login(from(address), "alice", "correct horse").await, 429);
    }
    assert_eq!(world.login(from("198.51.100.1"), "alice", "correct horse").await, 200);
    assert_eq!(
        world.login(from("192.0.2.1"), "made-up", "x").await,
        403,
        "and other users are not limited there"
    );
}

#[tokio::test]
async fn ipv6_addresses_of_one_network_share_a_limit() {
    let world = BehindProxy::new().await;
    world.0.person("alice").await;
    for n in 0..10 {
        let address = format!("2001:db8:0:1::{n:x}");
        assert_eq!(world.login(from(&address), "alice", "a guess").await, 403);
    }
    assert_eq!(world.login(from("2001:db8:0:1:ffff::1"), "alice", "a guess").await, 429);
    assert_eq!(
        world.login(from("2001:db8:0:2::1"), "alice", "correct horse").await,
        200
    );
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let world = BehindProxy::new().await;
    world.0.person("alice").await;
    assert_eq!(world.attempt_until_limited(proxied("192.0.2.1"), "alice").await, 10);
    // Anything that the attacker writes into the header is left of the address that the proxy appends.
    for n in 0..5 {
        let forged = format!("198.51.100.{n}, 192.0.2.1");
        assert_eq!(world.login(proxied(&forged), "alice", "a guess").await, 429);
    }
    assert_eq!(world.login(proxied("192.0.2.2"), "alice", "correct horse").await, 200);
}

#[tokio::test]
async fn a_forged_header_of_an_untrusted_peer_is_ignored() {
    let world = BehindProxy::new().await;
    world.0.person("alice").await;
    let forged = |n: usize| format!("198.51.100.{n}");
    for n in 0..10 {
        let address = forged(n);
        let from = From {
            peer: "192.0.2.1",
            forwarded_for: Some(&address),
        };
        assert_eq!(world.login(from, "alice", "a guess").await, 403);
    }
    let address = forged(10);
    let from = From {
        peer: "192.0.2.1",
        forwarded_for: Some(&address),
    };
    assert_eq!(world.login(from, "alice", "a guess").await, 429);
}

/// A stolen access token doesn't allow more password attempts, and attempts with it don't block the user's login.
#[tokio::test]
async fn every_password_endpoint_is_rate_limited() {
    let world = BehindProxy::new().await;
    let alice = world.0.person("alice").await;
    let at = from("192.0.2.1");
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "a guess"});
    let endpoints = [
        (
            "POST",
            "account/password",
            json!({"auth": auth, "new_password": "battery staple"}),
        ),
        ("POST", "account/deactivate", json!({"auth": auth})),
        ("DELETE", "devices/PHONE", json!({"auth": auth})),
        ("POST", "delete_devices", json!({"auth": auth, "devices": ["PHONE"]})),
    ];
    let mut guesses = 0;
    for (method, path, body) in endpoints.iter().cycle().take(152) {
        let path = format!("/_matrix/client/v3/{path}");
        let (status, answer) = world.ask(at, (method, &path, Some(&alice.token)), body.clone()).await;
        match status {
            401 => guesses += 1,
            429 => assert_eq!(answer["errcode"], "M_LIMIT_EXCEEDED"),
            other => panic!("{path} {other}: {answer}"),
        }
    }
    assert_eq!(guesses, 10);
    assert_eq!(world.login(at, "alice", "correct horse").await, 200);
}

#[tokio::test]
async fn failed_logins_do_not_affect_a_logged_in_device() {
    let world = BehindProxy::new().await;
    let alice = world.0.person("alice").await;
    let at = from("192.0.2.1");
    world.attempt_until_limited(at, "alice").await;
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "correct horse"});
    let body = json!({"auth": auth, "new_password": "battery staple", "logout_devices": false});
    let path = "/_matrix/client/v3/account/password";
    assert_eq!(world.ask(at, ("POST", path, Some(&alice.token)), body).await.0, 200);
    assert_eq!(world.login(from("192.0.2.9"), "alice", "battery staple").await, 200);
}

#[tokio::test]
async fn attempts_with_registration_tokens_are_limited() {
    let tokens = Registration::Token(vec!["sesame".to_owned()]);
    let world = BehindProxy(World::with(tokens, UserLimiter::off()).await);
    let at = from("192.0.2.1");
    let register = |token: &str, name: &str| {
        json!({"username": name, "password": "correct horse",
               "auth": {"type": "m.login.registration_token", "token": token}})
    };
    let mut guesses = 0;
    for n in 0..394 {
        let token = format!("guess-{n}");
        let (status, answer) = if n % 2 == 0 {
            let path = format!("{VALIDITY}?token={token}");
            world.ask(at, ("GET", &path, None), Value::Null).await
        } else {
            let path = "/_matrix/client/v3/register";
            world.ask(at, ("POST", path, None), register(&token, "eve")).await
        };
        match status {
            200 => {
                assert_eq!(answer["valid"], json!(false));
                guesses += 1;
            }
            401 => guesses += 1,
            429 => {}
            other => panic!("{other}: {answer}"),
        }
    }
    assert_eq!(guesses, 10);
    let elsewhere = from("192.0.2.2");
    let path = format!("{VALIDITY}?token=sesame");
    let (status, answer) = world.ask(elsewhere, ("GET", &path, None), Value::Null).await;
    assert_eq!((status, &answer["valid"]), (200, &json!(true)));
    let path = "/_matrix/client/v3/register";
    let (status, answer) = world
        .ask(elsewhere, ("POST", path, None), register("sesame", "bob"))
        .await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn attempts_with_the_shared_secret_are_limited_and_nonces_are_independent() {
    let world = BehindProxy(World::with(Registration::Closed, UserLimiter::off()).await);
    let path = "/_synapse/admin/v1/register";
    let operator = from("192.0.2.9");
    let (_, given) = world.ask(operator, ("GET", path, None), Value::Null).await;
    let nonce = given["nonce"].as_str().unwrap();
    let claim = |secret: &str| {
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{nonce}\0root\0correct horse\0notadmin").as_bytes());
        let mac: String = hex::encode(mac.finalize().into_bytes());
        json!({"nonce": nonce, "username": "root", "password": "correct horse", "mac": mac})
    };
    let stranger = from("192.0.2.1");
    for _ in 0..1_100 {
        world.ask(stranger, ("GET", path, None), Value::Null).await;
    }
    let mut guesses = 0;
    for n in 0..50 {
        let (status, answer) = world
            .ask(stranger, ("POST", path, None), claim(&format!("guess {n}")))
            .await;
        match status {
            403 => guesses += 1,
            429 => {}
            other => panic!("{other}: {answer}"),
        }
    }
    assert_eq!(guesses, 10);
    let (status, answer) = world.ask(operator, ("POST", path, None), claim(SECRET)).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_session_to_delete_one_device_deletes_no_other() {
    let world = BehindProxy::new().await;
    let alice = world.0.person("alice").await;
    let at = from("192.0.2.1");
    let mut devices = Vec::new();
    for _ in 0..2 {
        let body = json!({"type": "m.login.password", "user": "alice", "password": "correct horse"});
        let (_, session) = world.ask(at, ("POST", LOGIN, None), body).await;
        devices.push(session["device_id"].as_str().unwrap().to_owned());
    }
    let (first, second) = (&devices[0], &devices[1]);
    let path = |device: &str| format!("/_matrix/client/v3/devices/{device}");
    let several = "/_matrix/client/v3/delete_devices";
    let token = Some(&*alice.token);
    let (_, asked) = world.ask(at, ("DELETE", &path(first), token), json!({})).await;
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "correct horse",
        "session": asked["session"]});
    for (request, body) in [
        (("DELETE", &*path(second), token), json!({"auth": auth})),
        (("POST", several, token), json!({"auth": auth, "devices": [second]})),
        (
            ("POST", several, token),
            json!({"auth": auth, "devices": [first, second]}),
        ),
    ] {
        let (status, answer) = world.ask(at, request, body).await;
        assert_eq!(status, 401, "{answer}");
        assert_ne!(answer["session"], asked["session"]);
    }
    assert_eq!(listed(&world.0, &alice).await.len(), 3);
    let (status, answer) = world
        .ask(at, ("DELETE", &path(first), token), json!({"auth": auth}))
        .await;
    assert_eq!(status, 200, "{answer}");
    let left = listed(&world.0, &alice).await;
    assert!(left.contains(second) && !left.contains(first), "{left:?}");
}

async fn listed(world: &World, who: &Person) -> Vec<String> {
    let answer = world.get("/_matrix/client/v3/devices", who).await;
    let devices = answer["devices"].as_array().unwrap();
    devices
        .iter()
        .map(|device| device["device_id"].as_str().unwrap().to_owned())
        .collect()
}
