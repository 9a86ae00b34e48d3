//! Server name resolution: each step of the specification, on loopback (T45).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and a table of cases stays in one function"
)]

#[path = "servers/peer.rs"]
#[allow(dead_code, reason = "shared with the tests of two servers, which use all of it")]
mod peer;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::Body,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use ruma::{MilliSecondsSinceUnixEpoch, ServerName};
use serde_json::{Value, json};
use weft_federation::{
    Client, ClientConfig, DenyList, Destination, DiscoveryError, Initiator, KeyRing, Names, NoKeyCache, RemoteKeys,
    Resolver, Srv, SystemClock,
};

use peer::{authority, reserve};

/// Lookups as a test defines them. All other names have no address.
#[derive(Default)]
struct FakeNames {
    addresses: BTreeMap<&'static str, Vec<&'static str>>,
    srv: BTreeMap<&'static str, Vec<Srv>>,
    lookups: Mutex<Vec<String>>,
}

#[async_trait]
impl Names for FakeNames {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.lookups.lock().unwrap().push(host.to_owned());
        let found = self
            .addresses
            .get(host)
            .ok_or_else(|| std::io::Error::other("no such name"))?;
        Ok(found.iter().map(|address| address.parse().unwrap()).collect())
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        self.srv.get(name).cloned().unwrap_or_default()
    }
}

fn srv(target: &str, port: u16, priority: u16) -> Srv {
    Srv {
        priority,
        weight: 1,
        port,
        target: target.to_owned(),
    }
}

fn names() -> FakeNames {
    let addresses = BTreeMap::from([
        ("plain.test", vec!["127.0.0.1"]),
        ("well.test", vec!["127.0.0.1"]),
        ("matrix.well.test", vec!["127.0.0.2"]),
        ("srv.test", vec!["127.0.0.1"]),
        ("host.srv.test", vec!["127.0.0.3"]),
        ("backup.srv.test", vec!["127.0.0.4"]),
        ("old.test", vec!["127.0.0.1"]),
        ("rebind.test", vec!["10.0.0.1", "127.0.0.1", "169.254.169.254"]),
        ("inside.test", vec!["10.0.0.1", "192.168.0.1"]),
        ("six.test", vec!["::1"]),
    ]);
    let records = BTreeMap::from([
        (
            "_matrix-fed._tcp.srv.test.",
            vec![
                srv("dead.srv.test.", 1, 1),
                srv("backup.srv.test.", 7002, 20),
                srv("host.srv.test.", 7001, 10),
            ],
        ),
        ("_matrix._tcp.srv.test.", vec![srv("backup.srv.test", 1, 1)]),
        ("_matrix._tcp.old.test.", vec![srv("host.srv.test", 7003, 1)]),
        (
            "_matrix-fed._tcp.matrix.well.test.",
            vec![srv("host.srv.test", 7004, 1)],
        ),
        ("_matrix-fed._tcp.plain.test.", vec![srv(".", 0, 0)]),
    ]);
    FakeNames {
        addresses,
        srv: records,
        lookups: Mutex::default(),
    }
}

/// The TLS configuration of a client that trusts the test authority.
fn tls() -> rustls::ClientConfig {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&authority()).unwrap())
        .unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn loopback() -> DenyList {
    DenyList::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()])
}

fn resolver(names: Arc<FakeNames>, well_known_port: u16) -> Resolver {
    Resolver::new(names, loopback(), tls(), well_known_port)
}

fn found(tls_name: &str, host_header: &str, addresses: &[&str]) -> Destination {
    let addresses: Vec<std::net::SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Destination {
        tls_name: tls_name.to_owned(),
        port: addresses[0].port(),
        host_header: host_header.to_owned(),
        addresses,
    }
}

fn name(text: &str) -> &ServerName {
    <&ServerName>::try_from(text).unwrap()
}

/// A port without a listener: there is no .well-known anywhere.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The requester of a lookup.
fn initiator() -> Initiator {
    Initiator::User(ruma::user_id!("@alice:alpha.test").to_owned())
}

#[tokio::test]
async fn names_without_well_known() {
    let resolver = resolver(Arc::new(names()), closed_port());
    for (server, expected) in [
        ("127.0.0.1", found("127.0.0.1", "127.0.0.1", &["127.0.0.1:8448"])),
        (
            "127.0.0.1:1234",
            found("127.0.0.1", "127.0.0.1:1234", &["127.0.0.1:1234"]),
        ),
        ("[::1]:99", found("[::1]", "[::1]:99", &["[::1]:99"])),
        (
            "plain.test:443",
            found("plain.test", "plain.test:443", &["127.0.0.1:443"]),
        ),
        ("plain.test", found("plain.test", "plain.test", &["127.0.0.1:8448"])),
        ("srv.test", found("srv.test", "srv.test", &["127.0.0.3:7001"])),
        ("old.test", found("old.test", "old.test", &["127.0.0.3:7003"])),
        ("six.test", found("six.test", "six.test", &["[::1]:8448"])),
        ("rebind.test", found("rebind.test", "rebind.test", &["127.0.0.1:8448"])),
    ] {
        assert_eq!(*resolver.resolve(name(server)).await.unwrap(), expected, "{server}");
    }
    for server in [
        "inside.test",
        "inside.test:443",
        "10.0.0.1",
        "169.254.169.254:80",
        "[::ffff:10.0.0.1]",
    ] {
        let error = resolver.resolve(name(server)).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Denied { .. }), "{server}: {error}");
    }
    for server in ["nowhere.test", "nowhere.test:1"] {
        let error = resolver.resolve(name(server)).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::NoAddress { .. }), "{server}: {error}");
    }
}

