//! Compaction: the same document in fewer bytes. Neighbouring blocks of a client are joined, and the content of deleted
//! blocks is dropped.
//!
//! Joining is safe if the later block's origin is the last unit of the earlier one and both right origins are equal: an
//! engine that integrates the joined block puts the later units directly after the earlier ones, where they would be
//! placed anyway. A peer that knows only the first block gets a part of the joined one, with the same origins. Must not
//! change what the document shows, whatever it is merged with.

use crate::block::{Block, Kind, Links};
use crate::builder::{Builder, Shape};
use crate::content::Body;
use crate::lib0::Writer;
use crate::order;
use crate::update::Run;
use crate::{ClientId, Id, Update};

/// Encodes the same document in fewer bytes, whatever it is merged with.
pub fn compact(update: &Update) -> Update {
    let dead = in_deleted_types(update);
    let mut out = Joiner {
        out: Builder::with_capacity(update.buf.len(), update.blocks.len() / 4),
        open: None,
    };
    for run in &update.runs {
        compact_run(update, run, &dead, &mut out);
    }
    out.close();
    out.out.finish(update.deletes.clone())
}

fn compact_run(update: &Update, run: &Run, dead: &[bool], out: &mut Joiner) {
    let mut deleted = update.deletes.ranges(run.client);
    for (at, block) in (run.first as usize..).zip(update.run_blocks(run)) {
        let mut content = block.content(&update.buf);
        let mut a = 0;
        while a < block.len {
            let clock = block.clock + a;
            while let Some((_, rest)) = deleted.split_first().filter(|((_, to), _)| *to <= clock) {
                deleted = rest;
            }
            let (gone, until) = match deleted.first() {
                Some((from, to)) if *from <= clock => (true, *to),
                Some((from, _)) => (false, *from),
                None => (false, block.end_clock()),
            };
            let b = until.min(block.end_clock()) - block.clock;
            let kind = match block.kind() {
                kind @ (Kind::Gc | Kind::Skip) => kind,
                _ if gone && dead.get(at).copied().unwrap_or(false) => Kind::Gc,
                _ if gone => Kind::Deleted,
                kind => kind,
            };
            out.push(Piece {
                block,
                buf: &update.buf,
                a,
                b,
                kind,
                body: content.take(b - a),
            });
            a = b;
        }
    }
}

/// For each block, whether it is in a type that the update itself deletes. Yjs keeps no position for such blocks. Empty
/// if no type is deleted, or if the references of blocks form a cycle.
fn in_deleted_types(update: &Update) -> Vec<bool> {
    if !update
        .blocks
        .iter()
        .any(|b| matches!(b.links, Links::Parent(_)) || b.kind() == Kind::Gc)
    {
        return Vec::new();
    }
    let mut dead = vec![false; update.blocks.len()];
    let walked = order::in_order(update, |at| {
        let Some(block) = update.blocks.get(at) else { return };
        // An honest editor never refers to a later block of the same client; such a reference is not followed.
        let backward = |id: &Id| id.client != block.client || id.clock < block.clock;
        let with = |id: Id| {
            let to = update.find(Some(id).filter(backward)?)?;
            Some((*dead.get(to)?, update.blocks.get(to)?))
        };
        let beside = |id: Id| with(id).is_some_and(|(dead, b)| dead || b.kind() == Kind::Gc);
        let is_dead = match block.links {
            Links::Root => false,
            Links::Parent(id) => beside(id) || (with(id).is_some() && update.deletes.contains(id)),
            Links::Origin(id) | Links::Right(id) => beside(id),
            Links::Both(origin, right) => beside(origin) || beside(right),
        };
        if let Some(slot) = dead.get_mut(at) {
            *slot = is_dead;
        }
    });
    if walked.is_err() {
        return Vec::new();
    }
    dead
}

/// Units `[a, b)` of a block, to be written as a block of `kind`.
struct Piece<'a> {
    block: &'a Block,
    buf: &'a [u8],
    a: u32,
    b: u32,
    kind: Kind,
    /// The original content; not written if the kind has changed.
    body: Body<'a>,
}

/// Keeps the last piece open, so that the next one can continue it if that is safe.
struct Joiner {
    out: Builder,
    open: Option<Open>,
}

struct Open {
    shape: Shape,
    kind: Kind,
    keyed: bool,
    head: Writer,
    content: Vec<u8>,
}

impl Joiner {
    fn push(&mut self, piece: Piece<'_>) {
        let Piece {
            block,
            buf,
            a,
            b,
            kind,
            body,
        } = piece;
        let links = block.links_at(a);
        let keyed = block.info & Block::HAS_SUB != 0;
        let body = if kind == block.kind() { body } else { Body::Units };
        if let Some(open) = self
            .open
            .as_mut()
            .filter(|open| open.continued_by(block, a, kind, links, keyed))
        {
            open.shape.len += b - a;
            body.append_to(&mut open.content);
            return;
        }
        self.close();
        if !kind.divisible() {
            self.out.push(block, buf);
            return;
        }
        let mut head = Writer::with_capacity(32);
        block.write_head(&mut head, buf, a, kind);
        let mut content = Vec::new();
        body.append_to(&mut content);
        let links = if matches!(kind, Kind::Gc | Kind::Skip) {
            Links::Root
        } else {
            links
        };
        let shape = Shape {
            client: block.client,
            clock: block.clock + a,
            len: b - a,
            links,
        };
        self.open = Some(Open {
            shape,
            kind,
            keyed,
            head,
            content,
        });
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let body = match open.kind {
            Kind::String => Body::Text {
                half_before: false,
                text: &open.content,
                half_after: false,
            },
            Kind::Any | Kind::Json => Body::Elements(&open.content),
            _ => Body::Units,
        };
        let len = open.shape.len;
        self.out
            .push_built(open.shape, |w| w.raw(open.head.as_slice()), |w| body.write(w, len));
    }
}

impl Open {
    fn continued_by(&self, block: &Block, a: u32, kind: Kind, links: Links, keyed: bool) -> bool {
        let client: ClientId = self.shape.client;
        let end = self.shape.clock.saturating_add(self.shape.len);
        if kind != self.kind || block.client != client || block.clock + a != end {
            return false;
        }
        match kind {
            Kind::Gc | Kind::Skip => return true,
            // Each map entry is a value of its own, and only the last one is visible.
            Kind::Any | Kind::Json if keyed || self.keyed => return false,
            _ => {}
        }
        links.origin() == Some(Id { client, clock: end - 1 }) && links.right() == self.shape.links.right()
    }
}
