//! A large document on two servers, in small: a text of 5 MB and 50,000 blocks that can't be joined are written, read on the
//! other server, and opened and edited after a restart; the memory of both servers has a bound.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fs;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use weft_conformance_tests::{client::Client, external::needs_own_servers, world::World};
use weft_crdt::lib0::Writer;

const TEXT_BYTES: u32 = 5_000_000;
const BLOCKS: u32 = 50_000;
/// Blocks of one request.
const AT_ONCE: u32 = 1_000;
/// By how much a server's memory may grow. A text of 100 MB was measured to need seven times its size, of which three are left
/// at the end; the rest is for what the store holds in memory, as for any document.
const GROWTH: u64 = 200 << 20;

/// The beginning of an update with this number of blocks, from a clock of a client id on.
fn update(blocks: u32, client: u64, clock: u32) -> Writer {
    let mut update = Writer::new();
    update.var_uint(1);
    update.var_uint(u64::from(blocks));
    update.var_uint(client);
    update.var_uint(u64::from(clock));
    update
}

/// A part of a long text of client id 1.
fn text(from: u32, length: u32) -> Vec<u8> {
    let mut update = update(1, 1, from);
    match from.checked_sub(1) {
        None => {
            update.u8(4);
            update.var_uint(1);
            update.var_str("body");
        }
        Some(before) => {
            update.u8(0x84);
            update.var_uint(1);
            update.var_uint(u64::from(before));
        }
    }
    update.var_str(&"all work ".repeat(length as usize / 9 + 1)[..length as usize]);
    update.var_uint(0);
    update.into_vec()
}

/// Letters of client id 2, each in front of the one before; the first one is in front of the text.
fn letters(from: u32, count: u32) -> Vec<u8> {
    let mut update = update(count, 2, from);
    for clock in from..from + count {
        let (client, after) = clock.checked_sub(1).map_or((1, 0), |after| (2, after));
        update.u8(0x44);
        update.var_uint(client);
        update.var_uint(u64::from(after));
        update.var_str("x");
    }
    update.var_uint(0);
    update.into_vec()
}

async fn send(client: &Client, room: &str, update: Vec<u8>) -> Result<()> {
    let sent = client.of_document(Method::POST, room, "/updates", &[], update).await?;
    ensure!(sent.status() == StatusCode::OK, "{}", sent.text().await?);
    Ok(())
}

async fn rendered(client: &Client, room: &str) -> Result<String> {
    let answer = client
        .of_document(Method::GET, room, "?format=text", &[], Vec::new())
        .await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    Ok(answer.text().await?)
}

/// Bytes of a line of `/proc/PID/status`.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_large_document_needs_bounded_memory_on_both_servers() -> Result<()> {
    if needs_own_servers("a_large_document_needs_bounded_memory_on_both_servers") {
        return Ok(());
    }
    let mut world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let pids: Vec<u32> = world.servers.iter().filter_map(|server| server.pid()).collect();
    let before: Vec<u64> = pids.iter().map(|pid| memory(*pid, "VmRSS:")).collect();
    for pid in &pids {
        // Resets the high-water mark (proc(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    }
    for half in [0, TEXT_BYTES / 2] {
        send(&alice, &room, text(half, TEXT_BYTES / 2)).await?;
    }
    for from in (0..BLOCKS).step_by(AT_ONCE as usize) {
        send(&alice, &room, letters(from, AT_ONCE)).await?;
    }
    let written = rendered(&alice, &room).await?;
    assert_eq!(written.len(), (TEXT_BYTES + BLOCKS) as usize);
    let same = || async { Ok((rendered(&bob, &room).await? == written).then_some(())) };
    bob.until("the whole text", same).await?;
    for (pid, before) in pids.iter().zip(before) {
        let grown = memory(*pid, "VmHWM:").saturating_sub(before);
        println!("memory grew by {} MB", grown >> 20);
        assert!(grown < GROWTH, "{} MB", grown >> 20);
    }
    let server = world.servers.first_mut().context("no server")?;
    server.terminate().await?;
    server.boot().await?;
    let pid = server.pid().context("no process")?;
    let before = memory(pid, "VmRSS:");
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    assert!(alice.content(&room).await?.len() > TEXT_BYTES as usize);
    send(&alice, &room, letters(BLOCKS, 1)).await?;
    assert_eq!(rendered(&alice, &room).await?, format!("x{written}"));
    let grown = memory(pid, "VmHWM:").saturating_sub(before);
    println!("memory grew by {} MB after the restart", grown >> 20);
    assert!(grown < GROWTH, "{} MB", grown >> 20);
    Ok(())
}
