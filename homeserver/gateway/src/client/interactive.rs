//! User-interactive authentication (Matrix specification, "User-Interactive Authentication API").
//!
//! A session belongs to the one operation that it was begun for (T71): the endpoint, the user where there is one, and the
//! objects that are named. It is used up when the last stage is done. A session of which no stage is done is not kept: its
//! id carries what it is for under a MAC, so that no number of sessions takes a place from others (T132).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use weft_accounts::Network;

use crate::errors::ApiError;

/// How long a session lasts, milliseconds.
const SESSION_MS: u64 = 10 * 60_000;
/// Sessions with a stage that is done, in all and of one network. Each took a right proof; above it the oldest of the network,
/// then the oldest of all gives way, and its client begins anew.
const MAX_BEGUN: usize = 10_000;
/// See [`MAX_BEGUN`]: people behind one address who register in the same ten minutes.
const MAX_BEGUN_PER_NETWORK: usize = 1_000;
/// Bytes of a session id before its MAC: when it expires, and randomness.
const ID_BYTES: (usize, usize) = (8, 16);

/// One step that a person has to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Dummy,
    Password,
    RegistrationToken,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Dummy => "m.login.dummy",
            Self::Password => "m.login.password",
            Self::RegistrationToken => "m.login.registration_token",
        }
    }
}

/// All sessions. They end with the process: after a restart people begin again.
pub(super) struct Interactive {
    key: [u8; 32],
    begun: Mutex<HashMap<String, Begun>>,
}

/// What is kept of a session of which a stage is done, until it expires; also when it is used up.
struct Begun {
    done: Vec<Stage>,
    expires_at: u64,
    network: Option<Network>,
}

impl Default for Interactive {
    fn default() -> Self {
        let mut key = [0; 32];
        rand::fill(&mut key);
        Self {
            key,
            begun: Mutex::default(),
        }
    }
}

/// What the client sent as `auth`, and for what.
pub(super) struct Attempt<'a> {
    /// `auth` of the request.
    pub(super) auth: Option<&'a Value>,
    /// What it is for: the endpoint, the user where there is one, and what it changes.
    pub(super) purpose: &'a str,
    /// The stages, in order. All must be done.
    pub(super) flow: &'a [Stage],
    /// Where the request comes from.
    pub(super) network: Option<Network>,
    /// Now.
    pub(super) now_ms: u64,
}

/// Where an attempt stands.
pub(super) enum Progress {
    /// This stage's proof is to be checked; tell the result to [`Interactive::finish`].
    Check { session: String, stage: Stage },
    /// More is needed: 401 with the flows.
    Needed(ApiError),
}

impl Interactive {
    /// Looks at an attempt. A stage out of order or a session of something else begins anew.
    pub(super) fn begin(&self, attempt: &Attempt<'_>) -> Progress {
        let field = |name: &str| attempt.auth.and_then(|auth| auth.get(name)).and_then(Value::as_str);
        let known = match field("session") {
            Some(id) => self.expiry(id, attempt).map(|_| id.to_owned()),
            // Scripts and some clients send the first stage at once, without asking for a session.
            None => field("type").map(|_| self.new_id(attempt)),
        };
        let (Some(id), Some(kind)) = (known, field("type")) else {
            return Progress::Needed(self.anew(attempt));
        };
        let begun = self.lock();
        let done = begun.get(&id).map_or(&[][..], |begun| &begun.done);
        match attempt.flow.get(done.len()) {
            Some(stage) if stage.name() == kind => Progress::Check {
                session: id,
                stage: *stage,
            },
            Some(_) => Progress::Needed(needed(attempt.flow, done, &id, None)),
            None => Progress::Needed(self.anew(attempt)),
        }
    }

