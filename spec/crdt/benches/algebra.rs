//! The cost of the algebra, printed as a table: `cargo bench -p weft-crdt`. Must not assert times.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    reason = "a program for developers"
)]

#[path = "../tests/support/trace.rs"]
mod trace;

use bytes::Bytes;
use std::hint::black_box;
use std::time::{Duration, Instant};
use weft_crdt::{Admission, ClientId, Document, Known, Update, admit, compact, diff, merge};

struct One {
    end: u32,
}

impl Known for One {
    fn end(&self, _: ClientId) -> u32 {
        self.end
    }

    fn owner(&self, _: ClientId) -> Option<&str> {
        Some("@alice:alpha.example")
    }
}

/// The median of some runs, each of `times` calls.
fn time<T>(times: u32, mut f: impl FnMut() -> T) -> Duration {
    let mut runs: Vec<Duration> = (0..11)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..times {
                black_box(f());
            }
            start.elapsed() / times
        })
        .collect();
    runs.sort();
    runs[runs.len() / 2]
}

fn line(what: &str, took: Duration, goal: &str) {
    println!("{what:<62} {:>12.3} us   goal {goal}", took.as_secs_f64() * 1e6);
}

fn main() {
    let history = trace::sequential("automerge-paper", 259_778);
    println!(
        "history: {} edits, {}",
        history.updates.len(),
        if history.real {
            "real (B4)"
        } else {
            "generated, no traces found"
        }
    );
    let raw: Vec<Bytes> = history.updates.into_iter().map(|(_, u)| u.into()).collect();
    let parsed: Vec<Update> = raw.iter().map(|b| Update::parse(b.clone()).unwrap()).collect();

    let key = parsed.iter().rposition(|u| !u.ranges().is_empty()).unwrap();
    let known = One {
        end: parsed[key].ranges().values().next().unwrap().0,
    };
    assert!(matches!(
        admit(&parsed[key], "@alice:alpha.example", &known),
        Ok(Admission::Admitted { .. })
    ));
    line(
        "parse and admit a keystroke",
        time(20_000, || {
            let update = Update::parse(raw[key].clone()).unwrap();
            admit(&update, "@alice:alpha.example", &known)
        }),
        "1",
    );
    for (count, times, goal) in [
        (100, 500, "20"),
        (1_000, 50, "-"),
        (16_000, 5, "5000"),
        (64_000, 2, "-"),
    ] {
        line(
            &format!("merge {count} parsed keystrokes"),
            time(times, || merge(&parsed[..count])),
            goal,
        );
        line(
            &format!("parse and merge {count} keystrokes"),
            time(times, || {
                let updates: Vec<Update> = raw[..count].iter().map(|b| Update::parse(b.clone()).unwrap()).collect();
                merge(&updates)
            }),
            goal,
        );
    }

    whole_history(&parsed);
    document_of_105_kb(&parsed);
    worst_cases();
}

fn whole_history(parsed: &[Update]) {
    let merged = merge(parsed).unwrap();
    let small = compact(&merged);
    let bytes: Bytes = small.encode().into();
    println!(
        "whole history merged: {} bytes; compacted: {} bytes (goal: at most 223411, what yrs encodes)",
        merged.encode().len(),
        bytes.len()
    );
    line("merge the whole history", time(1, || merge(parsed)), "-");
    line("compact the whole history", time(1, || compact(&merged)), "-");
    line(
        "parse the compacted document",
        time(5, || Update::parse(bytes.clone())),
        "-",
    );

    let mut document = Document::new();
    let start = Instant::now();
    for update in parsed {
        document.apply(update).unwrap();
    }
    println!(
        "keep the document open during all edits: {:.3} us per edit",
        start.elapsed().as_secs_f64() * 1e6 / parsed.len() as f64
    );
    document.compact();
    println!(
        "open document: {} bytes of memory for {} on the wire",
        document.byte_len(),
        document.encode().len()
    );
    let current = document.state_vector().clone();
    let behind = current.iter().map(|(c, end)| (c, end - 50)).collect();
    line(
        "open document: diff against an up-to-date vector",
        time(200, || document.diff(&current)),
        "10",
    );
    line(
        "open document: diff against a vector 50 units behind",
        time(200, || document.diff(&behind)),
        "-",
    );
    line("open document: the whole", time(50, || document.encode()), "-");
    line(
        "parsed update: diff against an up-to-date vector",
        time(200, || diff(&small, &current)),
        "-",
    );
    line(
        "open a document from its bytes",
        time(5, || Document::from_update(bytes.clone())),
        "-",
    );
}

/// The same work for twice the bytes must take twice the time, for any hostile input.
fn worst_cases() {
    for units in [500_000u32, 1_000_000] {
        let mut w = weft_crdt::lib0::Writer::new();
        [1, 1, 5, 0].into_iter().for_each(|number| w.var_uint(number));
        w.u8(4);
        w.u8(1);
        w.var_str("t");
        w.var_str(&"x".repeat(units as usize));
        w.u8(0);
        let text = Update::parse(w.into_vec().into()).unwrap();
        let mut holes = weft_crdt::DeleteSet::new();
        (0..units / 2).for_each(|i| holes.insert(ClientId::from(5u32), 2 * i, 2 * i + 1));
        let update = merge(&[text, Update::from_deletes(holes)]).unwrap();
        line(
            &format!("compact {units} characters, every other one deleted"),
            time(1, || compact(&update)),
            "-",
        );
        let fine = compact(&update);
        line(
            "  and split it for events",
            time(1, || weft_crdt::split(&fine, 45_000)),
            "-",
        );
    }
}

/// A document of 105 KB encoded, as in the goal.
fn document_of_105_kb(parsed: &[Update]) {
    let mut part = Document::new();
    for update in parsed {
        part.apply(update).unwrap();
        if part.byte_len() > 115_000 {
            part.compact();
            if part.encode().len() > 105_000 {
                break;
            }
        }
    }
    let sv = part.state_vector().clone();
    let name = format!("{} bytes of real history: diff, up-to-date vector", part.encode().len());
    line(&name, time(200, || part.diff(&sv)), "10");
}
