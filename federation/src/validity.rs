//! How long a published key is valid: pure arithmetic on the times in a key response.

use ruma::MilliSecondsSinceUnixEpoch;

use weft_clock::{from_millis, millis};

/// A key response is valid for at most seven days, whatever it states (Matrix specification, "Retrieving server
/// keys"): a stolen key must expire even if its owner set no limit (T42).
const LONGEST_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The earlier of the published time and seven days after the response was fetched.
pub(crate) fn clamp(
    published: MilliSecondsSinceUnixEpoch,
    fetched: MilliSecondsSinceUnixEpoch,
) -> MilliSecondsSinceUnixEpoch {
    published.min(from_millis(millis(fetched).saturating_add(LONGEST_MS)))
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_MS, clamp};
    use weft_clock::from_millis;

    #[test]
    fn validity_is_at_most_seven_days() {
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
