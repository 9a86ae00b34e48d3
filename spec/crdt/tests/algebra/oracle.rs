//! Yjs in a Node process, driven by lines. Installs its own dependencies by the lock file; fails with a clear message
//! without Node.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

pub(crate) struct Yjs {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Yjs {
    pub(crate) fn start() -> Yjs {
        let mut child = Command::new("node")
            .arg("oracle.mjs")
            .current_dir(installed())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need Node 20 or later in the path");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Yjs { child, input, output }
    }

    /// Sends one line and returns one line.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").expect("the oracle reads lines");
        self.input.flush().unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("the oracle answers");
        assert!(
            !answer.is_empty(),
            "the oracle ended after: {}",
            line.chars().take(200).collect::<String>()
        );
        assert!(!answer.starts_with("{\"error\""), "{answer}");
        answer.trim_end().to_owned()
    }
}

impl Drop for Yjs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `npm ci` unless the dependencies of the lock file are installed.
fn installed() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/yjs");
        // Test runners start a process per test: one of them installs, the others wait.
        let turn = std::fs::File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/yjs.lock")).unwrap();
        turn.lock().unwrap();
        let lock = std::fs::read(dir.join("package-lock.json")).unwrap();
        let stamp = dir.join("node_modules/.installed-lock.json");
        if std::fs::read(&stamp).ok().as_ref() != Some(&lock) {
            let done = Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund"])
                .current_dir(&dir)
                .stdout(Stdio::null())
                .status()
                .expect("these tests need npm in the path");
            assert!(done.success(), "npm ci failed in {}", dir.display());
            std::fs::write(stamp, lock).unwrap();
        }
        dir
    })
    .clone()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hex")
}
