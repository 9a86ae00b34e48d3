//! Why a call failed. The assistant reads these texts and decides by them what to do. Must not contain the token.

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    /// The token contains characters that no token has.
    #[error("the token is not valid in an HTTP header")]
    Token,
    /// The certificates of authorities can't be read.
    #[error("the certificates are not valid PEM: {0}")]
    Certificates(reqwest::Error),
    /// The address of the homeserver has another scheme than http or https, or a path.
    #[error("{0:?} is not the address of a homeserver: https://HOST, or http:// for this machine")]
    Address(String),
    /// The homeserver refused the request.
    #[error("{errcode}: {message} (HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The Matrix error code.
        errcode: String,
        /// The reason in words.
        message: String,
    },
    /// No answer. After a change it is not known whether the change was made.
    #[error("the homeserver can't be reached: {0}")]
    Unreachable(reqwest::Error),
    /// The answer is too large.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer is not what the document API specifies.
    #[error("the answer of the homeserver can't be read: {0}")]
    Answer(String),
    /// The arguments of a tool are wrong.
    #[error("{0}")]
    Arguments(String),
    /// The protocol could not be started.
    #[error("the Model Context Protocol could not be started: {0}")]
    Protocol(String),
    /// The task of the protocol ended.
    #[error("the Model Context Protocol was interrupted")]
    Interrupted,
}
