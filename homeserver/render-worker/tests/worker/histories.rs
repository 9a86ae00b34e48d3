//! Differences, restored versions and suggestions, by examples and over random histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use weft_render::{
    Applied, ApplyRequest, DiffRequest, DiffRun, Format, NotRendered, Pool, RenderError, Renderer as _, RestoreRequest,
    RunKind,
};
use weft_wire::document::DocumentKind;
use yrs::types::Attrs;
use yrs::{Any, Map as _, MapPrelim, Text as _, TextPrelim};

use crate::documents::{Document, EDITOR};
use crate::pool;

async fn diff(pool: &Pool, kind: DocumentKind, from: &[u8], to: &[u8]) -> Vec<DiffRun> {
    let (from, to) = (from.to_vec().into(), to.to_vec().into());
    pool.diff("!a", DiffRequest { kind, from, to }).await.unwrap().runs
}

/// Restores `target`, and checks that the document is then rendered like it.
async fn restore(pool: &Pool, document: &mut Document, target: &[u8], client: u64) -> usize {
    let request = RestoreRequest {
        kind: document.kind,
        state: document.state.clone().into(),
        target: target.to_vec().into(),
        client,
    };
    let restored = pool.restore("!a", request).await.unwrap();
    document.merge(&restored.update);
    let wanted = Document {
        kind: document.kind,
        state: target.to_vec(),
    };
    assert_eq!(document.json(pool).await, wanted.json(pool).await);
    restored.update.len()
}

async fn apply(pool: &Pool, document: &Document, suggestion: &[u8]) -> Applied {
    let request = ApplyRequest {
        kind: document.kind,
        state: document.state.clone().into(),
        suggestion: suggestion.to_vec().into(),
        client: EDITOR,
        only: None,
        addresses: BTreeMap::new(),
    };
    pool.apply("!a/$suggestion", request).await.unwrap()
}

fn short(run: &DiffRun) -> (RunKind, &str, Option<u64>, Option<(u32, u32)>) {
    (run.kind, &run.text, run.client, run.clocks)
}

#[tokio::test]
async fn the_difference_of_a_text_names_blocks_and_formats() {
    let pool = pool(1);
    let mut document = Document::text("The quick fox");
    let from = document.state.clone();
    document.write(2, |roots, txn| {
        roots.text.remove_range(txn, 4, 6);
        roots.text.insert(txn, 4, "slow ");
        let bold = Attrs::from([(Arc::from("bold"), Any::from(true))]);
        roots.text.format(txn, 9, 3, bold);
    });
    document.write(3, |roots, txn| roots.text.insert(txn, 12, "!"));
    let runs = diff(&pool, document.kind, &from, &document.state).await;
    let expected = [
        (RunKind::Equal, "The ", None, None),
        (RunKind::Insert, "slow ", Some(2), Some((0, 5))),
        (RunKind::Delete, "quick ", Some(1), Some((4, 10))),
        (RunKind::Format, "fox", None, None),
        (RunKind::Insert, "!", Some(3), Some((0, 1))),
    ];
    let mut found: Vec<_> = runs.iter().map(short).collect();
    // The engine may put what was inserted before or after what was deleted at the same place.
    found.sort_by_key(|run| (expected.iter().position(|expected| expected.1 == run.1), run.0 as u8));
    assert_eq!(found, expected);
    let formatted = runs.iter().find(|run| run.kind == RunKind::Format).unwrap();
    assert_eq!(formatted.attributes, Some((Value::Null, json!({"bold": true}))));
}

fn paragraph(text: &str) -> Value {
    json!({"type": "paragraph", "content": [{"type": "text", "text": text}]})
}

