//! `firelink import`: a crontab as a configuration. What cron means and firelink can't say stands there as a comment; no
//! line is lost.

mod crontab;
mod names;
mod yaml;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use argh::FromArgs;

use super::out::{Done, Failure, print, warn};
use crate::config::LARGEST_FILE;
use crate::model::format_size;

/// write a crontab as a configuration, to stdout
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "import")]
pub struct Args {
    /// the crontab; - is stdin, for `crontab -l | firelink import -`
    #[argh(positional)]
    file: PathBuf,
    /// each line names a user before its command, like /etc/crontab, which is known by its path
    #[argh(switch)]
    system: bool,
    /// no line names a user
    #[argh(switch)]
    user: bool,
}

/// A crontab is read up to this size.
const LARGEST: u64 = 4 << 20;

/// What a crontab is read with.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// What the header calls the crontab.
    pub title: &'a str,
    /// Each line names a user before its command.
    pub system: bool,
    /// Whose crontab it is, for one that was read from where cron keeps them; its jobs then name that user.
    pub owner: Option<&'a str>,
    /// The home of a user, in which cron starts commands, by name; of the owner without one. None for no such user.
    pub home_of: &'a dyn Fn(Option<&str>) -> Option<String>,
}

/// A crontab as YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration.
    pub yaml: String,
    /// How many lines it says in comments only.
    pub left: usize,
}

/// Writes a crontab as a configuration that loads, unless it is larger than [`LARGEST_FILE`].
#[must_use]
pub fn convert(text: &str, around: &Around<'_>) -> Imported {
    yaml::write(&crontab::parse(text, around.system), around)
}

pub(super) fn run(args: &Args) -> Done {
    if args.system && args.user {
        return Err(Failure::usage("--system says that lines name a user, --user that they do not: choose one"));
    }
    let system = args.system || (!args.user && is_system(&args.file));
    let text = read(&args.file)?;
    let owner = if system { None } else { owner(&args.file) };
    let title = if args.file.as_os_str() == "-" { "a crontab".into() } else { args.file.display().to_string() };
    let around = Around { title: &title, system, owner: owner.as_deref(), home_of: &home_of };
    let imported = convert(&text, &around);
    if imported.yaml.len() as u64 > LARGEST_FILE {
        let (made, most) = (imported.yaml.len() >> 20, format_size(LARGEST_FILE));
        let what = format!("{} would make a configuration of {made} MiB, and at most {most} are read", args.file.display());
        return Err(Failure::usage(format!("{what}: split it")));
    }
    print(&imported.yaml)?;
    if imported.left > 0 {
        let (count, verb) =
            if imported.left == 1 { ("line".to_owned(), "is") } else { (format!("{} lines", imported.left), "are") };
        warn(&format!("{count} of the crontab {verb} not carried over; the comments that begin with `NOT IMPORTED` say why"));
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
        return Err(Failure::usage(format!("{} is larger than any crontab, {} MiB", path.display(), LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::usage(format!("{}:{line}: the text is not UTF-8, as a configuration must be", path.display()))
    })
}

/// The places of crontabs whose lines name a user (cron(8)).
fn is_system(path: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path == Path::new("/etc/crontab") || path.parent() == Some(Path::new("/etc/cron.d"))
}

/// Whose crontab a file is, by where cron keeps it: Debian's place, and that of others.
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
