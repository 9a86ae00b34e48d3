//! Until when a published key may be believed: pure arithmetic on the times in a key answer.

use ruma::MilliSecondsSinceUnixEpoch;

use crate::clock::{from_millis, millis};

/// What a server says of its keys counts for seven days at most, whatever it says (Matrix specification, "Retrieving
/// server keys"): a key that was stolen must run out even where its owner said "for ever" (T42).
const LONGEST_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The lesser of what was published and seven days after it was fetched.
pub(crate) fn clamp(
    published: MilliSecondsSinceUnixEpoch,
    fetched: MilliSecondsSinceUnixEpoch,
) -> MilliSecondsSinceUnixEpoch {
    published.min(from_millis(millis(fetched).saturating_add(LONGEST_MS)))
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_MS, clamp};
    use crate::clock::from_millis;

    #[test]
    fn believes_at_most_seven_days() {
        let now = 1_700_000_000_000;
        for (published, believed) in [
            (now + 1, now + 1),
            (now - 1, now - 1),
            (0, 0),
            (now + LONGEST_MS, now + LONGEST_MS),
            (now + LONGEST_MS + 1, now + LONGEST_MS),
            // The year 9999, and the greatest number that JSON can carry.
            (253_402_300_799_000, now + LONGEST_MS),
            ((1 << 53) - 1, now + LONGEST_MS),
        ] {
            assert_eq!(
                clamp(from_millis(published), from_millis(now)),
                from_millis(believed),
                "{published}"
            );
        }
    }
}
