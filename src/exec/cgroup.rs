//! Control groups (cgroups(7), version 2), where one was delegated to the daemon.
//!
//! A run with `limits` gets a group of its own: `memory` and `pids` apply to the whole run instead of to each process or to all
//! processes of its user, and nothing of the run survives its end, whatever group, session or environment it has:
//! `cgroup.kill` (Linux 5.14) reaches all of it. With [`KillMode::Main`] what is left goes on in it, under the same limits, and
//! the group is removed once it is empty.
//!
//! A job that runs as root can make groups in its own, as deep as it likes and with any names. They are walked by descriptors,
//! one at a time, so that no path becomes too long and no link is followed, and only so many at once.
//!
//! The daemon changes no group that was not delegated to it: one whose extended attribute `user.delegate` or
//! `trusted.delegate` is 1 (systemd's `Delegate=yes`; see systemd's "Control Group APIs and Delegation"), or, for a daemon
//! without root's rights, one that belongs to its user. Processes may only be in leaves, so the daemon moves itself into one.
//! A group without the attribute counts only while the daemon is alone in it: a shell from which the daemon was started
//! shares its group and must not be moved.
//!
//! Runs without `limits` get none: making and removing a group costs more than all else of a start.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::unistd::{AccessFlags, Uid, access};

use super::spec::{KillMode, Limits};
use super::sys;
use crate::model::{Attempt, RunId};

/// The name of the leaf with the daemon itself.
const DAEMON_GROUP: &str = "daemon";

/// The prefix of the names of runs' groups.
const RUN_PREFIX: &str = "run-";

/// The same for runs with [`KillMode::Main`]. Another one, so that the next daemon knows it too.
const MAIN_PREFIX: &str = "main-";

/// The most groups that are visited at once, for a job that makes more than can be.
const MAX_VISITED: usize = 1 << 10;

/// The delay before the first retry to remove a group whose processes were killed.
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// The group that was delegated to the daemon.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    /// The same as `/proc/PID/cgroup` names it.
    name: String,
    memory: bool,
    pids: bool,
    /// Groups of runs that have ended, whose processes are killed and not gone yet.
    emptying: Vec<PathBuf>,
    /// Groups of runs that have ended, whose processes are left alone.
    left: Vec<PathBuf>,
    /// Retries since a group was added or removed.
    retries: u32,
}

/// Why there is none, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDelegated(String);

impl NotDelegated {
    /// No job has limits.
    #[must_use]
    pub fn not_needed() -> NotDelegated {
        NotDelegated("no job needs one".into())
    }
}

impl fmt::Display for NotDelegated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotDelegated {}

/// The group of one attempt.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
    handle: File,
    kill_mode: KillMode,
}

/// The attempt in whose group a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupOwner {
    pub run: RunId,
    pub mode: KillMode,
}

impl Cgroup {
    /// Its directory, for clone3(2) or openat(2).
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// A handle of a directory, which is all that entering a group takes.
fn handle(dir: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir)
}