/// A server that serves `.well-known`, with a certificate for `well.test`.
fn well_known(router: Router) -> (peer::Peer, u16) {
    let reserved = reserve();
    let port = reserved.name.port().unwrap();
    (reserved.serve(&["well.test", "localhost"], router), port)
}

fn document(answer: Value) -> Router {
    Router::new().route("/.well-known/matrix/server", get(|| async move { Json(answer) }))
}

#[tokio::test]
async fn delegation_by_well_known() {
    for (delegated, expected) in [
        ("127.0.0.9", found("127.0.0.9", "127.0.0.9", &["127.0.0.9:8448"])),
        ("127.0.0.9:5", found("127.0.0.9", "127.0.0.9:5", &["127.0.0.9:5"])),
        (
            "matrix.well.test:443",
            found("matrix.well.test", "matrix.well.test:443", &["127.0.0.2:443"]),
        ),
        (
            "matrix.well.test",
            found("matrix.well.test", "matrix.well.test", &["127.0.0.3:7004"]),
        ),
        ("plain.test", found("plain.test", "plain.test", &["127.0.0.1:8448"])),
    ] {
        let (_peer, port) = well_known(document(json!({ "m.server": delegated })));
        let resolver = resolver(Arc::new(names()), port);
        assert_eq!(
            *resolver.resolve(name("well.test")).await.unwrap(),
            expected,
            "{delegated}"
        );
    }
    let (_peer, port) = well_known(document(json!({ "m.server": "10.0.0.1" })));
    let error = resolver(Arc::new(names()), port)
        .resolve(name("well.test"))
        .await
        .unwrap_err();
    assert!(matches!(error, DiscoveryError::Denied { .. }), "{error}");
}

