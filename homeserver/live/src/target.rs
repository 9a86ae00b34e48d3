//! Resolves the document name of a client (room id or alias, raw or percent-encoded) to the room and checks access.

use ruma::{OwnedRoomId, RoomAliasId, RoomId, events::room::member::MembershipState};
use weft_accounts::{AuthError, Session};
use weft_room_api::RoomError;
use weft_room_read::Access;
use weft_wire::live::close::{self, Close};

use super::LivePorts;

/// A document that a session may open.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) room: OwnedRoomId,
    pub(super) session: Session,
    /// The token that the client presented; also used for documents of the socket that have no token of their own. Never logged.
    pub(super) token: String,
    pub(super) read_only: bool,
}

/// Authenticates the token and resolves the document. Counts as a request of the user.
///
/// # Errors
/// The close code that states why it failed.
pub(super) async fn find(ports: &LivePorts, name: &str, token: &str) -> Result<Target, Close> {
    let session = authenticate(ports, token).await?;
    let counted = ports.limiter.check(&session.user_id);
    counted.map_err(|_| close::RATE_LIMITED)?;
    of_session(ports, name, session, token.to_owned()).await
}

/// Resolves the document for a session that was authenticated and counted.
///
/// # Errors
/// The close code that states why it failed.
pub(super) async fn of_session(
    ports: &LivePorts,
    name: &str,
    session: Session,
    token: String,
) -> Result<Target, Close> {
    let room = room_of(ports, name).await?;
    let access = access(ports, &room, &session).await?;
    Ok(Target {
        room,
        session,
        token,
        read_only: !access.can_edit,
    })
}

/// The session of a token that a client presents to open a document.
///
/// # Errors
/// [`close::UNAUTHORIZED`] if the token is not valid.
pub(super) async fn authenticate(ports: &LivePorts, token: &str) -> Result<Session, Close> {
    ports
        .accounts
        .authenticate(token)
        .await
        .map_err(|error| refusal(&error))
}

/// The session of a token that a client presents for a document that is already open; earlier tokens stay valid.
///
/// # Errors
/// [`close::UNAUTHORIZED`] if the token is not valid.
pub(super) async fn peek(ports: &LivePorts, token: &str) -> Result<Session, Close> {
    ports.accounts.peek(token).await.map_err(|error| refusal(&error))
}

/// Checks that the session that opened a document is still valid.
///
/// # Errors
/// [`close::UNAUTHORIZED`] if it has ended or its token has expired.
pub(super) async fn recheck(ports: &LivePorts, session: &Session) -> Result<(), Close> {
    ports.accounts.recheck(session).await.map_err(|error| refusal(&error))
}

fn refusal(error: &AuthError) -> Close {
    match error {
        AuthError::Unknown | AuthError::Expired => close::UNAUTHORIZED,
        AuthError::Unavailable(cause) => {
            tracing::error!(event = "live.read_failed", %cause, "cannot check the token");
            close::UNAVAILABLE
        }
    }
}

/// The rights of a joined member.
///
/// # Errors
/// [`close::FORBIDDEN`] for all other users.
pub(super) async fn access(ports: &LivePorts, room: &RoomId, session: &Session) -> Result<Access, Close> {
    let access = ports
        .rooms
        .access(room, &session.user_id)
        .await
        .map_err(|error| match error {
            RoomError::UnknownRoom(_) => close::NOT_FOUND,
            cause => {
                tracing::error!(event = "live.read_failed", %cause, %room, "cannot read the rights");
                close::UNAVAILABLE
            }
        })?;
    if access.membership == MembershipState::Join {
        Ok(access)
    } else {
        Err(close::FORBIDDEN)
    }
}

async fn room_of(ports: &LivePorts, name: &str) -> Result<OwnedRoomId, Close> {
    let name = percent_decoded(name);
    if let Ok(room) = RoomId::parse(&name) {
        return Ok(room);
    }
    let alias = RoomAliasId::parse(&name).map_err(|_| close::NOT_FOUND)?;
    let row = ports.rooms.reader().alias(&alias).await.map_err(|cause| {
        tracing::error!(event = "live.read_failed", %cause, "cannot read the alias");
        close::UNAVAILABLE
    })?;
    row.map(|row| row.room).ok_or(close::NOT_FOUND)
}

/// Room ids and aliases contain no percent sign, so decoding twice is safe.
pub(crate) fn percent_decoded(name: &str) -> String {
    percent_encoding::percent_decode_str(name)
        .decode_utf8()
        .map_or_else(|_| name.to_owned(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn names_may_be_raw_or_encoded() {
        for (written, meant) in [
            ("!doc:alpha.example", "!doc:alpha.example"),
            ("%21doc%3Aalpha.example", "!doc:alpha.example"),
            ("%23plans%3a127.0.0.1%3A8448", "#plans:127.0.0.1:8448"),
            ("!a%2Fb", "!a/b"),
            ("50%", "50%"),
            ("%zz%4", "%zz%4"),
            ("%ff", "%ff"),
        ] {
            assert_eq!(percent_decoded(written), meant);
        }
    }
}