impl Cgroups {
    /// Finds the daemon's group and prepares it: moves the daemon into a leaf, and enables the controllers for subgroups.
    ///
    /// # Errors
    /// When it is not delegated to the daemon.
    pub fn open() -> Result<Cgroups, NotDelegated> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| NotDelegated(format!("{path} can't be read: {error}")));
        let cgroup = read("/proc/self/cgroup")?;
        let own = own_group(&read("/proc/self/mountinfo")?, &cgroup)
            .ok_or_else(|| NotDelegated("no cgroup file system of version 2 is mounted".into()))?;
        // After the daemon has replaced itself by exec, it is in the leaf already.
        let above = own.parent().filter(|_| own.ends_with(DAEMON_GROUP)).filter(|above| is_delegated(above));
        let root = above.unwrap_or(&own).to_owned();
        if !is_delegated(&root) {
            return Err(NotDelegated(format!(
                "the cgroup {} is not delegated to the daemon, which `Delegate=yes` in its systemd unit does",
                root.display()
            )));
        }
        if !is_marked(&root) && above.is_none() && !is_alone(&root) {
            return Err(NotDelegated(format!("the cgroup {} has processes besides the daemon", root.display())));
        }
        let name = name_in(&cgroup).unwrap_or_default();
        let name = if above.is_some() { name.trim_end_matches(DAEMON_GROUP) } else { name }.trim_end_matches('/').to_owned();
        Cgroups::prepare(root, name)
    }

    fn prepare(root: PathBuf, name: String) -> Result<Cgroups, NotDelegated> {
        let failed = |what: &str, error: io::Error| NotDelegated(format!("{what} {}: {error}", root.display()));
        let leaf = root.join(DAEMON_GROUP);
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("no group can be made in", error));
            }
            _ => {}
        }
        // Other processes came with the daemon, for example those that a daemon before it left running.
        let inside =
            fs::read_to_string(root.join("cgroup.procs")).map_err(|error| failed("can't read the processes of", error))?;
        for pid in inside.lines() {
            // It fails for a process that has exited meanwhile.
            let _ = fs::write(leaf.join("cgroup.procs"), pid);
        }
        let has = |controller: &str| {
            let control = root.join("cgroup.subtree_control");
            let handed_down =
                || fs::read_to_string(&control).is_ok_and(|list| list.split_whitespace().any(|name| name == controller));
            handed_down() || (fs::write(&control, format!("+{controller}")).is_ok() && handed_down())
        };
        let (memory, pids) = (has("memory"), has("pids"));
        Ok(Cgroups { root, name, memory, pids, emptying: Vec::new(), left: Vec::new(), retries: 0 })
    }

    /// True if a group can enforce all of these limits that apply to the whole run.
    #[must_use]
    pub fn keeps(&self, limits: &Limits) -> bool {
        (limits.memory.is_none() || self.memory) && (limits.pids.is_none() || self.pids)
    }

    /// The limits left to the rlimits of each process. A limit of the group is exact; an rlimit besides it, which counts address
    /// space or all processes of the user, would be stricter than configured.
    #[must_use]
    pub fn rest(&self, limits: &Limits) -> Limits {
        Limits { memory: limits.memory.filter(|_| !self.memory), pids: limits.pids.filter(|_| !self.pids), ..limits.clone() }
    }

    fn group(&self, run: RunId, attempt: Attempt, kill_mode: KillMode) -> PathBuf {
        let prefix = match kill_mode {
            KillMode::Run => RUN_PREFIX,
            KillMode::Main => MAIN_PREFIX,
        };
        self.root.join(format!("{prefix}{run}.{attempt}"))
    }

    /// The attempt in whose group a process is.
    pub(super) fn owner_of(&self, pid: i32) -> Option<GroupOwner> {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        owner_by_name(name_in(&cgroup)?.strip_prefix(&*self.name)?)
    }

    /// Creates the group of an attempt.
    ///
    /// # Errors
    /// When it can't be created or configured.
    pub fn make(&self, run: RunId, attempt: Attempt, limits: &Limits, kill_mode: KillMode) -> io::Result<Cgroup> {
        let dir = self.group(run, attempt, kill_mode);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Some(bytes) = limits.memory.filter(|_| self.memory) {
            fs::write(dir.join("memory.max"), bytes.to_string())?;
            // Else the limit would be one of memory that is not swapped out. Without swap in the kernel there is no such file.
            match write(&dir.join("memory.swap.max"), "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Out of memory, the whole run is killed (Linux 4.19): half a pipeline is worse than none.
            let _ = fs::write(dir.join("memory.oom.group"), "1");
        }
        if let Some(count) = limits.pids.filter(|_| self.pids) {
            fs::write(dir.join("pids.max"), count.to_string())?;
        }
        let handle = handle(&dir)?;
        Ok(Cgroup { dir, handle, kill_mode })
    }

    /// The group of an attempt that an earlier daemon started, if it has one.
    #[must_use]
    pub fn find(&self, run: RunId, attempt: Attempt) -> Option<Cgroup> {
        [KillMode::Run, KillMode::Main].into_iter().find_map(|kill_mode| {
            let dir = self.group(run, attempt, kill_mode);
            let handle = handle(&dir).ok()?;
            Some(Cgroup { dir, handle, kill_mode })
        })
    }

    /// Kills what is left in the group of an attempt that has ended, unless that is left alone; true if the kernel had killed some
    /// of it for lack of memory.
    pub fn end(&mut self, cgroup: Cgroup) -> bool {
        let killed_for_memory = oom_kills(&cgroup.dir) > 0;
        match cgroup.kill_mode {
            KillMode::Run => {
                kill(&cgroup.dir);
                self.emptying.push(cgroup.dir);
            }
            KillMode::Main => self.left.push(cgroup.dir),
        }
        self.retries = 0;
        self.remove_empty();
        killed_for_memory
    }

    /// Removes groups that are empty by now.
    pub fn remove_empty(&mut self) {
        // Not waited for, since they may be in use for years.
        self.left.retain(|dir| !is_removed(dir));
        let before = self.emptying.len();
        self.emptying.retain(|dir| !is_removed(dir));
        self.retries = if self.emptying.len() == before { self.retries.saturating_add(1) } else { 0 };
    }

    /// The delay before the next [`Cgroups::remove_empty`], if groups are left. It doubles each time: a process in
    /// uninterruptible sleep, on a disk that is gone, may never exit.
    #[must_use]
    pub fn look_again_after(&self) -> Option<Duration> {
        (!self.emptying.is_empty()).then(|| FIRST_RETRY.saturating_mul(1 << self.retries.min(16)))
    }

    /// Kills and removes the groups that earlier daemons left, except for these; those of runs with [`KillMode::Main`] are removed
    /// once they are empty.
    pub fn end_leftovers<'a>(&mut self, but: impl Iterator<Item = &'a Cgroup>) {
        let kept: Vec<&Path> = but.map(|cgroup| cgroup.dir.as_path()).collect();
        let is_kept = |dir: &PathBuf| kept.contains(&dir.as_path());
        let left: Vec<PathBuf> = groups(&self.root, RUN_PREFIX).filter(|dir| !is_kept(dir)).collect();
        left.iter().for_each(|dir| kill(dir));
        self.emptying.extend(left);
        self.left.extend(groups(&self.root, MAIN_PREFIX).filter(|dir| !is_kept(dir)));
        self.remove_empty();
    }
}

