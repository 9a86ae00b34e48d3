//! Imports of foreign text: what becomes of each element, what is left out and counted, round trips, and hostile files.

use bytes::Bytes;
use serde_json::{Value, json};
use weft_render::{Format, ImportRequest, Imported, PlaceError, RenderError, RenderRequest, Renderer as _, Source};
use weft_wire::document::DocumentKind;

use super::pool;

const EMPTY: &[u8] = &[0, 0];

async fn import(kind: DocumentKind, source: Source, state: &[u8], foreign: &str) -> Result<Imported, RenderError> {
    let request = ImportRequest {
        kind,
        state: Bytes::copy_from_slice(state),
        foreign: foreign.to_owned().into(),
        source,
        client: 7,
    };
    pool(1).import("import", request).await
}

async fn render(kind: DocumentKind, state: &Bytes, format: Format) -> String {
    let state = state.clone();
    let request = RenderRequest { kind, state, format };
    pool(1).render("document", request).await.unwrap().content
}

/// The blocks of imported text, and what was left out as `kind: count`.
async fn blocks(source: Source, foreign: &str) -> (Value, Vec<String>) {
    let imported = import(DocumentKind::RichText, source, EMPTY, foreign).await.unwrap();
    let json = render(DocumentKind::RichText, &imported.update, Format::Json).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let lost = imported.lost.iter();
    let lost = lost.map(|lost| format!("{}: {}", lost.kind, lost.count)).collect();
    (json["doc"]["content"].clone(), lost)
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn marked(text: &str, marks: &[&str]) -> Value {
    let marks: Vec<Value> = marks.iter().map(|mark| json!({"type": mark})).collect();
    json!({"type": "text", "text": text, "marks": marks})
}

fn block(kind: &str, content: &[Value]) -> Value {
    json!({"type": kind, "content": content})
}

/// Nothing is left out.
async fn becomes(html: &str, expected: &Value) {
    let (found, lost) = blocks(Source::Html, html).await;
    assert_eq!(found, *expected, "{html}");
    assert!(lost.is_empty(), "{html}: {lost:?}");
}

#[tokio::test]
async fn html_becomes_blocks_and_marks() {
    for (html, expected) in [
        (
            "<p>a <b>bold</b> b</p>",
            json!([block("paragraph", &[text("a "), marked("bold", &["bold"]), text(" b")])]),
        ),
        (
            "loose <i>text</i>\n<div>next</div>",
            json!([
                block("paragraph", &[text("loose "), marked("text", &["italic"])]),
                block("paragraph", &[text("next")]),
            ]),
        ),
        (
            "<p>  a \n b  </p><p>c",
            json!([block("paragraph", &[text("a b")]), block("paragraph", &[text("c")])]),
        ),
        (
            "<b><p>x</p><p>y</p></b>z",
            json!([
                block("paragraph", &[marked("x", &["bold"])]),
                block("paragraph", &[marked("y", &["bold"])]),
                block("paragraph", &[text("z")]),
            ]),
        ),
        (
            "<h2>T</h2>",
            json!([{"type": "heading", "attrs": {"level": 2}, "content": [text("T")]}]),
        ),
        (
            "<pre><code class=\"language-rust\">\n  a\n</code></pre>",
            json!([
                {"type": "codeBlock", "attrs": {"language": "rust"}, "content": [text("\n  a")]}
            ]),
        ),
        (
            "<pre>\n  a &lt;b\n</pre>",
            json!([block("codeBlock", &[text("  a <b")])]),
        ),
    ] {
        becomes(html, &expected).await;
    }
}

#[tokio::test]
async fn lists_and_tables_become_lists_and_tables() {
    for (html, expected) in [
        (
            "<ul><li>a<ul><li>b</ul><li>c</ul>",
            json!([block(
                "bulletList",
                &[
                    block(
                        "listItem",
                        &[
                            block("paragraph", &[text("a")]),
                            block("bulletList", &[block("listItem", &[block("paragraph", &[text("b")])])]),
                        ]
                    ),
                    block("listItem", &[block("paragraph", &[text("c")])]),
                ]
            )]),
        ),
        (
            "<ol start=3><li>a</ol>",
            json!([{"type": "orderedList", "attrs": {"start": 3}, "content": [
                block("listItem", &[block("paragraph", &[text("a")])])
            ]}]),
        ),
        (
            "<ul><li><input type=checkbox checked>done<li><input type=checkbox>open</ul>",
            json!([block(
                "taskList",
                &[
                    json!({"type": "taskItem", "attrs": {"checked": true}, "content": [block("paragraph", &[text("done")])]}),
                    json!({"type": "taskItem", "attrs": {"checked": false}, "content": [block("paragraph", &[text("open")])]}),
                ]
            )]),
        ),
        (
            "<table><tr><th>a<td colspan=2>b</table>",
            json!([block(
                "table",
                &[block(
                    "tableRow",
                    &[
                        block("tableHeader", &[block("paragraph", &[text("a")])]),
                        json!({"type": "tableCell", "attrs": {"colspan": 2}, "content": [block("paragraph", &[text("b")])]}),
                    ]
                )]
            )]),
        ),
    ] {
        becomes(html, &expected).await;
    }
}

#[tokio::test]
async fn lines_images_links_and_stray_tags_have_their_places() {
    for (html, expected) in [
        (
            "<blockquote>a</blockquote><hr>b<br>c",
            json!([
                block("blockquote", &[block("paragraph", &[text("a")])]),
                json!({"type": "horizontalRule"}),
                block("paragraph", &[text("b"), json!({"type": "hardBreak"}), text("c")]),
            ]),
        ),
        (
            "<p>a<img src='https://x.example/p.png' alt=pic>b</p>",
            json!([
                block("paragraph", &[text("a")]),
                json!({"type": "image", "attrs": {"src": "https://x.example/p.png", "alt": "pic"}}),
                block("paragraph", &[text("b")]),
            ]),
        ),
        (
            "<a href='https://x.example/'>l</a>",
            json!([block(
                "paragraph",
                &[
                    json!({"type": "text", "text": "l", "marks": [{"type": "link", "attrs": {"href": "https://x.example/"}}]})
                ]
            )]),
        ),
        (
            "</p></li></table>a<li>b<td>c",
            json!([
                block("paragraph", &[text("a")]),
                block(
                    "bulletList",
                    &[block(
                        "listItem",
                        &[
                            block("paragraph", &[text("b")]),
                            block(
                                "table",
                                &[block(
                                    "tableRow",
                                    &[block("tableCell", &[block("paragraph", &[text("c")])])]
                                )]
                            ),
                        ]
                    )]
                ),
            ]),
        ),
    ] {
        becomes(html, &expected).await;
    }
}

#[tokio::test]
async fn what_has_no_form_is_left_out_and_counted() {
    for (html, shown, expected) in [
        ("a<script>alert('<p>x</p>')</script>b", "ab", vec!["script: 1"]),
        (
            "<p onclick='x()' style='color: red'>a</p>",
            "a",
            vec!["script: 1", "style: 1"],
        ),
        ("<a href='javascript:alert(1)'>a</a>", "a", vec!["address: 1"]),
        (
            "<img src='data:image/png;base64,AAAA' alt=p>a<img src='media/b.png'>",
            "a",
            vec!["image: 2"],
        ),
        (
            "<iframe src='https://x.example'>x</iframe><svg><text>y</text></svg>a",
            "a",
            vec!["drawing: 1", "embedded content: 1"],
        ),
        (
            "<style>p { }</style><title>t</title><p>a<unknown>b</unknown>",
            "ab",
            vec!["style: 1"],
        ),
        ("<textarea>x</textarea><input type=text>a", "a", vec!["form field: 2"]),
    ] {
        let imported = import(DocumentKind::RichText, Source::Html, EMPTY, html).await.unwrap();
        let text = render(DocumentKind::RichText, &imported.update, Format::Text).await;
        let lost = imported.lost.iter();
        let lost: Vec<_> = lost.map(|lost| format!("{}: {}", lost.kind, lost.count)).collect();
        assert_eq!(
            (text.as_str(), lost),
            (shown, expected.iter().map(ToString::to_string).collect()),
            "{html}"
        );
    }
    let imported = import(
        DocumentKind::RichText,
        Source::Html,
        EMPTY,
        "<a href='javascript:x'>a</a>",
    )
    .await
    .unwrap();
    assert_eq!(imported.lost[0].example.as_deref(), Some("javascript:x"));
}

/// What the server writes is read back as the same document.
#[tokio::test]
async fn exported_markdown_and_html_are_imported_as_the_same() {
    let markdown = "# Title\n\nA *b* **c** ~~d~~ `e` [f](<https://x.example/>) 1 \\* 2\n\n- one\n  - two\n- three\n\n1. a\n2. b\n\n\
        - [x] done\n- [ ] open\n\n> quote\n\n```rust\nfn main() {}\n```\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n---\n\nlast\\\nline\n";
    let first = import(DocumentKind::RichText, Source::Markdown, EMPTY, markdown)
        .await
        .unwrap();
    assert_eq!(first.lost, []);
    let json = render(DocumentKind::RichText, &first.update, Format::Json).await;
    for (source, format) in [(Source::Markdown, Format::Markdown), (Source::Html, Format::Html)] {
        let exported = render(DocumentKind::RichText, &first.update, format).await;
        let again = import(DocumentKind::RichText, source, EMPTY, &exported).await.unwrap();
        assert_eq!(
            render(DocumentKind::RichText, &again.update, Format::Json).await,
            json,
            "{exported}"
        );
    }
}

#[tokio::test]
async fn an_import_is_appended_and_has_only_new_blocks() {
    let first = import(DocumentKind::RichText, Source::Text, EMPTY, "one\n\nthree")
        .await
        .unwrap();
    let request = ImportRequest {
        kind: DocumentKind::RichText,
        state: first.update.clone(),
        foreign: Bytes::from_static(b"<p>four</p><p>five</p>"),
        source: Source::Html,
        client: 8,
    };
    let second = pool(1).import("import", request).await.unwrap();
    let update = weft_crdt::Update::parse(second.update.clone()).unwrap();
    assert_eq!(
        update.ranges().keys().map(|client| client.get()).collect::<Vec<_>>(),
        [8]
    );
    let updates = [first.update, second.update].map(|update| weft_crdt::Update::parse(update).unwrap());
    let both: Bytes = weft_crdt::merge(&updates).unwrap().encode().into();
    assert_eq!(
        render(DocumentKind::RichText, &both, Format::Text).await,
        "one\n\nthree\nfour\nfive"
    );
}

#[tokio::test]
async fn a_text_keeps_markdown_and_gets_html_as_markdown() {
    for (source, foreign, expected) in [
        (Source::Text, "a\r\nb", "a\nb"),
        (Source::Markdown, "# a *b*", "# a *b*"),
        (Source::Html, "<h1>a <em>b</em></h1>", "# a *b*\n"),
    ] {
        let imported = import(DocumentKind::Text, source, EMPTY, foreign).await.unwrap();
        assert_eq!(
            render(DocumentKind::Text, &imported.update, Format::Text).await,
            expected
        );
    }
    let before = Bytes::from(super::text_update("x"));
    let imported = import(DocumentKind::Text, Source::Text, &before, "y").await.unwrap();
    let updates = [before, imported.update].map(|update: Bytes| weft_crdt::Update::parse(update).unwrap());
    let both: Bytes = weft_crdt::merge(&updates).unwrap().encode().into();
    assert_eq!(render(DocumentKind::Text, &both, Format::Text).await, "x\ny");
}

#[tokio::test]
async fn hostile_files_are_refused_or_imported_within_limits() {
    let deep = "<blockquote>".repeat(100_000) + "a";
    let imported = import(DocumentKind::RichText, Source::Html, EMPTY, &deep)
        .await
        .unwrap();
    assert_eq!(
        render(DocumentKind::RichText, &imported.update, Format::Text).await,
        "a"
    );
    assert_eq!(imported.lost[0].kind, "nesting");
    for (source, foreign) in [
        (Source::Html, "<b>".repeat(500_000)),
        (Source::Html, "<ul><li>".repeat(100_000)),
        (Source::Html, format!("<p {}>a", "a=1 ".repeat(200_000))),
        (Source::Html, "<table>".repeat(100_000)),
        (Source::Markdown, "[".repeat(200_000)),
        (Source::Markdown, "> ".repeat(100_000)),
        (Source::Markdown, "*a_ ".repeat(100_000)),
        (Source::Html, "<!".repeat(500_000)),
        (Source::Html, "\0\u{fffe}<\0>&#0;&#x110000;".repeat(1_000)),
    ] {
        let begin: String = foreign.chars().take(20).collect();
        match import(DocumentKind::RichText, source, EMPTY, &foreign).await {
            Ok(imported) => drop(render(DocumentKind::RichText, &imported.update, Format::Json).await),
            Err(RenderError::Refused { .. }) => {}
            Err(error) => panic!("{begin}: {error}"),
        }
    }
    let many = "<p>a".repeat(60_000);
    let refused = import(DocumentKind::RichText, Source::Html, EMPTY, &many).await;
    assert!(
        matches!(
            refused,
            Err(RenderError::Refused {
                error: PlaceError::TooLarge { .. },
                ..
            })
        ),
        "{refused:?}"
    );
    // The most that is allowed is done within the limits of a worker.
    let most = "<p>a".repeat(24_000);
    import(DocumentKind::RichText, Source::Html, EMPTY, &most)
        .await
        .unwrap();
    let board = import(DocumentKind::Canvas, Source::Text, EMPTY, "a").await;
    assert!(matches!(board, Err(RenderError::Refused { .. })), "{board:?}");
}
