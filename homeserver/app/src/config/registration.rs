//! `[registration]`: who may make an account.

use super::source::{Fields, suggestion};

/// Each network may try ten tokens, and then one every half a minute. Somebody with many networks guesses what is shorter.
const GUESSABLE_TOKEN_BYTES: usize = 8;

/// How accounts come to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only the operator makes them.
    #[default]
    Closed,
    /// Whoever has one of the tokens.
    Token,
    /// Anybody.
    Open,
}

impl Mode {
    const ALL: [(&'static str, Self); 3] = [("closed", Self::Closed), ("token", Self::Token), ("open", Self::Open)];

    /// The name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, mode)| *mode == self)
            .map_or("", |(name, _)| name)
    }
}

/// See the module. Holds secrets: its `Debug` shows none.
#[derive(Clone, Default)]
pub(crate) struct Registration {
    pub(crate) mode: Mode,
    /// What lets people in where the mode is [`Mode::Token`].
    pub(crate) tokens: Vec<String>,
    /// Lets operators' scripts make accounts, where set.
    pub(crate) shared_secret: Option<String>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Registration")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Registration {
    let mut registration = Registration::default();
    if let Some(found) = fields.text("mode") {
        match Mode::ALL.iter().find(|(name, _)| *name == found.value) {
            Some((_, mode)) => registration.mode = *mode,
            None => {
                let hint = suggestion(&found.value, Mode::ALL.iter().map(|(name, _)| *name));
                let message = format!("{:?} is none of closed, token, open{hint}", found.value);
                fields.wrong("mode", &found.origin, message);
            }
        }
    }
    if let Some(found) = fields.texts("tokens") {
        if found.value.iter().any(|token| token.len() < GUESSABLE_TOKEN_BYTES) {
            let message = format!("a token of fewer than {GUESSABLE_TOKEN_BYTES} characters can be guessed");
            fields.failing("tokens", &found.origin, message);
        }
        registration.tokens = found.value;
    }
    if registration.mode == Mode::Token && registration.tokens.is_empty() {
        fields.missing(
            "tokens",
            "mode is \"token\", so somebody must have one: tokens = [\"...\"]",
        );
    }
    // An empty secret is the same as none: it would let everybody in.
    registration.shared_secret = fields
        .text("shared_secret")
        .map(|found| found.value)
        .filter(|secret| !secret.is_empty());
    fields.finish();
    registration
}
