//! Close codes of the live socket (`spec/docs/live.md`): 44xx is for ever, 45xx means try again.
//!
//! The bands are those that y-websocket 3.1 honours; the numbers inside them match HTTP where one fits.

/// A close code and the reason that goes with it. Made in this file only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// The WebSocket close code.
    pub code: u16,
    /// At most 123 bytes, for a person.
    pub reason: &'static str,
}

/// Makes the constants, and the list of all of them: so none can be left out of it.
macro_rules! closes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $reason:literal;)*) => {
        $($(#[$doc])* pub const $name: Close = Close { code: $code, reason: $reason };)*

        /// All of them, for the tests that compare them with the specification.
        pub const ALL: &[Close] = &[$($name),*];
    };
}

closes! {
    /// The frame can't be read.
    BAD_FRAME = 4400 "malformed frame";
    /// No token, a wrong one, or one that was taken back.
    UNAUTHORIZED = 4401 "unauthorized";
    /// May not read this document (any more).
    FORBIDDEN = 4403 "forbidden";
    /// No such document here.
    NOT_FOUND = 4404 "no such document";
    /// The update breaks the admission rules; sending it again can't help.
    REFUSED = 4422 "update refused";
    /// A message, or the document with it, over the size limit. Not WebSocket's own 1009: after that y-websocket connects again
    /// and sends the same once more, for ever.
    TOO_LARGE = 4413 "message too large";
    /// The server is going away; connect again.
    RESTART = 4500 "server is restarting";
    /// The document was rebuilt; connect again and reload it.
    RELOAD = 4505 "document was rebuilt";
    /// The reader was too slow, or silent for too long; connect again.
    SLOW = 4508 "too slow";
    /// Too many messages; connect again after a while.
    RATE_LIMITED = 4529 "too many messages";
    /// The store failed; nothing unacknowledged was kept.
    UNAVAILABLE = 4503 "temporarily unavailable";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_reasons_fit_a_close_frame() {
        let codes: std::collections::BTreeSet<u16> = ALL.iter().map(|close| close.code).collect();
        assert_eq!(codes.len(), ALL.len());
        assert!(ALL.iter().all(|close| close.reason.len() <= 123));
    }
}
