//! The command line: what there is to say, and nothing about what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ruma::OwnedServerName;

/// A federated homeserver for documents.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 all went well; 2 the command line is wrong; 65 the store cannot be opened by \
this version; 69 an address cannot be listened on, or another process has the store; 78 the configuration, a \
certificate or a key is wrong; 1 anything else.";

/// What the program can do.
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
    /// Manage the keys that the server signs with.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Two homeservers on this machine and one document, to try it out. Everything is gone afterwards.
    Demo(DemoArguments),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration. Without it, environment variables must say everything.
    #[arg(long = "config", value_name = "FILE", env = "WEFT_CONFIG")]
    pub(crate) path: Option<PathBuf>,
}

/// `weft serve`
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Also stop when standard input ends: so a server that belongs to another process ends with it.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// `weft config ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a commented configuration.
    New(NewConfigArguments),
    /// Say whether a configuration can be used, and everything that is wrong with it.
    Check(ConfigFile),
}

/// `weft config new`
#[derive(Debug, Args)]
pub(crate) struct NewConfigArguments {
    /// The part of user ids after the colon. It can never change once the server has been used.
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub(crate) server_name: OwnedServerName,
    /// Where everything is kept.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where to write it; to standard output if not given. A file that exists is left alone.
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
    /// Close an account for good: nobody can sign in to it or take its name again.
    Deactivate(DeactivateUserArguments),
}

/// `weft keys ...`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new signing key; the old one stays published as expired. The server must not be running.
    Rotate(ConfigFile),
}

/// Where a new password comes from; without an option the terminal is asked.
#[derive(Debug, Args)]
pub(crate) struct PasswordSource {
    /// Read the password from standard input (one line) instead of asking for it.
    #[arg(long = "password-stdin", conflicts_with = "generate_password")]
    pub(crate) stdin: bool,
    /// Make up a password and print it.
    #[arg(long = "generate-password", id = "generate_password")]
    pub(crate) generate: bool,
}

/// `weft user add`
#[derive(Debug, Args)]
pub(crate) struct AddUserArguments {
    /// The name: `alice` or `@alice:example.org`.
    pub(crate) name: String,
    /// The account may administer the server.
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
    /// Leave the user signed in where they are.
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
    /// Also delete what the server keeps for this user alone, such as settings of clients.
    #[arg(long)]
    pub(crate) erase: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `weft demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Where to keep the servers' data; a temporary folder that is removed afterwards if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Also write the two links to this file, a line each, as soon as they work.
    #[arg(long, value_name = "FILE")]
    pub(crate) links: Option<PathBuf>,
}

fn server_name(text: &str) -> Result<OwnedServerName, String> {
    OwnedServerName::try_from(text).map_err(|_| "not a valid host name".to_owned())
}
