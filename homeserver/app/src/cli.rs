//! The command line: arguments and help texts. Must not contain what the commands do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ruma::OwnedServerName;

/// A federated homeserver for documents.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 success; 2 the command line is wrong; 65 the store cannot be opened by \
this version; 69 an address is in use, or another process has the store open; 78 the configuration, a \
certificate or a key is wrong; 1 anything else.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the homeserver until SIGINT or SIGTERM.
    Serve(ServeArguments),
    /// Write or check a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Manage accounts.
    #[command(subcommand)]
    User(UserCommand),
    /// Print who read which document through the document API, as JSON lines.
    AccessLog(AccessLogArguments),
    /// Build the search index again. A running server begins within seconds, another one at its next start.
    SearchRebuild(ConfigFile),
    /// Export all documents of the running server, one archive each. A later export into the same folder writes what changed.
    Export(ExportArguments),
    /// Import exported documents into the running server as documents of an account. What was imported before is left alone.
    Import(ImportArguments),
    /// Manage the server's signing keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Verify an exported log of a document: exit code 0 good, 1 wrong, 2 can't be judged.
    Verify(VerifyArguments),
    /// Serve the Model Context Protocol on standard input and output: an assistant works on documents as one account.
    Mcp(McpArguments),
    /// Render documents in a sandbox, as a child process of `weft serve`.
    #[command(hide = true)]
    RenderWorker,
    /// Convert an office file, as a child process of `weft serve`.
    #[command(hide = true)]
    ConvertWorker {
        /// `docx-to-html` or `html-to-docx`.
        direction: String,
    },
}

/// The path of the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file. Without it, all settings come from environment variables.
    #[arg(long = "config", value_name = "FILE", env = "WEFT_CONFIG")]
    pub(crate) path: Option<PathBuf>,
}

/// `weft serve`
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Also stop at the end of standard input, so that a server ends together with its parent process.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// `weft config ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a commented configuration.
    New(NewConfigArguments),
    /// Check a configuration and list all its mistakes.
    Check(ConfigFile),
}

/// `weft config new`
#[derive(Debug, Args)]
pub(crate) struct NewConfigArguments {
    /// The part of user IDs after the colon. It can never change once the server has been used.
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub(crate) server_name: OwnedServerName,
    /// The directory for all data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The file to write; standard output if not given. An existing file is not overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `weft user ...`
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add an account.
    Add(AddUserArguments),
    /// List all accounts.
    List(ConfigFile),
    /// Set a new password and end the user's sessions.
    Password(UserPasswordArguments),
    /// Deactivate an account permanently: nobody can log in to it or register its name again.
    Deactivate(DeactivateUserArguments),
}

/// `weft keys ...`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Generate a new signing key; the old one stays published as expired. The server must not be running.
    Rotate(ConfigFile),
}

/// The source of a new password; without an option it is read from the terminal.
#[derive(Debug, Args)]
pub(crate) struct PasswordSource {
    /// Read the password from standard input (one line) instead of prompting for it.
    #[arg(long = "password-stdin", conflicts_with = "generate_password")]
    pub(crate) stdin: bool,
    /// Generate a password and print it.
    #[arg(long = "generate-password", id = "generate_password")]
    pub(crate) generate: bool,
}

/// `weft user add`
#[derive(Debug, Args)]
pub(crate) struct AddUserArguments {
    /// The name: `alice` or `@alice:example.org`.
    pub(crate) name: String,
    /// Give the account the admin flag.
    #[arg(long)]
    pub(crate) admin: bool,
    #[command(flatten)]
    pub(crate) password: PasswordSource,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `weft user password`
#[derive(Debug, Args)]
pub(crate) struct UserPasswordArguments {
    /// The name: `alice` or `@alice:example.org`.
    pub(crate) name: String,
    /// Keep the user's existing sessions.
    #[arg(long)]
    pub(crate) keep_sessions: bool,
    #[command(flatten)]
    pub(crate) password: PasswordSource,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `weft user deactivate`
#[derive(Debug, Args)]
pub(crate) struct DeactivateUserArguments {
    /// The name: `alice` or `@alice:example.org`.
    pub(crate) name: String,
    /// Also delete the user's private data on this server, such as client settings.
    #[arg(long)]
    pub(crate) erase: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `weft access-log`
#[derive(Debug, Args)]
pub(crate) struct AccessLogArguments {
    /// Only reads of this document: its room ID.
    #[arg(long, value_name = "ID")]
    pub(crate) document: Option<String>,
    /// Only reads by this user: `@alice:example.org`.
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `weft export`
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The folder for the archives. It is created if it does not exist.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `weft import`
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// An archive, or a folder of archives.
    #[arg(value_name = "FILE|FOLDER")]
    pub(crate) from: PathBuf,
    /// The account whose documents they become: `alice` or `@alice:example.org`.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `weft verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The exported file; `-` reads standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Trust only the keys in this file: a JSON object like `keys` in an exported file.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Also render the text, in a sandboxed process, and compare its hash with the one in the file.
    #[arg(long)]
    pub(crate) text: bool,
}

/// `weft mcp`
#[derive(Debug, Args)]
pub(crate) struct McpArguments {
    /// The address of the homeserver, such as https://weft.example.
    #[arg(long, value_name = "URL", env = "WEFT_HOMESERVER")]
    pub(crate) homeserver: String,
    /// The file with the access token of the account. Without it the token is in the variable `WEFT_ACCESS_TOKEN`.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates of authorities (PEM) that are trusted beside those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// What the assistant may do. It can never do more than the account.
    #[arg(long, value_enum, default_value_t = McpAccess::Suggest)]
    pub(crate) access: McpAccess,
}

/// What an assistant may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum McpAccess {
    /// List, read and search.
    Read,
    /// Read, comment and suggest.
    Suggest,
    /// Also edit.
    Edit,
}

fn server_name(text: &str) -> Result<OwnedServerName, String> {
    OwnedServerName::try_from(text).map_err(|_| "not a valid host name".to_owned())
}