/// The groups of runs in a group, by the prefix of their names.
fn groups(root: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    let is_group = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(move |entry| is_group(entry) && has_prefix(entry, prefix)).map(|entry| entry.path())
}

fn has_prefix(entry: &fs::DirEntry, prefix: &str) -> bool {
    entry.file_name().to_string_lossy().starts_with(prefix)
}

/// Writes into a file of a group, which can't be made there: creating a missing one would be EPERM instead of ENOENT.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// A group's directory, held by a descriptor.
struct Dir(File);

impl Dir {
    fn open(path: &Path) -> io::Result<Dir> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(Dir)
    }

    /// The path of something in it, however deep it is itself.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string()).join(name)
    }

    fn subgroups(&self) -> impl Iterator<Item = OsString> {
        let entries = fs::read_dir(self.path("")).into_iter().flatten().filter_map(Result::ok);
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.file_name())
    }
}

/// Removes a group and its subgroups, at most [`MAX_VISITED`] at once; false while there are processes or more groups.
fn is_removed(dir: &Path) -> bool {
    match fs::remove_dir(dir) {
        Ok(()) => return true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        // EBUSY, with processes or groups.
        Err(_) => {}
    }
    remove_subgroups(dir).is_ok_and(|all| all) && fs::remove_dir(dir).is_ok()
}

/// Removes the subgroups of a group, the deepest first; false if there are too many for once.
fn remove_subgroups(dir: &Path) -> io::Result<bool> {
    let mut here = Dir::open(dir)?;
    // The way from `dir` to `here`.
    let mut names: Vec<OsString> = Vec::new();
    for _ in 0..MAX_VISITED {
        // Its end is not waited for: a name more is found by the next call.
        let next = here.subgroups().next();
        if let Some(name) = next {
            here = Dir::open(&here.path(&name))?;
            names.push(name);
            continue;
        }
        let Some(name) = names.pop() else { return Ok(true) };
        here = Dir::open(&here.path(".."))?;
        // EBUSY while a process is in it.
        fs::remove_dir(here.path(name))?;
    }
    Ok(false)
}

