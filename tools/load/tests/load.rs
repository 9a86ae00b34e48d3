//! `weft-load` with every scenario at its smallest, on real servers: everything that is sent arrives, and the figures
//! are plausible. Must not assert a duration.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use weft_conformance_tests::external::needs_own_servers;
use weft_load::{
    cli::{Scenario, on_own},
    history::{Author, patches},
    http::Connection,
    machine::Machine,
    process,
    report::{self, Figure, Run, percentiles},
    results,
    typing::Typist,
};
use yrs::{Doc, GetString as _, Transact as _, Update, updates::decoder::Decode as _};

async fn figures_of(name: &str, expected: &[&str]) -> Result<Vec<Figure>> {
    let scenario = Scenario::all_small()
        .into_iter()
        .find(|scenario| scenario.name() == name);
    let figures = Box::pin(on_own(&scenario.context("no such scenario")?)).await?;
    for figure in &figures {
        assert!(figure.value.is_finite() && figure.value >= 0.0, "{figure:?}");
    }
    for part in expected {
        assert!(
            figures.iter().any(|figure| figure.name.contains(part)),
            "no {part} in {figures:?}"
        );
    }
    Ok(figures)
}

fn value(figures: &[Figure], part: &str) -> f64 {
    figures.iter().find(|figure| figure.name.contains(part)).unwrap().value
}

/// Each scenario is a test of its own, so that they run in parallel and a failure has a name.
macro_rules! scenario {
    ($test:ident, $name:literal, $($expected:literal),+) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() -> Result<()> {
            if needs_own_servers(stringify!($test)) {
                return Ok(());
            }
            figures_of($name, &[$($expected),+]).await.map(drop)
        }
    };
}

scenario!(edits_reach_all_editors, "edit", "CPU an edit", "edits a second");
scenario!(
    letters_arrive_on_both_servers,
    "seen",
    "3 editors, P99",
    "6 editors, P50",
    "the other server, P99"
);
scenario!(
    many_clients_receive_what_is_typed,
    "crowd",
    "memory a connected editor",
    "edit to seen, P99"
);
scenario!(messages_are_accepted, "events", "one room", "3 rooms");
scenario!(
    syncs_return_everything_once,
    "sync",
    "first sync of 3 rooms, P99",
    "first sync of 3 rooms, bytes",
    "syncs a second, nothing new in 3 rooms",
    "message to 4 waiting syncs, P50",
    "server CPU a delivered message"
);
scenario!(transactions_are_accepted, "federation-in", "one room", "2 rooms");
scenario!(
    a_server_joins_and_has_everything,
    "join",
    "all members",
    "the text is there"
);
scenario!(a_log_is_exported_and_good, "audit", "exported", "verified");
scenario!(
    edits_by_position_are_made,
    "edit-rest",
    "edits a second by PATCH",
    "PATCH, P99"
);
scenario!(
    earlier_versions_are_read,
    "history",
    "content at the middle, P50",
    "difference at the end, P99",
    "blame, P50",
    "opening, times a fresh one",
    "on disk, 10,000 edits"
);
scenario!(
    documents_are_found,
    "search",
    "query in 20 documents, P99",
    "query in 5 of 25 documents, P99",
    "last of these edits to found"
);
scenario!(
    users_go_on_during_an_attack,
    "hostile",
    "edit, attacked, P99",
    "content, attacked, P99",
    "rendered text, alone, P99"
);
scenario!(
    large_documents_are_opened_again,
    "large",
    "large text: opened after a restart",
    "many edits: edit after a restart, P99",
    "large text: memory while it is opened"
);
scenario!(rooms_are_there_after_a_restart, "restart", "a good stop", "kill -9");

