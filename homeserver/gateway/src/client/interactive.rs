//! User-interactive authentication (Matrix specification, "User-Interactive Authentication API").
//!
//! A session belongs to the one thing it was begun for (T71): the operation and, where there is one, the user. It is
//! used up when the last stage is done.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::errors::ApiError;

/// How long a session lasts, milliseconds.
const SESSION_MS: u64 = 10 * 60_000;
/// Sessions at the same time; above it the oldest ends. Anybody can begin one.
const MAX_SESSIONS: usize = 10_000;

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

/// All sessions. Kept in memory: after a restart people begin again.
#[derive(Default)]
pub(super) struct Interactive {
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    purpose: String,
    begun_at: u64,
    done: Vec<Stage>,
}

/// What the client sent as `auth`, and for what.
pub(super) struct Attempt<'a> {
    /// `auth` of the request.
    pub(super) auth: Option<&'a Value>,
    /// What it is for: the endpoint, and the user where there is one.
    pub(super) purpose: &'a str,
    /// The stages, in order. All must be done.
    pub(super) flow: &'a [Stage],
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
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| attempt.now_ms.saturating_sub(session.begun_at) < SESSION_MS);
        let known = match field("session") {
            Some(id) => Some(id.to_owned()).filter(|id| sessions.get(id).is_some_and(|s| s.purpose == attempt.purpose)),
            // Scripts and some clients send the first stage at once, without asking for a session.
            None => field("type").map(|_| open(&mut sessions, attempt)),
        };
        let (Some(id), Some(kind)) = (known, field("type")) else {
            let id = open(&mut sessions, attempt);
            return Progress::Needed(needed(attempt.flow, &[], &id, None));
        };
        let done = sessions
            .get(&id)
            .map(|session| session.done.clone())
            .unwrap_or_default();
        match attempt.flow.get(done.len()) {
            Some(stage) if stage.name() == kind => Progress::Check {
                session: id,
                stage: *stage,
            },
            _ => Progress::Needed(needed(attempt.flow, &done, &id, None)),
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
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = sessions.get_mut(session) else {
            // Two requests with the same session: the other one used it up.
            let id = open(&mut sessions, attempt);
            return Err(needed(attempt.flow, &[], &id, None));
        };
        if !right {
            return Err(needed(attempt.flow, &found.done, session, Some("This was not right.")));
        }
        found.done.push(stage);
        if found.done.len() < attempt.flow.len() {
            return Err(needed(attempt.flow, &found.done, session, None));
        }
        sessions.remove(session);
        Ok(())
    }
}

fn open(sessions: &mut HashMap<String, Session>, attempt: &Attempt<'_>) -> String {
    if sessions.len() >= MAX_SESSIONS {
        let oldest = sessions
            .iter()
            .min_by_key(|(_, session)| session.begun_at)
            .map(|(id, _)| id.clone());
        oldest.and_then(|id| sessions.remove(&id));
    }
    let id = random_id();
    let session = Session {
        purpose: attempt.purpose.to_owned(),
        begun_at: attempt.now_ms,
        done: Vec::new(),
    };
    sessions.insert(id.clone(), session);
    id
}

fn random_id() -> String {
    let mut bytes = [0_u8; 24];
    rand::fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn needed(flow: &[Stage], done: &[Stage], session: &str, problem: Option<&str>) -> ApiError {
    let names = |stages: &[Stage]| -> Vec<&'static str> { stages.iter().map(|stage| stage.name()).collect() };
    let error = match problem {
        Some(problem) => ApiError::new(StatusCode::UNAUTHORIZED, "M_FORBIDDEN", problem),
        None => ApiError::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", "More is needed to do this."),
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
}
