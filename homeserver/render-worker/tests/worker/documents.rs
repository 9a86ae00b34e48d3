//! Documents of the tests: written by yrs as other clients, edited by workers. What a worker writes must be admitted.

use serde_json::Value;
use weft_crdt::{Admission, Bounds, ClientId, Known, StateVector, Update as Parsed};
use weft_render::{
    Change, EditRequest, Edited, Format, PlaceError, Pool, RenderError, RenderRequest, Renderer as _, Unit,
};
use weft_wire::document::DocumentKind;
use yrs::updates::decoder::Decode as _;
use yrs::{Doc, OffsetKind, Options, ReadTxn as _, Text as _, Transact as _, TransactionMut, Update};

/// The client id of edits.
pub(crate) const EDITOR: u64 = 77;

/// A document that the tests write as other clients.
pub(crate) struct Document {
    pub(crate) kind: DocumentKind,
    pub(crate) state: Vec<u8>,
}

impl Document {
    pub(crate) fn new(kind: DocumentKind) -> Self {
        let state = vec![0, 0];
        Self { kind, state }
    }

    pub(crate) fn text(text: &str) -> Self {
        let mut document = Self::new(DocumentKind::Text);
        document.write(1, |roots, txn| roots.text.insert(txn, 0, text));
        document
    }

    fn load(&self, client: u64) -> Doc {
        let doc = Doc::with_options(Options {
            offset_kind: OffsetKind::Utf16,
            // The server merges updates without an engine, which would remove marks.
            cleanup_formatting: false,
            ..Options::with_client_id(yrs::ClientID::new(client))
        });
        let update = Update::decode_v1(&self.state).unwrap();
        doc.transact_mut().apply_update(update).unwrap();
        doc
    }

    pub(crate) fn write(&mut self, client: u64, write: impl FnOnce(&Roots, &mut TransactionMut<'_>)) {
        let doc = self.load(client);
        let roots = Roots {
            text: doc.get_or_insert_text("body"),
            elements: doc.get_or_insert_map("elements"),
        };
        let mut txn = doc.transact_mut();
        write(&roots, &mut txn);
        self.state = txn.encode_state_as_update_v1(&yrs::StateVector::default());
    }

    /// The update of a write, which is not merged.
    pub(crate) fn update(&mut self, client: u64, write: impl FnOnce(&Roots, &mut TransactionMut<'_>)) -> Vec<u8> {
        let mut update = Vec::new();
        self.write(client, |roots, txn| {
            write(roots, txn);
            update = txn.encode_update_v1();
        });
        update
    }

    pub(crate) fn merge(&mut self, update: &[u8]) {
        let doc = self.load(0);
        let mut txn = doc.transact_mut();
        txn.apply_update(Update::decode_v1(update).unwrap()).unwrap();
        assert!(!txn.has_missing_updates());
        self.state = txn.encode_state_as_update_v1(&yrs::StateVector::default());
    }

    pub(crate) fn request(&self, base: Option<&[u8]>, changes: Value) -> EditRequest {
        EditRequest {
            kind: self.kind,
            state: self.state.clone().into(),
            base: base.map(|base| base.to_vec().into()),
            changes: serde_json::from_value::<Vec<Change>>(changes).unwrap(),
            unit: Unit::Utf16,
            client: EDITOR,
            clock: 0,
        }
    }

    /// Makes the edit, checks that it would be admitted, and merges it.
    pub(crate) async fn edit(&mut self, pool: &Pool, base: Option<&[u8]>, changes: Value) -> Edited {
        let edited = pool.edit("!a", self.request(base, changes)).await.unwrap();
        self.check_admission(&edited.update);
        self.merge(&edited.update);
        edited
    }

    /// The same as another client, without the check.
    pub(crate) async fn edit_as(&mut self, pool: &Pool, client: u64, changes: Value) {
        let request = EditRequest {
            client,
            ..self.request(None, changes)
        };
        let edited = pool.edit("!a", request).await.unwrap();
        self.merge(&edited.update);
    }

    pub(crate) async fn refusal(&self, pool: &Pool, changes: Value) -> (usize, PlaceError) {
        let mut request = self.request(None, changes);
        request.client = EDITOR + 9;
        match pool.edit("!a", request).await {
            Err(RenderError::Refused { change, error }) => (change, error),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn check_admission(&self, update: &[u8]) {
        let state = Parsed::parse(self.state.clone().into()).unwrap();
        let known = Here(state.state_vector());
        let parsed = Parsed::parse(update.to_vec().into()).unwrap();
        let admission = weft_crdt::admit_within(&parsed, "@me:here.example", &known, &Bounds::LIVE);
        assert!(
            matches!(admission, Ok(Admission::Admitted { .. } | Admission::Known)),
            "{admission:?}"
        );
        for (client, _) in parsed.state_vector().iter() {
            assert_eq!(client.get(), EDITOR, "blocks of another client");
        }
    }

    pub(crate) async fn render(&self, pool: &Pool, format: Format) -> String {
        let (kind, state) = (self.kind, self.state.clone().into());
        let rendered = pool.render("!a", RenderRequest { kind, state, format }).await;
        rendered.unwrap().content
    }

    pub(crate) async fn json(&self, pool: &Pool) -> Value {
        serde_json::from_str(&self.render(pool, Format::Json).await).unwrap()
    }
}

pub(crate) struct Roots {
    pub(crate) text: yrs::TextRef,
    pub(crate) elements: yrs::MapRef,
}

struct Here(StateVector);

impl Known for Here {
    fn end(&self, client: ClientId) -> u32 {
        self.0.get(client)
    }

    fn owner(&self, client: ClientId) -> Option<&str> {
        (client.get() != EDITOR).then_some("@other:there.example")
    }
}
