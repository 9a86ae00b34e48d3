//! The server-server API, /_matrix/federation and /_matrix/key.
