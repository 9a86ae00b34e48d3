//! Edits by position: the update that a worker makes, at the present version and at an earlier one.

use serde_json::{Value, json};
use weft_render::{Conflict, ConflictKind, EditRequest, Format, PlaceError, RenderError, Renderer as _, Unit};
use weft_wire::document::DocumentKind;
use yrs::{Map as _, MapPrelim, Text as _};

use crate::documents::{Document, EDITOR};
use crate::pool;

#[tokio::test]
async fn text_is_inserted_deleted_replaced_and_appended() {
    let pool = pool(1);
    let mut document = Document::text("hello world");
    let edited = document
        .edit(
            &pool,
            None,
            json!([
                {"type": "insert", "at": 5, "text": ", dear"},
                {"type": "delete", "at": 0, "length": 1},
                {"type": "insert", "at": 0, "text": "H"},
                {"type": "replace", "at": 12, "length": 5, "text": "W\u{1f600}rld"},
                {"type": "append", "text": "!"},
                {"type": "replace", "search": "l", "count": 3, "text": "LL"},
            ]),
        )
        .await;
    assert_eq!(
        document.render(&pool, Format::Text).await,
        "HeLLLLo, dear W\u{1f600}rLLd!"
    );
    assert_eq!(edited.conflicts, []);
}

#[tokio::test]
async fn positions_outside_and_within_characters_are_refused_with_the_right_range() {
    let pool = pool(1);
    let document = Document::text("a\u{1f600}b");
    let insert = |at: u32| json!([{"type": "append", "text": "x"}, {"type": "insert", "at": at, "text": "x"}]);
    let inside = PlaceError::InsideCharacter {
        at: 2,
        before: 1,
        after: 3,
    };
    assert_eq!(document.refusal(&pool, insert(2)).await, (1, inside.clone()));
    let outside = PlaceError::Range { from: 5, to: 5, end: 4 };
    assert_eq!(document.refusal(&pool, insert(5)).await, (1, outside));
    let delete = json!([{"type": "delete", "at": 1, "length": 1}]);
    assert_eq!(document.refusal(&pool, delete).await, (0, inside));
    let far = json!([{"type": "format", "at": 4_294_967_295_u32, "length": 4_294_967_295_u32, "attributes": {}}]);
    let outside = PlaceError::Range {
        from: u32::MAX,
        to: u32::MAX,
        end: 4,
    };
    assert_eq!(document.refusal(&pool, far).await, (0, outside));
}

#[tokio::test]
async fn positions_can_be_code_points() {
    let pool = pool(1);
    let mut document = Document::text("a\u{1f600}b");
    let mut request = document.request(None, json!([{"type": "delete", "at": 1, "length": 1}]));
    request.unit = Unit::Codepoint;
    let edited = pool.edit("!a", request).await.unwrap();
    document.merge(&edited.update);
    assert_eq!(document.render(&pool, Format::Text).await, "ab");
    let mut request = document.request(None, json!([{"type": "insert", "at": 3, "text": "x"}]));
    request.unit = Unit::Codepoint;
    let error = pool.edit("!a", request).await.unwrap_err();
    let outside = PlaceError::Range { from: 3, to: 3, end: 2 };
    assert_eq!(
        error,
        RenderError::Refused {
            change: 0,
            error: outside
        }
    );
}

#[tokio::test]
async fn searches_must_find_the_announced_number() {
    let pool = pool(1);
    let document = Document::text("one two one");
    for (search, count, found) in [("three", None, 0), ("one", Some(1), 2), ("two", Some(3), 1)] {
        let change = json!([{"type": "replace", "search": search, "count": count, "text": "x"}]);
        assert_eq!(
            document.refusal(&pool, change).await,
            (0, PlaceError::Occurrences { found })
        );
    }
    for wrong in [
        json!({"type": "replace", "search": "", "text": "x"}),
        json!({"type": "replace", "text": "x"}),
        json!({"type": "replace", "at": 1, "search": "a", "text": "x"}),
        json!({"type": "set", "key": "a", "value": 1}),
        json!({"type": "insertBlock", "path": [0], "node": {"type": "p"}}),
        json!({"type": "insert", "in": {"path": [0]}, "at": 0, "text": "x"}),
    ] {
        let (_, error) = document.refusal(&pool, json!([wrong])).await;
        assert!(matches!(error, PlaceError::Invalid { .. }), "{wrong}: {error:?}");
    }
}

