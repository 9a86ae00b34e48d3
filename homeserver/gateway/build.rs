//! Makes sure that the folder of the built page exists, so that the server compiles before the page was built.
//!
//! It must not build the page: that needs Node, and the server must not.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../client-sdk/web/dist");
    let index = dist.join("index.html");
    if !index.exists() {
        fs::create_dir_all(&dist)?;
        fs::write(
            &index,
            "<!doctype html><title>Weft</title><p>The page is not built: run <code>make web</code>.</p>\n",
        )?;
    }
    println!("cargo:rerun-if-changed={}", dist.display());
    Ok(())
}
