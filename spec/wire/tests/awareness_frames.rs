//! Bodies of awareness messages: bytes captured from a stock client, hostile counts, and the checks of a state.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use weft_wire::{
    awareness::{AwarenessError, check_client_id, check_state},
    limits::{MAX_AWARENESS_ENTRIES, MAX_AWARENESS_STATE_BYTES},
    live::{
        FrameError,
        awareness::{Entry, encode, parse},
    },
};

#[test]
fn the_bytes_of_a_stock_client_parse_and_encode_to_the_same_bytes() {
    let bytes = b"\x01\xd2\x09\x01\x15{\"user\":{\"name\":\"A\"}}";
    let entries = parse(bytes).unwrap();
    assert_eq!(
        entries,
        [Entry {
            client: 1234,
            clock: 1,
            state: "{\"user\":{\"name\":\"A\"}}".to_owned()
        }]
    );
    assert_eq!(encode(&entries), bytes);
    assert!(!entries.iter().any(Entry::is_gone));
}

/// T94, T112: a count over the limit is refused before memory is allocated for it.
#[test]
fn counts_over_the_limit_are_refused() {
    for bytes in [
        &b"\xff\xff\xff\xff\x0f"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x81\x20",
    ] {
        assert!(matches!(parse(bytes), Err(FrameError::TooLong { .. })), "{bytes:?}");
    }
    let many: Vec<Entry> = (0..=MAX_AWARENESS_ENTRIES as u64)
        .map(|client| Entry {
            client,
            clock: 0,
            state: "null".to_owned(),
        })
        .collect();
    assert!(parse(&encode(&many)).is_err());
    assert_eq!(parse(&encode(&many[1..])).unwrap().len(), MAX_AWARENESS_ENTRIES);
}

#[test]
fn truncated_and_trailing_bytes_are_errors() {
    let good = encode(&[Entry {
        client: 1,
        clock: 2,
        state: "null".to_owned(),
    }]);
    for end in 0..good.len() {
        assert!(parse(good.get(..end).unwrap()).is_err(), "{end}");
    }
    let mut longer = good;
    longer.push(0);
    assert_eq!(parse(&longer), Err(FrameError::Trailing(1)));
}

#[test]
fn a_state_must_be_an_object_within_the_size_limit() {
    let filler = |bytes: usize| serde_json::json!({"a": "x".repeat(bytes - 8)});
    assert_eq!(check_state(&filler(MAX_AWARENESS_STATE_BYTES)), Ok(()));
    assert!(matches!(
        check_state(&filler(MAX_AWARENESS_STATE_BYTES + 1)),
        Err(AwarenessError::TooLarge { .. })
    ));
    for state in [
        serde_json::json!([1]),
        serde_json::json!("x"),
        serde_json::json!(1),
        serde_json::Value::Null,
    ] {
        assert_eq!(check_state(&state), Err(AwarenessError::NotAnObject));
    }
    assert!(check_client_id((1 << 53) - 1).is_ok());
    assert!(check_client_id(1 << 53).is_err());
}
