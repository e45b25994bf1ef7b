//! The state directory: whose it is, and who else may look into it.
//!
//! What is in it decides what the daemon runs and as whom: a directory that others can write to, or that another user owns, would
//! give them the daemon's rights. So it must belong to the daemon's user; what it permits to others is taken away. Files in it
//! are opened by the directory's descriptor and never through a symbolic link, so that what was checked is what is used. SQLite
//! alone takes paths: its files are checked before, and that the path still leads here after it.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat};
use nix::unistd::{Uid, User, geteuid};

use super::{DATABASE, JOURNAL};
use crate::files::Dir;

/// The lock's name within `state_dir`.
pub(super) const LOCK: &str = "lock";

/// Files that the daemon and SQLite write; only the daemon's user may read them.
const FILES: [&str; 5] = [DATABASE, "state.db-wal", "state.db-shm", JOURNAL, LOCK];

/// Directories below it that only the daemon's user may enter.
const PRIVATE_DIRS: [&str; 2] = ["logs", crate::logs::SEGMENTS];

/// The directory of payloads, each owned by the user of its job.
const EVENTS: &str = "events";

const PERMISSIONS: u32 = 0o777;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// The permissions of the directory, and of those in it that hold files of other users: root's jobs may run as other users, who
/// open by its full path what is theirs and can't list names.
fn mode(user: Uid) -> u32 {
    if user.is_root() { 0o711 } else { 0o700 }
}

/// Opens the directory, and makes it if it is missing. Returns it with what was changed, each a sentence for the log.
///
/// # Errors
/// A sentence for a person: why it is refused, and what to do.
pub(super) fn open(path: &Path) -> Result<(Dir, Vec<String>), String> {
    let shown = &path.display();
    let failed = |action: &'static str| move |error: io::Error| format!("can't {action} the state directory {shown}: {error}");
    let user = geteuid();
    let is_new = std::fs::symlink_metadata(path).is_err();
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode(user));
    builder.recursive(true).create(path).map_err(failed("create"))?;
    let link = std::fs::symlink_metadata(path).map_err(failed("open"))?;
    let dir = Dir::open(path).map_err(failed("open"))?;
    let stat = dir.stat().map_err(failed("open"))?;
    if link.is_symlink() {
        let owner = Uid::from_raw(std::os::unix::fs::MetadataExt::uid(&link));
        if owner != user && !owner.is_root() {
            return Err(format!(
                "the state directory {shown} is a symbolic link of {}, who can make it lead elsewhere: name the directory itself \
                 with --state-dir or `state_dir`",
                name(owner)
            ));
        }
    }
    check_owner(path, &stat, user, link.is_symlink())?;
    let mut notes = Vec::new();
    let (found, wanted) = (stat.st_mode & PERMISSIONS, mode(user));
    if found == wanted {
        return Ok((dir, notes));
    }
    // Not a directory of other things, like /tmp or somebody's home.
    if !is_state(&dir).map_err(failed("read"))? {
        if found & WRITABLE_BY_OTHERS == 0 {
            notes.push(format!(
                "the state directory {shown} has mode {found:04o} and holds other files, so that its mode stays: {wanted:04o} would do"
            ));
            return Ok((dir, notes));
        }
        let why = if stat.st_mode & STICKY == 0 { "others can write to" } else { "everybody shares" };
        return Err(format!(
            "the state directory {shown} is one that {why} (mode {:04o}), with other files in it: name a directory of its own with \
             --state-dir or `state_dir`",
            stat.st_mode & (STICKY | PERMISSIONS)
        ));
    }
    // A file system without permissions may say that it worked.
    let changed = fchmod(dir.as_fd(), Mode::from_bits_truncate(stat.st_mode & 0o2000 | wanted));
    let now = dir.stat().map_err(failed("open"))?.st_mode & PERMISSIONS;
    if now & WRITABLE_BY_OTHERS != 0 {
        let why =
            changed.err().map_or_else(|| "its file system keeps no permissions".to_owned(), |errno| errno.desc().to_owned());
        return Err(format!(
            "others can write to the state directory {shown} (mode {now:04o}), which can't be changed ({why}): name another one with \
             --state-dir or `state_dir`"
        ));
    }
    notes.push(match now {
        // Only a umask has to be undone.
        now if now == wanted && is_new => return Ok((dir, notes)),
        now if now == wanted => format!("the state directory {shown} had mode {found:04o} and has {wanted:04o} now"),
        now => format!("the state directory {shown} has mode {now:04o}, which can't be changed: other users may read in it"),
    });
    Ok((dir, notes))
}