#[tokio::test]
async fn positions_of_an_earlier_version_are_carried_forward_and_conflicts_named() {
    let pool = pool(1);
    let mut document = Document::text("The quick fox jumps.");
    let base = document.state.clone();
    // Others write at the front, next to the place and within the range.
    document.write(2, |roots, txn| {
        roots.text.insert(txn, 9, " brown");
        roots.text.insert(txn, 0, "Look! ");
    });
    let changes = json!([
        {"type": "replace", "at": 4, "length": 5, "text": "slow"},
        {"type": "insert", "at": 18, "text": " high"},
    ]);
    let edited = document.edit(&pool, Some(&base), changes).await;
    assert_eq!(
        document.render(&pool, Format::Text).await,
        "Look! The slow brown fox jumps high."
    );
    let brown = Conflict {
        change: 0,
        kind: ConflictKind::Inserted,
        client: 2,
        clocks: (0, 6),
        from: 15,
        to: 21,
    };
    assert_eq!(edited.conflicts, [brown]);
}

#[tokio::test]
async fn text_that_others_deleted_is_a_conflict() {
    let pool = pool(1);
    let mut document = Document::text("abcdef");
    let base = document.state.clone();
    document.write(2, |roots, txn| roots.text.remove_range(txn, 2, 2));
    let changes = json!([{"type": "insert", "at": 3, "text": "X"}, {"type": "insert", "at": 0, "text": "Y"}]);
    let edited = document.edit(&pool, Some(&base), changes).await;
    assert_eq!(document.render(&pool, Format::Text).await, "YabXef");
    let deleted = Conflict {
        change: 0,
        kind: ConflictKind::Deleted,
        client: 1,
        clocks: (2, 4),
        from: 2,
        to: 2,
    };
    assert_eq!(edited.conflicts, [deleted]);
}

