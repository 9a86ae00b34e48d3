//! A renderer in this process: `insert`, `append` and `delete` in a plain text, made by Yjs. Must not be used for anything
//! hostile: tests of rendering start real workers.

use async_trait::async_trait;
use weft_crdt::Update;
use weft_render::{
    AnchorRequest, Applied, ApplyRequest, Change, DiffRequest, Difference, EditRequest, Edited, ImportRequest,
    Imported, LocateRequest, Located, LostContent, PlaceError, RenderError, RenderRequest, Rendered, Renderer,
    RestoreRequest, TextHash, testing::NoRenderer,
};
use weft_testkit::Editor;
use weft_wire::anchor::Anchor;

#[derive(Debug, Clone, Copy)]
pub struct TextRenderer;

#[async_trait]
impl Renderer for TextRenderer {
    async fn render(&self, _: &str, request: RenderRequest) -> Result<Rendered, RenderError> {
        Ok(Rendered {
            content: Editor::open(1, &request.state).text(),
            text_hash: TextHash([0; 32]),
        })
    }

    async fn edit(&self, _: &str, request: EditRequest) -> Result<Edited, RenderError> {
        let EditRequest {
            state,
            base,
            changes,
            client,
            ..
        } = request;
        let mut editor = Editor::open(client, base.as_ref().unwrap_or(&state));
        let mut updates = Vec::new();
        for (change, asked) in changes.into_iter().enumerate() {
            let end = u32::try_from(editor.text().encode_utf16().count()).unwrap();
            let update = match asked {
                Change::Insert { at, text, .. } if at <= end => editor.insert(at as usize, &text),
                Change::Append { text, .. } => editor.append(&text),
                Change::Delete { at, length, .. } if at.saturating_add(length) <= end => editor.remove(at, length),
                Change::Insert { at, .. } | Change::Delete { at, .. } => {
                    let error = PlaceError::Range { from: at, to: at, end };
                    return Err(RenderError::Refused { change, error });
                }
                other => panic!("{other:?}"),
            };
            updates.push(Update::parse(update).unwrap());
        }
        Ok(Edited {
            update: weft_crdt::merge(&updates).unwrap().encode().into(),
            conflicts: Vec::new(),
        })
    }

    async fn diff(&self, document: &str, request: DiffRequest) -> Result<Difference, RenderError> {
        NoRenderer.diff(document, request).await
    }

    /// Only to the empty document.
    async fn apply(&self, _: &str, request: ApplyRequest) -> Result<Applied, RenderError> {
        assert_eq!(&*request.state, [0, 0]);
        let suggested = Editor::open(1, &request.suggestion).text();
        Ok(Applied {
            update: Editor::open(request.client, &request.state).append(&suggested),
            difference: Difference::default(),
            applies: true,
        })
    }

    /// Text as it is; a capital X is left out.
    async fn import(&self, _: &str, request: ImportRequest) -> Result<Imported, RenderError> {
        let text = String::from_utf8(request.foreign.to_vec()).unwrap();
        let lost = LostContent {
            kind: "X".to_owned(),
            count: text.matches('X').count() as u64,
            example: None,
        };
        Ok(Imported {
            update: Editor::open(request.client, &request.state).append(&text.replace('X', "")),
            lost: Vec::from_iter(Some(lost).filter(|lost| lost.count > 0)),
        })
    }

    async fn restore(&self, document: &str, request: RestoreRequest) -> Result<Edited, RenderError> {
        NoRenderer.restore(document, request).await
    }

    async fn anchor(&self, document: &str, request: AnchorRequest) -> Result<Anchor, RenderError> {
        NoRenderer.anchor(document, request).await
    }

    async fn locate(&self, document: &str, request: LocateRequest) -> Result<Vec<Located>, RenderError> {
        NoRenderer.locate(document, request).await
    }
}
