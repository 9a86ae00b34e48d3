//! Anchors of comments: made of places, and found again in a later text. Positions are ids of blocks, so that they move with the text.
//! Must not trust an anchor: a stranger may have written it.

use std::collections::HashMap;

use weft_render::protocol::Answer;
use weft_render::{Located, NotRendered, Place, PlaceError, Target, Unit};
use weft_wire::anchor::{Anchor, AnchorTarget, BlockId, RelativePosition, quotation};
use weft_wire::document::DocumentKind;
use weft_wire::limits::MAX_RENDER_DEPTH;
use yrs::branch::BranchID;
use yrs::{
    Assoc, ClientID, ID, IndexScope, IndexedSequence as _, Map as _, Out, ReadTxn, StickyIndex, TextRef, Transact as _,
    XmlFragmentRef, XmlOut,
};

use super::compare::{as_parent, branch_id, children};
use super::edit::place::{self, plain};
use super::edit::text::{End, length_in, quoted, units_of};
use super::edit::{invalid, refused};
use super::load::{Loaded, Root};
use super::node::Node;
use super::normal;
use super::{EngineError, Parts, plain as plain_text};

/// Makes an anchor of a place.
pub(crate) fn anchor(
    kind: DocumentKind,
    target: &Target,
    unit: Unit,
    state: &[u8],
) -> Result<(Answer, Parts), EngineError> {
    let loaded = Loaded::read(kind, state)?;
    let txn = loaded.doc.transact();
    let anchor = match target {
        Target::Range { place, from, to } => range(&loaded.root, &txn, place, (*from, *to), unit),
        Target::Whole { place } => whole(&loaded.root, &txn, place),
    };
    let anchor = anchor.map_err(|error| refused(0, error))?;
    let anchor = Box::new(anchor);
    Ok((Answer::Anchored { anchor }, Parts::default()))
}

fn range<T: ReadTxn>(
    root: &Root,
    txn: &T,
    place: &Place,
    (from, to): (u32, u32),
    unit: Unit,
) -> Result<Anchor, PlaceError> {
    if from >= to {
        return Err(invalid("the range is empty"));
    }
    let text = place::text(root, txn, place)?;
    let (first, last, quote) = quoted(&text, txn, unit, (from, to))?;
    Ok(Anchor {
        from: Some(position(&first, txn, Assoc::After)?),
        to: Some(position(&last, txn, Assoc::Before)?),
        quote: quotation(&quote).to_owned(),
        ..Anchor::default()
    })
}

/// The position before, or after, a character or an object.
fn position<T: ReadTxn>(end: &End, txn: &T, assoc: Assoc) -> Result<RelativePosition, PlaceError> {
    let lost = || invalid("the place has no position");
    let assoc_number = match assoc {
        Assoc::After => 0,
        Assoc::Before => -1,
    };
    let (within, item) = match end {
        End::Text(text, at) => {
            // Before the character at `at`, or after it.
            let index = at.saturating_add(u32::from(assoc == Assoc::Before));
            let found = text.sticky_index(txn, index, assoc).ok_or_else(lost)?;
            let item = *found.id().ok_or_else(lost)?;
            (branch_id(text.as_ref()), BranchID::Nested(item))
        }
        End::Object(parent, id) => (parent.clone(), id.clone()),
    };
    let BranchID::Nested(item) = item else {
        return Err(lost());
    };
    let (within, tname) = match within {
        BranchID::Nested(id) => (Some(block_id(&id)), None),
        BranchID::Root(name) => (None, Some(name.to_string())),
    };
    Ok(RelativePosition {
        within,
        tname,
        item: Some(block_id(&item)),
        assoc: assoc_number,
    })
}

const fn block_id(id: &ID) -> BlockId {
    BlockId {
        client: id.client.get(),
        clock: id.clock,
    }
}

