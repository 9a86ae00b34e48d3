//! One block of an update: the position of its bytes, its references, and the encoding of a part of it. Must not decide
//! about admission.

use crate::content::{Body, Content};
use crate::lib0::{Reader, Writer};
use crate::{ClientId, Id};

/// The content kind of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Garbage-collected: no content and no position in the document.
    Gc = 0,
    /// Deleted: no content, but a position.
    Deleted = 1,
    /// JSON values of the oldest Yjs versions.
    Json = 2,
    /// Bytes.
    Binary = 3,
    /// Text.
    String = 4,
    /// An object embedded in a text.
    Embed = 5,
    /// The start or end of a format.
    Format = 6,
    /// A shared type: the parent of other blocks.
    Type = 7,
    /// lib0 values.
    Any = 8,
    /// A sub-document.
    Doc = 9,
    /// A gap in an update: blocks that it does not contain.
    Skip = 10,
}

impl Kind {
    pub(crate) fn of_info(info: u8) -> Option<Kind> {
        Some(match info & 0x1f {
            0 => Kind::Gc,
            1 => Kind::Deleted,
            2 => Kind::Json,
            3 => Kind::Binary,
            4 => Kind::String,
            5 => Kind::Embed,
            6 => Kind::Format,
            7 => Kind::Type,
            8 => Kind::Any,
            9 => Kind::Doc,
            10 => Kind::Skip,
            _ => return None,
        })
    }

    /// Whether blocks of this kind can have several units, and so can be divided and joined.
    pub(crate) fn divisible(self) -> bool {
        matches!(
            self,
            Kind::Gc | Kind::Skip | Kind::Deleted | Kind::String | Kind::Any | Kind::Json
        )
    }
}

/// The references of a block. A block names its parent only if it has no neighbour from which it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// A root type by name (in the bytes); also for blocks without a position.
    Root,
    /// The block that is its parent type.
    Parent(Id),
    Origin(Id),
    Right(Id),
    Both(Id, Id),
}

impl Links {
    pub(crate) fn origin(self) -> Option<Id> {
        match self {
            Links::Origin(o) | Links::Both(o, _) => Some(o),
            _ => None,
        }
    }

    pub(crate) fn right(self) -> Option<Id> {
        match self {
            Links::Right(r) | Links::Both(_, r) => Some(r),
            _ => None,
        }
    }

    /// The one or two blocks that must be known before this one.
    pub(crate) fn needs(self) -> impl Iterator<Item = Id> {
        let (a, b) = match self {
            Links::Root => (None, None),
            Links::Parent(p) => (Some(p), None),
            Links::Origin(o) => (Some(o), None),
            Links::Right(r) => (None, Some(r)),
            Links::Both(o, r) => (Some(o), Some(r)),
        };
        a.into_iter().chain(b)
    }
}

/// A parsed block. Byte positions refer to the buffer of its update: `start` is the info byte, `content` follows the
/// references, `end` follows the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) client: ClientId,
    pub(crate) clock: u32,
    pub(crate) len: u32,
    pub(crate) start: u32,
    pub(crate) content: u32,
    pub(crate) end: u32,
    pub(crate) info: u8,
    pub(crate) links: Links,
}

impl Block {
    pub(crate) const HAS_ORIGIN: u8 = 0x80;
    pub(crate) const HAS_RIGHT: u8 = 0x40;
    pub(crate) const HAS_SUB: u8 = 0x20;

    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        // The info byte was checked when the block was created.
        Kind::of_info(self.info).unwrap_or(Kind::Skip)
    }

    #[inline]
    pub(crate) fn end_clock(&self) -> u32 {
        self.clock.saturating_add(self.len)
    }

    pub(crate) fn id(&self) -> Id {
        Id {
            client: self.client,
            clock: self.clock,
        }
    }

    pub(crate) fn raw<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        slice(buf, self.start, self.end)
    }

    /// The references of the part that begins `at` units into the block.
    pub(crate) fn links_at(&self, at: u32) -> Links {
        if at == 0 || matches!(self.kind(), Kind::Gc | Kind::Skip) {
            return self.links;
        }
        let origin = Id {
            client: self.client,
            clock: self.clock + at - 1,
        };
        match self.links.right() {
            Some(right) => Links::Both(origin, right),
            None => Links::Origin(origin),
        }
    }

    /// Writes info and references of the part that begins `at` units into the block, as a block of the given kind.
    pub(crate) fn write_head(&self, w: &mut Writer, buf: &[u8], at: u32, kind: Kind) {
        if matches!(kind, Kind::Gc | Kind::Skip) {
            w.u8(kind as u8);
            return;
        }
        if at == 0 {
            w.u8(self.info & 0xe0 | kind as u8);
            w.raw(slice(buf, self.start + 1, self.content));
            return;
        }
        let right = self.links.right();
        let right_flag = if right.is_some() { Self::HAS_RIGHT } else { 0 };
        w.u8(kind as u8 | Self::HAS_ORIGIN | right_flag | self.info & Self::HAS_SUB);
        w.var_uint(self.client.get());
        w.var_uint(u64::from(self.clock + at - 1));
        if let Some(right) = right {
            w.var_uint(right.client.get());
            w.var_uint(u64::from(right.clock));
        }
    }

    /// The content, to be read piece by piece.
    pub(crate) fn content<'a>(&self, buf: &'a [u8]) -> Content<'a> {
        Content::new(self.kind(), slice(buf, self.content, self.end))
    }

    /// The content of units `[a, b)`.
    pub(crate) fn body<'a>(&self, buf: &'a [u8], a: u32, b: u32) -> Body<'a> {
        let mut content = self.content(buf);
        if a > 0 {
            content.take(a);
        }
        content.take(b - a)
    }
}

pub(crate) fn slice(buf: &[u8], from: u32, to: u32) -> &[u8] {
    buf.get(from as usize..to as usize).unwrap_or_default()
}

/// A block as other crates see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockView<'a> {
    /// Its first unit.
    pub id: Id,
    /// The number of its units.
    pub len: u32,
    /// The content kind.
    pub kind: Kind,
    /// The left origin: the unit to its left when it was created.
    pub origin: Option<Id>,
    /// The right origin: the unit to its right when it was created.
    pub right_origin: Option<Id>,
    /// Its parent type, if the block names it.
    pub parent: Option<Parent<'a>>,
    /// Its key in a map, if the block names it.
    pub parent_sub: Option<&'a str>,
    /// The bytes of the content as encoded.
    pub content: &'a [u8],
}

/// The parent type of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent<'a> {
    /// A root type.
    Root(&'a str),
    /// The type in this block.
    Block(Id),
}

impl<'a> BlockView<'a> {
    pub(crate) fn new(block: &Block, buf: &'a [u8]) -> Self {
        let kind = block.kind();
        let mut view = BlockView {
            id: block.id(),
            len: block.len,
            kind,
            origin: block.links.origin(),
            right_origin: block.links.right(),
            parent: None,
            parent_sub: None,
            content: slice(buf, block.content, block.end),
        };
        if matches!(kind, Kind::Gc | Kind::Skip) || view.origin.or(view.right_origin).is_some() {
            return view;
        }
        let mut r = Reader::new(slice(buf, block.start + 1, block.content));
        let _ = r.u8();
        if let Links::Parent(id) = block.links {
            view.parent = Some(Parent::Block(id));
            let _ = (r.var_uint(), r.var_uint());
        } else {
            view.parent = r.var_str().ok().map(Parent::Root);
        }
        if block.info & Block::HAS_SUB != 0 {
            view.parent_sub = r.var_str().ok();
        }
        view
    }
}
