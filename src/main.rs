//! The `firelink` process: its arguments go to the library's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    firelink::cli::main(&args)
}