/// Sends SIGKILL to a group with its subgroups; on kernels without cgroup.kill to one process after the other, until no new ones
/// are found.
fn kill(dir: &Path) {
    const LOOKS: usize = 8;
    if write(&dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for _ in 0..LOOKS {
        // What can't be visited is found again while the group is removed, which fails until then.
        if kill_each(dir).is_ok_and(|found| found == 0) {
            return;
        }
    }
}

/// Sends SIGKILL to each process of a group and of its subgroups, and returns how many there were.
fn kill_each(dir: &Path) -> io::Result<usize> {
    let mut here = Dir::open(dir)?;
    let (mut depth, mut found) = (0, kill_in(&here));
    let mut open: Vec<(usize, OsString)> = here.subgroups().take(MAX_VISITED).map(|name| (1, name)).collect();
    for _ in 0..MAX_VISITED {
        let Some((below, name)) = open.pop() else { break };
        while depth >= below {
            here = Dir::open(&here.path(".."))?;
            depth -= 1;
        }
        // It may have been removed by now.
        let Ok(group) = Dir::open(&here.path(&name)) else { continue };
        (here, depth) = (group, below);
        found += kill_in(&here);
        let room = MAX_VISITED.saturating_sub(open.len());
        open.extend(here.subgroups().take(room).map(|name| (below + 1, name)));
    }
    Ok(found)
}

/// Sends SIGKILL to each process that is in this very group.
fn kill_in(group: &Dir) -> usize {
    let inside = || fs::read_to_string(group.path("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = inside().lines().filter_map(|line| line.parse().ok()).collect();
    for pid in &pids {
        // Through a pidfd, and checked again: the pid may have been reused.
        if let Ok(fd) = sys::pidfd_open(*pid)
            && inside().lines().any(|line| line.parse() == Ok(*pid))
        {
            let _ = sys::pidfd_send_signal(fd.as_fd(), nix::sys::signal::Signal::SIGKILL);
        }
    }
    pids.len()
}

fn oom_kills(dir: &Path) -> u64 {
    let events = fs::read_to_string(dir.join("memory.events")).unwrap_or_default();
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// The name of a group of version 2 in `/proc/PID/cgroup`.
fn name_in(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The attempt of a group, by its name below the daemon's group: `/run-5.1`, or a group in it.
fn owner_by_name(name: &str) -> Option<GroupOwner> {
    let name = name.strip_prefix('/')?.split('/').next()?;
    let modes = [(RUN_PREFIX, KillMode::Run), (MAIN_PREFIX, KillMode::Main)];
    modes.into_iter().find_map(|(prefix, mode)| {
        let (run, _) = name.strip_prefix(prefix)?.split_once('.')?;
        Some(GroupOwner { run: RunId(run.parse().ok()?), mode })
    })
}

/// The path of this process's group of version 2, from `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5)).
fn own_group(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let path = name_in(cgroup)?;
    mountinfo.lines().find_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (rest.split(' ').next() == Some("cgroup2")).then_some(())?;
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

fn is_marked(dir: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| sys::attribute(dir, name).is_some_and(|value| value == b"1"))
}

fn is_alone(dir: &Path) -> bool {
    let inside = fs::read_to_string(dir.join("cgroup.procs"));
    inside.is_ok_and(|inside| inside.lines().all(|pid| pid.parse() == Ok(std::process::id())))
}

fn is_delegated(dir: &Path) -> bool {
    if is_marked(dir) {
        return true;
    }
    let me = Uid::effective();
    let writable = |name: &str| access(&dir.join(name), AccessFlags::W_OK).is_ok();
    !me.is_root()
        && fs::metadata(dir).is_ok_and(|meta| meta.uid() == me.as_raw())
        && writable("")
        && writable("cgroup.procs")
        && writable("cgroup.subtree_control")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 0:20 / /proc rw - proc proc rw\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_in_hybrid_hierarchies_and_in_containers() {
        let found = |mounts: &str, own: &str| own_group(mounts, own).map(|path| path.display().to_string());
        assert_eq!(
            found(MOUNTS, "4:memory:/x\n0::/system.slice/firelink.service\n").as_deref(),
            Some("/sys/fs/cgroup/unified/system.slice/firelink.service")
        );
        let contained = "41 31 0:38 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found(contained, "0::/docker/7/app\n").as_deref(), Some("/sys/fs/cgroup/app"));
        assert_eq!(found(contained, "0::/elsewhere\n"), None);
        assert_eq!(found(MOUNTS, "4:memory:/x\n"), None);
    }

    fn in_directory(root: &Path) -> Cgroups {
        let (emptying, left) = (Vec::new(), Vec::new());
        Cgroups { root: root.to_owned(), name: "/f".into(), memory: true, pids: false, emptying, left, retries: 0 }
    }

    /// In a plain directory: the kernel's hierarchy may lack controllers here.
    #[test]
    fn a_run_with_limits_gets_a_group_that_enforces_them() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = in_directory(dir.path());
        let limits = Limits { memory: Some(1 << 20), pids: Some(7), open_files: Some(9), ..Limits::default() };
        fs::create_dir(dir.path().join("run-5.1")).unwrap();
        fs::write(dir.path().join("run-5.1/cgroup.procs"), "").unwrap();
        assert!(
            cgroups.make(RunId(5), Attempt(1), &limits, KillMode::Run).is_ok(),
            "a kernel without swap has no memory.swap.max"
        );
        fs::write(dir.path().join("run-5.1/memory.swap.max"), "").unwrap();
        let cgroup = cgroups.make(RunId(5), Attempt(1), &limits, KillMode::Run).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("run-5.1/memory.swap.max")).unwrap(), "0");
        assert_eq!(fs::read_to_string(dir.path().join("run-5.1/memory.max")).unwrap(), "1048576");
        assert!(!dir.path().join("run-5.1/pids.max").exists());
        assert!(!cgroups.keeps(&limits));
        assert!(cgroups.keeps(&Limits { pids: None, ..limits.clone() }));
        assert_eq!(cgroups.rest(&limits), Limits { memory: None, ..limits });
        fs::write(dir.path().join("run-5.1/memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        assert_eq!(oom_kills(&cgroup.dir), 2);
        assert!(cgroups.find(RunId(5), Attempt(1)).is_some());
        assert!(cgroups.find(RunId(5), Attempt(11)).is_none());
    }

    #[test]
    fn the_group_of_a_process_names_its_attempt() {
        let owner = |name: &str| owner_by_name(name).map(|owner| (owner.run.0, owner.mode));
        assert_eq!(owner("/run-5.1"), Some((5, KillMode::Run)));
        assert_eq!(owner("/main-17.3/inner/run-9.9"), Some((17, KillMode::Main)));
        for name in ["", "/", "/daemon", "run-5.1", "/run-x.1", "/run-5", "/inner/run-5.1"] {
            assert_eq!(owner(name), None, "{name}");
        }
        assert_eq!(name_in("4:memory:/x\n0::/a b\n"), Some("/a b"));
    }

    /// As a job that runs as root can make it: deeper than a path may be long, with names that are no text, and a link.
    #[test]
    fn groups_of_any_depth_and_name_are_removed_and_no_link_is_followed() {
        use std::os::unix::ffi::OsStringExt;

        let dir = tempfile::tempdir().unwrap();
        let (root, kept) = (dir.path().join("run-1.1"), dir.path().join("kept"));
        fs::create_dir(&root).unwrap();
        fs::create_dir_all(kept.join("inner")).unwrap();
        let names = [b"new\nline".to_vec(), vec![0xff, 0xfe], vec![b'x'; 255]].map(OsString::from_vec);
        let mut here = Dir::open(&root).unwrap();
        for name in names.iter().cycle().take(90) {
            fs::create_dir(here.path(name)).unwrap();
            here = Dir::open(&here.path(name)).unwrap();
        }
        fs::create_dir(root.join("second")).unwrap();
        assert_eq!(kill_each(&root).unwrap(), 0);
        let link = root.join("link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        assert!(!is_removed(&root), "a link is no group");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "the link is left");
        fs::remove_file(&link).unwrap();
        assert!(is_removed(&root));
        assert!(is_removed(&root), "it is gone");
        assert!(kept.join("inner").exists());
    }

    #[test]
    fn more_groups_than_are_visited_at_once_are_removed_by_several_calls() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run-1.1");
        (0..MAX_VISITED).for_each(|number| fs::create_dir_all(root.join(number.to_string())).unwrap());
        let calls = (1..10).find(|_| is_removed(&root));
        assert_eq!(calls, Some(3), "each is entered and left");
    }

    /// In a plain directory, with files in place of the kernel's: a process of its own stands for one of the run.
    #[test]
    fn on_kernels_without_cgroup_kill_the_processes_of_subgroups_are_killed_too() {
        use std::os::unix::process::ExitStatusExt;

        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(dir.path().join("z")).unwrap();
        let start = || std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let mut children = [start(), start(), start()];
        for (child, group) in children.iter().zip([dir.path(), &deep, &dir.path().join("z")]) {
            fs::write(group.join("cgroup.procs"), format!("{}\n", child.id())).unwrap();
        }
        kill(dir.path());
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        }
    }
}
