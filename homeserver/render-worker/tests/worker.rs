//! Worker processes under their pool: formats, edits, versions, hostile documents, the sandbox and the ends of workers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "worker/anchors.rs"]
mod anchors;
#[path = "worker/documents.rs"]
mod documents;
#[path = "worker/edits.rs"]
mod edits;
#[path = "worker/ends.rs"]
mod ends;
#[path = "worker/histories.rs"]
mod histories;
#[path = "worker/hostile.rs"]
mod hostile;
#[path = "worker/imports.rs"]
mod imports;
#[path = "worker/vectors.rs"]
mod vectors;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use weft_render::{Format, Pool, PoolConfig, RenderError, RenderRequest, Rendered, Renderer as _};
use weft_wire::document::DocumentKind;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weft-render-worker");

fn config(workers: usize) -> PoolConfig {
    PoolConfig {
        // The machine may be busy; no test depends on a duration.
        wait: Duration::from_secs(120),
        answer: Duration::from_secs(60),
        ..PoolConfig::new(PROGRAM.into(), Vec::new(), workers)
    }
}

fn pool(workers: usize) -> Pool {
    Pool::start(config(workers))
}

async fn render(pool: &Pool, document: &str, state: Vec<u8>, format: Format) -> Result<Rendered, RenderError> {
    let (kind, state) = (DocumentKind::Text, state.into());
    pool.render(document, RenderRequest { kind, state, format }).await
}

/// A text of one client, as Yjs encodes it.
fn text_update(text: &str) -> Vec<u8> {
    let mut update = vec![1, 1, 1, 0, 4, 1, 4];
    update.extend_from_slice(b"body");
    update.push(u8::try_from(text.len()).unwrap());
    update.extend_from_slice(text.as_bytes());
    update.push(0);
    update
}

/// Hex, or a list of hex and `{"repeat": hex, "times": n}`.
fn bytes(value: &Value) -> Bytes {
    fn collect(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::String(hex) => out.extend(
                hex.as_bytes()
                    .chunks(2)
                    .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()),
            ),
            Value::Array(parts) => parts.iter().for_each(|part| collect(part, out)),
            part => {
                let mut once = Vec::new();
                collect(&part["repeat"], &mut once);
                out.extend(once.repeat(usize::try_from(part["times"].as_u64().unwrap()).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    collect(value, &mut out);
    out.into()
}

/// The vectors in a folder of `spec/vectors`, by name.
fn vectors(folder: &str) -> Vec<(String, Value)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../spec/vectors")
        .join(folder);
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
