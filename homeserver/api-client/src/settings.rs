//! The operator's settings of this API.

use ruma::OwnedServerName;

/// Who may register.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Registration {
    /// Nobody: operators create the accounts.
    #[default]
    Closed,
    /// Users with one of these registration tokens.
    Token(Vec<String>),
    /// Everybody who can reach the server.
    Open,
}

/// Settings of the client-server API.
#[derive(Clone)]
pub struct ClientSettings {
    /// This server's name.
    pub server_name: OwnedServerName,
    /// Who may register.
    pub registration: Registration,
    /// The secret of `/_synapse/admin/v1/register`; if empty, the endpoint is disabled.
    pub shared_secret: String,
    /// Where clients reach this server (`https://...`), for `.well-known`; `None`: not published, clients use the server name.
    pub client_base_url: Option<String>,
    /// `host:port` where other servers reach this one, for `.well-known`; `None`: not published.
    pub federation_address: Option<String>,
}
