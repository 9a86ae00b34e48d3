//! A small binary form for rows that carry payloads, where JSON would need base64 or escaping: a version byte,
//! numbers of fixed width (big-endian), and byte strings with a u32 length before them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::value::ValueError;

/// Writes a row.
#[derive(Debug)]
pub struct RowWriter(BytesMut);

impl RowWriter {
    /// Begins a row of a form's version.
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
    /// When it is longer than a u32 can say.
    pub fn bytes(mut self, bytes: &[u8]) -> Result<Self, ValueError> {
        let length = u32::try_from(bytes.len()).map_err(|_| ValueError("longer than 4 GiB".to_owned()))?;
        self.0.put_u32(length);
        self.0.put_slice(bytes);
        Ok(self)
    }

    /// The row's bytes, with `rest` (the payload, without a length) at the end.
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
    /// Begins to read a row that must be of this version of its form.
    ///
    /// # Errors
    /// When it is of another one.
    pub fn new(mut bytes: Bytes, version: u8) -> Result<Self, ValueError> {
        match bytes.try_get_u8() {
            Ok(found) if found == version => Ok(Self(bytes)),
            Ok(found) => Err(ValueError(format!("form {found}, not {version}"))),
            Err(_) => Err(cut_off()),
        }
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// When the row ends before.
    pub fn u8(&mut self) -> Result<u8, ValueError> {
        self.0.try_get_u8().map_err(|_| cut_off())
    }

    /// Reads a number.
    ///
    /// # Errors
    /// When the row ends before.
    pub fn u32(&mut self) -> Result<u32, ValueError> {
        self.0.try_get_u32().map_err(|_| cut_off())
    }

    /// Reads a number.
    ///
    /// # Errors
    /// When the row ends before.
    pub fn u64(&mut self) -> Result<u64, ValueError> {
        self.0.try_get_u64().map_err(|_| cut_off())
    }

    /// Reads a byte string. It shares the row's memory.
    ///
    /// # Errors
    /// When the row ends before.
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
    /// When the row ends before, or it isn't UTF-8.
    pub fn text(&mut self) -> Result<String, ValueError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| ValueError("not UTF-8".to_owned()))
    }

    /// What is left.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.0
    }
}
