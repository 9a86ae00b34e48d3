//! All hostile inputs T90 to T113 through workers. Each is a document of its own; a document that is rendered in between
//! shows that the pool goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_render::{
    ApplyRequest, Change, DiffRequest, EditRequest, Format, NotRendered, RenderError, RenderRequest, Renderer as _,
    Unit,
};
use weft_wire::document::DocumentKind;

use crate::{bytes, pool, render, text_update, vectors};

/// Whether the pool's answer is one that a caller expects: the document, or a reason.
fn is_defined(error: &RenderError) -> bool {
    matches!(
        error,
        RenderError::NotRendered { .. } | RenderError::TimedOut { .. } | RenderError::TooLarge { .. }
    )
}

#[tokio::test]
async fn t90_to_t111_every_hostile_update_gets_an_answer_and_others_are_rendered() {
    let pool = pool(2);
    let mut others = Vec::new();
    let mut outcomes = [0; 3];
    let cases = ["crdt/admission", "crdt/live"].into_iter().flat_map(vectors);
    for (name, case) in cases.filter(|(_, case)| case["update"] != serde_json::Value::Null) {
        let state = bytes(&case["update"]);
        for kind in DocumentKind::ALL {
            let format = Format::Html;
            let request = RenderRequest {
                kind,
                state: state.clone(),
                format,
            };
            match pool.render(&format!("{name} {}", kind.name()), request).await {
                Ok(_) => outcomes[0] += 1,
                Err(RenderError::NotRendered { reason, .. }) if reason.is_diagnosed() => outcomes[1] += 1,
                Err(error) => {
                    assert!(is_defined(&error), "{name}: {error:?}");
                    println!("{name} {}: {error}", kind.name());
                    outcomes[2] += 1;
                }
            }
        }
        let began = Instant::now();
        let other = render(&pool, "!other", text_update("still here"), Format::Text).await;
        assert_eq!(other.unwrap().content, "still here", "{name}");
        others.push(began.elapsed());
    }
    let [rendered, diagnosed, ended] = outcomes;
    others.sort();
    let p99 = others[others.len() * 99 / 100];
    println!("{rendered} rendered, {diagnosed} refused by the engine, {ended} ended their worker");
    println!(
        "{} renders in between, not at the same time: P99 {p99:?}, slowest {:?}",
        others.len(),
        others[others.len() - 1]
    );
    println!("{:?}", pool.figures());
    assert!(diagnosed > 100 && ended > 0, "{outcomes:?}");
    assert_eq!((pool.figures().busy, pool.figures().waiting), (0, 0));
}

