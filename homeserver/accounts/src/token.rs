//! Access and refresh tokens: 256 random bits that only the client has. Must not be stored or logged in the clear.
//!
//! The store holds the SHA-256 of a token. A fast hash suffices: unlike passwords, 256 random bits can't be guessed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use weft_store::{Lane, Lanes};

/// A token in the clear, to be returned to the client. Neither `Debug` nor `Display`, so that it can't be logged.
pub(crate) struct Token(String);

impl Token {
    /// Generates a token. The prefix lets people who find a token recognise its kind and its origin. In a deployment with
    /// several lanes the user's lane is in front of the random part, so that the token's row is found.
    pub(crate) fn random(prefix: &str, lanes: Lanes, lane: Lane) -> Self {
        let mut bytes = [0_u8; 32];
        rand::fill(&mut bytes);
        let random = URL_SAFE_NO_PAD.encode(bytes);
        if lanes == Lanes::ONE {
            Self(format!("{prefix}_{random}"))
        } else {
            Self(format!("{prefix}_{:x}.{random}", lane.number()))
        }
    }

    pub(crate) fn hash(&self) -> String {
        hash(&self.0)
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// The stored form of a token.
pub(crate) fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

/// The lane of the row of a token. Tokens of a deployment with one lane name none, and are in the first; so is a text that
/// is no token, for which there is no row.
pub(crate) fn lane(token: &str) -> Lane {
    let number = || {
        let (_, rest) = token.split_once('_')?;
        let (number, _) = rest.split_once('.')?;
        Lane::new(u16::from_str_radix(number, 16).ok()?)
    };
    number().unwrap_or(Lane::FIRST)
}

/// A device ID for a client that did not choose one: letters, as in most servers.
pub(crate) fn device_id() -> String {
    let mut bytes = [0_u8; 10];
    rand::fill(&mut bytes);
    bytes.iter().map(|byte| char::from(b'A' + byte % 26)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_are_long_and_unique() {
        let tokens: HashSet<String> = (0..10_000)
            .map(|_| Token::random("weft", Lanes::ONE, Lane::FIRST).into_string())
            .collect();
        assert_eq!(tokens.len(), 10_000);
        assert!(tokens.iter().all(|token| token.len() == 5 + 43));
    }

    #[test]
    fn a_token_names_its_lane_only_if_there_are_several() {
        let (lanes, third) = (Lanes::new(256).unwrap(), Lane::new(0xAB).unwrap());
        assert_eq!(lane(&Token::random("wft", lanes, third).into_string()), third);
        for text in ["", "wft_", "wft_.x", "wft_zz.x", "wft_ffff.x", "wft_10000.x", "abc.def"] {
            assert_eq!(lane(text), Lane::FIRST, "{text}");
        }
    }

    #[test]
    fn the_stored_form_does_not_contain_the_token() {
        let token = Token::random("weft", Lanes::ONE, Lane::FIRST);
        assert_eq!(token.hash().len(), 43);
        assert!(!token.hash().contains(&token.into_string()[5..]));
    }
}
