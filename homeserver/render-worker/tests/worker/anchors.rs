//! Anchors: made of places, and found again after the document was changed.

use serde_json::{Value, json};
use weft_render::{
    AnchorRequest, EditRequest, LocateRequest, Located, Place, PlaceError, Pool, RenderError, Renderer as _, Target,
    Unit,
};
use weft_wire::anchor::{Anchor, BlockId, RelativePosition};
use weft_wire::document::DocumentKind;
use yrs::{Map as _, MapPrelim, Text as _, TextPrelim};

use crate::documents::{Document, EDITOR};
use crate::{bytes, pool, vectors};

fn place(value: Value) -> Place {
    serde_json::from_value(value).unwrap()
}

async fn try_anchor(pool: &Pool, document: &Document, target: Target, unit: Unit) -> Result<Anchor, RenderError> {
    let (kind, state) = (document.kind, document.state.clone().into());
    let request = AnchorRequest {
        kind,
        state,
        target,
        unit,
    };
    pool.anchor("!a", request).await
}

async fn anchor(pool: &Pool, document: &Document, of: Value, from: u32, to: u32) -> Anchor {
    let place = place(of);
    try_anchor(pool, document, Target::Range { place, from, to }, Unit::Utf16)
        .await
        .unwrap()
}

async fn whole(pool: &Pool, document: &Document, of: Value) -> Anchor {
    let place = place(of);
    try_anchor(pool, document, Target::Whole { place }, Unit::Utf16)
        .await
        .unwrap()
}

async fn located(pool: &Pool, document: &Document, anchors: &[&Anchor], unit: Unit) -> Vec<Located> {
    let request = LocateRequest {
        kind: document.kind,
        state: document.state.clone().into(),
        anchors: anchors.iter().map(|anchor| (*anchor).clone()).collect(),
        unit,
    };
    pool.locate("!a", request).await.unwrap()
}

async fn found(pool: &Pool, document: &Document, anchor: &Anchor) -> Located {
    located(pool, document, &[anchor], Unit::Utf16).await.remove(0)
}

fn range(of: Value, from: u32, to: u32) -> Located {
    Located::Range {
        place: place(of),
        from,
        to,
        to_place: None,
    }
}

#[tokio::test]
async fn a_range_of_a_text_moves_with_its_characters_until_all_are_deleted() {
    let pool = pool(1);
    let mut document = Document::text("The quick brown fox");
    let quick = anchor(&pool, &document, json!({}), 4, 9).await;
    assert_eq!(quick.quote, "quick");
    assert_eq!(found(&pool, &document, &quick).await, range(json!({}), 4, 9));
    // Next to the range is not within it; between its characters is.
    document.write(2, |roots, txn| {
        roots.text.insert(txn, 9, "est");
        roots.text.insert(txn, 4, "<");
        roots.text.insert(txn, 7, "--");
    });
    assert_eq!(found(&pool, &document, &quick).await, range(json!({}), 5, 12));
    document.write(3, |roots, txn| roots.text.remove_range(txn, 5, 1));
    assert_eq!(found(&pool, &document, &quick).await, range(json!({}), 5, 11));
    document.write(3, |roots, txn| roots.text.remove_range(txn, 4, 8));
    assert_eq!(found(&pool, &document, &quick).await, Located::Gone);
}

#[tokio::test]
async fn a_range_next_to_deleted_text_names_characters_that_are_there() {
    let pool = pool(1);
    let mut document = Document::text("abcdef");
    document.write(2, |roots, txn| roots.text.remove_range(txn, 2, 2));
    let ef = anchor(&pool, &document, json!({}), 2, 3).await;
    assert_eq!(ef.quote, "e");
    document.write(3, |roots, txn| roots.text.insert(txn, 2, "XY"));
    assert_eq!(found(&pool, &document, &ef).await, range(json!({}), 4, 5));
}