fn whole<T: ReadTxn>(root: &Root, txn: &T, place: &Place) -> Result<Anchor, PlaceError> {
    match root {
        Root::Text(_) => Err(invalid("a text has no blocks and no elements")),
        Root::RichText(fragment) => {
            let element = place::block(fragment, txn, place)?;
            let BranchID::Nested(id) = branch_id(element.as_ref()) else {
                return Err(invalid("the root is no block"));
            };
            let node = normal::element(&element, txn).map_err(|_| invalid("the block can't be read"))?;
            Ok(Anchor {
                node: Some(block_id(&id)),
                quote: quotation(&plain_text::block_text(Node(&node))).to_owned(),
                ..Anchor::default()
            })
        }
        Root::Canvas(map) => {
            let name = place::element_name(place)?;
            let element = map.get(txn, name).ok_or_else(|| PlaceError::NoPlace {
                what: format!("element {name:?}"),
            })?;
            let quote = match element {
                Out::YMap(element) => match element.get(txn, "text") {
                    Some(Out::YText(text)) => String::from_utf16_lossy(&units_of(&text, txn)),
                    Some(Out::Any(yrs::Any::String(text))) => text.to_string(),
                    _ => String::new(),
                },
                _ => String::new(),
            };
            Ok(Anchor {
                element: Some(name.to_owned()),
                quote: quotation(&quote).to_owned(),
                ..Anchor::default()
            })
        }
    }
}

/// Finds the places of anchors.
pub(crate) fn locate(
    kind: DocumentKind,
    anchors: &[Anchor],
    unit: Unit,
    state: &[u8],
) -> Result<(Answer, Parts), EngineError> {
    let loaded = Loaded::read(kind, state)?;
    let txn = loaded.doc.transact();
    let map = PlaceMap::of(&loaded.root, &txn)?;
    let places = anchors.iter().map(|anchor| map.find(anchor, &txn, unit)).collect();
    Ok((Answer::Located { places }, Parts::default()))
}

/// A type that has positions: its place, and where each of its children begins; a text has one beginning.
struct Sequence {
    order: usize,
    place: Place,
    starts: Vec<u32>,
}

/// The places of everything that is in a document now. What is not here was deleted.
#[derive(Default)]
struct PlaceMap {
    sequences: HashMap<BranchID, Sequence>,
    /// The code units of each place with text, for positions in other units.
    units: HashMap<usize, Vec<u16>>,
    nodes: HashMap<BranchID, Place>,
    elements: HashMap<String, Place>,
    blocks: usize,
}

impl PlaceMap {
    fn of<T: ReadTxn>(root: &Root, txn: &T) -> Result<Self, NotRendered> {
        let mut map = Self::default();
        match root {
            Root::Text(text) => {
                map.text(text, txn, Place::default());
            }
            Root::RichText(fragment) => map.children(fragment, txn, &[], MAX_RENDER_DEPTH)?,
            Root::Canvas(elements) => {
                for (name, element) in elements.iter(txn) {
                    let place = Place {
                        element: Some(name.to_owned()),
                        ..Place::default()
                    };
                    map.elements.insert(name.to_owned(), place.clone());
                    let Out::YMap(element) = element else { continue };
                    for (key, value) in element.iter(txn) {
                        if let Out::YText(text) = value {
                            let key = Some(key.to_owned());
                            map.text(&text, txn, Place { key, ..place.clone() });
                        }
                    }
                }
            }
        }
        Ok(map)
    }

    /// A text that is a place of its own.
    fn text<T: ReadTxn>(&mut self, text: &TextRef, txn: &T, place: Place) {
        let order = self.next();
        self.units.insert(order, units_of(text, txn));
        self.sequence(branch_id(text.as_ref()), order, place, vec![0]);
    }

    fn next(&mut self) -> usize {
        self.blocks += 1;
        self.blocks
    }

    fn sequence(&mut self, id: BranchID, order: usize, place: Place, starts: Vec<u32>) {
        self.sequences.insert(id, Sequence { order, place, starts });
    }

