//! Failures of commands and their exit codes. Must not change a code: scripts depend on them.

use std::process::ExitCode;

use crate::access_log_command::AccessLogError;
use crate::archive_command::ArchiveCommandError;
use crate::config::LoadError;
use crate::keys_command::KeysError;
use crate::mcp_command::McpError;
use crate::serve::ServeError;
use crate::user_command::UserError;

/// This version can't open the store (`EX_DATAERR`).
const DATA: u8 = 65;
/// An address or the store is in use by another process (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// The configuration, a certificate or a key is wrong (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error("cannot write the configuration to {path}: {source}", path = path.display())]
    WriteConfig {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    #[error(transparent)]
    Mcp(#[from] McpError),
    #[error(transparent)]
    Archive(#[from] ArchiveCommandError),
}

impl Failure {
    /// See the module.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::User(UserError::Config(_))
            | Self::Keys(KeysError::Config(_))
            | Self::AccessLog(AccessLogError::Config(_))
            | Self::Archive(ArchiveCommandError::Config(_)) => CONFIG.into(),
            Self::Serve(error) | Self::User(UserError::Serve(error)) | Self::Keys(KeysError::Serve(error)) => {
                Self::of_server(error)
            }
            _ => ExitCode::FAILURE,
        }
    }

    fn of_server(error: &ServeError) -> ExitCode {
        match error {
            ServeError::Tls(_)
            | ServeError::Authority(_)
            | ServeError::OtherName { .. }
            | ServeError::OtherLanes { .. }
            | ServeError::Keys { .. }
            | ServeError::Config(_)
            | ServeError::Federation { .. } => CONFIG.into(),
            ServeError::StoreInUse { .. } | ServeError::AddressInUse { .. } | ServeError::Bind { .. } => {
                UNAVAILABLE.into()
            }
            ServeError::NewerStore { .. } | ServeError::Store { .. } => DATA.into(),
            _ => ExitCode::FAILURE,
        }
    }
}
