//! The framing of RocksDB's logs (its `log_format.h`), read before RocksDB reads them.
//!
//! RocksDB does not distinguish the record that a crash left unfinished from damage that is followed by acknowledged
//! commits: it drops both and continues. One flipped bit in the type of a record makes its reader loop for ever. This
//! module finds where the complete records of a log end, and whether another record begins after that. Must not write
//! anything.
//!
//! A log is a sequence of blocks of 32 KiB. A block has fragments: checksum (4, CRC-32C masked), length (2), type (1),
//! payload. A record is one whole fragment, or a first, some middle and a last one. The rest of a block that is too
//! short for a header is filler.

use std::io::{self, Read};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 32 * 1024;
/// Bytes before a fragment's payload.
pub(crate) const HEADER: usize = 7;
/// Bytes kept from the end of a record for inspection.
const TAIL: usize = 16;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Types about the log itself, not rows: compression, sizes of timestamps, the previous log.
const ABOUT: [u8; 3] = [9, 10, 130];

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a complete record (or it is empty).
    Whole,
    /// With an unfinished record, as a truncated write leaves it, and no other record begins after it.
    Torn,
    /// A record can't be read, and another one begins after it, which was written later.
    Damaged,
}

/// The contents of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// Bytes up to the end of the last complete record before the first defect.
    pub(crate) whole: u64,
    /// The number of complete records in these bytes.
    pub(crate) records: u64,
    /// The last bytes of the last one, at most 16.
    pub(crate) tail: Vec<u8>,
    /// What follows.
    pub(crate) end: End,
    /// Whether a checksum or type was wrong, and not only the end missing.
    pub(crate) unreadable: bool,
}

/// Reads a log to its end.
pub(crate) fn read(mut log: impl Read) -> io::Result<Log> {
    let mut reader = Reader::default();
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        let length = log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        reader.block(&block);
        if length < BLOCK {
            return Ok(reader.finish());
        }
    }
}

#[derive(Default)]
struct Reader {
    /// Where the current block begins.
    base: u64,
    whole: u64,
    records: u64,
    tail: Vec<u8>,
    /// The end of the record that has begun and not ended.
    begun: Option<Vec<u8>>,
    /// A defect was found; no later record counts as complete.
    bad: bool,
    unreadable: bool,
    /// A record begins after the defect.
    after: bool,
}

/// The header of a fragment.
struct Header {
    checksum: u32,
    length: usize,
    kind: u8,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let [c0, c1, c2, c3, l0, l1, kind] = *bytes.first_chunk::<HEADER>()?;
        Some(Self {
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
            length: usize::from(u16::from_le_bytes([l0, l1])),
            kind,
        })
    }

    /// Whether it looks like space that was never written.
    const fn is_zero(&self) -> bool {
        self.kind == 0 && self.length == 0
    }

    fn is_valid(&self, payload: &[u8]) -> bool {
        let known = matches!(self.kind, WHOLE | FIRST | MIDDLE | LAST) || ABOUT.contains(&self.kind);
        known && masked(crc32c::crc32c_append(crc32c::crc32c(&[self.kind]), payload)) == self.checksum
    }

    /// The length for which the checksum is valid: then the whole fragment is there, and its length is damaged.
    fn length_by_checksum(&self, after: &[u8]) -> Option<usize> {
        let mut checksum = crc32c::crc32c(&[self.kind]);
        for (length, byte) in after.iter().enumerate() {
            if masked(checksum) == self.checksum {
                return Some(length);
            }
            checksum = crc32c::crc32c_append(checksum, &[*byte]);
        }
        (masked(checksum) == self.checksum).then_some(after.len())
    }
}

impl Reader {
    fn block(&mut self, block: &[u8]) {
        let mut rest = block;
        while let Some(header) = Header::of(rest) {
            let after = rest.get(HEADER..).unwrap_or_default();
            let payload = after.get(..header.length);
            let valid = payload.filter(|payload| header.is_valid(payload));
            // Only the first defect is inspected more closely: data after it is not used in any case.
            let found = if valid.is_none() && !self.bad {
                header.length_by_checksum(after)
            } else {
                None
            };
            let length = found.or(payload.map(<[u8]>::len));
            rest = length.and_then(|length| after.get(length..)).unwrap_or_default();
            let end = self.base + (block.len() - rest.len()) as u64;
            match valid {
                Some(payload) => self.fragment(header.kind, payload, end),
                // Zeros, or a truncated fragment at the end of a log, are the traces of a truncated write.
                None => self.wrong(!header.is_zero() && (length.is_some() || block.len() == BLOCK)),
            }
            if header.is_zero() {
                break;
            }
        }
        // In a full block it is filler.
        if !rest.is_empty() && rest.len() < HEADER && block.len() < BLOCK {
            self.wrong(false);
        }
        self.base += block.len() as u64;
    }

    fn wrong(&mut self, unreadable: bool) {
        self.bad = true;
        self.unreadable |= unreadable;
    }

