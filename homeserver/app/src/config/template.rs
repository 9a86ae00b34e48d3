//! The commented file that `weft config new` writes. Its values must not differ from the defaults: a test parses it and
//! compares them.

use std::path::Path;

use ruma::ServerName;

/// The file for a server with this name and this data directory.
pub(crate) fn render(server_name: &ServerName, data_dir: &Path) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    TEMPLATE
        .replace("{server_name}", &quoted(server_name.as_str()))
        .replace("{data_dir}", &quoted(&data_dir.to_string_lossy()))
}

const TEMPLATE: &str = r#"# Configuration of a Weft homeserver. Check it with `weft config check`.
# Every setting outside [[listen]] can also be set by an environment variable, which overrides the file:
# WEFT_SERVER_NAME, WEFT_REGISTRATION_MODE, WEFT_FEDERATION_NOTARIES='["example.org"]', and so on.
# Relative paths start from the directory of this file.

# The part of user IDs after the colon. It can never change once the server has been used.
server_name = {server_name}

# The directory for all data: events, accounts, keys. Back it up as a whole.
data_dir = {data_dir}

# Reverse proxies in front of the server, as networks: ["127.0.0.1", "10.1.0.0/16"]. Only their X-Forwarded-For and
# Forwarded headers determine the address of a client, which is used for limits per address, for example of failed logins.
trusted_proxies = []

# An address to listen on, and the APIs to serve there: "client" (Matrix clients), "documents" (documents and live
# editing), "federation" (other servers), "web" (the web page). There can be any number of [[listen]].
[[listen]]
address = "127.0.0.1:8008"
serve = ["client", "documents", "web"]

# The address for other servers. Federation requires TLS: configure a certificate here, or use a reverse proxy with TLS.
[[listen]]
address = "127.0.0.1:8448"
serve = ["federation", "client", "documents"]
# tls = { certificate = "fullchain.pem", private_key = "key.pem" }

[registration]
# Who may register: "closed" (nobody; use `weft user add`), "token" (everyone with one of the tokens), "open" (everyone).
mode = "closed"
# The tokens for mode "token": give them to the people who may register. Each can be used any number of times.
# tokens = ["..."]
# If set, scripts that know the secret can register accounts, as with Synapse (/_synapse/admin/v1/register).
shared_secret = ""
# Whether share links may let in people without an account, as guests with a name, if the maker of the link wants it.
guests = false

[federation]
# Certificate authorities (PEM files) that are trusted in addition to the system's.
extra_ca_certificates = []
# Requests to private addresses are refused. Exceptions, as networks: ["10.1.0.0/16"].
allow_addresses = []
# Notary servers: they provide the keys of servers that cannot be reached.
notaries = []

[documents]
# Edits are on disk at once. They are signed and sent to other servers after this time without a further edit...
seal_idle = "2s"
# ...and at the latest this time after the first. (While a user of another server has the document open: within 50 ms.)
seal_max = "5s"
# Days after which a document in the bin is left and forgotten by its owner, if nobody else is in it or invited. 0: never.
bin_days = 30

[webhooks]
# Webhooks deliver events of documents to URLs that users choose. Private addresses are refused. Exceptions, as networks, to
# which http:// is allowed as well: ["10.1.0.0/16"]. Every user can then send requests there.
# The certificate authorities of [federation] are trusted for webhooks too.
allow_addresses = []

[access_log]
# Record who read which document through the document API (content, rendered text, signed log): JSON lines in the directory
# access-log of data_dir, one file a day, at most 256 MiB. `weft access-log` prints them.
enabled = true
# Days after which a file is deleted.
keep_days = 90

[media]
# Bytes of one uploaded file; the same limit applies to a file of another server.
max_upload_bytes = 104857600
# Bytes of all files of one user, and of the files of all users (the same file of several users counts once).
bytes_per_user = 10737418240
bytes = 214748364800
# Types of files that users may upload: ["image/*", "application/pdf"]. Empty: all.
allowed_types = []
# The cache of other servers' files: bytes, and days after which a file that nobody read is removed.
cache_bytes = 10737418240
cache_days = 30
# Days after its upload and its last read after which a file of a user is removed if no document, message, profile or setting
# names it, and none ever did. 0: never. A day before it is removed it can't be downloaded any more; uploading it again keeps it.
unnamed_days = 0

