//! The commented file that `weft config new` writes. What it says is what the program does: a test reads it back and
//! compares with the defaults.

use std::path::Path;

use ruma::ServerName;

/// The file for a server of this name with this folder.
pub(crate) fn render(server_name: &ServerName, data_dir: &Path) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    TEMPLATE
        .replace("{server_name}", &quoted(server_name.as_str()))
        .replace("{data_dir}", &quoted(&data_dir.to_string_lossy()))
}

const TEMPLATE: &str = r#"# Configuration of a Weft homeserver. `weft config check` says whether it can be used.
# Every setting outside [[listen]] can also be given as an environment variable; these override the file:
# WEFT_SERVER_NAME, WEFT_REGISTRATION_MODE, WEFT_FEDERATION_NOTARIES='["example.org"]', and so on.
# Relative paths are meant from this file's folder.

# The part of user ids after the colon. It can never change once the server has been used.
server_name = {server_name}

# Where everything is kept: events, accounts, keys. Back it up as a whole.
data_dir = {data_dir}

# Reverse proxies in front of the server, as networks: ["127.0.0.1", "10.1.0.0/16"]. The address of a client is taken from
# X-Forwarded-For or Forwarded of these alone; limits by address, such as that of failed sign-ins, go by it.
trusted_proxies = []

# Where the server listens, and what it serves there: "client" (Matrix clients), "documents" (documents and live
# editing), "federation" (other servers), "web" (the page). Any number of [[listen]].
[[listen]]
address = "127.0.0.1:8008"
serve = ["client", "documents", "web"]

# Other servers come in here. Federation requires TLS: name a certificate, or let a proxy in front do it.
[[listen]]
address = "127.0.0.1:8448"
serve = ["federation", "client", "documents"]
# tls = { certificate = "fullchain.pem", private_key = "key.pem" }

[registration]
# Who may make an account: "closed" (only `weft user add`), "token" (who has one of the tokens), "open" (anybody).
mode = "closed"
# The tokens of mode "token": give them to whom you want to have here. Each can be used any number of times.
# tokens = ["..."]
# Where set, scripts that know it may make accounts, as with Synapse (/_synapse/admin/v1/register).
shared_secret = ""

[federation]
# Authorities (PEM files) that are trusted beside the system's.
extra_ca_certificates = []
# Requests to private addresses are refused. Exceptions, as networks: ["10.1.0.0/16"].
allow_addresses = []
# Servers that are asked for the keys of servers which do not answer.
notaries = []

[documents]
# Edits are on disk at once. They are signed, and so reach other servers, after this long without another edit...
seal_idle = "2s"
# ...and at the latest this long after the first. (While somebody from another server looks on: within 50 ms.)
seal_max = "5s"

[limits]
# 1,000 requests a minute a user.
rate_limit = true
# Connections at one time, of everybody. Fewer where the system gives fewer file descriptors (LimitNOFILE=, ulimit -n).
connections = 8192
# Of them those of one IPv4 address or one IPv6 /64 on which nobody has signed in: more for a large office behind one address.
connections_per_network = 256
# Bytes of requests and answers that are held at one time, of those who are not known yet (by IPv4 address or IPv6 /64), of
# accounts and of other servers: of one, and of all of them. Together they bound the memory that callers can take. The
# smallest values are a signed request (13.2 MB), a document (67.3 MB) and the state of a large room (147.5 MB).
stranger_in_flight_bytes_per_network = 16777216
stranger_in_flight_bytes = 67108864
account_in_flight_bytes_per_user = 100663296
account_in_flight_bytes = 268435456
server_in_flight_bytes_per_server = 150994944
server_in_flight_bytes = 268435456
# Requests to other servers that are under way at one time because somebody asks for what is there (profiles, aliases,
# directories, keys): for one who is not known and for all of them, for one account and for all accounts.
outgoing_requests_per_stranger = 8
outgoing_requests_for_strangers = 32
outgoing_requests_per_account = 8
outgoing_requests_for_accounts = 128
# Bytes of account data (settings of clients) that one user may keep; at least 262144.
account_data_bytes = 4194304
# Bytes of filters for sync that one user may keep; at least 65536.
filter_bytes = 524288
# Bytes of events that are taken of one other server in a day; what is more comes later. At least 13107200.
event_bytes_per_server_and_day = 4294967296
# Open invitations to rooms of other servers: of one user, of one user by one server, of all users by one server.
invitations_per_user = 500
invitations_per_user_and_server = 50
invitations_per_server = 2000

[well_known]
# Only where the server is not reached under its own name: the address for clients ("https://weft.example.org")
# and the host for other servers ("weft.example.org:443"), as told under /.well-known/matrix.
client = ""
server = ""

[log]
# "pretty" for people, "json" for machines.
format = "pretty"
# How much: "info", "debug", or by part, like "weft_federation=debug,info,ruma_state_res=warn".
filter = "info,ruma_state_res=warn"
"#;
