//! `weft user add`: makes an account while the server is not running.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng as _;
use ruma::OwnedUserId;
use weft_accounts::{Accounts, NewAccount, RegisterError, SystemClock};

use crate::cli::AddUserArguments;
use crate::config::{self, Config, LoadError};
use crate::serve::{ServeError, storage};
use crate::terminal;

/// Bytes of randomness in a generated password: 128 bits.
const GENERATED_BYTES: usize = 16;

/// Why there is no new account.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The name belongs to another server, or breaks the grammar.
    #[error("{name:?} is no name for a user of {server}")]
    Name { name: String, server: String },
    /// The two that were typed differ.
    #[error("the passwords differ")]
    Different,
    /// Nobody is there to be asked.
    #[error("no password: standard input is no terminal; use --password-stdin or --generate-password")]
    NobodyToAsk,
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The machine said no.
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

/// See the module.
pub(crate) fn add(arguments: &AddUserArguments) -> Result<(), UserError> {
    let config = config::load(arguments.config.path.as_deref(), &config::variables())?;
    let system = |what| move |source| UserError::System { what, source };
    let password = password(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the runtime"))?;
    let user_id = runtime.block_on(register(&config, arguments, password.clone()))?;
    terminal::say(&format!(
        "made {}{user_id}",
        if arguments.admin { "administrator " } else { "" }
    ))
    .and_then(|()| {
        if arguments.generate_password {
            terminal::say(&format!("password: {password}"))
        } else {
            Ok(())
        }
    })
    .map_err(system("cannot write to standard output"))
}

async fn register(config: &Config, arguments: &AddUserArguments, password: String) -> Result<OwnedUserId, UserError> {
    let store = storage::open(config).await?;
    let accounts = Accounts::new(store.clone(), config.server_name.clone(), Arc::new(SystemClock));
    let outcome = make(&accounts, arguments, password).await;
    store.close().await;
    outcome
}

async fn make(accounts: &Accounts, arguments: &AddUserArguments, password: String) -> Result<OwnedUserId, UserError> {
    let user_id = accounts.user_id(&arguments.name).map_err(|_| UserError::Name {
        name: arguments.name.clone(),
        server: accounts.server_name().to_string(),
    })?;
    let account = NewAccount {
        username: user_id.localpart().to_owned(),
        password: Some(password),
        admin: arguments.admin,
        display_name: None,
    };
    Ok(accounts.register(account).await?)
}

fn password(arguments: &AddUserArguments) -> Result<String, UserError> {
    let system = |what| move |source| UserError::System { what, source };
    if arguments.generate_password {
        return generate().map_err(system("the system gives no randomness"));
    }
    if arguments.password_stdin {
        return terminal::read_line().map_err(system("cannot read the password"));
    }
    if !terminal::somebody_is_there() {
        return Err(UserError::NobodyToAsk);
    }
    let ask = |prompt: &str| rpassword::prompt_password(prompt).map_err(system("cannot read the password"));
    let password = ask(&format!("Password for {}: ", arguments.name))?;
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
