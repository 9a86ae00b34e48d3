//! How workers start, end and are replaced, and what happens to the requests.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use weft_render::{Format, NotRendered, Pool, PoolConfig, RenderError};
use weft_wire::limits::{MAX_RENDER_STATE_BYTES, RENDER_MEMORY_BYTES};

use crate::{PROGRAM, config, pool, render, text_update};

#[tokio::test]
async fn a_worker_renders_one_document_after_the_other() {
    let pool = pool(1);
    for number in 0..5 {
        let text = format!("text {number}");
        let rendered = render(&pool, "!a", text_update(&text), Format::Text).await.unwrap();
        assert_eq!(rendered.content, text);
    }
    let figures = pool.figures();
    assert_eq!((figures.started, figures.done, figures.died), (1, 5, 0));
    assert_eq!((figures.busy, figures.idle, figures.waiting), (0, 1, 0));
}

#[tokio::test]
async fn a_worker_is_replaced_after_its_last_request() {
    let pool = Pool::start(PoolConfig {
        requests_per_worker: 1,
        ..config(1)
    });
    for _ in 0..3 {
        render(&pool, "!a", text_update("x"), Format::Text).await.unwrap();
    }
    assert_eq!((pool.figures().started, pool.figures().idle), (3, 0));
}

#[tokio::test]
async fn an_unused_worker_is_ended() {
    let pool = Pool::start(PoolConfig {
        idle: Duration::from_millis(50),
        ..config(1)
    });
    render(&pool, "!a", text_update("x"), Format::Text).await.unwrap();
    while pool.figures().idle > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn many_requests_at_once_share_the_workers() {
    let pool = pool(2);
    let requests = (0..20).map(|number| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let text = format!("text {number}");
            let rendered = render(&pool, &format!("!{number}"), text_update(&text), Format::Text).await;
            assert_eq!(rendered.unwrap().content, text);
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    assert!(pool.figures().started <= 2);
}

#[tokio::test]
async fn requests_beyond_the_queue_are_refused() {
    // The worker never answers, so the first request keeps it.
    let pool = Pool::start(PoolConfig {
        waiting: 1,
        wait: Duration::from_millis(200),
        ..silent()
    });
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { render(&pool, "!a", text_update("x"), Format::Text).await }
    });
    while pool.figures().busy == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { render(&pool, "!b", text_update("x"), Format::Text).await }
    });
    while pool.figures().waiting == 0 && !second.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let third = render(&pool, "!c", text_update("x"), Format::Text).await;
    assert!(matches!(third, Err(RenderError::Busy { .. })), "{third:?}");
    // The second one's wait ends.
    assert!(matches!(second.await.unwrap(), Err(RenderError::Busy { .. })));
    assert!(matches!(first.await.unwrap(), Err(RenderError::TimedOut { .. })));
    assert_eq!((pool.figures().refused, pool.figures().timed_out), (2, 1));
    // After its deadline the document has a pause.
    let again = render(&pool, "!a", text_update("x"), Format::Text).await;
    assert!(matches!(again, Err(RenderError::NotRendered { .. })), "{again:?}");
    assert_eq!((pool.figures().busy, pool.figures().paused), (0, 1));
}

/// A program that greets and then answers nothing.
fn silent() -> PoolConfig {
    let greeting =
        r#"printf '\000\000\000\015\000\000\000\000\000\000\000\000\000\000\000\000{"version":1}'; cat >/dev/null"#;
    PoolConfig {
        answer: Duration::from_secs(2),
        ..PoolConfig::new("/bin/sh".into(), vec!["-c".to_owned(), greeting.to_owned()], 1)
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error() {
    let answers = [
        // A header that is no JSON, a part that is larger than allowed, and an end.
        r"printf '\000\000\000\001\000\000\000\000\000\000\000\000\000\000\000\000x'",
        r"printf '\000\000\000\001\377\000\000\000\000\000\000\000\000\000\000\000x'",
        "exit 3",
    ];
    for answer in answers {
        let script = format!(
            "{}; {answer}; cat >/dev/null",
            silent().arguments[1].replace("; cat >/dev/null", "")
        );
        let pool = Pool::start(PoolConfig {
            answer: Duration::from_secs(10),
            ..PoolConfig::new("/bin/sh".into(), vec!["-c".to_owned(), script], 1)
        });
        let error = render(&pool, "!a", text_update("x"), Format::Text).await.unwrap_err();
        let expected = match &error {
            RenderError::NotRendered { reason, .. } if answer == "exit 3" => {
                matches!(reason, NotRendered::Died { status } if status.contains('3'))
            }
            RenderError::NotRendered { reason, .. } => *reason == NotRendered::InvalidAnswer,
            _ => false,
        };
        assert!(expected, "{answer}: {error:?}");
        // Once, and once more on a new worker.
        assert_eq!((pool.figures().started, pool.figures().died), (2, 2), "{answer}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_start_is_reported() {
    let missing = Pool::start(PoolConfig::new("/nonexistent/worker".into(), Vec::new(), 1));
    let error = render(&missing, "!a", text_update("x"), Format::Text)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RenderError::Unavailable { reason } if reason.contains("/nonexistent/worker")),
        "{error:?}"
    );
    let script = "echo 'no sandbox here' >&2; exit 1".to_owned();
    let refuses = Pool::start(PoolConfig::new("/bin/sh".into(), vec!["-c".to_owned(), script], 1));
    let error = render(&refuses, "!a", text_update("x"), Format::Text)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RenderError::Unavailable { reason } if reason == "no sandbox here"),
        "{error:?}"
    );
    assert_eq!(refuses.figures().busy, 0);
}

