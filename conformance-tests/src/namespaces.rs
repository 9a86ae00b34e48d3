//! Network namespaces for real servers, with an unreliable network between them: starts and controls
//! `namespaces/switch.py`.
//!
//! Must not inspect the traffic.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The port on which a server listens in its namespace.
pub const PORT: u16 = 8448;

/// The namespace of one server.
#[derive(Clone, Debug, Deserialize)]
pub struct Namespace {
    /// The file to enter the namespace with.
    #[serde(rename = "namespace")]
    pub path: String,
    /// The port on the host's loopback that is forwarded to the server, independent of the simulated network.
    pub door: u16,
    /// Its address for the other namespaces.
    pub address: String,
}

/// Conditions of the simulated network, for frames that are not cut off.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NetworkConditions {
    /// Minimum and maximum delay; frames with different delays overtake one another.
    pub delay_ms: [u32; 2],
    /// Probability, 0 to 1.
    pub lose: f64,
    /// Probability, 0 to 1.
    pub double: f64,
}

/// See the module.
pub struct Switch {
    /// One per server.
    pub namespaces: Vec<Namespace>,
    process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Switch {
    /// Creates a namespace for each of `servers`. The inner error says why this machine does not allow namespaces.
    ///
    /// # Errors
    /// When the program can't be started or its response is invalid.
    pub fn new(servers: usize, seed: u64) -> Result<Result<Self, String>> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("namespaces/switch.py");
        let started = Command::new("python3")
            .arg(program)
            .args([servers.to_string(), seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) => return Ok(Err(format!("python3: {error}"))),
        };
        let commands = process.stdin.take().context("no input")?;
        let answers = BufReader::new(process.stdout.take().context("no output")?).lines();
        let mut switch = Self {
            namespaces: Vec::new(),
            process,
            commands,
            answers,
        };
        let response = switch.answer()?;
        if let Some(why) = response.get("cannot").and_then(Value::as_str) {
            return Ok(Err(why.to_owned()));
        }
        switch.namespaces = serde_json::from_value(response.get("nodes").cloned().unwrap_or_default())?;
        Ok(Ok(switch))
    }

    fn answer(&mut self) -> Result<Value> {
        let Some(line) = self.answers.next() else {
            bail!("the switch has exited");
        };
        Ok(serde_json::from_str(&line?)?)
    }

    /// Drops all frames of these pairs (from, to) from now on, and no others.
    ///
    /// # Errors
    /// When the switch has exited.
    pub fn cut(&mut self, pairs: &[(usize, usize)]) -> Result<()> {
        self.command(&json!({"cut": pairs}))
    }

    /// Sets the conditions for frames that are sent from now on.
    ///
    /// # Errors
    /// When the switch has exited.
    pub fn set_conditions(&mut self, conditions: NetworkConditions) -> Result<()> {
        self.command(&json!({"weather": conditions}))
    }

    /// The number of frames carried, cut, lost, duplicated and reordered so far.
    ///
    /// # Errors
    /// When the switch has exited.
    pub fn report(&mut self) -> Result<Value> {
        self.command(&json!({"report": true}))?;
        self.answer()
    }

    fn command(&mut self, command: &Value) -> Result<()> {
        writeln!(self.commands, "{command}").context("the switch has exited")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // The namespaces are deleted when the process exits.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
