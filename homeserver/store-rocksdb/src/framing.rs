//! The framing of RocksDB's logs (its `log_format.h`), read before RocksDB does.
//!
//! RocksDB tells no difference between the record that a crash left unfinished and damage behind which acknowledged
//! commits follow: it drops both, and goes on. One flipped bit in the type of a record has its reader loop for ever.
//! So this tells where the whole records of a log end, and whether anything begins behind that. It writes nothing.
//!
//! A log is blocks of 32 KiB; in a block, fragments: checksum (4, CRC-32C masked), length (2), type (1), payload. A record is
//! one whole fragment, or a first, some middle and a last one. What doesn't fit a header at a block's end is filler.

use std::io::{self, Read};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 32 * 1024;
/// Bytes before a fragment's payload.
pub(crate) const HEADER: usize = 7;
/// Bytes at the end of a record that are kept to be looked at.
const TAIL: usize = 16;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// About the log itself, not rows: compression, sizes of timestamps, the log before.
const ABOUT: [u8; 3] = [9, 10, 130];

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a whole record (or it is empty).
    Whole,
    /// With something unfinished, as a write leaves it that was cut off, and no beginning of another record behind it.
    Torn,
    /// There is a record that can't be read, and behind it another one begins, which was written after it.
    Damaged,
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// Bytes up to the end of the last whole record before anything that isn't.
    pub(crate) whole: u64,
    /// Whole records in these.
    pub(crate) records: u64,
    /// The last bytes of the last of them, at most 16.
    pub(crate) tail: Vec<u8>,
    /// What follows.
    pub(crate) end: End,
    /// Whether a checksum or type was wrong, not only the end missing.
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
    /// Something was wrong; nothing behind it counts as whole.
    bad: bool,
    unreadable: bool,
    /// A record begins behind what was wrong.
    behind: bool,
}

/// What a fragment says about itself.
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

    /// As what was never written looks.
    const fn is_zero(&self) -> bool {
        self.kind == 0 && self.length == 0
    }

    fn is_right(&self, payload: &[u8]) -> bool {
        let known = matches!(self.kind, WHOLE | FIRST | MIDDLE | LAST) || ABOUT.contains(&self.kind);
        known && masked(crc32c::crc32c_append(crc32c::crc32c(&[self.kind]), payload)) == self.checksum
    }

    /// The length at which the checksum is right: then all of the fragment is there and the length is what is damaged.
    fn length_by_checksum(&self, behind: &[u8]) -> Option<usize> {
        let mut checksum = crc32c::crc32c(&[self.kind]);
        for (length, byte) in behind.iter().enumerate() {
            if masked(checksum) == self.checksum {
                return Some(length);
            }
            checksum = crc32c::crc32c_append(checksum, &[*byte]);
        }
        (masked(checksum) == self.checksum).then_some(behind.len())
    }
}

impl Reader {
    fn block(&mut self, block: &[u8]) {
        let mut rest = block;
        while let Some(header) = Header::of(rest) {
            let behind = rest.get(HEADER..).unwrap_or_default();
            let payload = behind.get(..header.length);
            let right = payload.filter(|payload| header.is_right(payload));
            // Only the first wrong one is looked at more closely: what is behind it is not of use in any case.
            let found = if right.is_none() && !self.bad {
                header.length_by_checksum(behind)
            } else {
                None
            };
            let length = found.or(payload.map(<[u8]>::len));
            rest = length.and_then(|length| behind.get(length..)).unwrap_or_default();
            let end = self.base + (block.len() - rest.len()) as u64;
            match right {
                Some(payload) => self.fragment(header.kind, payload, end),
                // Zeros, or less than it says at the end of a log, is what a write leaves that was cut off.
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

    /// Takes in a fragment with a right checksum.
    fn fragment(&mut self, kind: u8, payload: &[u8], end: u64) {
        let begins = matches!(kind, WHOLE | FIRST) || ABOUT.contains(&kind);
        if self.bad || (begins && self.begun.is_some()) || (!begins && self.begun.is_none()) {
            self.wrong(true);
            // The rest of a record whose beginning can't be read belongs to the same write.
            self.behind |= begins;
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
        let end = match (self.bad || self.begun.is_some(), self.behind) {
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

/// RocksDB's mask, so that the checksum of what holds checksums is none of them.
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
    fn whole_logs_are_whole_and_their_last_bytes_are_kept() {
        assert_eq!(of(&[]), (0, 0, End::Whole));
        assert_eq!(of(&log()), (35, 3, End::Whole));
        let split = [put(FIRST, b"0123456789"), put(MIDDLE, b"abcdef"), put(LAST, b"xyz")].concat();
        let log = read(split.as_slice()).unwrap();
        assert_eq!((log.whole, log.records, log.end), (split.len() as u64, 1, End::Whole));
        assert_eq!(log.tail, b"3456789abcdefxyz");
    }

    #[test]
    fn a_log_that_is_cut_off_anywhere_is_torn() {
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
    fn any_flipped_bit_is_seen_and_told_from_a_torn_end() {
        let log = log();
        for bit in 0..log.len() * 8 {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (whole, _, end) = of(&flipped);
            assert_ne!(end, End::Whole, "bit {bit}");
            assert!(whole as usize <= bit / 8, "bit {bit}");
            // A flipped length hides where the next record begins, in the last block only until the acknowledged
            // number is looked at.
            let in_length = [4, 5, 14, 15].contains(&(bit / 8));
            assert!(
                in_length || (end == End::Damaged) == (bit / 8 < 23),
                "bit {bit}: {end:?}"
            );
        }
    }

    #[test]
    fn records_in_later_blocks_are_seen_behind_a_wrong_length() {
        let mut log = put(WHOLE, &[1; BLOCK - 2 * HEADER - 3]);
        log.extend(put(WHOLE, b"abc"));
        log.extend(put(WHOLE, b"in the second block"));
        assert_eq!(of(&log), (log.len() as u64, 3, End::Whole));
        log[5] ^= 0x80;
        assert_eq!(of(&log), (0, 0, End::Damaged));
    }

    #[test]
    fn the_rest_of_a_torn_record_is_not_another_one() {
        // The disk wrote its last block and not its first.
        let mut log = put(FIRST, &[1; BLOCK - HEADER]);
        log.extend(put(LAST, b"the end"));
        log[..100].fill(0);
        assert_eq!(of(&log), (0, 0, End::Torn));
        log.extend(put(WHOLE, b"another"));
        assert_eq!(of(&log), (0, 0, End::Damaged));
    }

    #[test]
    fn zeros_and_noise_behind_the_last_record_are_torn() {
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