#[tokio::test]
async fn the_difference_of_a_rich_text_names_blocks_by_path() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::RichText);
    let blocks: Vec<Value> = ["a", "b", "c"]
        .map(|text| json!({"type": "insertBlock", "path": [0], "node": paragraph(text)}))
        .into();
    document.edit(&pool, None, blocks.into()).await;
    let from = document.state.clone();
    document
        .edit_as(
            &pool,
            EDITOR + 1,
            json!([
                {"type": "deleteBlock", "in": {"path": [1]}},
                {"type": "insertBlock", "path": [0], "node": {"type": "blockquote", "content": [paragraph("new")]}},
                {"type": "set", "in": {"path": [2]}, "key": "align", "value": "left"},
                {"type": "append", "in": {"path": [2]}, "text": "!"},
            ]),
        )
        .await;
    let runs = diff(&pool, document.kind, &from, &document.state).await;
    let found: Vec<_> = runs
        .iter()
        .map(|run| (run.kind, json!(run.path), run.text.as_str()))
        .collect();
    let expected = [
        (RunKind::Insert, json!([0]), ""),
        (RunKind::Insert, json!([0, 0]), ""),
        (RunKind::Insert, json!([0, 0]), "new"),
        (RunKind::Equal, json!([1]), "c"),
        (RunKind::Delete, json!([1]), "b"),
        (RunKind::Format, json!([2]), ""),
        (RunKind::Equal, json!([2]), "a"),
        (RunKind::Insert, json!([2]), "!"),
    ];
    assert_eq!(found, expected);
    let format = runs.iter().find(|run| run.kind == RunKind::Format).unwrap();
    assert_eq!(format.attributes, Some((Value::Null, json!({"align": "left"}))));
}

#[tokio::test]
async fn the_difference_of_a_board_names_values_by_key() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::Canvas);
    document.write(1, |roots, txn| {
        let element = roots.elements.insert(txn, "a", MapPrelim::default());
        element.insert(txn, "x", 1.0);
        element.insert(txn, "text", TextPrelim::new("hi"));
    });
    let from = document.state.clone();
    document
        .edit(
            &pool,
            None,
            json!([
                {"type": "set", "in": {"element": "a"}, "key": "x", "value": 2},
                {"type": "set", "in": {"element": "b"}, "key": "y", "value": [3]},
                {"type": "insert", "in": {"element": "a"}, "at": 2, "text": "!"},
            ]),
        )
        .await;
    let runs = diff(&pool, document.kind, &from, &document.state).await;
    let found: Vec<_> = runs
        .iter()
        .map(|run| (run.kind, json!(run.path), run.text.as_str()))
        .collect();
    let expected = [
        (RunKind::Equal, json!(["a", "text"]), "hi"),
        (RunKind::Insert, json!(["a", "text"]), "!"),
        (RunKind::Delete, json!(["a", "x"]), "1"),
        (RunKind::Insert, json!(["a", "x"]), "2"),
        (RunKind::Insert, json!(["b"]), "{\"y\":[3]}"),
    ];
    assert_eq!(found, expected);
    restore(&pool, &mut document, &from, EDITOR + 1).await;
}

#[tokio::test]
async fn a_suggestion_is_shown_and_accepted_as_an_edit_of_the_editor() {
    let pool = pool(1);
    let mut document = Document::text("The quick fox");
    let base = document.state.clone();
    let mut suggested = Document {
        kind: document.kind,
        state: base.clone(),
    };
    let suggestion = suggested.update(5, |roots, txn| {
        roots.text.remove_range(txn, 4, 5);
        roots.text.insert(txn, 4, "slow");
    });
    document.write(2, |roots, txn| roots.text.insert(txn, 0, "Look: "));
    let applied = apply(&pool, &document, &suggestion).await;
    assert!(applied.applies);
    assert!(
        applied
            .difference
            .runs
            .iter()
            .any(|run| short(run) == (RunKind::Insert, "slow", Some(5), Some((0, 4))))
    );
    document.check_admission(&applied.update);
    document.merge(&applied.update);
    assert_eq!(document.render(&pool, Format::Text).await, "Look: The slow fox");
}

