//! Control groups (cgroups(7), version 2), where one was delegated to the daemon.
//!
//! A run with `limits` gets a group of its own: `memory` and `pids` apply to the whole run instead of to each process or to all
//! processes of its user, and nothing of the run survives its end, whatever group, session or environment it has:
//! `cgroup.kill` (Linux 5.14) reaches all of it.
//!
//! The daemon changes no group that was not delegated to it: one whose extended attribute `user.delegate` or
//! `trusted.delegate` is 1 (systemd's `Delegate=yes`; see systemd's "Control Group APIs and Delegation"), or, for a daemon
//! without root's rights, one that belongs to its user. Processes may only be in leaves, so the daemon moves itself into one.
//! A group without the attribute counts only while the daemon is alone in it: a shell from which the daemon was started
//! shares its group and must not be moved.
//!
//! Runs without `limits` get none: making and removing a group costs more than all else of a start.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::unistd::{AccessFlags, Uid, access};

use super::spec::Limits;
use super::sys;
use crate::model::{Attempt, RunId};

/// The name of the leaf with the daemon itself.
const DAEMON_GROUP: &str = "daemon";

/// The prefix of the names of runs' groups.
const RUN_PREFIX: &str = "run-";

/// The delay before the first retry to remove a group whose processes were killed.
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// The group that was delegated to the daemon.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    memory: bool,
    pids: bool,
    /// Groups of runs that have ended, whose processes are killed and not gone yet.
    emptying: Vec<PathBuf>,
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
        let own = own_group(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
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
        Cgroups::prepare(root)
    }

    fn prepare(root: PathBuf) -> Result<Cgroups, NotDelegated> {
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
        Ok(Cgroups { root, memory, pids, emptying: Vec::new(), retries: 0 })
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

    fn group(&self, run: RunId, attempt: Attempt) -> PathBuf {
        self.root.join(format!("{RUN_PREFIX}{run}.{attempt}"))
    }

    /// Creates the group of an attempt.
    ///
    /// # Errors
    /// When it can't be created or configured.
    pub fn make(&self, run: RunId, attempt: Attempt, limits: &Limits) -> io::Result<Cgroup> {
        let dir = self.group(run, attempt);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Some(bytes) = limits.memory.filter(|_| self.memory) {
            fs::write(dir.join("memory.max"), bytes.to_string())?;
            // Out of memory, the whole run is killed (Linux 4.19): half a pipeline is worse than none.
            let _ = fs::write(dir.join("memory.oom.group"), "1");
        }
        if let Some(count) = limits.pids.filter(|_| self.pids) {
            fs::write(dir.join("pids.max"), count.to_string())?;
        }
        let handle = handle(&dir)?;
        Ok(Cgroup { dir, handle })
    }

    /// The group of an attempt that an earlier daemon started, if it has one.
    #[must_use]
    pub fn find(&self, run: RunId, attempt: Attempt) -> Option<Cgroup> {
        let dir = self.group(run, attempt);
        let handle = handle(&dir).ok()?;
        Some(Cgroup { dir, handle })
    }

    /// Kills what is left in the group of an attempt that has ended; true if the kernel had killed some of it for lack of memory.
    pub fn end(&mut self, cgroup: Cgroup) -> bool {
        let killed_for_memory = oom_kills(&cgroup.dir) > 0;
        kill(&cgroup.dir);
        self.emptying.push(cgroup.dir);
        self.retries = 0;
        self.remove_empty();
        killed_for_memory
    }

    /// Removes groups that are empty by now.
    pub fn remove_empty(&mut self) {
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

    /// Kills and removes the groups that earlier daemons left, except for these.
    pub fn end_leftovers<'a>(&mut self, but: impl Iterator<Item = &'a Cgroup>) {
        let kept: Vec<&Path> = but.map(|cgroup| cgroup.dir.as_path()).collect();
        let left: Vec<PathBuf> = groups(&self.root).filter(|dir| !kept.contains(&dir.as_path())).collect();
        left.iter().for_each(|dir| kill(dir));
        self.emptying.extend(left);
        self.remove_empty();
    }
}

/// The groups of runs in a group.
fn groups(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(RUN_PREFIX)).map(|entry| entry.path())
}

/// Removes a group and its subgroups; false while it has processes.
fn is_removed(dir: &Path) -> bool {
    match fs::remove_dir(dir) {
        Ok(()) => return true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        // EBUSY, for either.
        Err(_) => {}
    }
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let removed = below.filter(|entry| is_removed(&entry.path())).count();
    removed > 0 && fs::remove_dir(dir).is_ok()
}

/// Sends SIGKILL to a group; on kernels without cgroup.kill to one process after the other, until no new ones are found.
fn kill(dir: &Path) {
    const LOOKS: usize = 8;
    let all_at_once = OpenOptions::new().write(true).open(dir.join("cgroup.kill")).and_then(|mut file| file.write_all(b"1"));
    if all_at_once.is_ok() {
        return;
    }
    for _ in 0..LOOKS {
        let inside = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let pids: Vec<i32> = inside.lines().filter_map(|line| line.parse().ok()).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // Through a pidfd, and checked again: the pid may have been reused.
            if let Ok(fd) = sys::pidfd_open(pid)
                && is_in(dir, pid)
            {
                let _ = sys::pidfd_send_signal(fd.as_fd(), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

fn is_in(dir: &Path, pid: i32) -> bool {
    fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|inside| inside.lines().any(|line| line.parse() == Ok(pid)))
}

fn oom_kills(dir: &Path) -> u64 {
    let events = fs::read_to_string(dir.join("memory.events")).unwrap_or_default();
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// The path of this process's group of version 2, from `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5)).
fn own_group(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
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

    /// In a plain directory: the kernel's hierarchy may lack controllers here.
    #[test]
    fn a_run_with_limits_gets_a_group_that_enforces_them() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups { root: dir.path().to_owned(), memory: true, pids: false, emptying: Vec::new(), retries: 0 };
        let limits = Limits { memory: Some(1 << 20), pids: Some(7), open_files: Some(9), ..Limits::default() };
        fs::create_dir(dir.path().join("run-5.1")).unwrap();
        fs::write(dir.path().join("run-5.1/cgroup.procs"), "").unwrap();
        let cgroup = cgroups.make(RunId(5), Attempt(1), &limits).unwrap();
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
}
