//! Every vector of `spec/vectors/live`: the message parses to the expected frame and encodes to the same bytes, or fails with
//! the expected error.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{fs, path::Path};

use serde_json::{Value, json};
use weft_wire::live::{FrameError, hocuspocus, plain, sync::SyncMessage};

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/live");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Hex, or a list of hex and `{"repeat": hex, "times": n}`.
fn message(vector: &Value) -> Vec<u8> {
    match vector {
        Value::String(text) => hex::decode(text).unwrap(),
        Value::Array(parts) => parts.iter().flat_map(message).collect(),
        part => hex::decode(part["repeat"].as_str().unwrap())
            .unwrap()
            .repeat(part["times"].as_u64().unwrap() as usize),
    }
}

/// A frame in which long texts are written as `{"repeat": text, "times": n}`.
fn expanded(frame: &Value) -> Value {
    let mut frame = frame.clone();
    for field in frame.as_object_mut().into_iter().flat_map(|fields| fields.values_mut()) {
        if let (Some(text), Some(times)) = (field["repeat"].as_str(), field["times"].as_u64()) {
            *field = text.repeat(times as usize).into();
        }
    }
    frame
}

fn show_sync(message: &SyncMessage<'_>) -> Value {
    match message {
        SyncMessage::Step1(body) => json!({"type": "step1", "body": hex::encode(body)}),
        SyncMessage::Step2(body) => json!({"type": "step2", "body": hex::encode(body)}),
        SyncMessage::Update(body) => json!({"type": "update", "body": hex::encode(body)}),
    }
}

fn show_plain(frame: &plain::Frame<'_>) -> Value {
    match frame {
        plain::Frame::Sync(message) => show_sync(message),
        plain::Frame::Awareness(body) => json!({"type": "awareness", "body": hex::encode(body)}),
        plain::Frame::PermissionDenied(reason) => json!({"type": "permission_denied", "reason": reason}),
        plain::Frame::QueryAwareness => json!({"type": "query_awareness"}),
        plain::Frame::Notice(json) => json!({"type": "notice", "payload": json}),
    }
}

fn show_hocuspocus(frame: &hocuspocus::Frame<'_>) -> Value {
    use hocuspocus::{Body, Frame};
    let (name, body) = match frame {
        Frame::Ping => return json!({"type": "ping"}),
        Frame::Pong => return json!({"type": "pong"}),
        Frame::Document { name, body } => (name, body),
    };
    let mut shown = match body {
        Body::Sync(message) => show_sync(message),
        Body::Awareness(body) => json!({"type": "awareness", "body": hex::encode(body)}),
        Body::Token { token, provider } => json!({"type": "token", "token": token, "provider": provider}),
        Body::PermissionDenied(reason) => json!({"type": "permission_denied", "reason": reason}),
        Body::Authenticated { read_only } => json!({"type": "authenticated", "read_only": read_only}),
        Body::QueryAwareness => json!({"type": "query_awareness"}),
        Body::Stateless(payload) => json!({"type": "stateless", "payload": payload}),
        Body::Close(reason) => json!({"type": "close", "reason": reason}),
        Body::SyncStatus(applied) => json!({"type": "sync_status", "applied": applied}),
    };
    shown["name"] = json!(name);
    shown
}

fn error_name(error: &FrameError) -> &'static str {
    match error {
        FrameError::Encoding(_) => "encoding",
        FrameError::Empty => "empty",
        FrameError::UnknownType { .. } => "unknown_type",
        FrameError::Trailing(_) => "trailing",
        FrameError::TooLong { .. } => "too_long",
    }
}

/// Parses a message in the given framing. Returns the frame as JSON and its encoding, or the error.
fn read(framing: &str, bytes: &[u8]) -> Result<(Value, Vec<u8>), FrameError> {
    match framing {
        "plain" => plain::Frame::parse(bytes).map(|frame| (show_plain(&frame), frame.encode())),
        "hocuspocus" => hocuspocus::Frame::parse(bytes).map(|frame| (show_hocuspocus(&frame), frame.encode())),
        other => panic!("framing {other}"),
    }
}

#[test]
fn every_vector_parses_to_its_frame_or_error() {
    let vectors = vectors();
    assert!(vectors.len() >= 74, "vectors are missing: {}", vectors.len());
    for (name, vector) in vectors {
        let bytes = message(&vector["hex"]);
        match read(vector["framing"].as_str().unwrap(), &bytes) {
            Ok((shown, again)) => {
                assert!(shown == expanded(&vector["frame"]), "{name}");
                assert_eq!(hex::encode(&again), hex::encode(&bytes), "{name}");
            }
            Err(error) => assert_eq!(
                error_name(&error),
                vector["error"].as_str().unwrap_or("none"),
                "{name}: {error}"
            ),
        }
    }
}

#[test]
fn prefixes_and_changed_bytes_give_a_frame_or_an_error() {
    for (_, vector) in vectors() {
        let bytes = message(&vector["hex"]);
        // Long messages are sampled: parsing every prefix takes quadratic time.
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 1_000) {
            let _ = plain::Frame::parse(&bytes[..end]);
            let _ = hocuspocus::Frame::parse(&bytes[..end]);
            for flipped in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[end] = flipped;
                let _ = plain::Frame::parse(&changed);
                let _ = hocuspocus::Frame::parse(&changed);
            }
        }
    }
}
