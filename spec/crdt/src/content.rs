//! The content of blocks as bytes: divided into pieces, joined, written. Must not depend on the position of a block.

use crate::block::Kind;
use crate::lib0::{Reader, Writer};
use crate::parse::skip_element;

/// A part of a block's content, ready to be written or joined to another part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// Only a length (Gc, Deleted, Skip).
    Units,
    /// Text; a flag at either end stands for half of a surrogate pair, which is written as U+FFFD, as in Yjs.
    Text {
        half_before: bool,
        text: &'a [u8],
        half_after: bool,
    },
    /// List elements.
    Elements(&'a [u8]),
    /// Content that is never divided.
    Whole(&'a [u8]),
}

const HALF: &[u8] = "\u{fffd}".as_bytes();

/// The content of a block, read from the front. Reading it in pieces costs as much as reading it at once.
pub(crate) struct Content<'a> {
    kind: Kind,
    rest: &'a [u8],
    /// The last piece ended inside a surrogate pair, whose bytes are consumed already.
    inside_pair: bool,
}

impl<'a> Content<'a> {
    pub(crate) fn new(kind: Kind, bytes: &'a [u8]) -> Self {
        let rest = match kind {
            Kind::String | Kind::Any | Kind::Json => skip_number(bytes),
            _ => bytes,
        };
        Content {
            kind,
            rest,
            inside_pair: false,
        }
    }

    /// The next units, at least one.
    pub(crate) fn take(&mut self, units: u32) -> Body<'a> {
        match self.kind {
            Kind::Gc | Kind::Skip | Kind::Deleted => Body::Units,
            Kind::String => self.take_text(units),
            Kind::Any | Kind::Json => {
                let mut r = Reader::new(self.rest);
                let end = elements_end(&mut r, self.kind, units);
                Body::Elements(self.pass(end))
            }
            _ => Body::Whole(self.pass(self.rest.len())),
        }
    }

    fn take_text(&mut self, units: u32) -> Body<'a> {
        let half_before = std::mem::take(&mut self.inside_pair);
        let wanted = units - u32::from(half_before);
        let (end, walked) = walk(self.rest, wanted);
        let text = self.pass(end);
        self.inside_pair = walked < wanted;
        if self.inside_pair {
            self.pass(PAIR_BYTES);
        }
        Body::Text {
            half_before,
            text,
            half_after: self.inside_pair,
        }
    }

    fn pass(&mut self, bytes: usize) -> &'a [u8] {
        let (now, later) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, &[]));
        self.rest = later;
        now
    }
}

/// A character of two UTF-16 units has four bytes in UTF-8.
const PAIR_BYTES: usize = 4;

impl Body<'_> {
    /// Appends it without a count.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Body::Units => {}
            Body::Text {
                half_before,
                text,
                half_after,
            } => {
                if *half_before {
                    out.extend_from_slice(HALF);
                }
                out.extend_from_slice(text);
                if *half_after {
                    out.extend_from_slice(HALF);
                }
            }
            Body::Elements(bytes) | Body::Whole(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Writes it as the content of a block of `len` units.
    pub(crate) fn write(&self, w: &mut Writer, len: u32) {
        match self {
            Body::Units => w.var_uint(u64::from(len)),
            Body::Text {
                half_before,
                text,
                half_after,
            } => {
                let halves = usize::from(*half_before) + usize::from(*half_after);
                w.var_uint((text.len() + halves * HALF.len()) as u64);
                if *half_before {
                    w.raw(HALF);
                }
                w.raw(text);
                if *half_after {
                    w.raw(HALF);
                }
            }
            Body::Elements(bytes) => {
                w.var_uint(u64::from(len));
                w.raw(bytes);
            }
            Body::Whole(bytes) => w.raw(bytes),
        }
    }
}

/// The content after the number at its start.
pub(crate) fn skip_number(content: &[u8]) -> &[u8] {
    let mut r = Reader::new(content);
    // The block was parsed before, so the number is present.
    let _ = r.var_uint();
    r.rest()
}

fn elements_end(r: &mut Reader<'_>, kind: Kind, count: u32) -> usize {
    for _ in 0..count {
        if skip_element(r, kind).is_err() {
            break; // cannot be: the content was parsed before
        }
    }
    r.position()
}

/// The byte position and units of the longest prefix of whole characters with at most `n` units.
fn walk(text: &[u8], n: u32) -> (usize, u32) {
    let mut units = 0;
    let mut at = 0;
    while units < n {
        let Some(lead) = text.get(at) else { break };
        let (bytes, width) = char_size(*lead);
        if units + width > n {
            break;
        }
        units += width;
        at += bytes;
    }
    (at.min(text.len()), units)
}

/// Bytes and UTF-16 units of the character that begins with this byte.
pub(crate) fn char_size(lead: u8) -> (usize, u32) {
    match lead {
        0..0x80 => (1, 1),
        0x80..0xe0 => (2, 1),
        0xe0..0xf0 => (3, 1),
        0xf0.. => (4, 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, sizes: &[u32]) -> Vec<String> {
        let mut w = Writer::new();
        w.var_str(text);
        let bytes = w.into_vec();
        let mut content = Content::new(Kind::String, &bytes);
        let piece = |size: &u32| {
            let mut out = Vec::new();
            content.take(*size).append_to(&mut out);
            String::from_utf8(out).expect("whole characters")
        };
        sizes.iter().map(piece).collect()
    }

    #[test]
    fn text_is_divided_in_utf16_units_and_halves_become_u_fffd() {
        assert_eq!(pieces("añ日😀z", &[6]), ["añ日😀z"]);
        assert_eq!(pieces("añ日😀z", &[1, 2, 2, 1]), ["a", "ñ日", "😀", "z"]);
        assert_eq!(pieces("añ日😀z", &[2, 2, 2]), ["añ", "日\u{fffd}", "\u{fffd}z"]);
        assert_eq!(pieces("😀😀", &[1, 2, 1]), ["\u{fffd}", "\u{fffd}\u{fffd}", "\u{fffd}"]);
        assert_eq!(pieces("😀", &[1, 1]), ["\u{fffd}", "\u{fffd}"]);
    }
}
