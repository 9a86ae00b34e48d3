//! Verifies a file some times and prints events a second: `cargo run --release -p weft-verify --example measure -- FILE`. Must
//! not be used to judge a file: `weft verify` is.

use std::{
    env,
    error::Error,
    fs::File,
    io::{BufReader, Write as _, stdout},
    time::Instant,
};

use weft_verify::{Options, verify};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: measure FILE")?;
    for _ in 0..5 {
        let began = Instant::now();
        let report = verify(BufReader::new(File::open(&path)?), Options::default(), |_| {})?;
        let took = began.elapsed();
        let rate = u128::from(report.events) * 1_000_000 / took.as_micros().max(1);
        writeln!(stdout(), "{} events in {took:?}: {rate} events a second", report.events)?;
    }
    Ok(())
}
