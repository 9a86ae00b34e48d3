//! A compact binary format for rows with payloads, for which JSON would need base64 or escaping: a version byte,
//! numbers of fixed width (big-endian), and byte strings with a u32 length prefix. Must not panic on damaged bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::value::ValueError;

/// Writes a row.
#[derive(Debug)]
pub struct RowWriter(BytesMut);

impl RowWriter {
    /// Starts a row in this version of its format.
    #[must_use]
    pub fn new(version: u8) -> Self {
        let mut bytes = BytesMut::with_capacity(128);
        bytes.put_u8(version);
        Self(bytes)
    }

    /// Appends a byte.
    #[must_use]
    pub fn u8(mut self, number: u8) -> Self {
        self.0.put_u8(number);
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn u32(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn u64(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    /// Appends a byte string with its length.
    ///
    /// # Errors
    /// It is longer than a u32 can represent.
    pub fn bytes(mut self, bytes: &[u8]) -> Result<Self, ValueError> {
        let length = u32::try_from(bytes.len()).map_err(|_| ValueError("longer than 4 GiB".to_owned()))?;
        self.0.put_u32(length);
        self.0.put_slice(bytes);
        Ok(self)
    }

    /// The bytes of the row, with `rest` (the payload, without a length) at the end.
    #[must_use]
    pub fn finish(mut self, rest: &[u8]) -> Bytes {
        self.0.put_slice(rest);
        self.0.freeze()
    }
}

/// Reads a row.
#[derive(Debug)]
pub struct RowReader(Bytes);

fn cut_off() -> ValueError {
    ValueError("cut off".to_owned())
}

impl RowReader {
    /// Starts reading a row, which must have this version of its format.
    ///
    /// # Errors
    /// It has another version.
    pub fn new(mut bytes: Bytes, version: u8) -> Result<Self, ValueError> {
        match bytes.try_get_u8() {
            Ok(found) if found == version => Ok(Self(bytes)),
            Ok(found) => Err(ValueError(format!("format version {found}, expected {version}"))),
            Err(_) => Err(cut_off()),
        }
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// The row ends before it.
    pub fn u8(&mut self) -> Result<u8, ValueError> {
        self.0.try_get_u8().map_err(|_| cut_off())
    }

    /// Reads a number.
    ///
    /// # Errors
    /// The row ends before it.
    pub fn u32(&mut self) -> Result<u32, ValueError> {
        self.0.try_get_u32().map_err(|_| cut_off())
    }

    /// Reads a number.
    ///
    /// # Errors
    /// The row ends before it.
    pub fn u64(&mut self) -> Result<u64, ValueError> {
        self.0.try_get_u64().map_err(|_| cut_off())
    }

    /// Reads a byte string. It shares the row's memory.
    ///
    /// # Errors
    /// The row ends before it.
    pub fn bytes(&mut self) -> Result<Bytes, ValueError> {
        let length = usize::try_from(self.u32()?).map_err(|_| cut_off())?;
        if length > self.0.len() {
            return Err(cut_off());
        }
        Ok(self.0.split_to(length))
    }

    /// Reads a byte string that is text.
    ///
    /// # Errors
    /// The row ends before it, or it is not UTF-8.
    pub fn text(&mut self) -> Result<String, ValueError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| ValueError("not UTF-8".to_owned()))
    }

    /// The remaining bytes.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.0
    }
}
