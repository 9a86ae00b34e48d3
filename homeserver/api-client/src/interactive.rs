//! User-interactive authentication (Matrix specification, "User-Interactive Authentication API").
//!
//! A session is bound to the operation that it was started for (T71): the endpoint, the user if there is one, and the
//! objects that the request names. It ends when the last stage is completed. Must not store a session without a completed
//! stage: the session id contains its purpose under a MAC, so that no number of sessions can evict others (T132).

use std::collections::HashMap;

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use sha2::Sha256;
use weft_accounts::Network;
use weft_http::errors::ApiError;

/// Lifetime of a session, milliseconds.
const SESSION_MS: u64 = 10 * 60_000;
/// Maximum number of stored sessions, in total and for one network. Each of them has a completed stage. Above it the oldest
/// session of the network, then the oldest of all is evicted, and its client must start again.
const MAX_BEGUN: usize = 10_000;
/// See [`MAX_BEGUN`]: users behind one address who register within the same ten minutes.
const MAX_BEGUN_PER_NETWORK: usize = 1_000;
/// Bytes of a session id before its MAC: the expiry time and a random number.
const ID_BYTES: (usize, usize) = (8, 16);

/// One stage of authentication.
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

/// All sessions. They are lost on a restart; users then start again.
pub(super) struct Interactive {
    key: [u8; 32],
    begun: Mutex<HashMap<String, Begun>>,
}

/// A session with a completed stage, kept until it expires, also after it was used.
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

/// The client's `auth`, and the operation that it is for.
pub(super) struct Attempt<'a> {
    /// `auth` of the request.
    pub(super) auth: Option<&'a Value>,
    /// The operation: the endpoint, the user if there is one, and the objects that it changes.
    pub(super) purpose: &'a str,
    /// The stages, in order. All are required.
    pub(super) flow: &'a [Stage],
    /// The network of the client's address.
    pub(super) network: Option<Network>,
    /// The current time.
    pub(super) now_ms: u64,
}

/// The result of checking an attempt.
pub(super) enum Progress {
    /// The proof of this stage must be checked; pass the result to [`Interactive::finish`].
    Check { session: String, stage: Stage },
    /// More stages are required: 401 with the flows.
    Needed(ApiError),
}

impl Interactive {
    /// Checks an attempt. A stage out of order or a session of another operation starts a new session.
    pub(super) fn begin(&self, attempt: &Attempt<'_>) -> Progress {
        let field = |name: &str| attempt.auth.and_then(|auth| auth.get(name)).and_then(Value::as_str);
        let known = match field("session") {
            Some(id) => self.expiry(id, attempt).map(|_| id.to_owned()),
            // Scripts and some clients send the first stage without requesting a session.
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

    /// Records the check of a stage. Ok if it succeeded and was the last stage; the session has then ended.
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
            // A concurrent request with the same session was faster.
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

    /// When a session expires; `None` if it has expired, belongs to another operation, or was not issued by this server.
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
        self.begun.lock()
    }
}

/// Drops expired sessions and, if there are still too many, the oldest of this network or of all.
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
    fn a_stage_is_checked_once_and_ends_its_session() {
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
    fn sessions_are_bound_to_their_operation_and_end() {
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
    fn stages_cannot_be_skipped_and_a_wrong_proof_does_not_count() {
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
            "the dummy stage is still missing"
        );
        let try_it = attempt(Some(&second), "register", &flow, 1);
        let Progress::Check { session, stage } = all.begin(&try_it) else {
            panic!()
        };
        all.finish(&try_it, &session, stage, true).unwrap();
    }

    #[test]
    fn new_sessions_do_not_end_existing_ones() {
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
    fn stored_sessions_are_bounded_and_expire() {
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
    fn an_unknown_session_id_starts_a_new_session() {
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