    /// The proof of a stage was checked. Ok when it was right and the last; the session is then used up.
    pub(super) fn finish(
        &self,
        attempt: &Attempt<'_>,
        session: &str,
        stage: Stage,
        right: bool,
    ) -> Result<(), ApiError> {
        let mut begun = self.lock();
        let mut done = begun.get(session).map(|begun| begun.done.clone()).unwrap_or_default();
        if attempt.flow.get(done.len()) != Some(&stage) {
            // Another request with the same session was first.
            return Err(self.anew(attempt));
        }
        if !right {
            return Err(needed(attempt.flow, &done, session, Some("Authentication failed.")));
        }
        done.push(stage);
        let all_done = done.len() >= attempt.flow.len();
        let outcome = if all_done {
            Ok(())
        } else {
            Err(needed(attempt.flow, &done, session, None))
        };
        let noted = Begun {
            done,
            expires_at: attempt.now_ms.saturating_add(SESSION_MS),
            network: attempt.network,
        };
        make_room(&mut begun, attempt);
        begun.insert(session.to_owned(), noted);
        outcome
    }

    fn anew(&self, attempt: &Attempt<'_>) -> ApiError {
        needed(attempt.flow, &[], &self.new_id(attempt), None)
    }

    fn new_id(&self, attempt: &Attempt<'_>) -> String {
        let mut id = attempt.now_ms.saturating_add(SESSION_MS).to_be_bytes().to_vec();
        let mut random = [0_u8; ID_BYTES.1];
        rand::fill(&mut random);
        id.extend(random);
        let mac = self.mac(&id, attempt.purpose).finalize().into_bytes();
        id.extend(mac);
        URL_SAFE_NO_PAD.encode(id)
    }

    /// When a session expires; `None` where it has, is of another purpose, or is none of ours.
    fn expiry(&self, id: &str, attempt: &Attempt<'_>) -> Option<u64> {
        let bytes = URL_SAFE_NO_PAD.decode(id).ok()?;
        let (signed, mac) = bytes.split_at_checked(ID_BYTES.0 + ID_BYTES.1)?;
        self.mac(signed, attempt.purpose).verify_slice(mac).ok()?;
        let expires = u64::from_be_bytes(*signed.first_chunk()?);
        Some(expires).filter(|expires| *expires > attempt.now_ms)
    }