#[tokio::test]
async fn positions_are_counted_in_the_unit_of_the_request() {
    let pool = pool(1);
    let document = Document::text("a\u{1f600}b\u{1f600}c");
    let target = |from, to| Target::Range {
        place: Place::default(),
        from,
        to,
    };
    let face = try_anchor(&pool, &document, target(3, 4), Unit::Codepoint)
        .await
        .unwrap();
    assert_eq!(face.quote, "\u{1f600}");
    assert_eq!(found(&pool, &document, &face).await, range(json!({}), 4, 6));
    assert_eq!(
        located(&pool, &document, &[&face], Unit::Codepoint).await,
        [range(json!({}), 3, 4)]
    );
    for (from, to, expected) in [
        (
            2,
            4,
            PlaceError::InsideCharacter {
                at: 2,
                before: 1,
                after: 3,
            },
        ),
        (4, 9, PlaceError::Range { from: 4, to: 9, end: 7 }),
    ] {
        let error = try_anchor(&pool, &document, target(from, to), Unit::Utf16)
            .await
            .unwrap_err();
        assert_eq!(
            error,
            RenderError::Refused {
                change: 0,
                error: expected
            }
        );
    }
    for (from, to) in [(3, 3), (4, 3)] {
        let error = try_anchor(&pool, &document, target(from, to), Unit::Utf16)
            .await
            .unwrap_err();
        assert!(
            matches!(
                &error,
                RenderError::Refused {
                    error: PlaceError::Invalid { .. },
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

async fn blocks(pool: &Pool) -> Document {
    let mut document = Document::new(DocumentKind::RichText);
    let text = |text: &str| json!({"type": "text", "text": text});
    let list = json!({"type": "bulletList", "content": [
        {"type": "listItem", "content": [{"type": "paragraph", "content": [text("alpha")]}]},
        {"type": "listItem", "content": [{"type": "paragraph", "content": [text("beta"), {"type": "image"}, text("gamma")]}]}
    ]});
    let changes = json!([
        {"type": "insertBlock", "path": [0], "node": {"type": "heading", "content": [text("Title")]}},
        {"type": "insertBlock", "path": [1], "node": list},
        {"type": "insertBlock", "path": [2], "node": {"type": "paragraph", "content": [text("end")]}},
    ]);
    document.edit(pool, None, changes).await;
    document
}

#[tokio::test]
async fn ranges_of_a_rich_text_move_with_their_blocks() {
    let pool = pool(1);
    let mut document = blocks(&pool).await;
    let inner = json!({"path": [1, 1, 0]});
    let gamma = anchor(&pool, &document, inner.clone(), 6, 9).await;
    let image = anchor(&pool, &document, inner.clone(), 4, 5).await;
    let both = anchor(&pool, &document, inner.clone(), 2, 7).await;
    assert_eq!((&*gamma.quote, &*both.quote), ("amm", "ta\u{fffc}ga"));
    for (anchor, from, to) in [(&gamma, 6, 9), (&image, 4, 5), (&both, 2, 7)] {
        assert_eq!(found(&pool, &document, anchor).await, range(inner.clone(), from, to));
    }
    let item = whole(&pool, &document, json!({"path": [1, 1]})).await;
    assert_eq!(item.quote, "beta\u{fffc}gamma");
    // A range over several blocks, as an editor makes it.
    let end = anchor(&pool, &document, json!({"path": [2]}), 0, 2).await;
    let over = Anchor {
        to: end.to.clone(),
        ..gamma.clone()
    };
    let backwards = Anchor {
        from: end.from.clone(),
        ..gamma.clone()
    };
    let changes = json!([
        {"type": "insertBlock", "path": [0], "node": {"type": "paragraph"}},
        {"type": "insert", "in": {"path": [2, 1, 0]}, "at": 0, "text": "xx"},
    ]);
    document.edit_as(&pool, EDITOR + 1, changes).await;
    let now = json!({"path": [2, 1, 0]});
    let expected = [
        range(now.clone(), 8, 11),
        range(now.clone(), 6, 7),
        range(now.clone(), 4, 9),
        Located::Whole {
            place: place(json!({"path": [2, 1]})),
        },
        Located::Range {
            place: place(now),
            from: 8,
            to: 2,
            to_place: Some(place(json!({"path": [3]}))),
        },
        Located::Gone,
    ];
    let anchors = [&gamma, &image, &both, &item, &over, &backwards];
    assert_eq!(located(&pool, &document, &anchors, Unit::Utf16).await, expected);
    document
        .edit_as(&pool, EDITOR + 2, json!([{"type": "deleteBlock", "in": {"path": [2]}}]))
        .await;
    assert_eq!(
        located(&pool, &document, &anchors, Unit::Utf16).await,
        vec![Located::Gone; anchors.len()]
    );
}

#[tokio::test]
async fn elements_of_a_board_and_their_texts_are_found() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::Canvas);
    document.write(1, |roots, txn| {
        let card = roots.elements.insert(txn, "e1", MapPrelim::default());
        card.insert(txn, "text", TextPrelim::new("a card"));
        roots.elements.insert(txn, "e2", 7);
    });
    let card = whole(&pool, &document, json!({"element": "e1"})).await;
    assert_eq!((card.element.as_deref(), &*card.quote), (Some("e1"), "a card"));
    let number = whole(&pool, &document, json!({"element": "e2"})).await;
    let word = anchor(&pool, &document, json!({"element": "e1"}), 2, 6).await;
    let element = |name: &str| Located::Whole {
        place: place(json!({ "element": name })),
    };
    let text = |from, to| range(json!({"element": "e1", "key": "text"}), from, to);
    let all = [&card, &number, &word];
    assert_eq!(
        located(&pool, &document, &all, Unit::Utf16).await,
        [element("e1"), element("e2"), text(2, 6)]
    );
    document.write(2, |roots, txn| drop(roots.elements.remove(txn, "e1")));
    assert_eq!(
        located(&pool, &document, &all, Unit::Utf16).await,
        [Located::Gone, element("e2"), Located::Gone]
    );
    for missing in [json!({"element": "e9"}), json!({"path": [0]})] {
        let target = Target::Whole { place: place(missing) };
        let error = try_anchor(&pool, &document, target, Unit::Utf16).await.unwrap_err();
        assert!(matches!(error, RenderError::Refused { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_anchor_follows_a_character_through_any_edits() {
    let pool = pool(1);
    let mut seed = 0x9e37_79b9_u32;
    let mut random = move |below: u32| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed % below
    };
    let mut document = Document::text("0123456789");
    let marks: Vec<Anchor> = {
        let mut marks = Vec::new();
        for at in 0..10 {
            marks.push(anchor(&pool, &document, json!({}), at, at + 1).await);
        }
        marks
    };
    for round in 0..40_u64 {
        document.write(100 + round, |roots, txn| {
            let length = roots.text.len(txn);
            if round % 3 == 2 && length > 4 {
                roots.text.remove_range(txn, random(length - 2), 1);
            } else {
                roots.text.insert(txn, random(length + 1), "ab");
            }
        });
        let text = document.render(&pool, weft_render::Format::Text).await;
        let places = located(&pool, &document, &marks.iter().collect::<Vec<_>>(), Unit::Utf16).await;
        for (digit, place) in "0123456789".chars().zip(places) {
            let expected = match text.find(digit) {
                Some(at) => {
                    let at = u32::try_from(at).unwrap();
                    range(json!({}), at, at + 1)
                }
                None => Located::Gone,
            };
            assert_eq!(place, expected, "{digit} in {text}, round {round}");
        }
    }
}

#[tokio::test]
async fn anchors_of_strangers_and_hostile_documents_get_an_answer() {
    let pool = pool(2);
    let id = |client, clock| Some(BlockId { client, clock });
    let largest = (1 << 53) - 1;
    let position = |within, tname: Option<&str>, item, assoc| RelativePosition {
        within,
        tname: tname.map(str::to_owned),
        item,
        assoc,
    };
    let mut anchors = Vec::new();
    for (client, clock) in [(1, 0), (1, 3), (1, (1 << 31) - 1), (0, 0), (largest, 0), (9, 7)] {
        for assoc in [i32::MIN, -1, 0, i32::MAX] {
            for one in [
                position(None, None, id(client, clock), assoc),
                position(id(client, clock), None, None, assoc),
                position(None, Some("body"), None, assoc),
                position(None, Some("no such root"), None, assoc),
                position(None, Some(""), None, assoc),
            ] {
                let (from, to) = (Some(one.clone()), Some(one));
                anchors.push(Anchor {
                    from,
                    to,
                    ..Anchor::default()
                });
            }
        }
        anchors.push(Anchor {
            node: id(client, clock),
            ..Anchor::default()
        });
    }
    // From the beginning to the end of a type.
    anchors.push(Anchor {
        from: Some(position(None, Some("body"), None, -1)),
        to: Some(position(None, Some("body"), None, 0)),
        ..Anchor::default()
    });
    let document = Document::text("abc");
    let places = located(&pool, &document, &anchors.iter().collect::<Vec<_>>(), Unit::Codepoint).await;
    assert_eq!(places.last(), Some(&range(json!({}), 0, 3)));
    let cases = ["crdt/admission", "crdt/live"].into_iter().flat_map(vectors);
    let mut answered = 0;
    for (name, case) in cases.filter(|(_, case)| case["update"] != Value::Null) {
        for kind in DocumentKind::ALL {
            let request = LocateRequest {
                kind,
                state: bytes(&case["update"]),
                anchors: anchors.clone(),
                unit: Unit::Utf16,
            };
            match pool.locate(&format!("{name} {}", kind.name()), request).await {
                Ok(places) => answered += usize::from(places.len() == anchors.len()),
                Err(RenderError::NotRendered { .. } | RenderError::TimedOut { .. }) => {}
                Err(error) => panic!("{name}: {error:?}"),
            }
        }
    }
    assert!(answered > 50, "{answered}");
    let edit = EditRequest {
        client: EDITOR + 5,
        ..document.request(None, json!([{"type": "append", "text": "d"}]))
    };
    pool.edit("!other", edit).await.unwrap();
}
