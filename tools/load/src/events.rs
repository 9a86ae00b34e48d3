//! Messages by PUT, as Matrix clients send them: signed events per second, into one room and into many. Must not assert
//! a duration.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    edit::as_f64,
    http::Connection,
    process, progress,
    report::{Figure, percentiles},
};
use weft_conformance_tests::client::{Client, segment};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of rooms; each value is a separate run.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50])]
    pub rooms: Vec<usize>,
    /// Events per run; Synapse gets a twentieth.
    #[arg(long, default_value_t = 40_000)]
    pub events: usize,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            rooms: vec![1, 3],
            events: 60,
            connections: 4,
        }
    }
}

/// Measures one server through one of its users. `pid` is the server's process, if known.
///
/// # Errors
/// When the server returns an error.
pub async fn measure(name: &str, client: &Client, pid: Option<u32>, options: &Options) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for count in &options.rooms {
        progress(&format!("{name}: {} events into {count} rooms", options.events));
        let mut rooms = Vec::new();
        for _ in 0..*count {
            rooms.push(client.create_room(json!({})).await?);
        }
        let warm = Options {
            events: options.events / 10,
            ..options.clone()
        };
        send(client, &rooms, &warm).await?;
        let cpu = pid.map_or(Ok(Duration::ZERO), process::cpu)?;
        let began = Instant::now();
        let times = send(client, &rooms, options).await?;
        let took = began.elapsed().as_secs_f64();
        let used = (pid.map_or(Ok(Duration::ZERO), process::cpu)? - cpu).as_secs_f64();
        let (sent, what) = (
            as_f64(times.len()),
            if *count == 1 {
                "one room".to_owned()
            } else {
                format!("{count} rooms")
            },
        );
        figures.push(Figure::new(
            name,
            format!("events a second by PUT, {what}"),
            sent / took,
            "1/s",
        ));
        figures.push(Figure::new(
            name,
            format!("server CPU an event, {what}"),
            used * 1e6 / sent,
            "µs",
        ));
        figures.extend(percentiles(name, &format!("PUT, {what}"), times));
    }
    Ok(figures)
}

async fn send(client: &Client, rooms: &[String], options: &Options) -> Result<Vec<Duration>> {
    let mut tasks = JoinSet::new();
    for number in 0..options.connections {
        let room = rooms.get(number % rooms.len()).cloned().unwrap_or_default();
        let (client, count) = (client.clone(), options.events / options.connections);
        if client.url.starts_with("http://") {
            tasks.spawn(async move { send_bare(&client, &room, count).await });
        } else {
            tasks.spawn(async move { send_by_client(&client, &room, count).await });
        }
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    Ok(times)
}

async fn send_bare(client: &Client, room: &str, count: usize) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(&client.url, &client.token).await?;
    let mut times = Vec::with_capacity(count);
    let run = rand::random::<u64>();
    for number in 0..count {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.message/{run:x}.{number}",
            segment(room)
        );
        let body = format!(r#"{{"msgtype":"m.text","body":"message number {number} of this connection"}}"#);
        let began = Instant::now();
        connection.put(&path, &body).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

async fn send_by_client(client: &Client, room: &str, count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let began = Instant::now();
        client
            .say(room, &format!("message number {number} of this connection"))
            .await?;
        times.push(began.elapsed());
    }
    Ok(times)
}