    fn mac(&self, signed: &[u8], purpose: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        mac.update(signed);
        mac.update(purpose.as_bytes());
        mac
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Begun>> {
        // Every change is a single call.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what has expired and, where there is still too much, the oldest of this network or of all.
fn make_room(begun: &mut HashMap<String, Begun>, attempt: &Attempt<'_>) {
    begun.retain(|_, session| session.expires_at > attempt.now_ms);
    let of_network = |session: &Begun| session.network == attempt.network;
    let too_many_of_network = begun.values().filter(|session| of_network(session)).count() >= MAX_BEGUN_PER_NETWORK;
    if too_many_of_network || begun.len() >= MAX_BEGUN {
        let oldest = begun
            .iter()
            .filter(|(_, session)| !too_many_of_network || of_network(session))
            .min_by_key(|(_, session)| session.expires_at)
            .map(|(id, _)| id.clone());
        oldest.and_then(|id| begun.remove(&id));
    }
}

fn needed(flow: &[Stage], done: &[Stage], session: &str, problem: Option<&str>) -> ApiError {
    let names = |stages: &[Stage]| -> Vec<&'static str> { stages.iter().map(|stage| stage.name()).collect() };
    let error = match problem {
        Some(problem) => ApiError::new(StatusCode::UNAUTHORIZED, "M_FORBIDDEN", problem),
        None => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "M_UNAUTHORIZED",
            "Additional authentication is required.",
        ),
    };
    error
        .with("flows", json!([{"stages": names(flow)}]))
        .with("params", json!({}))
        .with("session", json!(session))
        .with("completed", json!(names(done)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt<'a>(auth: Option<&'a Value>, purpose: &'a str, flow: &'a [Stage], now_ms: u64) -> Attempt<'a> {
        Attempt {
            auth,
            purpose,
            flow,
            network: None,
            now_ms,
        }
    }

    fn session_of(all: &Interactive, purpose: &str, flow: &[Stage]) -> String {
        let Progress::Needed(error) = all.begin(&attempt(None, purpose, flow, 0)) else {
            panic!("no proof yet")
        };
        error.extra("session").and_then(Value::as_str).unwrap().to_owned()
    }

    #[test]
    fn a_stage_is_checked_once_and_its_session_is_used_up() {
        let all = Interactive::default();
        let flow = [Stage::Dummy];
        let session = session_of(&all, "register", &flow);
        let auth = json!({"type": "m.login.dummy", "session": session});
        let try_it = attempt(Some(&auth), "register", &flow, 1);
        let Progress::Check { session, stage } = all.begin(&try_it) else {
            panic!()
        };
        all.finish(&try_it, &session, stage, true).unwrap();
        assert!(matches!(all.begin(&try_it), Progress::Needed(_)));
        assert!(all.finish(&try_it, &session, stage, true).is_err());
    }

    #[test]
    fn sessions_serve_what_they_were_begun_for_and_end() {
        let all = Interactive::default();
        let flow = [Stage::Password];
        let session = session_of(&all, "deactivate @alice:x", &flow);
        let auth = json!({"type": "m.login.password", "session": session});
        assert!(matches!(
            all.begin(&attempt(Some(&auth), "deactivate @bob:x", &flow, 1)),
            Progress::Needed(_)
        ));
        let late = attempt(Some(&auth), "deactivate @alice:x", &flow, SESSION_MS);
        assert!(matches!(all.begin(&late), Progress::Needed(_)));
    }

    #[test]
    fn stages_can_not_be_skipped_and_a_wrong_proof_does_not_count() {
        let all = Interactive::default();
        let flow = [Stage::RegistrationToken, Stage::Dummy];
        let session = session_of(&all, "register", &flow);
        let second = json!({"type": "m.login.dummy", "session": session});
        assert!(matches!(
            all.begin(&attempt(Some(&second), "register", &flow, 1)),
            Progress::Needed(_)
        ));
        let first = json!({"type": "m.login.registration_token", "session": session, "token": "x"});
        let try_it = attempt(Some(&first), "register", &flow, 1);
        let Progress::Check { session, stage } = all.begin(&try_it) else {
            panic!()
        };
        assert!(all.finish(&try_it, &session, stage, false).is_err());
        assert!(matches!(
            all.begin(&attempt(Some(&second), "register", &flow, 1)),
            Progress::Needed(_)
        ));
        assert!(
            all.finish(&try_it, &session, stage, true).is_err(),
            "the dummy stage is still to come"
        );
        let try_it = attempt(Some(&second), "register", &flow, 1);
        let Progress::Check { session, stage } = all.begin(&try_it) else {
            panic!()
        };
        all.finish(&try_it, &session, stage, true).unwrap();
    }

    #[test]
    fn sessions_that_others_begin_end_none() {
        let all = Interactive::default();
        let flow = [Stage::Password];
        let session = session_of(&all, "deactivate @alice:x", &flow);
        for _ in 0..10_050 {
            session_of(&all, "register", &flow);
        }
        assert!(all.lock().is_empty());
        let auth = json!({"type": "m.login.password", "session": session});
        let try_it = attempt(Some(&auth), "deactivate @alice:x", &flow, 1);
        assert!(matches!(all.begin(&try_it), Progress::Check { .. }));
    }

    #[test]
    fn what_is_kept_of_sessions_is_bounded_and_expires() {
        let all = Interactive::default();
        let flow = [Stage::Dummy];
        let auth = json!({"type": "m.login.dummy"});
        let finish = |now_ms: u64| {
            let try_it = attempt(Some(&auth), "register", &flow, now_ms);
            let Progress::Check { session, stage } = all.begin(&try_it) else {
                panic!()
            };
            all.finish(&try_it, &session, stage, true).unwrap();
            all.lock().len()
        };
        for _ in 0..MAX_BEGUN_PER_NETWORK + 10 {
            assert!(finish(0) <= MAX_BEGUN_PER_NETWORK);
        }
        assert_eq!(finish(SESSION_MS), 1);
    }

    #[test]
    fn ids_that_were_not_given_out_begin_anew() {
        let all = Interactive::default();
        let flow = [Stage::Dummy];
        let session = session_of(&all, "register", &flow);
        let other = session_of(&Interactive::default(), "register", &flow);
        for id in ["", "x", &session[..30], &format!("{session}AA"), &other] {
            let auth = json!({"type": "m.login.dummy", "session": id});
            let begun = all.begin(&attempt(Some(&auth), "register", &flow, 1));
            assert!(matches!(begun, Progress::Needed(_)), "{id}");
        }
    }
}
