//! The `firelink` process.

use std::io::Write as _;
use std::process::ExitCode;

use argh::FromArgs;
use firelink::cli::next;

/// A job scheduler for small Linux boxes.
#[derive(FromArgs)]
struct Cli {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Next(next::Args),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match Cli::from_args(&["firelink"], &args) {
        Ok(Cli { command: Command::Next(args) }) => next::run(&args),
        // Help, which was asked for.
        Err(early) if early.status.is_ok() => match std::io::stdout().lock().write_all(early.output.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(early) => {
            let _ = writeln!(std::io::stderr(), "{}", early.output.trim_end());
            ExitCode::from(2)
        }
    }
}
