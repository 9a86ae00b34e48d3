//! The rows of share links and of their guests. Must not hold a secret.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

/// A share link of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRow {
    /// The local user who made it, and in whose name users are let in.
    pub maker: OwnedUserId,
    /// The power level of the role that it gives.
    pub power: i64,
    /// When it was made, in milliseconds since 1970.
    pub created_at: u64,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: u64,
    /// How many users it may let in; `None`: any number.
    #[serde(default)]
    pub max_uses: Option<u64>,
    /// How many it has let in.
    #[serde(default)]
    pub uses: u64,
    /// The argon2id hash of its password (PHC string), if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// It lets guests in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guests: bool,
}

/// A guest who came by a share link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRow {
    /// The maker of the link.
    pub maker: OwnedUserId,
}

impl LinkRow {
    /// Whether it lets users in at this time, milliseconds since 1970.
    #[must_use]
    pub fn is_open(&self, now: u64) -> bool {
        now < self.expires_at && self.max_uses.is_none_or(|most| self.uses < most)
    }

    /// Whether it is open, or was used up and has guests, who stay until its time is over.
    #[must_use]
    pub fn is_kept(&self, now: u64) -> bool {
        self.is_open(now) || (self.guests && now < self.expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_open_until_its_time_and_its_uses_are_over() {
        let row = |max_uses, uses| LinkRow {
            maker: "@a:a.example".try_into().unwrap(),
            power: 25,
            created_at: 1,
            expires_at: 10,
            max_uses,
            uses,
            password: None,
            guests: uses == 2,
        };
        for (max_uses, uses, now, is_open) in [
            (None, 1_000, 9, true),
            (None, 0, 10, false),
            (Some(2), 1, 9, true),
            (Some(2), 2, 9, false),
            (Some(0), 0, 9, false),
        ] {
            let row = row(max_uses, uses);
            assert_eq!(row.is_open(now), is_open, "{max_uses:?} {uses} {now}");
            assert_eq!(row.is_kept(now), is_open || row.guests);
        }
    }
}
