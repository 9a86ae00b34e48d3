//! Close codes of the live socket (`spec/docs/live.md`): 44xx is permanent, 45xx means that the client may try again.
//!
//! y-websocket 3.1 implements these two ranges; the numbers inside them match HTTP statuses where one fits. Must not decide
//! which error gets which code.

/// A close code and its reason. Constructed in this file only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// The WebSocket close code.
    pub code: u16,
    /// At most 123 bytes, for people.
    pub reason: &'static str,
}

/// Defines the constants and the list of all of them, so that the list is complete.
macro_rules! closes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $reason:literal;)*) => {
        $($(#[$doc])* pub const $name: Close = Close { code: $code, reason: $reason };)*

        /// All of them, for the tests that compare them with the specification.
        pub const ALL: &[Close] = &[$($name),*];
    };
}

closes! {
    /// The frame cannot be decoded.
    BAD_FRAME = 4400 "malformed frame";
    /// The token is missing, invalid, revoked or expired.
    UNAUTHORIZED = 4401 "unauthorized";
    /// The user may not read this document, or no longer.
    FORBIDDEN = 4403 "forbidden";
    /// This server does not have the document.
    NOT_FOUND = 4404 "no such document";
    /// The update violates an admission rule as a whole; sending it again cannot succeed.
    REFUSED = 4422 "update refused";
    /// A message, or the document with it, is over the size limit. Not WebSocket's own 1009: after that y-websocket reconnects
    /// and sends the same message again, in an endless loop.
    TOO_LARGE = 4413 "message too large";
    /// The server is stopping; the client may reconnect.
    RESTART = 4500 "server is restarting";
    /// The document was rebuilt; the client must reconnect and load it again.
    RELOAD = 4505 "document was rebuilt";
    /// The client read too slowly, or was silent for too long; it may reconnect.
    SLOW = 4508 "too slow";
    /// Too many messages, or too many bytes of edits in a day; the client may reconnect later.
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
