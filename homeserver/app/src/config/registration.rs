//! `[registration]`: who may register. Must not show tokens or the shared secret in messages or `Debug` output.

use super::source::{Fields, suggestion};

/// Length below which a token is reported as guessable. Each network has ten attempts, and then one per half minute;
/// an attacker with many networks can guess shorter tokens.
const GUESSABLE_TOKEN_BYTES: usize = 8;

/// The registration mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only the operator creates accounts.
    #[default]
    Closed,
    /// Registration requires one of the tokens.
    Token,
    /// Registration is open to everyone.
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

/// See the module. It holds secrets; its `Debug` output does not contain them.
#[derive(Clone, Default)]
pub(crate) struct Registration {
    pub(crate) mode: Mode,
    /// The registration tokens for [`Mode::Token`].
    pub(crate) tokens: Vec<String>,
    /// The secret of the operator's registration scripts. `None`: they can't register accounts.
    pub(crate) shared_secret: Option<String>,
    /// Share links may let users in who have no account.
    pub(crate) guests: bool,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Registration")
            .field("mode", &self.mode)
            .field("guests", &self.guests)
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
                let message = format!("{:?} is not one of closed, token, open{hint}", found.value);
                fields.wrong("mode", &found.origin, message);
            }
        }
    }
    if let Some(found) = fields.texts("tokens") {
        if found.value.iter().any(|token| token.len() < GUESSABLE_TOKEN_BYTES) {
            let message = format!("a token of fewer than {GUESSABLE_TOKEN_BYTES} characters can be guessed");
            fields.warn("tokens", &found.origin, message);
        }
        registration.tokens = found.value;
    }
    if registration.mode == Mode::Token && registration.tokens.is_empty() {
        fields.missing(
            "tokens",
            "mode is \"token\", so at least one is needed: tokens = [\"...\"]",
        );
    }
    // An empty secret counts as none: everyone could register with it.
    registration.shared_secret = fields
        .text("shared_secret")
        .map(|found| found.value)
        .filter(|secret| !secret.is_empty());
    if let Some(found) = fields.truth("guests") {
        registration.guests = found.value;
    }
    fields.finish();
    registration
}