#[tokio::test]
async fn t90_to_t111_hostile_updates_in_edits_suggestions_and_versions_get_an_answer() {
    let pool = pool(2);
    let changes: Vec<Change> = serde_json::from_str(r#"[{"type": "append", "text": "x"}]"#).unwrap();
    let (client, unit) = (1 << 40, Unit::Utf16);
    for (name, case) in vectors("crdt/admission") {
        let hostile = bytes(&case["update"]);
        let usual: bytes::Bytes = text_update("usual").into();
        for kind in DocumentKind::ALL {
            let key = |what: &str| format!("{what} {name} {}", kind.name());
            for (state, base) in [(&hostile, None), (&usual, Some(&hostile)), (&hostile, Some(&usual))] {
                let (state, base) = (state.clone(), base.cloned());
                let request = EditRequest {
                    kind,
                    state,
                    base,
                    changes: changes.clone(),
                    unit,
                    client,
                    clock: 0,
                };
                let result = pool.edit(&key("edit"), request).await;
                let refused = |error: &RenderError| matches!(error, RenderError::Refused { .. });
                assert!(
                    result
                        .as_ref()
                        .err()
                        .is_none_or(|error| is_defined(error) || refused(error)),
                    "{name}: {result:?}"
                );
            }
            let request = ApplyRequest {
                kind,
                state: usual.clone(),
                suggestion: hostile.clone(),
                client,
                only: None,
                addresses: BTreeMap::new(),
            };
            let result = pool.apply(&key("apply"), request).await;
            assert!(result.as_ref().err().is_none_or(is_defined), "{name}: {result:?}");
            let request = DiffRequest {
                kind,
                from: hostile.clone(),
                to: hostile.clone(),
            };
            let result = pool.diff(&key("diff"), request).await;
            assert!(result.as_ref().err().is_none_or(is_defined), "{name}: {result:?}");
        }
    }
    println!("{:?}", pool.figures());
    let other = render(&pool, "!other", text_update("x"), Format::Text).await;
    assert_eq!(other.unwrap().content, "x");
}

/// The reproducers that were found by fuzzing yrs 0.28.1, in addition to the vectors: panics, and one double panic.
const REPRODUCERS: [&str; 8] = [
    "0101010100010100010000",
    "0101a1a8d6b907252801016d026b30017f01a1a8d6b907010005",
    "0101000002000000000000",
    "01030289e6bfc11c0001010000000001000000000102010000",
    "01019094ebdc03ffffffff0f08010002787b000000000000000000",
    "010102feffffff0f000100",
    "010303002701016d00012700030000000301000000",
    "010402002101016d026b31ffffffffffffffffff0108010161047f77037374727b43b1e6fa4a2f51cd7ea802000179c40302010001610102010001",
];

#[tokio::test]
async fn t109_the_bytes_that_break_the_engine_break_only_a_worker() {
    let pool = pool(1);
    for hex in REPRODUCERS {
        let state = bytes(&hex.into());
        let result = render(&pool, hex, state.into(), Format::Json).await;
        assert!(result.as_ref().err().is_none_or(is_defined), "{result:?}");
        let other = render(&pool, "!other", text_update("x"), Format::Text).await;
        assert_eq!(other.unwrap().content, "x");
    }
}

/// `levels` elements, each in the one before, as separate blocks.
fn nested(levels: u32) -> Vec<u8> {
    let mut update = vec![1];
    var_uint(levels, &mut update);
    update.extend_from_slice(&[1, 0]);
    for level in 0..levels {
        // Type: an XML element `p`, in the root or in the element before.
        update.push(7);
        if level == 0 {
            update.extend_from_slice(b"\x01\x07default");
        } else {
            update.extend_from_slice(&[0, 1]);
            var_uint(level - 1, &mut update);
        }
        update.extend_from_slice(b"\x03\x01p");
    }
    update.push(0);
    update
}

fn var_uint(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

#[tokio::test]
async fn t97_deep_nesting_is_an_error_and_a_usual_depth_is_not() {
    let pool = pool(1);
    let kind = DocumentKind::RichText;
    for format in Format::ALL {
        let state = nested(64).into();
        pool.render("!usual", RenderRequest { kind, state, format })
            .await
            .unwrap();
    }
    for (levels, name) in [(300, "!a"), (5_000, "!b"), (100_000, "!c")] {
        let (state, format) = (nested(levels).into(), Format::Json);
        let error = pool
            .render(name, RenderRequest { kind, state, format })
            .await
            .unwrap_err();
        assert!(is_defined(&error), "{levels}: {error:?}");
        if levels == 300 {
            let reason = NotRendered::TooDeep { limit: 256 };
            assert_eq!(
                error,
                RenderError::NotRendered {
                    reason,
                    retry_after: Duration::ZERO
                }
            );
        }
    }
    assert!(render(&pool, "!other", text_update("x"), Format::Text).await.is_ok());
}

#[tokio::test]
async fn t112_awareness_states_are_no_documents() {
    let pool = pool(1);
    let mut states = Vec::new();
    var_uint(200_000, &mut states);
    for client in 0..200_000 {
        var_uint(client, &mut states);
        states.extend_from_slice(b"\x01\x02{}");
    }
    let result = render(&pool, "!a", states, Format::Text).await;
    assert!(is_defined(&result.unwrap_err()));
}

/// A million blocks of one letter, each in front of the one before.
#[tokio::test]
async fn t113_a_million_blocks_get_an_answer() {
    let pool = pool(1);
    let mut update = vec![1];
    var_uint(1_000_000, &mut update);
    update.extend_from_slice(&[1, 0]);
    update.extend_from_slice(b"\x04\x01\x04body\x01a");
    for clock in 1..1_000_000 {
        update.extend_from_slice(&[0x44, 1]);
        var_uint(clock - 1, &mut update);
        update.extend_from_slice(b"\x01a");
    }
    update.push(0);
    match render(&pool, "!a", update, Format::Text).await {
        Ok(rendered) => assert_eq!(rendered.content.len(), 1_000_000),
        Err(error) => assert!(is_defined(&error), "{error:?}"),
    }
    assert!(render(&pool, "!other", text_update("x"), Format::Text).await.is_ok());
}

/// A run of 25 to 33 million bytes: memory for the document, its copies and its rendering.
#[tokio::test]
async fn t113_a_text_that_needs_all_memory_gets_an_answer() {
    let pool = pool(1);
    let text = vec![b'a'; 30_000_000];
    let mut update = b"\x01\x01\x01\x00\x04\x01\x04body".to_vec();
    var_uint(30_000_000, &mut update);
    update.extend_from_slice(&text);
    update.push(0);
    for format in [Format::Text, Format::Json] {
        let result = render(&pool, "!a", update.clone(), format).await;
        assert!(result.as_ref().err().is_none_or(is_defined), "{:?}", result.err());
    }
    assert!(render(&pool, "!other", text_update("x"), Format::Text).await.is_ok());
}

#[tokio::test]
async fn a_document_that_ended_two_workers_has_a_pause_and_others_have_none() {
    let pool = pool(1);
    // Overflows the stack of any worker.
    let mut state = b"\x01\x01\x05\x00\x08\x01\x01t\x01".to_vec();
    state.extend(b"\x75\x01".repeat(200_000));
    state.extend(b"\x75\x00\x00");
    let first = render(&pool, "!a", state.clone(), Format::Text).await.unwrap_err();
    let RenderError::NotRendered { retry_after, .. } = first else {
        panic!("{first:?}")
    };
    assert!(retry_after > Duration::ZERO);
    let figures = pool.figures();
    assert_eq!((figures.started, figures.died, figures.paused), (2, 2, 1), "{first:?}");
    let again = render(&pool, "!a", state, Format::Text).await.unwrap_err();
    assert!(matches!(again, RenderError::NotRendered { .. }));
    assert_eq!(pool.figures().started, 2, "no worker was started for it");
    assert!(render(&pool, "!b", text_update("x"), Format::Text).await.is_ok());
}
