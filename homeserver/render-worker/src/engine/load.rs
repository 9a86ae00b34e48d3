//! A document in the engine: its root by kind, with positions in UTF-16 code units.

use weft_render::NotRendered;
use weft_wire::document::DocumentKind;
use yrs::updates::decoder::Decode as _;
use yrs::{
    ClientID, Doc, MapRef, OffsetKind, Options, ReadTxn as _, StateVector, TextRef, Transact as _, TransactionMut,
    Update, XmlFragmentRef,
};

/// The client id of documents that are only read.
const READER: u64 = 0;

/// A loaded document.
pub(crate) struct Loaded {
    pub(crate) doc: Doc,
    pub(crate) root: Root,
}

/// The root type.
#[derive(Clone)]
pub(crate) enum Root {
    Text(TextRef),
    RichText(XmlFragmentRef),
    Canvas(MapRef),
}

impl Loaded {
    /// Loads a document in order to read it.
    pub(crate) fn read(kind: DocumentKind, state: &[u8]) -> Result<Self, NotRendered> {
        Self::with_client(kind, state, READER, false)
    }

    /// Loads a document in order to write as `client`. With `keep_deleted`, deleted text stays readable.
    pub(crate) fn with_client(
        kind: DocumentKind,
        state: &[u8],
        client: u64,
        keep_deleted: bool,
    ) -> Result<Self, NotRendered> {
        let doc = Doc::with_options(Options {
            offset_kind: OffsetKind::Utf16,
            skip_gc: keep_deleted,
            // Would delete formats of others in an update that is meant to have one edit.
            cleanup_formatting: false,
            ..Options::with_client_id(ClientID::new(client))
        });
        // The root must exist before a transaction begins: creating it opens one.
        let root = match kind {
            DocumentKind::Text => Root::Text(doc.get_or_insert_text(kind.root())),
            DocumentKind::RichText => Root::RichText(doc.get_or_insert_xml_fragment(kind.root())),
            DocumentKind::Canvas => Root::Canvas(doc.get_or_insert_map(kind.root())),
        };
        let loaded = Self { doc, root };
        loaded.apply(state)?;
        Ok(loaded)
    }

    /// Applies an update, whose predecessors must all be there.
    pub(crate) fn apply(&self, update: &[u8]) -> Result<(), NotRendered> {
        apply(&mut self.doc.transact_mut(), update).map(drop)
    }
}

/// Applies an update, whose predecessors must all be there. Returns what it has of each client from the beginning on.
pub(crate) fn apply(txn: &mut TransactionMut<'_>, update: &[u8]) -> Result<StateVector, NotRendered> {
    let update = Update::decode_v1(update).map_err(|_| NotRendered::Malformed)?;
    let vector = update.state_vector();
    txn.apply_update(update).map_err(|_| NotRendered::Malformed)?;
    if txn.has_missing_updates() {
        return Err(NotRendered::Incomplete);
    }
    Ok(vector)
}
