//! `weft mcp` as a child process, and the messages of the Model Context Protocol (revision 2025-06-18) that a client
//! sends to it. Must not know what the tools do.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{authority::Authority, client::Client, server};

/// An assistant's connection to `weft mcp`.
pub struct Assistant {
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    next: u64,
    process: Child,
}

impl Assistant {
    /// Starts the program for an account and initialises the protocol.
    ///
    /// # Errors
    /// When the program does not start or does not answer.
    pub async fn start(authority: &Authority, client: &Client, access: &str) -> Result<Self> {
        let mut process = Command::new(server::binary()?)
            .args(["mcp", "--homeserver", &client.url, "--access", access, "--ca-file"])
            .arg(authority.certificate())
            .env("WEFT_ACCESS_TOKEN", &client.token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().context("stdin")?;
        let lines = BufReader::new(process.stdout.take().context("stdout")?).lines();
        let next = 1;
        let mut assistant = Self {
            input,
            lines,
            next,
            process,
        };
        let parameters = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "conformance-tests", "version": "1"},
        });
        assistant.request("initialize", parameters).await?;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assistant.send(&initialized).await?;
        Ok(assistant)
    }

    /// The result of a request.
    ///
    /// # Errors
    /// When the answer is an error, or the program ends.
    pub async fn request(&mut self, method: &str, parameters: Value) -> Result<Value> {
        let id = self.next;
        self.next += 1;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters});
        self.send(&request).await?;
        loop {
            let line = self.lines.next_line().await?.context("the program ended")?;
            let mut answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if answer.get("id") == Some(&json!(id)) {
                ensure!(answer.get("error").is_none(), "{method}: {line}");
                return Ok(answer.get_mut("result").context("no result")?.take());
            }
        }
    }

    /// What a tool answers.
    ///
    /// # Errors
    /// When the tool refuses, or does not exist.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        let parameters = json!({"name": tool, "arguments": arguments});
        let mut result = self.request("tools/call", parameters).await?;
        ensure!(result.get("isError") != Some(&json!(true)), "{tool}: {result}");
        let structured = result.get_mut("structuredContent");
        Ok(structured.context("no structured content")?.take())
    }

    /// The names of the tools, sorted.
    ///
    /// # Errors
    /// When the program ends.
    pub async fn tools(&mut self) -> Result<Vec<String>> {
        let listed = self.request("tools/list", json!({})).await?;
        let tools = listed.get("tools").and_then(Value::as_array).context("no tools")?;
        let names = tools.iter().filter_map(|tool| tool.get("name").and_then(Value::as_str));
        let mut names: Vec<String> = names.map(ToOwned::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Closes standard input and waits for the end of the program.
    ///
    /// # Errors
    /// When it ends with an error.
    pub async fn close(mut self) -> Result<()> {
        drop(self.input);
        let status = self.process.wait().await?;
        ensure!(status.success(), "weft mcp: {status}");
        Ok(())
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        self.input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }
}