# Files are stored in the directory media of data_dir, or in a bucket of an S3 service. Moving from one to the other means
# copying the files: their names are the same.
[media.s3]
# The URL of the service, without the bucket. Empty: no S3.
endpoint = ""
bucket = ""
region = "us-east-1"
access_key_id = ""
# Better set by the environment variable WEFT_MEDIA_S3_SECRET_ACCESS_KEY.
secret_access_key = ""
# What the names of all objects begin with.
prefix = ""

[storage]
# The number of lanes of a new store, 1 to 256: the parts that several processes will be able to divide among them. It can never
# change once the store exists, and each lane makes sync tokens longer. Without this setting a new store has one.
# lanes = 1

[limits]
# Limit each user to 1,000 requests per minute, and the edits of a document to the two numbers that follow.
rate_limit = true
# Edits per second, on average over 10 seconds, by one user in a document and by all users of this server. Further edits wait.
edits_per_second_per_user = 200
edits_per_second_per_document = 1000
# Users of a document, joined and invited, above which users of this server can invite nobody to it and cannot join it.
participants_per_document = 10000
# Open connections in total. Fewer if the system provides fewer file descriptors (LimitNOFILE=, ulimit -n).
connections = 8192
# Open connections without login per IPv4 address or IPv6 /64: raise it for a large office behind one address.
connections_per_network = 256
# Bytes of requests and responses in memory at one time: for unauthenticated clients ("strangers", counted per IPv4 address
# or IPv6 /64), for accounts and for other servers; each for one of them and in total. Together they limit the memory that
# callers can use. The smallest values are a signed request (13.2 MB), a document (100.7 MB) and the state of a large room
# (147.5 MB).
stranger_in_flight_bytes_per_network = 16777216
stranger_in_flight_bytes = 67108864
account_in_flight_bytes_per_user = 100663296
account_in_flight_bytes = 268435456
server_in_flight_bytes_per_server = 150994944
server_in_flight_bytes = 268435456
# Concurrent requests to other servers that client requests cause (profiles, aliases, directories, keys): for one
# unauthenticated client and for all of them, for one account and for all accounts.
outgoing_requests_per_stranger = 8
outgoing_requests_for_strangers = 32
outgoing_requests_per_account = 8
outgoing_requests_for_accounts = 128
# Bytes of account data (client settings) per user; at least 262144.
account_data_bytes = 4194304
# Bytes of stored sync filters per user; at least 65536.
filter_bytes = 524288
# Bytes of events that are accepted from one other server per day; the rest is accepted later. At least 13107200.
event_bytes_per_server_and_day = 4294967296
# Bytes of events and live edits that are accepted from one user per day; at least 14155776.
event_bytes_per_user_and_day = 1073741824
# Bytes of events of other servers that wait for other events in one room; a quarter of it for one server. At least 52428800.
staged_event_bytes_per_room = 134217728
# Bytes on disk of the history of a joined room until it is checked: per room (at least 134217728), and in all rooms.
fetched_history_bytes_per_room = 4294967296
fetched_history_bytes = 17179869184
# Open invitations to rooms of other servers: per user, per user and inviting server, per inviting server.
invitations_per_user = 500
invitations_per_user_and_server = 50
invitations_per_server = 2000

[well_known]
# Only needed if the server has another host name than server_name: the URL for clients ("https://weft.example.org")
# and the host for other servers ("weft.example.org:443"), published under /.well-known/matrix.
client = ""
server = ""

[log]
# "pretty" (human-readable) or "json" (one object per line).
format = "pretty"
# Log level: "info", "debug", or per module, for example "weft_federation=debug,info,ruma_state_res=warn".
filter = "info,ruma_state_res=warn"
"#;
