//! Server ACLs of a room, `m.room.server_acl` (Matrix specification, "Server Access Control Lists").
//!
//! Pure. The callers decide which requests and events are checked.

use ruma::{ServerName, events::room::server_acl::RoomServerAclEventContent};
use serde_json::value::RawValue;

/// Whether a server is allowed. `content` is the content of the current `m.room.server_acl`, if there is one.
///
/// A malformed ACL denies every server, as does one without an allow list (T55): its author intended to deny some
/// server.
#[must_use]
pub fn allows(content: Option<&RawValue>, server: &ServerName) -> bool {
    let Some(content) = content else { return true };
    match serde_json::from_str::<RoomServerAclEventContent>(content.get()) {
        Ok(list) => list.is_allowed(server),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use ruma::ServerName;
    use serde_json::{json, value::to_raw_value};

    use super::allows;

    #[test]
    fn acls_are_globs_without_ports_and_a_malformed_acl_denies_every_server() {
        for (content, server, allowed) in [
            (json!({ "allow": ["*"] }), "a.test", true),
            (json!({ "allow": ["*"], "deny": ["a.test"] }), "a.test:8448", false),
            (json!({ "allow": ["*"], "deny": ["A.TEST"] }), "a.test", false),
            (json!({ "allow": ["*"], "deny": ["*.evil.test"] }), "x.evil.test", false),
            (json!({ "allow": ["*"], "deny": ["*.evil.test"] }), "evil.test", true),
            (json!({ "allow": ["?.test"] }), "ab.test", false),
            (
                json!({ "allow": ["*"], "allow_ip_literals": false }),
                "127.0.0.1:8448",
                false,
            ),
            (json!({ "allow": ["*"], "allow_ip_literals": false }), "[::1]", false),
            (json!({ "allow": ["*"], "allow_ip_literals": true }), "[::1]:1", true),
            (json!({ "allow": [] }), "a.test", false),
            (json!({}), "a.test", false),
            (json!({ "allow": "*" }), "a.test", false),
            (json!({ "allow": ["*"], "deny": { "a": 1 } }), "a.test", false),
            (json!([]), "a.test", false),
        ] {
            let server = <&ServerName>::try_from(server).unwrap();
            assert_eq!(
                allows(Some(&to_raw_value(&content).unwrap()), server),
                allowed,
                "{content} {server}"
            );
        }
        assert!(allows(None, <&ServerName>::try_from("a.test").unwrap()));
    }
}