#[tokio::test(flavor = "multi_thread")]
async fn late_joiners_get_the_whole_document() -> Result<()> {
    if needs_own_servers("late_joiners_get_the_whole_document") {
        return Ok(());
    }
    let figures = figures_of("open", &["memory an open document", "late joiner after a restart, P99"]).await?;
    let (given, got) = (
        value(&figures, "as Yjs encodes it"),
        value(&figures, "late joiner, bytes"),
    );
    assert!(
        got > given / 3.0 && got <= given * 1.1,
        "{given} KB went in, {got} KB came out"
    );
    assert_eq!(
        got.to_bits(),
        value(&figures, "late joiner after a restart, bytes").to_bits()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_grows_with_its_text() -> Result<()> {
    if needs_own_servers("a_document_grows_with_its_text") {
        return Ok(());
    }
    let figures = figures_of(
        "growth",
        &["an edit after 100", "opening after 400", "times a fresh one"],
    )
    .await?;
    assert!(value(&figures, "opening after 400, bytes") > value(&figures, "opening after 100, bytes"));
    assert!(value(&figures, "on disk after all edits") > 0.0);
    Ok(())
}

#[test]
fn yjs_reads_the_letters_encoded_without_it() -> Result<()> {
    let (doc, mut typist) = (Doc::new(), Typist::new());
    let body = doc.get_or_insert_text("body");
    for _ in 0..30 {
        doc.transact_mut().apply_update(Update::decode_v1(&typist.letter())?)?;
    }
    assert_eq!(body.get_string(&doc.transact()), "abcdefghijklmnopqrstuvwxyzabcd");
    Ok(())
}

#[test]
fn a_history_gives_updates() -> Result<()> {
    let author = Author::new();
    let (patches, _) = patches(3_000)?;
    assert_eq!(patches.len(), 3_000);
    let reader = Doc::new();
    let body = reader.get_or_insert_text("body");
    for patch in &patches {
        reader
            .transact_mut()
            .apply_update(Update::decode_v1(&author.make(patch))?)?;
    }
    assert_eq!(body.get_string(&reader.transact()), author.text());
    assert!(author.text().len() > 500);
    Ok(())
}

/// A server that sends one response in two pieces and closes the connection.
async fn responds(first: &'static str, second: &'static str) -> Result<Result<String>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut asked).await?;
        }
        for piece in [first, second] {
            stream.write_all(piece.as_bytes()).await?;
            stream.flush().await?;
            tokio::task::yield_now().await;
        }
        anyhow::Ok(String::from_utf8(asked)?)
    });
    let mut connection = Connection::open(&url, "token").await?;
    let answer = connection.get("/path").await.map(str::to_owned);
    let asked = server.await??;
    assert!(asked.starts_with("GET /path HTTP/1.1\r\n") && asked.contains("Bearer token"));
    Ok(answer)
}

#[tokio::test]
async fn responses_are_read_with_a_length_or_in_chunks() -> Result<()> {
    let length = responds("HTTP/1.1 200 OK\r\nContent-Le", "ngth: 5\r\n\r\n{\"a\"}").await??;
    assert_eq!(length, "{\"a\"}");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head: &'static str = format!("{chunked}A\r\n0123\r\n6789\r").leak();
    let chunks = responds(head, "\n3\r\nabc\r\n0\r\n\r\n").await??;
    assert_eq!(chunks, "0123\r\n6789abc");
    for broken in [
        "x\r\n",
        "2\r\nabc\r\n",
        "ffffffffffffffff\r\n",
        "0\r\nTrailer: 1\r\n\r\n",
        "3\r\nab",
    ] {
        assert!(responds(chunked, broken).await?.is_err(), "{broken}");
    }
    let endless = responds("HTTP/1.1 200 OK\r\n\r\n", "{}").await?.unwrap_err();
    assert!(endless.to_string().contains("neither a length nor chunks"), "{endless}");
    let refused = responds("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n", "no")
        .await?
        .unwrap_err();
    assert!(refused.to_string().ends_with("no"), "{refused}");
    Ok(())
}

#[test]
fn results_are_written_between_their_marks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let figures = vec![
        Figure::new("Weft", "edit to seen, 10 editors, P50", 2.0, "ms"),
        Figure::new("slow peer", "edit to seen, 10 editors, P50", 9.0, "ms"),
        Figure::new("quick peer", "edit to seen, 10 editors, P50", 3.0, "ms"),
        Figure::new("Weft", "edit to seen on the other server, P99", 70.0, "ms"),
    ];
    let run = Run {
        scenario: "seen".to_owned(),
        command: "weft-load seen".to_owned(),
        commit: "abc".to_owned(),
        machine: Machine::look()?,
        load: (0.5, 1.5),
        at: 1,
        took: 2.0,
        figures,
    };
    report::keep(folder.path(), &run)?;
    let file = folder.path().join("RESULTS.md");
    let marked = "before\n<!-- figures: written by `make load` -->\nold\n<!-- end of figures -->\nafter\n";
    std::fs::write(&file, marked)?;
    results::rewrite(folder.path(), &file)?;
    let text = std::fs::read_to_string(&file)?;
    assert!(text.starts_with("before\n") && text.ends_with("\nafter\n") && !text.contains("old"));
    let half = "| at most 1.50 ms | **no** | slow peer 9.00, quick peer 3.00 |";
    assert!(text.contains(half), "{text}");
    assert!(text.contains("| 70.0 ms | at most 80.0 ms | yes |"), "{text}");
    // A second run changes nothing.
    results::rewrite(folder.path(), &file)?;
    assert_eq!(std::fs::read_to_string(&file)?, text);
    Ok(())
}

#[test]
fn figures_are_read_from_the_system_and_formatted() -> Result<()> {
    let me = std::process::id();
    assert!(process::memory(me)? > 1_000_000);
    let before = process::cpu(me)?;
    // Runs until the system has counted a tick of this loop.
    while process::cpu(me)? <= before {}
    let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
    let figures = percentiles("Weft", "seen", times);
    assert_eq!(
        figures.iter().map(|figure| figure.value as u64).collect::<Vec<_>>(),
        [101, 199]
    );
    let shown: Vec<String> = [0.126, 12.34, 123.4, 1_234.5, 1_234_567.0]
        .into_iter()
        .map(report::rounded)
        .collect();
    assert_eq!(shown, ["0.13", "12.3", "123", "1,234", "1,234,567"]);
    Ok(())
}
