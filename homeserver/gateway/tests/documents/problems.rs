//! Every error of every operation has Matrix' fields and those of RFC 9457, as JSON, also where no handler runs: with a path,
//! query, body or method that is wrong.

use serde_json::Value;
use weft_gateway::documents::descriptions;

use crate::world::{Person, Sent, World};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
const PREFIX: &str = "/_weft/client/v1";

/// Sends a request; a refused one must be complete. Returns the status.
async fn refused(world: &World, method: &str, path: &str, sent: Sent<'_>) -> u16 {
    let answer = world.call(method, path, sent).await;
    let shown = format!(
        "{method} {path}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    if answer.status < 400 {
        return answer.status;
    }
    assert_eq!(answer.kind, "application/json", "{shown}");
    let error: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(error["errcode"].is_string(), "{shown}");
    assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
    assert_eq!(error["detail"], error["error"], "{shown}");
    assert_eq!(error["status"], answer.status, "{shown}");
    assert_eq!(error["type"], "about:blank", "{shown}");
    assert!(
        error["title"].as_str().is_some_and(|title| !title.is_empty()),
        "{shown}"
    );
    answer.status
}

/// The path of a route with this instead of each parameter.
fn filled(route: &str, parameter: &str) -> String {
    let path = route.strip_prefix(PREFIX).unwrap();
    let segments = path.split('/');
    let segments = segments.map(|segment| if segment.starts_with('{') { parameter } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn with_body<'a>(person: &'a Person, body: &[u8]) -> Sent<'a> {
    Sent {
        token: Some(&person.token),
        body: Some(body.to_vec()),
        ..Sent::default()
    }
}

#[tokio::test]
async fn every_error_has_the_fields_of_both_standards() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let routes = descriptions();
    for route in &routes {
        let (method, path) = (route.method().as_str(), filled(route.path(), "!unknown"));
        let wrong = Sent {
            token: Some("wrong"),
            ..Sent::default()
        };
        // One operation is for those who have no token.
        let expected = if path.ends_with("/guest") { 400 } else { 401 };
        for sent in [Sent::default(), wrong] {
            assert_eq!(refused(&world, method, &path, sent).await, expected, "{method} {path}");
        }
        for body in [&b""[..], b"{", b"[null, null, null, null]", b"\"a\"", b"\xff\xfe"] {
            refused(&world, method, &path, with_body(&alice, body)).await;
        }
        if route.path().contains('{') {
            let path = filled(route.path(), "%ff");
            let status = refused(&world, method, &path, with_body(&alice, b"{}")).await;
            assert_eq!(status, 400, "{method} {path}");
        }
        for query in [
            "limit=x&from=%ff&at=x&format=x&to=x&q=%00",
            "limit=1&limit=2&page=%ff&invite=x&state=x&resolved=x",
        ] {
            let path = format!("{path}?{query}");
            refused(&world, method, &path, with_body(&alice, b"{}")).await;
        }
    }
    for route in &routes {
        let here: Vec<_> = routes.iter().filter(|other| other.path() == route.path()).collect();
        let path = filled(route.path(), "!unknown");
        for method in METHODS {
            // `/documents/import` is also a document of this name.
            if here.iter().all(|known| known.method() != method) && !path.ends_with("/documents/import") {
                let status = refused(&world, method, &path, with_body(&alice, b"{}")).await;
                assert_eq!(status, 405, "{method} {path}");
            }
        }
    }
}

/// JSON bodies have a limit of their own in each handler, not that of axum, whose answer is a text.
#[tokio::test]
async fn a_body_that_is_too_large_is_an_error_of_the_api() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Large").await;
    let large = vec![b' '; 9 * 1024 * 1024];
    for (method, rest) in [
        ("PUT", "/members/@bob:alpha.test"),
        ("PATCH", ""),
        ("PATCH", "/edit"),
        ("POST", "/comments"),
        ("POST", "/updates"),
        ("POST", "/sync"),
        ("POST", "/import?format=text"),
    ] {
        let path = format!("/documents/{doc}{rest}");
        let status = refused(&world, method, &path, with_body(&alice, &large)).await;
        assert_eq!(status, 413, "{method} {path}");
    }
}
