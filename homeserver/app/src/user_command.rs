//! `weft user ...`: adds, lists and deactivates accounts and sets passwords, with or without a running server. Must not
//! print a password that it did not generate.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng as _;
use weft_accounts::{AccountsUnavailable, InvalidUsername, RegisterError, SetPasswordError};
use weft_gateway::client::operator::ListedUser;

use crate::cli::{
    AddUserArguments, ConfigFile, DeactivateUserArguments, PasswordSource, UserCommand, UserPasswordArguments,
};
use crate::config::{self, Config, LoadError};
use crate::operator_client::OperatorError;
use crate::serve::ServeError;
use crate::terminal;
use crate::user_access::{UserAccess, user_id};

/// Random bytes in a generated password: 128 bits.
const GENERATED_BYTES: usize = 16;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The name does not follow the grammar.
    #[error("{name:?} is not a valid user name: {source}")]
    Name { name: String, source: InvalidUsername },
    /// The name belongs to another server.
    #[error("{name:?} is not a user of {server}")]
    Foreign { name: String, server: String },
    /// The two typed passwords differ.
    #[error("the passwords differ")]
    Different,
    /// There is no terminal for a prompt.
    #[error("no password: standard input is not a terminal; use --password-stdin or --generate-password")]
    NoTerminal,
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error(transparent)]
    SetPassword(#[from] SetPasswordError),
    #[error(transparent)]
    Accounts(#[from] AccountsUnavailable),
    /// There is no such account.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A system call failed.
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

/// See the module.
pub(crate) fn run(command: &UserCommand) -> Result<(), UserError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the runtime"))?;
    match command {
        UserCommand::Add(arguments) => add(&runtime, arguments),
        UserCommand::List(file) => list(&runtime, file),
        UserCommand::Password(arguments) => set_password(&runtime, arguments),
        UserCommand::Deactivate(arguments) => deactivate(&runtime, arguments),
    }
}

type Runtime = tokio::runtime::Runtime;

fn add(runtime: &Runtime, arguments: &AddUserArguments) -> Result<(), UserError> {
    let config = load(&arguments.config)?;
    let user = user_id(&config, &arguments.name)?;
    let password = password(&arguments.password, &arguments.name)?;
    with_accounts(runtime, &config, async |accounts| {
        accounts.add(&user, password.clone(), arguments.admin).await
    })?;
    let kind = if arguments.admin { "administrator " } else { "" };
    print(&format!("created {kind}{user}"))?;
    print_generated(&arguments.password, &password)
}

fn list(runtime: &Runtime, file: &ConfigFile) -> Result<(), UserError> {
    let config = load(file)?;
    with_accounts(runtime, &config, async |accounts| {
        let mut after = None;
        loop {
            let users = accounts.list(after).await?;
            let Some(last) = users.last() else { return Ok(()) };
            after = Some(last.user_id.clone());
            for user in &users {
                print(&line(user))?;
            }
        }
    })
}

fn set_password(runtime: &Runtime, arguments: &UserPasswordArguments) -> Result<(), UserError> {
    let config = load(&arguments.config)?;
    let user = user_id(&config, &arguments.name)?;
    let password = password(&arguments.password, &arguments.name)?;
    with_accounts(runtime, &config, async |accounts| {
        accounts
            .set_password(&user, password.clone(), !arguments.keep_sessions)
            .await
    })?;
    let sessions = if arguments.keep_sessions {
        ""
    } else {
        " and ended all sessions"
    };
    print(&format!("set the password of {user}{sessions}"))?;
    print_generated(&arguments.password, &password)
}

fn deactivate(runtime: &Runtime, arguments: &DeactivateUserArguments) -> Result<(), UserError> {
    let config = load(&arguments.config)?;
    let user = user_id(&config, &arguments.name)?;
    let left = with_accounts(runtime, &config, async |accounts| {
        accounts.deactivate(&user, arguments.erase).await
    })?;
    print(&format!("deactivated {user}"))?;
    if !left {
        print("the account is still a member of its rooms: repeat the command while the server runs to leave them")?;
    }
    Ok(())
}

fn load(file: &ConfigFile) -> Result<Config, UserError> {
    Ok(config::load(file.path.as_deref(), &config::variables())?)
}

/// Runs a command on the accounts, and closes the store if it was opened for it.
fn with_accounts<T>(
    runtime: &Runtime,
    config: &Config,
    command: impl AsyncFnOnce(&UserAccess) -> Result<T, UserError>,
) -> Result<T, UserError> {
    runtime.block_on(async {
        let accounts = UserAccess::open(config).await?;
        let outcome = command(&accounts).await;
        accounts.close().await;
        outcome
    })
}

/// An account on one line: user ID, state, time of creation.
fn line(user: &ListedUser) -> String {
    let state = match (user.deactivated, user.admin) {
        (true, _) => "deactivated",
        (false, true) => "administrator",
        (false, false) => "user",
    };
    let made = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(user.created_at_ms));
    let made = made.map(|made| humantime::format_rfc3339_seconds(made).to_string());
    format!("{}\t{state}\t{}", user.user_id, made.unwrap_or_default())
}

fn print(line: &str) -> Result<(), UserError> {
    terminal::print(line).map_err(system("cannot write to standard output"))
}

fn print_generated(source: &PasswordSource, password: &str) -> Result<(), UserError> {
    if source.generate {
        print(&format!("password: {password}"))?;
    }
    Ok(())
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> UserError {
    move |source| UserError::System { what, source }
}

fn password(source: &PasswordSource, name: &str) -> Result<String, UserError> {
    if source.generate {
        return generate().map_err(system("the system's random number generator failed"));
    }
    if source.stdin {
        return terminal::read_line().map_err(system("cannot read the password"));
    }
    if !terminal::is_interactive() {
        return Err(UserError::NoTerminal);
    }
    let ask = |prompt: &str| rpassword::prompt_password(prompt).map_err(system("cannot read the password"));
    let password = ask(&format!("Password for {name}: "))?;
    if ask("Again: ")? == password {
        Ok(password)
    } else {
        Err(UserError::Different)
    }
}

fn generate() -> std::io::Result<String> {
    let mut bytes = [0; GENERATED_BYTES];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(std::io::Error::other)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
