//! The row of the index of versions. Must not interpret the steps: `weft-room-read` does.

use bytes::Bytes;
use ruma::OwnedUserId;

use crate::binary::{RowReader, RowWriter};
use crate::value::{Value, ValueError};

/// What the versions of one event added to the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// The author: the sender of the event.
    pub author: OwnedUserId,
    /// When the first of the versions was made here, in milliseconds since 1970: an edit was journaled, or the event of
    /// another server was merged.
    pub at: u64,
    /// The steps, encoded.
    pub steps: Bytes,
}

impl Value for VersionRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        let row = RowWriter::new(1).u64(self.at).bytes(self.author.as_bytes())?;
        Ok(row.finish(&self.steps))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = RowReader::new(bytes, 1)?;
        let at = row.u64()?;
        let author = OwnedUserId::try_from(row.text()?).map_err(|error| ValueError(error.to_string()))?;
        Ok(Self {
            author,
            at,
            steps: row.rest(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::documents::JournalRow;

    fn alice() -> OwnedUserId {
        OwnedUserId::try_from("@alice:a.example").unwrap()
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let row = VersionRow {
            author: alice(),
            at: 1_700_000_000_123,
            steps: Bytes::from_static(&[1, 2, 3]),
        };
        assert_eq!(VersionRow::decode(row.encode().unwrap()).unwrap(), row);
        for at in [None, Some(1_700_000_000_123)] {
            let row = JournalRow {
                author: alice(),
                at,
                update: Bytes::from_static(&[0, 0]),
            };
            assert_eq!(JournalRow::decode(row.encode().unwrap()).unwrap(), row);
        }
    }

    #[test]
    fn journal_rows_of_older_programs_are_read() {
        let author = alice();
        let old = RowWriter::new(2).bytes(author.as_bytes()).unwrap().finish(&[0, 0]);
        let older = RowWriter::new(1)
            .u64(9)
            .bytes(author.as_bytes())
            .unwrap()
            .finish(&[0, 0]);
        for bytes in [old, older] {
            let row = JournalRow::decode(bytes).unwrap();
            assert_eq!(
                (row.author, row.at, row.update.to_vec()),
                (author.clone(), None, vec![0, 0])
            );
        }
    }
}
