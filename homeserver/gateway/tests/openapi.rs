//! The OpenAPI document: the same as in the tree, complete, and without names that are used twice.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;
use tower::ServiceExt as _;
use weft_gateway::{
    docs,
    openapi::{self, document},
};

fn stored() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/openapi.json"))
}

/// Generators of clients take the document from the tree. `WEFT_OPENAPI=write` writes it.
#[test]
fn the_document_in_the_tree_is_the_one_that_is_served() {
    let made = document();
    if std::env::var("WEFT_OPENAPI").is_ok_and(|what| what == "write") {
        let text = serde_json::to_string_pretty(&made).unwrap();
        fs::write(stored(), text + "\n").unwrap();
    }
    let stored: Value = serde_json::from_str(&fs::read_to_string(stored()).unwrap()).unwrap();
    assert!(
        stored == made,
        "spec/openapi.json differs from the routes: run `make openapi` and commit it"
    );
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

#[test]
fn every_operation_has_a_name_of_its_own_and_describes_its_parameters_and_answers() {
    let document = document();
    let (mut names, mut open) = (BTreeSet::new(), Vec::new());
    for (route, operation) in operations(&document) {
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{route}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
            let by_type = parameter["schema"].get("$ref").is_some();
            assert!(described || by_type, "{route}: {parameter}");
        }
        let answers = operation["responses"].as_object().unwrap();
        let success = answers.iter().filter(|(status, _)| status.starts_with('2')).count();
        assert_eq!(success, 1, "{route}");
        let needs_token = operation.get("security").is_some();
        assert_eq!(answers.contains_key("401"), needs_token, "{route}");
        for status in ["429", "503"] {
            assert!(answers.contains_key(status), "{route}: {status}");
        }
        open.extend((!needs_token).then_some(route));
    }
    assert!(names.len() > 50);
    assert_eq!(
        open,
        ["post /_weft/client/v1/links/{secret}/guest"],
        "operations without a token"
    );
}

#[test]
fn every_reference_leads_to_something() {
    let document = document();
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                left.extend(fields.values());
            }
            Value::Array(values) => left.extend(values),
            _ => {}
        }
    }
}

async fn answer(router: axum::Router, path: &str, known: Option<&str>) -> axum::response::Response {
    let mut request = axum::http::Request::get(path);
    if let Some(tag) = known {
        request = request.header("if-none-match", tag);
    }
    let request = request.body(axum::body::Body::empty()).unwrap();
    router.oneshot(request).await.unwrap()
}

#[tokio::test]
async fn the_document_is_served_to_everybody_and_once_to_each() {
    let first = answer(openapi::router(), "/_weft/openapi.json", None).await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let bytes = axum::body::to_bytes(first.into_body(), usize::MAX).await.unwrap();
    assert!(serde_json::from_slice::<Value>(&bytes).unwrap() == document());
    let again = answer(openapi::router(), "/_weft/openapi.json", Some(&tag)).await;
    assert_eq!(again.status().as_u16(), 304);
}

/// Files of the page name only each other and this server.
#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    for path in ["/_weft/docs", "/_weft/docs.css", "/_weft/docs.js"] {
        let response = answer(docs::router(), path, None).await;
        assert_eq!(response.status().as_u16(), 200, "{path}");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path}");
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        for foreign in ["http:", "https:", "//cdn", "innerHTML", "localStorage"] {
            assert!(!text.contains(foreign), "{path}: {foreign}");
        }
        assert!(text.len() < 16 * 1024, "{path}: {} bytes", text.len());
    }
}
