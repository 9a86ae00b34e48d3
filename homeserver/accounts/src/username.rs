//! Grammar of user names for registration (Matrix specification, appendices, "User identifiers").
//!
//! Pure: must not do I/O. User IDs of other servers and historical user IDs may look different; they are never created
//! here.

use ruma::{OwnedUserId, ServerName, UserId};

/// The reason why a name can't be a user of this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsername {
    /// It is empty.
    #[error("the user name is empty")]
    Empty,
    /// A character outside of the grammar.
    #[error("a user name consists of a-z, 0-9 and . _ = - / +, not {0:?}")]
    Character(char),
    /// `@name:server` over 255 bytes.
    #[error("the user ID would have more than 255 bytes")]
    TooLong,
    /// A user ID of another server.
    #[error("the user belongs to another server")]
    Foreign,
    /// It begins like a user ID and is not valid.
    #[error("not a valid user ID")]
    Malformed,
}

/// `@localpart:server` for a name to register.
///
/// # Errors
/// If the name does not follow the grammar.
pub fn local_user_id(localpart: &str, server: &ServerName) -> Result<OwnedUserId, InvalidUsername> {
    if localpart.is_empty() {
        return Err(InvalidUsername::Empty);
    }
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '=' | '-' | '/' | '+');
    if let Some(other) = localpart.chars().find(|c| !allowed(*c)) {
        return Err(InvalidUsername::Character(other));
    }
    let id = format!("@{localpart}:{server}");
    if id.len() > 255 {
        return Err(InvalidUsername::TooLong);
    }
    UserId::parse(id).map_err(|_| InvalidUsername::Malformed)
}

/// The user ID for a local part or a full user ID as users type it. Upper case counts as lower case, as in most servers.
///
/// # Errors
/// If it is neither, or belongs to another server.
pub fn any_local_user_id(name: &str, server: &ServerName) -> Result<OwnedUserId, InvalidUsername> {
    let name = name.trim();
    if !name.starts_with('@') {
        return local_user_id(&name.to_lowercase(), server);
    }
    let id = UserId::parse(name).map_err(|_| InvalidUsername::Malformed)?;
    if id.server_name() == server {
        local_user_id(&id.localpart().to_lowercase(), server)
    } else {
        Err(InvalidUsername::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let server = server_name!("a.example");
        for good in ["alice", "a.b_c=d-e/f+1", "0", "x".repeat(255 - 11).as_str()] {
            assert!(local_user_id(good, server).is_ok(), "{good}");
        }
        for bad in ["", "Alice", "a b", "é", "a:b", "a@b", "x".repeat(255 - 10).as_str()] {
            assert!(local_user_id(bad, server).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_user_id_is_accepted() {
        let server = server_name!("a.example");
        assert_eq!(
            any_local_user_id(" @Alice:a.example", server).unwrap(),
            "@alice:a.example"
        );
        assert_eq!(any_local_user_id("alice", server).unwrap(), "@alice:a.example");
        assert_eq!(
            any_local_user_id("@alice:b.example", server),
            Err(InvalidUsername::Foreign)
        );
        assert_eq!(any_local_user_id("@alice", server), Err(InvalidUsername::Malformed));
    }
}
