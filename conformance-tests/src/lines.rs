//! A child process that takes JSON requests as lines on standard input and writes each response, with the request's id,
//! to standard output: stock editors and stock clients in their own languages. Must not interpret the requests.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Mutex as AsyncMutex, oneshot},
};

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// See the module.
pub struct Process {
    input: AsyncMutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicU64,
    /// Killed when dropped.
    _process: Child,
}

impl Process {
    /// Starts the process.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if std::env::var_os("WEFT_TEST_LOGS").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let input = AsyncMutex::new(process.stdin.take().context("stdin")?);
        let mut lines = BufReader::new(process.stdout.take().context("stdout")?).lines();
        let waiting: Waiting = Arc::default();
        let answers = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                deliver(&answers, &line);
            }
            // Dropping the senders fails all pending calls.
            answers.lock().clear();
        });
        Ok(Self {
            input,
            waiting,
            next: AtomicU64::new(1),
            _process: process,
        })
    }

    /// Sends a request and waits for the response.
    ///
    /// # Errors
    /// When the response is an error, or the process exits.
    pub async fn call(&self, mut request: Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        if let Some(fields) = request.as_object_mut() {
            fields.insert("id".to_owned(), json!(id));
        }
        let line = format!("{request}\n");
        self.input.lock().await.write_all(line.as_bytes()).await?;
        answer
            .await
            .context("the process exited")?
            .map_err(|error| anyhow!("{error}"))
    }
}

fn deliver(waiting: &Waiting, line: &str) {
    let Ok(answer) = serde_json::from_str::<Value>(line) else {
        return;
    };
    let Some(id) = answer.get("id").and_then(Value::as_u64) else {
        return;
    };
    let Some(sender) = waiting.lock().remove(&id) else {
        return;
    };
    let result = match answer.get("error") {
        Some(error) => Err(error.as_str().unwrap_or("error").to_owned()),
        None => Ok(answer.get("ok").cloned().unwrap_or(Value::Null)),
    };
    // The caller may have been cancelled.
    let _ = sender.send(result);
}