#[tokio::test]
async fn a_base_that_is_no_ancestor_is_an_error() {
    let pool = pool(1);
    let document = Document::text("abc");
    let other = Document::text("abcdef").state;
    let changes = json!([{"type": "insert", "at": 6, "text": "X"}]);
    let error = pool
        .edit("!a", document.request(Some(&other), changes))
        .await
        .unwrap_err();
    assert!(matches!(error, RenderError::NotRendered { .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_id_that_is_in_use_is_refused() {
    let pool = pool(1);
    let document = Document::text("abc");
    for client in [1, 1 << 53, u64::MAX] {
        let mut request = document.request(None, json!([{"type": "append", "text": "x"}]));
        request.client = client;
        let error = pool.edit("!a", request).await.unwrap_err();
        assert!(
            matches!(error, RenderError::Refused { change: 0, .. }),
            "{client}: {error:?}"
        );
    }
}

#[tokio::test]
async fn formats_are_set_and_removed() {
    let pool = pool(1);
    let mut document = Document::text("abcdef");
    let bold = json!([{"type": "format", "at": 1, "length": 3, "attributes": {"bold": true}}]);
    document.edit(&pool, None, bold).await;
    let mut again = document.request(
        None,
        json!([
            {"type": "format", "at": 2, "length": 1, "attributes": {"bold": null}},
            {"type": "insert", "at": 6, "text": "g", "attributes": {"color": "red"}},
            {"type": "append", "text": "h"},
            {"type": "replace", "at": 1, "length": 1, "text": "B!"},
        ]),
    );
    again.client = EDITOR + 1;
    let edited = pool.edit("!a", again).await.unwrap();
    document.merge(&edited.update);
    let expected = json!({"kind": "text", "delta": [
        {"insert": "a"},
        {"insert": "B!", "attributes": {"bold": true}},
        {"insert": "c"},
        {"insert": "d", "attributes": {"bold": true}},
        {"insert": "ef"},
        {"insert": "g", "attributes": {"color": "red"}},
        {"insert": "h"},
    ]});
    assert_eq!(document.json(&pool).await, expected);
}

fn paragraph(text: &str) -> Value {
    json!({"type": "paragraph", "content": [{"type": "text", "text": text}]})
}

#[tokio::test]
async fn blocks_of_a_rich_text_are_inserted_changed_moved_and_deleted() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::RichText);
    let heading =
        json!({"type": "heading", "attrs": {"level": 1, "id": "top"}, "content": [{"type": "text", "text": "Title"}]});
    let mixed = json!({"type": "paragraph", "content": [
        {"type": "text", "text": "a", "marks": [{"type": "bold"}]},
        {"type": "text", "text": "b", "marks": [{"type": "link", "attrs": {"href": "/x"}}]},
        {"type": "hardBreak"},
        {"type": "text", "text": "cd"},
    ]});
    document.edit(&pool, None, json!([
        {"type": "insertBlock", "path": [0], "node": heading},
        {"type": "insertBlock", "path": [1], "node": mixed},
        {"type": "insertBlock", "path": [2], "node": {"type": "blockquote", "content": [paragraph("x"), paragraph("y")]}},
        {"type": "insert", "in": {"path": [2, 1]}, "at": 1, "text": "!"},
        {"type": "insertBlock", "path": [2, 0], "node": paragraph("w")},
        {"type": "insert", "in": {"block": "top"}, "at": 5, "text": "s"},
        {"type": "delete", "in": {"path": [1]}, "at": 1, "length": 3},
        {"type": "set", "in": {"block": "top"}, "key": "level", "value": 2},
        {"type": "append", "in": {"path": [2, 1]}, "text": "z"},
        {"type": "append", "text": "end"},
        {"type": "replace", "search": "y", "text": "Y"},
        {"type": "moveBlock", "in": {"path": [2, 0]}, "to": [0]},
        {"type": "format", "in": {"path": [2]}, "at": 1, "length": 1, "attributes": {"italic": true}},
    ])).await;
    let expected = "w\n\n## Titles\n\n**a***d*\n\n> xz\n>\n> Y!\n\nend\n";
    assert_eq!(document.render(&pool, Format::Markdown).await, expected);
}

#[tokio::test]
async fn blocks_that_do_not_exist_and_nodes_that_are_none_are_refused() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::RichText);
    document
        .edit(&pool, None, json!([{"type": "append", "text": "one"}]))
        .await;
    for missing in [
        json!({"path": [1]}),
        json!({"path": [0, 0]}),
        json!({"path": []}),
        json!({"block": "x"}),
    ] {
        let change = json!([{"type": "insert", "in": missing, "at": 0, "text": "x"}]);
        let (_, error) = document.refusal(&pool, change).await;
        assert!(matches!(error, PlaceError::NoPlace { .. }), "{missing}: {error:?}");
    }
    let (_, error) = document
        .refusal(
            &pool,
            json!([{"type": "insertBlock", "path": [2], "node": paragraph("")}]),
        )
        .await;
    assert_eq!(error, PlaceError::Range { from: 2, to: 2, end: 1 });
    let mut deep = paragraph("x");
    for _ in 0..50 {
        deep = json!({"type": "blockquote", "content": [deep]});
    }
    let mut too_deep = deep.clone();
    for _ in 0..20 {
        too_deep = json!({"type": "blockquote", "content": [too_deep]});
    }
    let fits = json!([{"type": "insertBlock", "path": [0], "node": deep}]);
    let mut request = document.request(None, fits);
    request.client = EDITOR + 1;
    assert!(pool.edit("!a", request).await.is_ok());
    for wrong in [
        json!({"type": "text", "text": "x"}),
        json!({"content": []}),
        json!({"type": "p", "attrs": []}),
        json!({"type": "p", "content": {}}),
        json!({"type": "p", "content": [{"type": "text"}]}),
        json!({"type": "p", "content": [{"type": "text", "text": "x", "marks": [{}]}]}),
        too_deep,
    ] {
        let (_, error) = document
            .refusal(&pool, json!([{"type": "insertBlock", "path": [0], "node": wrong}]))
            .await;
        assert!(matches!(error, PlaceError::Invalid { .. }), "{wrong}: {error:?}");
    }
}

#[tokio::test]
async fn a_block_that_others_deleted_is_a_conflict() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::RichText);
    let blocks = json!([
        {"type": "insertBlock", "path": [0], "node": paragraph("one")},
        {"type": "insertBlock", "path": [1], "node": paragraph("two")},
    ]);
    document.edit(&pool, None, blocks).await;
    let base = document.state.clone();
    let mut delete = document.request(None, json!([{"type": "deleteBlock", "in": {"path": [0]}}]));
    delete.client = EDITOR + 1;
    let deleted = pool.edit("!a", delete).await.unwrap();
    document.merge(&deleted.update);
    let mut late = document.request(
        Some(&base),
        json!([
            {"type": "insert", "in": {"path": [0]}, "at": 3, "text": "x"},
            {"type": "set", "in": {"path": [0]}, "key": "a", "value": 1},
            {"type": "append", "in": {"path": [1]}, "text": "!"},
        ]),
    );
    late.client = EDITOR + 2;
    let edited = pool.edit("!a", late).await.unwrap();
    document.merge(&edited.update);
    assert_eq!(document.render(&pool, Format::Text).await, "two!");
    let gone: Vec<_> = edited
        .conflicts
        .iter()
        .map(|conflict| (conflict.change, conflict.kind))
        .collect();
    assert_eq!(gone, [(0, ConflictKind::Gone), (1, ConflictKind::Gone)]);
}

