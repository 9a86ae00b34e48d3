//! `weft-load`: puts a measured load on a server, or on servers of its own beside peers. What it does is in the library.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Box::pin(weft_load::cli::Arguments::parse().run()).await
}
