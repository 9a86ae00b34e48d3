//! Embeds the page of `client-sdk/web/dist`: each file with its compressed forms and a tag of its content. Nothing must be
//! compressed at run time. A release build without the page fails, unless `WEFT_WITHOUT_PAGE=1` is set.

use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const PAGE: &str = "../../client-sdk/web/dist";
const WITHOUT: &str = "WEFT_WITHOUT_PAGE";
/// Files to compress; the others are already compressed.
const COMPRESSIBLE: [&str; 8] = ["html", "js", "css", "svg", "json", "webmanifest", "txt", "map"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PAGE}");
    println!("cargo::rerun-if-env-changed={WITHOUT}");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let page = Path::new(PAGE);
    let built = page.join("index.html").exists();
    if release && !built && std::env::var(WITHOUT).is_err() {
        return Err(
            format!("the page is not built: run `make web` first, or set {WITHOUT}=1 for a server without it").into(),
        );
    }
    let files = if built { files(page)? } else { Vec::new() };
    let mut source = String::from("pub(super) static FILES: &[File] = &[\n");
    for (number, path) in files.iter().enumerate() {
        let bytes = fs::read(page.join(path))?;
        let mut tag = DefaultHasher::new();
        bytes.hash(&mut tag);
        let compressible = path.rsplit('.').next().is_some_and(|end| COMPRESSIBLE.contains(&end));
        let forms = [
            ("identity", Some(bytes.clone())),
            ("brotli", compressible.then(|| brotli(&bytes, release)).transpose()?),
            ("gzip", compressible.then(|| gzip(&bytes)).transpose()?),
        ];
        write!(source, "    File {{ path: {path:?}, tag: \"{:016x}\"", tag.finish())?;
        for (form, compressed) in forms {
            let smaller = compressed.filter(|compressed| form == "identity" || compressed.len() < bytes.len());
            let file = out.join(format!("page-{number}-{form}"));
            let value = match (form, smaller) {
                (_, None) => "None".to_owned(),
                (form, Some(compressed)) => {
                    fs::write(&file, compressed)?;
                    let included = format!("include_bytes!({file:?})");
                    if form == "identity" {
                        included
                    } else {
                        format!("Some({included})")
                    }
                }
            };
            write!(source, ", {form}: {value}")?;
        }
        source.push_str(" },\n");
    }
    source.push_str("];\n");
    fs::write(out.join("page.rs"), source)?;
    Ok(())
}

/// All files below a folder, as paths with slashes.
fn files(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(root)?.to_str().ok_or("a file name is not UTF-8")?;
                found.push(relative.replace(std::path::MAIN_SEPARATOR, "/"));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn brotli(bytes: &[u8], best: bool) -> std::io::Result<Vec<u8>> {
    // The best quality takes a minute in a build without optimisation.
    let quality = if best { 11 } else { 5 };
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, quality, 22);
    writer.write_all(bytes)?;
    writer.flush()?;
    Ok(writer.into_inner())
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes)?;
    writer.finish()
}