    /// Adds a fragment with a valid checksum.
    fn fragment(&mut self, kind: u8, payload: &[u8], end: u64) {
        let begins = matches!(kind, WHOLE | FIRST) || ABOUT.contains(&kind);
        if self.bad || (begins && self.begun.is_some()) || (!begins && self.begun.is_none()) {
            self.wrong(true);
            // The rest of a record whose beginning can't be read belongs to the same write.
            self.after |= begins;
            return;
        }
        let mut tail = self.begun.take().unwrap_or_default();
        tail.extend_from_slice(last(payload));
        if matches!(kind, FIRST | MIDDLE) {
            self.begun = Some(last(&tail).to_vec());
            return;
        }
        self.whole = end;
        if !ABOUT.contains(&kind) {
            self.records += 1;
            self.tail = last(&tail).to_vec();
        }
    }

    fn finish(self) -> Log {
        let end = match (self.bad || self.begun.is_some(), self.after) {
            (false, _) => End::Whole,
            (true, false) => End::Torn,
            (true, true) => End::Damaged,
        };
        Log {
            whole: self.whole,
            records: self.records,
            tail: self.tail,
            end,
            unreadable: self.unreadable,
        }
    }
}

/// RocksDB's mask, so that the checksum of data with checksums is not one of them.
pub(crate) const fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn last(bytes: &[u8]) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kind: u8, payload: &[u8]) -> Vec<u8> {
        let checksum = masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload));
        let mut bytes = checksum.to_le_bytes().to_vec();
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn of(bytes: &[u8]) -> (u64, u64, End) {
        let log = read(bytes).unwrap();
        (log.whole, log.records, log.end)
    }

    fn log() -> Vec<u8> {
        [put(WHOLE, b"one"), put(WHOLE, b"second"), put(WHOLE, b"three")].concat()
    }

    #[test]
    fn complete_logs_are_complete_and_their_last_bytes_are_kept() {
        assert_eq!(of(&[]), (0, 0, End::Whole));
        assert_eq!(of(&log()), (35, 3, End::Whole));
        let split = [put(FIRST, b"0123456789"), put(MIDDLE, b"abcdef"), put(LAST, b"xyz")].concat();
        let log = read(split.as_slice()).unwrap();
        assert_eq!((log.whole, log.records, log.end), (split.len() as u64, 1, End::Whole));
        assert_eq!(log.tail, b"3456789abcdefxyz");
    }

    #[test]
    fn a_log_truncated_at_any_byte_is_torn() {
        let log = log();
        let ends = [0, 10, 23, 35];
        for length in 0..log.len() {
            let whole = ends.into_iter().rfind(|end| *end <= length).unwrap();
            let end = if whole == length { End::Whole } else { End::Torn };
            let found = of(&log[..length]);
            assert_eq!((found.0, found.2), (whole as u64, end), "{length}");
        }
    }

    #[test]
    fn any_flipped_bit_is_detected_and_distinguished_from_a_torn_end() {
        let log = log();
        for bit in 0..log.len() * 8 {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (whole, _, end) = of(&flipped);
            assert_ne!(end, End::Whole, "bit {bit}");
            assert!(whole as usize <= bit / 8, "bit {bit}");
            // A flipped length hides where the next record begins; in the last block that is detected only by the
            // acknowledged number.
            let in_length = [4, 5, 14, 15].contains(&(bit / 8));
            assert!(
                in_length || (end == End::Damaged) == (bit / 8 < 23),
                "bit {bit}: {end:?}"
            );
        }
    }

    #[test]
    fn records_in_later_blocks_are_found_after_a_wrong_length() {
        let mut log = put(WHOLE, &[1; BLOCK - 2 * HEADER - 3]);
        log.extend(put(WHOLE, b"abc"));
        log.extend(put(WHOLE, b"in the second block"));
        assert_eq!(of(&log), (log.len() as u64, 3, End::Whole));
        log[5] ^= 0x80;
        assert_eq!(of(&log), (0, 0, End::Damaged));
    }

    #[test]
    fn the_rest_of_a_torn_record_is_not_another_record() {
        // The disk wrote the last block of the record and not the first.
        let mut log = put(FIRST, &[1; BLOCK - HEADER]);
        log.extend(put(LAST, b"the end"));
        log[..100].fill(0);
        assert_eq!(of(&log), (0, 0, End::Torn));
        log.extend(put(WHOLE, b"another"));
        assert_eq!(of(&log), (0, 0, End::Damaged));
    }

    #[test]
    fn zeros_and_noise_after_the_last_record_are_a_torn_end() {
        for rest in [
            vec![0; 3],
            vec![0; 5_000],
            vec![0x5A; 40],
            vec![5; 40],
            vec![0; 2 * BLOCK],
        ] {
            let mut bytes = log();
            bytes.extend(rest);
            assert_eq!(of(&bytes), (35, 3, End::Torn));
        }
    }
}
