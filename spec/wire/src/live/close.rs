//! Close codes of the live socket (`spec/docs/live.md`): 44xx is for ever, 45xx means try again.
//!
//! The bands are those that y-websocket 3.1 honours; the numbers inside them match HTTP where one fits.

/// A close code and the reason that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket close code.
    pub code: u16,
    /// At most 123 bytes, for a person.
    pub reason: &'static str,
}

/// The frame can't be read.
pub const BAD_FRAME: Close = Close {
    code: 4400,
    reason: "malformed frame",
};
/// No token, a wrong one, or one that was taken back.
pub const UNAUTHORIZED: Close = Close {
    code: 4401,
    reason: "unauthorized",
};
/// May not read this document (any more).
pub const FORBIDDEN: Close = Close {
    code: 4403,
    reason: "forbidden",
};
/// No such document here.
pub const NOT_FOUND: Close = Close {
    code: 4404,
    reason: "no such document",
};
/// The update breaks the admission rules; sending it again can't help.
pub const REFUSED: Close = Close {
    code: 4422,
    reason: "update refused",
};
/// A message, or the document with it, over the size limit. Not WebSocket's own 1009: after that y-websocket connects again
/// and sends the same once more, for ever.
pub const TOO_LARGE: Close = Close {
    code: 4413,
    reason: "message too large",
};
/// The server is going away; connect again.
pub const RESTART: Close = Close {
    code: 4500,
    reason: "server is restarting",
};
/// The document was rebuilt; connect again and reload it.
pub const RELOAD: Close = Close {
    code: 4505,
    reason: "document was rebuilt",
};
/// The reader was too slow, or silent for too long; connect again.
pub const SLOW: Close = Close {
    code: 4508,
    reason: "too slow",
};
/// Too many messages; connect again after a while.
pub const RATE_LIMITED: Close = Close {
    code: 4529,
    reason: "too many messages",
};
/// The store failed; nothing unacknowledged was kept.
pub const UNAVAILABLE: Close = Close {
    code: 4503,
    reason: "temporarily unavailable",
};

/// All of them, for the test that the bands hold and for documentation.
pub const ALL: [Close; 11] = [
    BAD_FRAME,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    REFUSED,
    TOO_LARGE,
    RESTART,
    RELOAD,
    SLOW,
    RATE_LIMITED,
    UNAVAILABLE,
];

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