#[tokio::test]
async fn a_boards_elements_are_set_and_unset() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::Canvas);
    document.write(1, |roots, txn| {
        let element = roots.elements.insert(txn, "a", MapPrelim::default());
        element.insert(txn, "x", 1.0);
        element.insert(txn, "label", yrs::TextPrelim::new("hi"));
        roots.elements.insert(txn, "b", MapPrelim::default());
        roots.elements.insert(txn, "plain", 5.0);
    });
    let base = document.state.clone();
    document.write(99, |roots, txn| {
        let Some(yrs::Out::YMap(element)) = roots.elements.get(txn, "a") else {
            panic!("no element")
        };
        element.insert(txn, "x", 50.0);
    });
    let edited = document
        .edit(
            &pool,
            Some(&base),
            json!([
                {"type": "set", "in": {"element": "a"}, "key": "x", "value": 2},
                {"type": "set", "in": {"element": "new"}, "key": "points", "value": [1, {"y": null}, "z"]},
                {"type": "unset", "in": {"element": "b"}},
                {"type": "unset", "in": {"element": "a"}, "key": "nothing"},
                {"type": "insert", "in": {"element": "a", "key": "label"}, "at": 2, "text": "!"},
            ]),
        )
        .await;
    let expected = json!({"kind": "canvas", "elements": {
        "a": {"x": 2, "label": "hi!"}, "new": {"points": [1, {"y": null}, "z"]}, "plain": 5
    }});
    assert_eq!(document.json(&pool).await, expected);
    let gone: Vec<_> = edited
        .conflicts
        .iter()
        .map(|conflict| (conflict.change, conflict.kind))
        .collect();
    assert_eq!(gone, [(3, ConflictKind::Gone)]);
    for wrong in [
        json!({"type": "set", "in": {"element": "plain"}, "key": "x", "value": 1}),
        json!({"type": "insert", "in": {"element": "a", "key": "x"}, "at": 0, "text": "x"}),
        json!({"type": "set", "in": {"path": [0]}, "key": "x", "value": 1}),
        json!({"type": "replace", "search": "hi", "text": "x"}),
    ] {
        let mut request = document.request(None, json!([wrong]));
        request.client = EDITOR + 1;
        let error = pool.edit("!a", request).await.unwrap_err();
        assert!(
            matches!(
                error,
                RenderError::Refused {
                    error: PlaceError::Invalid { .. },
                    ..
                }
            ),
            "{wrong}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_edit_continues_the_blocks_of_its_client_id() {
    let pool = pool(1);
    let mut document = Document::text("ab");
    document
        .edit(&pool, None, json!([{"type": "append", "text": "cd"}]))
        .await;
    let base = document.state.clone();
    document.write(2, |roots, txn| roots.text.insert(txn, 0, "> "));
    let changes = json!([{"type": "delete", "at": 1, "length": 2}, {"type": "insert", "at": 2, "text": "e"}]);
    for base in [None, Some(&*base)] {
        for clock in [0, 1, 3] {
            let request = EditRequest {
                clock,
                ..document.request(base, changes.clone())
            };
            let refused = pool.edit("!a", request).await;
            let message = "the document has 2 clocks of the client id, and the edit begins at";
            assert!(
                matches!(&refused, Err(RenderError::Refused { change: 0, error: PlaceError::Invalid { message: found } })
                    if found.starts_with(message)),
                "{clock}: {refused:?}"
            );
        }
    }
    let request = EditRequest {
        clock: 2,
        ..document.request(Some(&base), changes)
    };
    let update = pool.edit("!a", request).await.unwrap().update;
    document.check_admission(&update);
    let ranges = weft_crdt::Update::parse(update.clone()).unwrap().ranges();
    assert_eq!(ranges.into_values().collect::<Vec<_>>(), [(2, 3)]);
    document.merge(&update);
    assert_eq!(document.render(&pool, Format::Text).await, "> ade");
}