#[tokio::test]
async fn a_suggestion_whose_block_is_gone_no_longer_applies() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::RichText);
    document
        .edit(
            &pool,
            None,
            json!([{"type": "append", "text": "one"}, {"type": "append", "text": "two"}]),
        )
        .await;
    let request = document.request(
        None,
        json!([{"type": "insert", "in": {"path": [0]}, "at": 3, "text": "!"}]),
    );
    let suggestion = pool
        .edit("!a", weft_render::EditRequest { client: 5, ..request })
        .await
        .unwrap()
        .update;
    document
        .edit_as(&pool, EDITOR + 1, json!([{"type": "deleteBlock", "in": {"path": [0]}}]))
        .await;
    let request = ApplyRequest {
        kind: document.kind,
        state: document.state.clone().into(),
        suggestion,
        client: EDITOR + 2,
        only: None,
        addresses: BTreeMap::new(),
    };
    let applied = pool.apply("!a/$suggestion", request).await.unwrap();
    assert!(!applied.applies, "{applied:?}");
}

#[tokio::test]
async fn a_suggestion_that_is_no_update_or_refers_to_unknown_blocks_is_an_error() {
    let pool = pool(1);
    let document = Document::text("abc");
    for (suggestion, expected) in [
        (vec![1, 2, 3], NotRendered::Malformed),
        // Follows the tenth block of client 7.
        (vec![1, 1, 5, 0, 0x84, 7, 9, 1, b'x', 0], NotRendered::Incomplete),
    ] {
        let request = ApplyRequest {
            kind: document.kind,
            state: document.state.clone().into(),
            suggestion: suggestion.into(),
            client: EDITOR,
            only: None,
            addresses: BTreeMap::new(),
        };
        let error = pool.apply("!a/$suggestion", request).await.unwrap_err();
        assert!(
            matches!(&error, RenderError::NotRendered { reason, .. } if *reason == expected),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn versions_of_which_none_contains_the_other_are_not_compared() {
    let pool = pool(1);
    let (kind, from) = (DocumentKind::Text, Document::text("abc").state);
    let mut other = Document::new(kind);
    other.write(9, |roots, txn| roots.text.insert(txn, 0, "abc"));
    let request = DiffRequest {
        kind,
        from: from.into(),
        to: other.state.into(),
    };
    let error = pool.diff("!a", request).await.unwrap_err();
    assert!(
        matches!(
            &error,
            RenderError::NotRendered {
                reason: NotRendered::Incomplete,
                ..
            }
        ),
        "{error:?}"
    );
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(end.max(1))).unwrap()
    }
}

/// A random edit of a text by one client, of so many kinds: 5 are of text and formats, and the sixth one inserts an object.
fn write_text(document: &mut Document, client: u64, kinds: u32, dice: &mut Dice) {
    document.write(client, |roots, txn| {
        for _ in 0..1 + dice.below(4) {
            let length = roots.text.len(txn);
            let at = dice.below(length + 1);
            let span = dice.below((length - at).min(8) + 1);
            let key = ["bold", "color"][usize::try_from(dice.below(2)).unwrap()];
            let value = [Any::from(true), Any::Null, Any::from("red")][usize::try_from(dice.below(3)).unwrap()].clone();
            match dice.below(kinds) {
                0 | 1 => roots.text.insert(txn, at, "some words "),
                2 => roots.text.remove_range(txn, at, span),
                3 => roots
                    .text
                    .insert_with_attributes(txn, at, "xy", Attrs::from([(Arc::from(key), value)])),
                4 => roots.text.format(txn, at, span, Attrs::from([(Arc::from(key), value)])),
                _ => drop(roots.text.insert_embed(txn, at, Any::from(f64::from(dice.below(9))))),
            }
        }
    });
}

#[tokio::test]
async fn every_earlier_version_of_random_texts_can_be_restored_and_compared() {
    let pool = pool(1);
    for seed in 0..80 {
        let mut dice = Dice(seed);
        // Texts without objects are compared in another way.
        let kinds = if seed < 40 { 6 } else { 5 };
        let mut document = Document::new(DocumentKind::Text);
        let mut versions = Vec::new();
        for step in 0..8 {
            write_text(&mut document, 100 + step, kinds, &mut dice);
            versions.push(document.state.clone());
        }
        let target = versions[usize::try_from(dice.below(7)).unwrap()].clone();
        let runs = diff(&pool, document.kind, &target, &document.state).await;
        let side = |without: RunKind| -> String {
            runs.iter()
                .filter(|run| run.kind != without)
                .map(|run| run.text.as_str())
                .collect()
        };
        let text_of = |state: &[u8]| Document {
            kind: document.kind,
            state: state.to_vec(),
        };
        assert_eq!(
            side(RunKind::Insert),
            text_of(&target).render(&pool, Format::Text).await,
            "seed {seed}"
        );
        assert_eq!(
            side(RunKind::Delete),
            document.render(&pool, Format::Text).await,
            "seed {seed}"
        );
        restore(&pool, &mut document, &target, 10_000 + seed).await;
        // Nothing is left to restore.
        let nothing = restore(&pool, &mut document, &target, 20_000 + seed).await;
        assert_eq!(nothing, 2, "seed {seed}");
    }
}

#[tokio::test]
async fn accepting_a_suggestion_has_the_effect_that_was_shown() {
    let pool = pool(1);
    for seed in 0..80 {
        let mut dice = Dice(1_000 + seed);
        let kinds = if seed < 40 { 6 } else { 5 };
        let mut document = Document::new(DocumentKind::Text);
        write_text(&mut document, 100, kinds, &mut dice);
        write_text(&mut document, 101, kinds, &mut dice);
        let mut suggested = Document {
            kind: document.kind,
            state: document.state.clone(),
        };
        write_text(&mut suggested, 5, kinds, &mut dice);
        write_text(&mut document, 102, kinds, &mut dice);
        let applied = apply(&pool, &document, &suggested.state).await;
        let mut shown = Document {
            kind: document.kind,
            state: document.state.clone(),
        };
        shown.merge(&suggested.state);
        document.check_admission(&applied.update);
        document.merge(&applied.update);
        assert_eq!(document.json(&pool).await, shown.json(&pool).await, "seed {seed}");
    }
}

async fn apply_only(pool: &Pool, document: &Document, suggestion: &[u8], only: &[u32]) -> Applied {
    let request = ApplyRequest {
        kind: document.kind,
        state: document.state.clone().into(),
        suggestion: suggestion.to_vec().into(),
        client: EDITOR,
        only: Some(only.iter().copied().collect()),
        addresses: BTreeMap::new(),
    };
    pool.apply("!a/$suggestion", request).await.unwrap()
}

fn numbered(runs: &[DiffRun]) -> Vec<(Option<u32>, RunKind, &str)> {
    let runs = runs.iter().filter(|run| run.kind != RunKind::Equal);
    runs.map(|run| (run.change, run.kind, run.text.as_str())).collect()
}

#[tokio::test]
async fn single_changes_of_a_suggestion_are_made() {
    let pool = pool(1);
    let document = Document::text("The quick brown fox");
    let mut suggested = Document {
        kind: document.kind,
        state: document.state.clone(),
    };
    suggested.write(5, |roots, txn| {
        roots.text.remove_range(txn, 4, 5);
        roots.text.insert(txn, 4, "slow");
        let bold = Attrs::from([(Arc::from("bold"), Any::from(true))]);
        roots.text.format(txn, 9, 5, bold);
        roots.text.push(txn, "!");
    });
    let applied = apply(&pool, &document, &suggested.state).await;
    let mut changes = numbered(&applied.difference.runs);
    changes.sort_by_key(|run| (run.0, run.1 as u8));
    let expected = [
        (Some(0), RunKind::Insert, "slow"),
        (Some(0), RunKind::Delete, "quick"),
        (Some(1), RunKind::Format, "brown"),
        (Some(2), RunKind::Insert, "!"),
    ];
    assert_eq!(changes, expected);
    for (only, text, is_bold) in [
        (&[][..], "The quick brown fox", false),
        (&[0], "The slow brown fox", false),
        (&[1], "The quick brown fox", true),
        (&[2], "The quick brown fox!", false),
        (&[0, 2], "The slow brown fox!", false),
        (&[0, 1, 2], "The slow brown fox!", true),
    ] {
        let made = apply_only(&pool, &document, &suggested.state, only).await;
        assert_eq!(
            numbered(&made.difference.runs),
            numbered(&applied.difference.runs),
            "{only:?}"
        );
        let mut accepted = Document {
            kind: document.kind,
            state: document.state.clone(),
        };
        accepted.merge(&made.update);
        assert_eq!(accepted.render(&pool, Format::Text).await, text, "{only:?}");
        assert_eq!(
            accepted.json(&pool).await.to_string().contains("bold"),
            is_bold,
            "{only:?}"
        );
    }
}

#[tokio::test]
async fn the_changes_of_a_rich_text_are_nodes_attributes_and_texts() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::RichText);
    let blocks: Vec<Value> = ["a", "b", "c"]
        .map(|text| json!({"type": "insertBlock", "path": [0], "node": paragraph(text)}))
        .into();
    document.edit_as(&pool, EDITOR + 5, blocks.into()).await;
    let mut suggested = Document {
        kind: document.kind,
        state: document.state.clone(),
    };
    let changes = json!([
        {"type": "deleteBlock", "in": {"path": [1]}},
        {"type": "insertBlock", "path": [1], "node": {"type": "blockquote", "content": [paragraph("new")]}},
        {"type": "set", "in": {"path": [2]}, "key": "align", "value": "left"},
        {"type": "append", "in": {"path": [2]}, "text": "!"},
    ]);
    suggested.edit_as(&pool, EDITOR + 1, changes).await;
    let applied = apply(&pool, &document, &suggested.state).await;
    let runs = numbered(&applied.difference.runs);
    let number_of = |kind: RunKind, text: &str| {
        let found = runs.iter().find(|run| run.1 == kind && run.2 == text);
        found.and_then(|run| run.0).unwrap()
    };
    let (quote, gone) = (number_of(RunKind::Insert, "new"), number_of(RunKind::Delete, "b"));
    let (align, mark) = (number_of(RunKind::Format, ""), number_of(RunKind::Insert, "!"));
    assert_eq!(
        applied.difference.runs.iter().filter_map(|run| run.change).max(),
        Some(3)
    );
    for (only, expected) in [
        (vec![quote], "c\n\nb\n\n> new\n\na"),
        (vec![gone], "c\n\na"),
        (vec![align], "c\n\nb\n\na"),
        (vec![mark, gone], "c\n\na!"),
        (vec![quote, gone, mark], "c\n\n> new\n\na!"),
    ] {
        let made = apply_only(&pool, &document, &suggested.state, &only).await;
        let mut accepted = Document {
            kind: document.kind,
            state: document.state.clone(),
        };
        accepted.merge(&made.update);
        let text = accepted.render(&pool, Format::Markdown).await;
        let blocks = |text: &str| text.split("\n\n").map(|one| one.trim().to_owned()).collect::<Vec<_>>();
        let (mut found, mut wanted) = (blocks(&text), blocks(expected));
        // Whether the new block is before or after the deleted one is free.
        if only == [quote] {
            found.sort();
            wanted.sort();
        }
        assert_eq!(found, wanted, "{only:?}");
        let has_align = accepted.json(&pool).await.to_string().contains("left");
        assert_eq!(has_align, only.contains(&align), "{only:?}");
    }
}

