//! Keys whose bytes sort like their tuples, so that ranges and prefixes of a table are ranges of the store.
//!
//! A physical key is: scope tag, scope id, table tag, the other parts. The scope id comes first, so that all rows of a
//! room (or user, or server) are adjacent, whatever their table. The encodings of parts are prefix-free (no encoded
//! part begins with another one of its type), so the rows "under" some parts are exactly the rows with those parts.
//! Must not change the encoding of an existing part type: stored keys have it.

use bytes::Bytes;
use ruma::{
    DeviceId, EventId, OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    OwnedServerSigningKeyId, OwnedTransactionId, OwnedUserId, RoomAliasId, RoomId, ServerName, ServerSigningKeyId,
    TransactionId, UserId,
};

use crate::table::Scope;

/// What is wrong with the bytes of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid key: {0}")]
pub struct KeyError(pub &'static str);

/// A type that can be a part of a key.
pub trait Part: Sized + AsPart<Self> {
    /// Reads the part from the start of `input` and advances it.
    ///
    /// # Errors
    /// The bytes are not such a part.
    fn read(input: &mut &[u8]) -> Result<Self, KeyError>;
}

/// A value that can be used for a part of type `P`: the part itself or its borrowed form.
pub trait AsPart<P> {
    /// Appends the order-preserving bytes.
    fn write(&self, out: &mut Vec<u8>);
}

impl<P, T: AsPart<P> + ?Sized> AsPart<P> for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

/// A complete key: a tuple of parts.
pub trait Key: Sized {
    /// Reads a key from physical bytes.
    ///
    /// # Errors
    /// The bytes are not such a key of that table.
    fn decode(layout: Layout, bytes: &[u8]) -> Result<Self, KeyError>;
}

/// The first parts of a key `K`, or all of them.
pub trait AsPrefix<K> {
    /// Writes the parts.
    fn write_prefix(&self, writer: &mut KeyWriter);
}

/// All parts of a key `K`.
pub trait AsKey<K>: AsPrefix<K> {}

/// The constant parts of a table's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The scope, with which the keys begin.
    pub scope: Scope,
    /// The number of the table.
    pub tag: u16,
}

/// Builds physical keys.
#[derive(Debug)]
pub struct KeyWriter {
    bytes: Vec<u8>,
    layout: Layout,
    parts: usize,
}

impl KeyWriter {
    /// Starts a key of a table.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(layout.scope.tag());
        if layout.scope.is_list() {
            bytes.extend_from_slice(&layout.tag.to_be_bytes());
        }
        Self {
            bytes,
            layout,
            parts: 0,
        }
    }

    /// Appends a part.
    pub fn part<P>(&mut self, part: &impl AsPart<P>) {
        part.write(&mut self.bytes);
        if self.parts == 0 && !self.layout.scope.is_list() {
            self.bytes.extend_from_slice(&self.layout.tag.to_be_bytes());
        }
        self.parts += 1;
    }

    /// The bytes so far, or `None` if the table has a scope and no part names it.
    #[must_use]
    pub fn finish(self) -> Option<Bytes> {
        let scoped = self.layout.scope.is_list() || self.parts > 0;
        scoped.then(|| Bytes::from(self.bytes))
    }
}

struct KeyReader<'a> {
    bytes: &'a [u8],
    layout: Layout,
    parts: usize,
}

impl<'a> KeyReader<'a> {
    fn new(layout: Layout, bytes: &'a [u8]) -> Result<Self, KeyError> {
        let (tag, rest) = bytes.split_first().ok_or(KeyError("empty"))?;
        if *tag != layout.scope.tag() {
            return Err(KeyError("wrong scope"));
        }
        let mut reader = Self {
            bytes: rest,
            layout,
            parts: 0,
        };
        if layout.scope.is_list() {
            reader.table()?;
        }
        Ok(reader)
    }

    fn table(&mut self) -> Result<(), KeyError> {
        let (tag, rest) = self.bytes.split_first_chunk::<2>().ok_or(KeyError("no table tag"))?;
        if u16::from_be_bytes(*tag) != self.layout.tag {
            return Err(KeyError("wrong table"));
        }
        self.bytes = rest;
        Ok(())
    }

    fn part<P: Part>(&mut self) -> Result<P, KeyError> {
        let part = P::read(&mut self.bytes)?;
        if self.parts == 0 && !self.layout.scope.is_list() {
            self.table()?;
        }
        self.parts += 1;
        Ok(part)
    }

    fn end(&self) -> Result<(), KeyError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(KeyError("too long"))
        }
    }
}

impl<K> AsPrefix<K> for () {
    fn write_prefix(&self, _writer: &mut KeyWriter) {}
}

impl Key for () {
    fn decode(layout: Layout, bytes: &[u8]) -> Result<Self, KeyError> {
        KeyReader::new(layout, bytes)?.end()
    }
}

impl AsKey<()> for () {}

macro_rules! prefix {
    ([$($key:ident),+] [$($part:ident $given:ident $index:tt),+]) => {
        impl<$($key,)+ $($given: AsPart<$part>),+> AsPrefix<($($key,)+)> for ($($given,)+) {
            fn write_prefix(&self, writer: &mut KeyWriter) {
                $(writer.part::<$part>(&self.$index);)+
            }
        }
    };
}