    fn children<T: ReadTxn>(
        &mut self,
        parent: &XmlFragmentRef,
        txn: &T,
        path: &[u32],
        levels: u32,
    ) -> Result<(), NotRendered> {
        let levels = levels.checked_sub(1).ok_or(NotRendered::TooDeep {
            limit: MAX_RENDER_DEPTH,
        })?;
        let place = Place {
            path: Some(path.to_vec()),
            ..Place::default()
        };
        let (order, mut units, mut starts) = (self.next(), Vec::new(), Vec::new());
        for (index, child) in (0_u32..).zip(children(parent, txn)) {
            let start = u32::try_from(units.len()).unwrap_or(u32::MAX);
            starts.push(start);
            match &child.node {
                XmlOut::Text(text) => {
                    units.extend(units_of(&plain(text), txn));
                    self.sequence(child.id, order, place.clone(), vec![start]);
                }
                XmlOut::Element(_) | XmlOut::Fragment(_) => {
                    units.push(0xfffc);
                    let path: Vec<u32> = path.iter().copied().chain([index]).collect();
                    let node = Place {
                        path: Some(path.clone()),
                        ..Place::default()
                    };
                    self.nodes.insert(child.id, node);
                    self.children(&as_parent(&child.node), txn, &path, levels)?;
                }
            }
        }
        starts.push(u32::try_from(units.len()).unwrap_or(u32::MAX));
        self.units.insert(order, units);
        self.sequence(branch_id(parent.as_ref()), order, place, starts);
        Ok(())
    }

    fn find<T: ReadTxn>(&self, anchor: &Anchor, txn: &T, unit: Unit) -> Located {
        let whole = |place: Option<&Place>| match place {
            Some(place) => Located::Whole { place: place.clone() },
            None => Located::Gone,
        };
        match anchor.target() {
            Some(AnchorTarget::Document) => Located::Document,
            Some(AnchorTarget::Node(id)) => whole(self.nodes.get(&BranchID::Nested(engine_id(id)))),
            Some(AnchorTarget::Element(name)) => whole(self.elements.get(name)),
            Some(AnchorTarget::Range(from, to)) => self.range(from, to, txn, unit).unwrap_or(Located::Gone),
            None => Located::Gone,
        }
    }

    fn range<T: ReadTxn>(
        &self,
        from: &RelativePosition,
        to: &RelativePosition,
        txn: &T,
        unit: Unit,
    ) -> Option<Located> {
        let ((first, from), (last, to)) = (self.position(from, txn)?, self.position(to, txn)?);
        if (first.order, from) >= (last.order, to) {
            return None;
        }
        Some(Located::Range {
            place: first.place.clone(),
            from: self.counted(first, from, unit)?,
            to: self.counted(last, to, unit)?,
            to_place: (first.order != last.order).then(|| last.place.clone()),
        })
    }

    /// The text of a position, and its code units before the position.
    fn position<T: ReadTxn>(&self, position: &RelativePosition, txn: &T) -> Option<(&Sequence, u32)> {
        let scope = match (position.item, position.within, &position.tname) {
            (Some(item), ..) => IndexScope::Relative(engine_id(item)),
            (None, Some(within), _) => IndexScope::Nested(engine_id(within)),
            (None, None, Some(name)) => IndexScope::Root(name.as_str().into()),
            (None, None, None) => return None,
        };
        let assoc = if position.assoc < 0 {
            Assoc::Before
        } else {
            Assoc::After
        };
        let offset = StickyIndex::new(scope, assoc).get_offset(txn)?;
        let sequence = self.sequences.get(&offset.branch.id())?;
        let start = match sequence.starts.as_slice() {
            [start] => start.saturating_add(offset.index),
            starts => *starts.get(usize::try_from(offset.index).ok()?)?,
        };
        Some((sequence, start))
    }

    fn counted(&self, sequence: &Sequence, at: u32, unit: Unit) -> Option<u32> {
        match unit {
            Unit::Utf16 => Some(at),
            Unit::Codepoint => {
                let units = self.units.get(&sequence.order)?.get(..usize::try_from(at).ok()?)?;
                Some(length_in(unit, units))
            }
        }
    }
}

const fn engine_id(id: BlockId) -> ID {
    ID {
        client: ClientID::new(id.client),
        clock: id.clock,
    }
}