/// Discovery continues without an invalid .well-known, and soon.
#[tokio::test]
async fn an_invalid_well_known_is_ignored() {
    let undelegated = found("well.test", "well.test", &["127.0.0.1:8448"]);
    let endless = || async {
        let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        Response::new(Body::from_stream(chunks))
    };
    let huge = || async { format!(r#"{{"m.server":"plain.test","x":"{}"}}"#, "x".repeat(60_000)) };
    let loops = || async { Redirect::temporary("/.well-known/matrix/server") };
    let path = "/.well-known/matrix/server";
    for (what, router) in [
        ("not found", Router::new()),
        ("not JSON", Router::new().route(path, get(|| async { "hello" }))),
        ("not a server name", document(json!({ "m.server": "a b" }))),
        ("a number", document(json!({ "m.server": 5 }))),
        ("endless", Router::new().route(path, get(endless))),
        ("over the limit", Router::new().route(path, get(huge))),
        ("a loop", Router::new().route(path, get(loops))),
        (
            "to plain http",
            Router::new().route(path, get(|| async { Redirect::temporary("http://well.test/x") })),
        ),
        (
            "to a file",
            Router::new().route(path, get(|| async { Redirect::temporary("file:///etc/passwd") })),
        ),
        (
            "to a private address",
            Router::new().route(path, get(|| async { Redirect::temporary("https://10.0.0.1/x") })),
        ),
        (
            "to a name with a private address",
            Router::new().route(path, get(|| async { Redirect::temporary("https://inside.test/x") })),
        ),
        (
            "an error",
            Router::new().route(
                path,
                get(|| async { axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response() }),
            ),
        ),
    ] {
        let (_peer, port) = well_known(router);
        let resolver = resolver(Arc::new(names()), port);
        let answer = tokio::time::timeout(Duration::from_secs(20), resolver.resolve(name("well.test"))).await;
        assert_eq!(*answer.unwrap().unwrap(), undelegated, "{what}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_and_the_response_is_cached() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let answer = move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { Json(json!({ "m.server": "matrix.well.test:443" })) }
    };
    let router = Router::new()
        .route(
            "/.well-known/matrix/server",
            get(|| async { Redirect::permanent("/elsewhere") }),
        )
        .route("/elsewhere", get(answer));
    let (_peer, port) = well_known(router);
    let resolver = resolver(Arc::new(names()), port);
    for _ in 0..5 {
        let destination = resolver.resolve(name("well.test")).await.unwrap();
        assert_eq!(destination.tls_name, "matrix.well.test");
        // Addresses are looked up again after a failure; the delegation stays cached.
        resolver.invalidate(name("well.test"));
    }
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

/// End to end: a request to a delegated name arrives with the right TLS name and Host header at the resolved address,
/// and is signed for the server name and not for the delegated one.
#[tokio::test]
async fn a_request_is_sent_to_the_resolved_destination() {
    let reserved = reserve();
    let port = reserved.name.port().unwrap();
    let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let note = Arc::clone(&seen);
    let answer = move |headers: axum::http::HeaderMap| {
        let header = |name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        note.lock().unwrap().push((header("host"), header("authorization")));
        async { Json(json!({ "chunk": [], "total_room_count_estimate": 0 })) }
    };
    let router = Router::new()
        .route(
            "/.well-known/matrix/server",
            get(|| async { Json(json!({ "m.server": "matrix.well.test" })) }),
        )
        .route("/_matrix/federation/v1/publicRooms", get(answer));
    let _peer = reserved.serve(&["well.test", "matrix.well.test"], router);
    let mut names = names();
    names.addresses.insert("host.srv.test", vec!["127.0.0.1"]);
    names.srv.insert(
        "_matrix-fed._tcp.matrix.well.test.",
        vec![srv("host.srv.test", port, 1)],
    );
    let ring = Arc::new(KeyRing::generate(name("alpha.test").to_owned()).unwrap());
    let config = ClientConfig {
        trace: || None,
        outgoing: weft_federation::OutgoingLimits::default(),
        extra_ca_certificates: vec![authority()],
        allow_addresses: vec!["127.0.0.0/8".parse().unwrap()],
        timeout: Duration::from_secs(10),
        names: Arc::new(names),
        well_known_port: port,
    };
    let client = Client::new(ring, config).unwrap();
    client
        .public_rooms(&initiator(), name("well.test"), None, None, None)
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0, "matrix.well.test");
    assert!(seen[0].1.contains("destination=well.test"), "{}", seen[0].1);
}

/// T48: two names that resolve to one address are two servers. The server there can answer only for the name whose
/// key it has; pointing another name at it doesn't make that name this server, nor this server that name.
#[tokio::test]
async fn t48_two_names_with_the_same_address_share_nothing() {
    let reserved = reserve();
    let port = reserved.name.port().unwrap();
    let victim = KeyRing::generate(name("plain.test").to_owned()).unwrap();
    let keys = serde_json::to_value(victim.published(MilliSecondsSinceUnixEpoch::now()).unwrap()).unwrap();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&requests);
    let rooms = move |headers: axum::http::HeaderMap| {
        let header = headers["authorization"].to_str().unwrap().to_owned();
        note.lock().unwrap().push(header);
        async { Json(json!({ "chunk": [], "total_room_count_estimate": 0 })) }
    };
    let router = document(json!({ "m.server": "matrix.well.test" }))
        .route("/_matrix/key/v2/server", get(|| async { Json(keys) }))
        .route("/_matrix/federation/v1/publicRooms", get(rooms));
    let _peer = reserved.serve(&["plain.test", "well.test", "matrix.well.test"], router);
    let mut names = names();
    names.addresses.insert("host.srv.test", vec!["127.0.0.1"]);
    let record = vec![srv("host.srv.test", port, 1)];
    names.srv.insert("_matrix-fed._tcp.matrix.well.test.", record);
    let config = ClientConfig {
        trace: || None,
        outgoing: weft_federation::OutgoingLimits::default(),
        extra_ca_certificates: vec![authority()],
        allow_addresses: vec!["127.0.0.0/8".parse().unwrap()],
        timeout: Duration::from_secs(10),
        names: Arc::new(names),
        well_known_port: port,
    };
    let client = Client::new(
        Arc::new(KeyRing::generate(name("alpha.test").to_owned()).unwrap()),
        config,
    )
    .unwrap();
    let remote = RemoteKeys::new(client.clone(), Arc::new(NoKeyCache), Vec::new(), Arc::new(SystemClock));
    let now = MilliSecondsSinceUnixEpoch::now();
    assert!(
        !remote.notarise(name("plain.test"), now).await.is_empty(),
        "the name that the keys belong to"
    );
    assert!(
        remote.notarise(name("well.test"), now).await.is_empty(),
        "a name that the keys don't belong to"
    );
    for server in ["plain.test", "well.test"] {
        client
            .public_rooms(&initiator(), name(server), None, None, None)
            .await
            .unwrap();
    }
    let requests = requests.lock().unwrap();
    for (header, server) in requests.iter().zip(["plain.test", "well.test"]) {
        // Signed for the name: a request to one name can't be replayed to the other.
        assert!(header.contains(&format!("destination={server}")), "{header}");
    }
}
