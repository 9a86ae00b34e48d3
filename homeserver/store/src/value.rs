//! Values of tables: raw bytes, numbers, text, identifiers, JSON through serde, or a row's own binary format. Must not
//! put the contents of a value into an error.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value: {0}")]
pub struct ValueError(pub String);

/// A type that can be the value of a table. Equal values have equal bytes: fences compare bytes.
pub trait Value: Sized {
    /// The bytes to store.
    ///
    /// # Errors
    /// The value can't be stored.
    fn encode(&self) -> Result<Bytes, ValueError>;

    /// The value from its bytes.
    ///
    /// # Errors
    /// The bytes are not such a value.
    fn decode(bytes: Bytes) -> Result<Self, ValueError>;
}

impl Value for () {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(Bytes::new())
    }
    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        if bytes.is_empty() {
            Ok(())
        } else {
            Err(ValueError("not empty".to_owned()))
        }
    }
}

impl Value for Bytes {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(self.clone())
    }
    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        Ok(bytes)
    }
}

impl Value for u64 {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(Bytes::copy_from_slice(&self.to_be_bytes()))
    }
    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let bytes: [u8; 8] = bytes
            .as_ref()
            .try_into()
            .map_err(|_| ValueError("not 8 bytes".to_owned()))?;
        Ok(Self::from_be_bytes(bytes))
    }
}

fn text(bytes: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(bytes).map_err(|_| ValueError("not UTF-8".to_owned()))
}

impl Value for String {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(Bytes::copy_from_slice(self.as_bytes()))
    }
    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        Ok(text(&bytes)?.to_owned())
    }
}

macro_rules! identifiers {
    ($($owned:ty),+) => {$(
        impl Value for $owned {
            fn encode(&self) -> Result<Bytes, ValueError> {
                Ok(Bytes::copy_from_slice(self.as_bytes()))
            }
            fn decode(bytes: Bytes) -> Result<Self, ValueError> {
                <$owned>::try_from(text(&bytes)?).map_err(|error| ValueError(error.to_string()))
            }
        }
    )+};
}
identifiers!(OwnedRoomId, OwnedEventId, OwnedUserId);

/// Makes types with serde's `Serialize` and `Deserialize` values, stored as JSON.
///
/// A new field of such a row needs `#[serde(default)]`, or the schema version must increase.
#[macro_export]
macro_rules! json_value {
    ($($row:ty),+ $(,)?) => {$(
        impl $crate::value::Value for $row {
            fn encode(&self) -> Result<$crate::bytes::Bytes, $crate::value::ValueError> {
                $crate::serde_json::to_vec(self)
                    .map($crate::bytes::Bytes::from)
                    .map_err(|error| $crate::value::ValueError(error.to_string()))
            }
            fn decode(bytes: $crate::bytes::Bytes) -> Result<Self, $crate::value::ValueError> {
                // serde's messages may quote the input, which can be a secret or a document: only the position is kept.
                $crate::serde_json::from_slice(&bytes).map_err(|error| {
                    $crate::value::ValueError(format!(
                        "{:?} error at line {} column {}",
                        error.classify(),
                        error.line(),
                        error.column()
                    ))
                })
            }
        }
    )+};
}