#[tokio::test]
async fn the_changes_of_a_board_are_elements_and_values() {
    let pool = pool(1);
    let mut document = Document::new(DocumentKind::Canvas);
    document.write(1, |roots, txn| {
        let element = roots.elements.insert(txn, "a", MapPrelim::default());
        element.insert(txn, "x", 1.0);
        element.insert(txn, "y", 1.0);
        roots.elements.insert(txn, "b", MapPrelim::default());
    });
    let mut suggested = Document {
        kind: document.kind,
        state: document.state.clone(),
    };
    let changes = json!([
        {"type": "set", "in": {"element": "a"}, "key": "x", "value": 2},
        {"type": "unset", "in": {"element": "a"}, "key": "y"},
        {"type": "unset", "in": {"element": "b"}},
        {"type": "set", "in": {"element": "c"}, "key": "z", "value": {"deep": [1]}},
    ]);
    suggested.edit_as(&pool, EDITOR + 1, changes).await;
    let applied = apply(&pool, &document, &suggested.state).await;
    let paths: Vec<(Option<u32>, Value)> = applied
        .difference
        .runs
        .iter()
        .map(|run| (run.change, json!(run.path)))
        .collect();
    let number_of = |path: Value| paths.iter().find(|run| run.1 == path).and_then(|run| run.0).unwrap();
    let (x, y) = (number_of(json!(["a", "x"])), number_of(json!(["a", "y"])));
    let (b, c) = (number_of(json!(["b"])), number_of(json!(["c"])));
    for (only, expected) in [
        (vec![x], json!({"a": {"x": 2, "y": 1}, "b": {}})),
        (vec![y, b], json!({"a": {"x": 1}})),
        (
            vec![c],
            json!({"a": {"x": 1, "y": 1}, "b": {}, "c": {"z": {"deep": [1]}}}),
        ),
    ] {
        let made = apply_only(&pool, &document, &suggested.state, &only).await;
        let mut accepted = Document {
            kind: document.kind,
            state: document.state.clone(),
        };
        accepted.merge(&made.update);
        assert_eq!(accepted.json(&pool).await["elements"], expected, "{only:?}");
    }
}