/// Checks what an earlier daemon, or a package, has left in the directory; as [`open`].
pub(super) fn check_files(dir: &Dir) -> Result<Vec<String>, String> {
    let user = geteuid();
    let mut notes = Vec::new();
    for file in FILES {
        check(dir, file, 0o600, SFlag::S_IFREG, user, &mut notes)?;
    }
    for below in PRIVATE_DIRS {
        check(dir, below, 0o700, SFlag::S_IFDIR, user, &mut notes)?;
    }
    check(dir, EVENTS, mode(user), SFlag::S_IFDIR, user, &mut notes)?;
    Ok(notes)
}

fn check(dir: &Dir, file: &str, wanted: u32, kind: SFlag, user: Uid, notes: &mut Vec<String>) -> Result<(), String> {
    let path = dir.path().join(file);
    let shown = path.display();
    let failed = |error: io::Error| format!("can't check {shown}: {error}");
    let Some(mut stat) = dir.stat_of(file).map_err(failed)? else { return Ok(()) };
    // Logs may be on another disk.
    let is_link = is(&stat, SFlag::S_IFLNK) && kind == SFlag::S_IFDIR;
    if is_link {
        stat = Dir::open(&path).and_then(|below| below.stat()).map_err(failed)?;
    }
    if !is(&stat, kind) {
        let what = if kind == SFlag::S_IFDIR { "a directory" } else { "a file" };
        let found = if is(&stat, SFlag::S_IFLNK) { "a symbolic link, which is not followed" } else { "something else" };
        return Err(format!("{shown} should be {what} and is {found}: move it away"));
    }
    check_owner(&path, &stat, user, is_link)?;
    let found = stat.st_mode & PERMISSIONS;
    // What the daemon's user may not do itself is not for the daemon to change.
    if found & !wanted == 0 && (kind == SFlag::S_IFREG || found == wanted) {
        return Ok(());
    }
    let changed = fchmodat(dir.as_fd(), file, Mode::from_bits_truncate(wanted), FchmodatFlags::FollowSymlink);
    notes.push(match changed {
        Ok(()) => format!("{shown} had mode {found:04o} and has {wanted:04o} now"),
        Err(errno) => format!("{shown} has mode {found:04o}, which can't be changed: {}", errno.desc()),
    });
    Ok(())
}

fn check_owner(path: &Path, stat: &FileStat, user: Uid, is_link: bool) -> Result<(), String> {
    let owner = Uid::from_raw(stat.st_uid);
    if owner == user {
        return Ok(());
    }
    let (path, owner, user) = (path.display(), name(owner), name(user));
    let leads = if is_link { "leads to something that belongs to" } else { "belongs to" };
    Err(format!(
        "{path} {leads} {owner}, and the daemon runs as {user}: run it as {owner}, change the owner (chown -R {user} {path}), or name \
         another directory with --state-dir or `state_dir`"
    ))
}

/// True for a directory that a daemon has used, or that is empty.
fn is_state(dir: &Dir) -> io::Result<bool> {
    let names = dir.names(".")?;
    Ok(names.is_empty() || names.iter().any(|name| name == LOCK || name == DATABASE))
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == kind
}

/// The user's name, or its number.
fn name(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| format!("uid {user}"), |user| user.name)
}

/// The path still leads to the directory that is open.
pub(super) fn is_at_its_path(dir: &Dir) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (here, there) = (dir.stat()?, std::fs::metadata(dir.path())?);
    Ok((here.st_dev, here.st_ino) == (there.dev(), there.ino()))
}
