//! The program `weft`: reads its configuration, wires the crates together, starts and stops them.
//!
//! Must not decide anything about rooms, events or requests. Every part is constructed here and receives exactly what it
//! needs; no struct holds all of them.

mod access_log;
mod access_log_command;
mod adapters;
mod archive_command;
mod cli;
mod config;
mod config_command;
#[cfg(debug_assertions)]
mod fail_points;
mod failure;
mod keys_command;
mod mcp_command;
mod operator_client;
mod search_command;
mod serve;
mod terminal;
mod user_access;
mod user_command;
mod verify_command;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, ConfigCommand, KeysCommand};
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::RenderWorker) {
        return weft_render_worker::main();
    }
    if let Command::ConvertWorker { direction } = &cli.command {
        return weft_render_worker::convert(direction);
    }
    if let Command::Verify(arguments) = &cli.command {
        return verify_command::run(arguments);
    }
    // New files (keys, documents, configurations with secrets) are accessible only to the program's own user.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::print_error(&format!("weft: {failure}"));
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        // They have their own exit codes.
        Command::RenderWorker | Command::ConvertWorker { .. } | Command::Verify(_) => Ok(()),
        Command::Mcp(arguments) => Ok(mcp_command::run(&arguments)?),
        Command::Serve(arguments) => Ok(serve::run(&arguments)?),
        Command::Config(ConfigCommand::New(arguments)) => config_command::new(&arguments),
        Command::Config(ConfigCommand::Check(arguments)) => config_command::check(&arguments),
        Command::User(command) => Ok(user_command::run(&command)?),
        Command::AccessLog(arguments) => Ok(access_log_command::run(&arguments)?),
        Command::SearchRebuild(file) => search_command::rebuild(&file),
        Command::Export(arguments) => Ok(archive_command::export(&arguments)?),
        Command::Import(arguments) => Ok(archive_command::import(&arguments)?),
        Command::Keys(KeysCommand::Rotate(file)) => Ok(keys_command::rotate(&file)?),
    }
}
