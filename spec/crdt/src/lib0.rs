//! The lib0 encoding, which Yjs and its socket protocols use: variable-length integers, byte strings, text.
//!
//! Total and strict: a number is accepted only in its shortest form, so that equal values have equal bytes. Must not
//! allocate by announced lengths: results borrow from the input.

/// Why bytes are not a valid lib0 encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lib0Error {
    /// The input ends inside a value.
    #[error("the input ends inside a value")]
    End,
    /// A number out of range: over 64 bits unsigned, or over 2^53 - 1 signed.
    #[error("a number is too large")]
    TooLarge,
    /// A number with superfluous zero bytes.
    #[error("a number is not in its shortest form")]
    NotShortest,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
}

/// Reads from a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            rest: bytes,
            len: bytes.len(),
        }
    }

    /// The number of bytes left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The number of bytes read.
    pub fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    /// Whether no bytes are left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes left, without reading them.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads one byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Lib0Error> {
        let (first, rest) = self.rest.split_first().ok_or(Lib0Error::End)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Reads exactly `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Lib0Error> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Lib0Error::End)?;
        self.rest = rest;
        Ok(head)
    }

    /// Reads an unsigned number: 7 bits per byte, least significant first.
    #[inline]
    pub fn var_uint(&mut self) -> Result<u64, Lib0Error> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.var_uint_tail(u64::from(first & 0x7f), 7)
    }

    fn var_uint_tail(&mut self, start: u64, start_shift: u32) -> Result<u64, Lib0Error> {
        let mut value = start;
        let mut shift = start_shift;
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift >= 64 || (bits << shift) >> shift != bits {
                return Err(Lib0Error::TooLarge);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return if byte == 0 {
                    Err(Lib0Error::NotShortest)
                } else {
                    Ok(value)
                };
            }
            shift += 7;
        }
    }

    /// Reads a signed number: sign in bit 6 of the first byte. Minus zero is read as zero.
    pub fn var_int(&mut self) -> Result<i64, Lib0Error> {
        let first = self.u8()?;
        let low = u64::from(first & 0x3f);
        let magnitude = if first & 0x80 == 0 {
            low
        } else {
            self.var_uint_tail(low, 6)?
        };
        if magnitude >= crate::limits::CLIENT_ID_END {
            return Err(Lib0Error::TooLarge);
        }
        let value = i64::try_from(magnitude).map_err(|_| Lib0Error::TooLarge)?;
        Ok(if first & 0x40 == 0 { value } else { -value })
    }

    /// Reads a byte string with a length prefix.
    #[inline]
    pub fn var_bytes(&mut self) -> Result<&'a [u8], Lib0Error> {
        let len = usize::try_from(self.var_uint()?).map_err(|_| Lib0Error::End)?;
        self.take(len)
    }

    /// Reads UTF-8 text with a length prefix in bytes.
    #[inline]
    pub fn var_str(&mut self) -> Result<&'a str, Lib0Error> {
        std::str::from_utf8(self.var_bytes()?).map_err(|_| Lib0Error::Utf8)
    }
}

/// Writes to a growing buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Writer::default()
    }

    /// An empty buffer with capacity for `n` bytes. Must be a length computed here, never one announced by the input.
    pub fn with_capacity(n: usize) -> Self {
        Writer {
            out: Vec::with_capacity(n),
        }
    }

    /// The number of bytes written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The bytes written.
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// Writes one byte.
    #[inline]
    pub fn u8(&mut self, byte: u8) {
        self.out.push(byte);
    }

    /// Writes bytes without a length.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes an unsigned number.
    #[inline]
    pub fn var_uint(&mut self, value: u64) {
        let mut rest = value;
        while rest >= 0x80 {
            self.out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    /// Writes a signed number.
    pub fn var_int(&mut self, value: i64) {
        let magnitude = value.unsigned_abs();
        let sign = if value < 0 { 0x40 } else { 0 };
        let rest = magnitude >> 6;
        let more = if rest > 0 { 0x80 } else { 0 };
        self.out.push((magnitude & 0x3f) as u8 | sign | more);
        if rest > 0 {
            self.var_uint(rest);
        }
    }

    /// Writes a byte string with a length prefix.
    pub fn var_bytes(&mut self, bytes: &[u8]) {
        self.var_uint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Writes text with a length prefix.
    pub fn var_str(&mut self, text: &str) {
        self.var_bytes(text.as_bytes());
    }

    /// The buffer.
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }
}

/// The number of bytes that [`Writer::var_uint`] writes for `value`.
pub fn var_uint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back_unchanged() {
        for value in [0u64, 1, 127, 128, 300, 1 << 31, (1 << 53) - 1, u64::MAX] {
            let mut w = Writer::new();
            w.var_uint(value);
            assert_eq!(w.len(), var_uint_len(value));
            let bytes = w.into_vec();
            let mut r = Reader::new(&bytes);
            assert_eq!(r.var_uint(), Ok(value));
            assert!(r.is_empty());
        }
        for value in [0i64, 1, -1, 63, 64, -64, -65, 1 << 40, -((1 << 53) - 1)] {
            let mut w = Writer::new();
            w.var_int(value);
            let bytes = w.into_vec();
            assert_eq!(Reader::new(&bytes).var_int(), Ok(value));
        }
    }

    #[test]
    fn hostile_numbers_are_errors() {
        assert_eq!(Reader::new(&[0x80]).var_uint(), Err(Lib0Error::End));
        assert_eq!(Reader::new(&[0x81, 0x00]).var_uint(), Err(Lib0Error::NotShortest));
        assert_eq!(Reader::new(&[0xff; 11]).var_uint(), Err(Lib0Error::TooLarge));
        assert_eq!(Reader::new(&[0xff; 11]).var_int(), Err(Lib0Error::TooLarge));
        assert_eq!(Reader::new(&[0x05, 1, 2]).var_bytes(), Err(Lib0Error::End));
        assert_eq!(Reader::new(&[0x01, 0xff]).var_str(), Err(Lib0Error::Utf8));
    }

    #[test]
    fn minus_zero_is_zero() {
        assert_eq!(Reader::new(&[0x40]).var_int(), Ok(0));
    }
}
