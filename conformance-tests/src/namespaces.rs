//! Network namespaces for real servers, and the bad network between them: `namespaces/switch.py`, started and commanded.
//!
//! Must not know what is sent through it.

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

/// A namespace, in which one server is to run.
#[derive(Clone, Debug, Deserialize)]
pub struct Namespace {
    /// The file by which it is entered.
    #[serde(rename = "namespace")]
    pub path: String,
    /// The port on the host's loopback that leads to the server, whatever the network does.
    pub door: u16,
    /// Where the other namespaces find it.
    pub address: String,
}

/// What becomes of a frame that isn't cut off.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Weather {
    /// From and to; frames with different delays overtake one another.
    pub delay_ms: [u32; 2],
    /// Of one.
    pub lose: f64,
    /// Of one.
    pub double: f64,
}

/// See the module.
pub struct Switch {
    /// One for each server.
    pub namespaces: Vec<Namespace>,
    process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Switch {
    /// Makes so many namespaces. The inner error says why this machine allows none.
    ///
    /// # Errors
    /// When the program can't be started or says nothing that can be understood.
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
        let said = switch.answer()?;
        if let Some(why) = said.get("cannot").and_then(Value::as_str) {
            return Ok(Err(why.to_owned()));
        }
        switch.namespaces = serde_json::from_value(said.get("nodes").cloned().unwrap_or_default())?;
        Ok(Ok(switch))
    }

    fn answer(&mut self) -> Result<Value> {
        let Some(line) = self.answers.next() else {
            bail!("the switch has ended");
        };
        Ok(serde_json::from_str(&line?)?)
    }

    /// These pairs, from and to, carry nothing from now on, and all others do.
    ///
    /// # Errors
    /// When the switch has ended.
    pub fn cut(&mut self, pairs: &[(usize, usize)]) -> Result<()> {
        self.command(&json!({"cut": pairs}))
    }

    /// What becomes of the frames that are sent from now on.
    ///
    /// # Errors
    /// When the switch has ended.
    pub fn weather(&mut self, weather: Weather) -> Result<()> {
        self.command(&json!({"weather": weather}))
    }

    /// How many frames were carried, cut, lost, doubled and overtaken so far.
    ///
    /// # Errors
    /// When the switch has ended.
    pub fn report(&mut self) -> Result<Value> {
        self.command(&json!({"report": true}))?;
        self.answer()
    }

    fn command(&mut self, command: &Value) -> Result<()> {
        writeln!(self.commands, "{command}").context("the switch has ended")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // The namespaces end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