/// A random change of a rich text whose root has `blocks` blocks.
fn change(blocks: u32, dice: &mut Dice) -> Value {
    let path = [dice.below(blocks)];
    match dice.below(6) {
        0 => json!({"type": "insertBlock", "path": path, "node": paragraph("inserted")}),
        1 if blocks > 2 => json!({"type": "deleteBlock", "in": {"path": path}}),
        2 => json!({"type": "set", "in": {"path": path}, "key": "level", "value": dice.below(3)}),
        3 => json!({"type": "format", "in": {"path": path}, "at": 0, "length": 1, "attributes": {"bold": true}}),
        4 => json!({"type": "moveBlock", "in": {"path": path}, "to": [0]}),
        _ => json!({"type": "insert", "in": {"path": path}, "at": 1, "text": "typed"}),
    }
}

#[tokio::test]
async fn every_earlier_version_of_random_rich_texts_can_be_restored() {
    let pool = pool(1);
    for seed in 0..25 {
        let mut dice = Dice(2_000 + seed);
        let mut document = Document::new(DocumentKind::RichText);
        let mut versions = Vec::new();
        for step in 0..8 {
            let changes = if step == 0 {
                json!([{"type": "append", "text": "one"}, {"type": "append", "text": "two"}, {"type": "append", "text": "three"}])
            } else {
                let blocks = document.json(&pool).await["doc"]["content"].as_array().unwrap().len();
                json!([change(u32::try_from(blocks).unwrap(), &mut dice)])
            };
            document.edit_as(&pool, 200 + step, changes).await;
            versions.push(document.state.clone());
        }
        let target = versions[usize::try_from(dice.below(7)).unwrap()].clone();
        diff(&pool, document.kind, &target, &document.state).await;
        restore(&pool, &mut document, &target, 10_000 + seed).await;
        let nothing = restore(&pool, &mut document, &target, 20_000 + seed).await;
        assert_eq!(nothing, 2, "seed {seed}");
    }
}
