//! The program `weft`: reads its configuration, wires the crates together, starts and stops them.
//!
//! Decides nothing about rooms, events or requests; every part is made here and handed exactly what it needs.
//! No struct holds them all.

mod adapters;
mod cli;
mod config;
mod config_command;
mod demo;
#[cfg(debug_assertions)]
mod fail_points;
mod failure;
mod keys_command;
mod logging;
mod serve;
mod terminal;
mod user_access;
mod user_command;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, ConfigCommand, KeysCommand};
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What the program makes (keys, documents, configurations with secrets) is for its own user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::complain(&format!("weft: {failure}"));
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => Ok(serve::run(&arguments)?),
        Command::Config(ConfigCommand::New(arguments)) => config_command::new(&arguments),
        Command::Config(ConfigCommand::Check(arguments)) => config_command::check(&arguments),
        Command::User(command) => Ok(user_command::run(&command)?),
        Command::Keys(KeysCommand::Rotate(file)) => Ok(keys_command::rotate(&file)?),
        Command::Demo(arguments) => Ok(demo::run(&arguments)?),
    }
}
