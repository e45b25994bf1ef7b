//! `firelink import`: a crontab as a configuration. Lines that firelink can't express become comments; no line is lost.

mod crontab;
mod names;
mod scalar;
mod yaml;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use argh::FromArgs;

use super::out::{Done, Failure, print, warn};
use crate::config::LARGEST_FILE;
use crate::model::format_size;

/// convert a crontab into a configuration, on stdout
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "import")]
pub struct Args {
    /// the crontab; - is stdin, for `crontab -l | firelink import -`
    #[argh(positional)]
    file: PathBuf,
    /// the crontab has a user column, like /etc/crontab (default for /etc/crontab and /etc/cron.d)
    #[argh(switch)]
    system: bool,
    /// the crontab has no user column
    #[argh(switch)]
    user: bool,
}

/// The largest crontab in bytes.
const LARGEST: u64 = 4 << 20;

/// The context of a crontab.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The crontab's name in the header.
    pub title: &'a str,
    /// True with a user column before the command.
    pub system: bool,
    /// The owner of a crontab from cron's spool; its jobs then run as that user.
    pub owner: Option<&'a str>,
    /// The home directory of a user by name, else of the caller; none for an unknown user. cron starts commands there.
    pub home_of: &'a dyn Fn(Option<&str>) -> Option<String>,
}

/// A crontab as YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration.
    pub yaml: String,
    /// The number of lines that became comments.
    pub left: usize,
}

/// Converts a crontab into a configuration, which loads unless it is larger than [`LARGEST_FILE`].
#[must_use]
pub fn convert(text: &str, around: &Around<'_>) -> Imported {
    yaml::write(&crontab::parse(text, around.system), around)
}

pub(super) fn run(args: &Args) -> Done {
    if args.system && args.user {
        return Err(Failure::usage("--system and --user exclude each other"));
    }
    let system = args.system || (!args.user && is_system(&args.file));
    let text = read(&args.file)?;
    let owner = if system { None } else { owner(&args.file) };
    let title = if args.file.as_os_str() == "-" { "a crontab".into() } else { args.file.display().to_string() };
    let around = Around { title: &title, system, owner: owner.as_deref(), home_of: &home_of };
    let imported = convert(&text, &around);
    if imported.yaml.len() as u64 > LARGEST_FILE {
        let (size, limit) = (imported.yaml.len().div_ceil(1 << 20), format_size(LARGEST_FILE));
        let message = format!("{} would become a configuration of {size}MiB, the limit is {limit}", args.file.display());
        return Err(Failure::usage(format!("{message}: split it")));
    }
    print(&imported.yaml)?;
    if imported.left > 0 {
        let (count, verb) =
            if imported.left == 1 { ("line".to_owned(), "is") } else { (format!("{} lines", imported.left), "are") };
        warn(&format!("{count} of the crontab {verb} not imported; see the comments that start with `NOT IMPORTED`"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::usage(format!("{} can't be read: {error}", path.display())))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("{} is larger than {} MiB, the limit for a crontab", path.display(), LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::usage(format!("{}:{line}: the text is not UTF-8, as a configuration must be", path.display()))
    })
}

/// True for the paths of crontabs with a user column (cron(8)).
fn is_system(path: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path == Path::new("/etc/crontab") || path.parent() == Some(Path::new("/etc/cron.d"))
}

/// The owner of a crontab by its path in cron's spool, of Debian and of other distributions.
fn owner(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let parent = path.parent()?;
    let spool = ["/var/spool/cron/crontabs", "/var/spool/cron", "/etc/crontabs"].iter().any(|spool| parent == Path::new(spool));
    spool.then(|| path.file_name().map(|name| name.to_string_lossy().into_owned())).flatten()
}

fn home_of(user: Option<&str>) -> Option<String> {
    let found = match user {
        Some(name) => nix::unistd::User::from_name(name),
        None => nix::unistd::User::from_uid(nix::unistd::Uid::effective()),
    };
    found.ok().flatten().map(|user| user.dir.display().to_string())
}
