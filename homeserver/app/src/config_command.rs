//! `weft config new` and `weft config check`. Must not overwrite a file, and must not print secrets.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use crate::cli::{ConfigFile, NewConfigArguments};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::serve::{ServeError, tls};
use crate::terminal;

/// Writes the commented file; never overwrites an existing one.
pub(crate) fn new(arguments: &NewConfigArguments) -> Result<(), Failure> {
    let text = config::template(&arguments.server_name, &arguments.data_dir);
    let Some(path) = &arguments.output else {
        return Ok(terminal::print(text.trim_end())?);
    };
    write_new(path, &text).map_err(|source| Failure::WriteConfig {
        path: path.clone(),
        source,
    })?;
    terminal::print(&format!(
        "wrote {}; check it with `weft config check --config {0}`",
        path.display()
    ))?;
    Ok(())
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // The file will hold secrets, so other users must not be able to read it.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads the configuration and the files that it names, and prints the result.
pub(crate) fn check(file: &ConfigFile) -> Result<(), Failure> {
    let config = config::load(file.path.as_deref(), &config::variables())?;
    for listener in &config.listen {
        if let Some(files) = &listener.tls {
            tls::load(files).map_err(ServeError::from)?;
        }
    }
    for path in &config.federation.extra_ca_certificates {
        tls::certificates(path).map_err(ServeError::from)?;
    }
    for warning in &config.warnings {
        terminal::print_error(&format!("warning: {warning}"));
    }
    terminal::print(&summary(&config))?;
    Ok(())
}

/// A summary of the configuration, without secrets.
fn summary(config: &Config) -> String {
    let mut lines = vec![
        "the configuration is valid".to_owned(),
        format!("  server name   {}", config.server_name),
        format!("  data          {}", config.data_dir.display()),
        format!("  registration  {}", config.registration.mode.name()),
    ];
    for listener in &config.listen {
        let areas: Vec<&str> = listener.serve.iter().map(|area| area.name()).collect();
        let tls = if listener.tls.is_some() { "TLS" } else { "plain" };
        lines.push(format!(
            "  listens       {} ({tls}): {}",
            listener.address,
            areas.join(", ")
        ));
    }
    lines.join("\n")
}
