//! Updates as Yjs encodes them for a user who types one letter after another.
//!
//! Encoded without a CRDT, so that a thousand typing users cost the client almost nothing. Must not be used where a
//! document is read.

use weft_crdt::lib0::Writer;

/// The root text of documents of kind `text`.
const ROOT: &str = "body";

/// A typing user.
#[derive(Debug)]
pub struct Typist {
    /// The Yjs client id.
    pub client: u64,
    /// Number of letters typed.
    pub typed: u32,
}

impl Typist {
    /// A user with a random client id.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client: u64::from(rand::random::<u32>().max(1)),
            typed: 0,
        }
    }

    /// The update of the next letter.
    pub fn letter(&mut self) -> Vec<u8> {
        let mut update = Writer::with_capacity(24);
        update.var_uint(1);
        update.var_uint(1);
        update.var_uint(self.client);
        update.var_uint(u64::from(self.typed));
        if let Some(before) = self.typed.checked_sub(1) {
            // A string with an origin (left neighbour).
            update.u8(0x84);
            update.var_uint(self.client);
            update.var_uint(u64::from(before));
        } else {
            // A string in a root type, by the root's name.
            update.u8(4);
            update.var_uint(1);
            update.var_str(ROOT);
        }
        let letter = char::from(b'a' + u8::try_from(self.typed % 26).unwrap_or(0));
        update.var_str(letter.encode_utf8(&mut [0; 4]));
        update.var_uint(0);
        self.typed += 1;
        update.into_vec()
    }
}

impl Default for Typist {
    fn default() -> Self {
        Self::new()
    }
}