macro_rules! key {
    ($($part:ident $given:ident),+) => {
        impl<$($part: Part),+> Key for ($($part,)+) {
            fn decode(layout: Layout, bytes: &[u8]) -> Result<Self, KeyError> {
                let mut reader = KeyReader::new(layout, bytes)?;
                let key = ($(reader.part::<$part>()?,)+);
                reader.end()?;
                Ok(key)
            }
        }
        impl<$($part,)+ $($given: AsPart<$part>),+> AsKey<($($part,)+)> for ($($given,)+) {}
    };
}

key!(A X);
key!(A X, B Y);
key!(A X, B Y, C Z);
key!(A X, B Y, C Z, D W);
prefix!([A][A X 0]);
prefix!([A, B][A X 0]);
prefix!([A, B][A X 0, B Y 1]);
prefix!([A, B, C][A X 0]);
prefix!([A, B, C][A X 0, B Y 1]);
prefix!([A, B, C][A X 0, B Y 1, C Z 2]);
prefix!([A, B, C, D][A X 0]);
prefix!([A, B, C, D][A X 0, B Y 1]);
prefix!([A, B, C, D][A X 0, B Y 1, C Z 2]);
prefix!([A, B, C, D][A X 0, B Y 1, C Z 2, D W 3]);

macro_rules! unsigned {
    ($($number:ty),+) => {$(
        impl AsPart<$number> for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
        impl Part for $number {
            fn read(input: &mut &[u8]) -> Result<Self, KeyError> {
                let (bytes, rest) = input.split_first_chunk().ok_or(KeyError("truncated number"))?;
                *input = rest;
                Ok(Self::from_be_bytes(*bytes))
            }
        }
    )+};
}
unsigned!(u8, u16, u32, u64);

const SIGN: u64 = 1 << 63;

impl AsPart<i64> for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        // With the sign bit flipped, negative numbers sort before the others.
        AsPart::<u64>::write(&(self.cast_unsigned() ^ SIGN), out);
    }
}

impl Part for i64 {
    fn read(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok((u64::read(input)? ^ SIGN).cast_signed())
    }
}

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const END: u8 = 0x01;

/// A zero byte is encoded as 00 FF and the end as 00 01: a string sorts before its continuations, and no encoded string
/// begins with another.
fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == ESCAPE {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[ESCAPE, END]);
}

pub(crate) fn read_bytes(input: &mut &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::new();
    let mut rest = *input;
    loop {
        let zero = rest
            .iter()
            .position(|byte| *byte == ESCAPE)
            .ok_or(KeyError("unterminated string"))?;
        let (plain, tail) = rest.split_at(zero);
        bytes.extend_from_slice(plain);
        match tail.get(1) {
            Some(&ESCAPED_ZERO) => bytes.push(ESCAPE),
            Some(&END) => {
                *input = tail.get(2..).unwrap_or_default();
                return Ok(bytes);
            }
            _ => return Err(KeyError("invalid escape in a string")),
        }
        rest = tail.get(2..).unwrap_or_default();
    }
}

fn read_text(input: &mut &[u8]) -> Result<String, KeyError> {
    String::from_utf8(read_bytes(input)?).map_err(|_| KeyError("string is not UTF-8"))
}

impl AsPart<Vec<u8>> for Vec<u8> {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self, out);
    }
}

impl AsPart<Vec<u8>> for [u8] {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self, out);
    }
}

impl Part for Vec<u8> {
    fn read(input: &mut &[u8]) -> Result<Self, KeyError> {
        read_bytes(input)
    }
}

impl AsPart<String> for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
}

impl AsPart<String> for str {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
}

impl Part for String {
    fn read(input: &mut &[u8]) -> Result<Self, KeyError> {
        read_text(input)
    }
}

macro_rules! identifiers {
    ($($owned:ty, $borrowed:ty, $name:literal;)+) => {$(
        impl AsPart<$owned> for $owned {
            fn write(&self, out: &mut Vec<u8>) {
                write_bytes(self.as_bytes(), out);
            }
        }
        impl AsPart<$owned> for $borrowed {
            fn write(&self, out: &mut Vec<u8>) {
                write_bytes(self.as_bytes(), out);
            }
        }
        impl Part for $owned {
            fn read(input: &mut &[u8]) -> Result<Self, KeyError> {
                let text = read_text(input)?;
                <$owned>::try_from(text.as_str()).map_err(|_| KeyError(concat!("not a ", $name)))
            }
        }
    )+};
}
identifiers! {
    OwnedRoomId, RoomId, "room id";
    OwnedEventId, EventId, "event id";
    OwnedUserId, UserId, "user id";
    OwnedServerName, ServerName, "server name";
    OwnedDeviceId, DeviceId, "device id";
    OwnedTransactionId, TransactionId, "transaction id";
    OwnedRoomAliasId, RoomAliasId, "room alias";
    OwnedServerSigningKeyId, ServerSigningKeyId, "signing key id";
}
