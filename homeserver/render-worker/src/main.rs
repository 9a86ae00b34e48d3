//! A render worker as a program of its own, for the tests of this crate. In operation `weft render-worker` does the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_render_worker::main()
}