#[tokio::test]
async fn a_dropped_request_ends_its_worker_and_frees_its_place() {
    let pool = Pool::start(PoolConfig {
        answer: Duration::from_secs(60),
        ..silent()
    });
    let request = render(&pool, "!a", text_update("x"), Format::Text);
    assert!(tokio::time::timeout(Duration::from_millis(300), request).await.is_err());
    assert_eq!(
        (pool.figures().busy, pool.figures().idle, pool.figures().paused),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_document_that_is_too_large_reaches_no_worker() {
    let pool = pool(1);
    let error = render(&pool, "!a", vec![0; MAX_RENDER_STATE_BYTES + 1], Format::Text)
        .await
        .unwrap_err();
    assert!(matches!(error, RenderError::TooLarge { .. }), "{error:?}");
    assert_eq!(pool.figures().started, 0);
}

/// Sends one header to a worker, followed by what a part of that length needs.
fn raw_request(header: &str, part: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    for length in [header.len(), part.len(), 0, 0] {
        request.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    }
    request.extend_from_slice(header.as_bytes());
    request.extend_from_slice(part);
    request
}

#[test]
fn a_worker_ends_with_its_input_and_refuses_bytes_that_are_no_request() {
    use std::io::Write as _;
    let run = |input: &[u8]| {
        let mut worker = Command::new(PROGRAM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        worker.stdin.take().unwrap().write_all(input).unwrap();
        worker.wait_with_output().unwrap()
    };
    assert!(run(&[]).status.success());
    for input in [vec![0xff; 16], raw_request("{}", &[])[..17].to_vec(), vec![0; 7]] {
        let output = run(&input);
        assert_eq!(output.status.code(), Some(1), "{input:?}");
        assert!(!output.stderr.is_empty());
    }
    let output = run(&raw_request("no json", &[]));
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("refused"));
    let render = r#"{"render":{"kind":"text","format":"text"}}"#;
    let output = run(&raw_request(render, &text_update("hello")));
    assert!(output.status.success());
    assert!(output.stdout.ends_with(b"hello"));
}

#[test]
fn the_sandbox_limits_memory_files_and_system_calls() {
    let mut worker = Command::new(PROGRAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The greeting is written after the sandbox is complete.
    let mut greeting = [0; 16];
    std::io::Read::read_exact(worker.stdout.as_mut().unwrap(), &mut greeting).unwrap();
    let process = format!("/proc/{}", worker.id());
    let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let memory = RENDER_MEMORY_BYTES.to_string();
    assert_eq!(limit("Max address space")[..2], [memory.clone(), memory]);
    assert_eq!(limit("Max core file size")[..2], ["0", "0"]);
    assert_eq!(limit("Max file size")[..2], ["0", "0"]);
    assert_eq!(limit("Max open files")[..2], ["3", "3"]);
    for task in std::fs::read_dir(format!("{process}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .split_whitespace()
                .nth(1)
        };
        assert_eq!(field("Seccomp:"), Some("2"), "a thread without a filter");
        assert_eq!(field("NoNewPrivs:"), Some("1"));
    }
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}

#[test]
fn a_worker_without_room_for_its_limits_does_not_start() {
    // A hard limit below what the worker sets for itself: raising it is refused, even to a lower-level administrator.
    let script = format!(
        "ulimit -v 400000; exec setpriv --bounding-set -all --inh-caps -all --reuid 65534 --clear-groups {PROGRAM}"
    );
    let output = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("setpriv") {
        // Without the right to become another user the test can't run.
        return;
    }
    assert_eq!(output.status.signal(), None, "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("limit on memory"), "{said}");
}
