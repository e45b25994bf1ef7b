//! The inputs of a configuration besides its text.

use std::path::PathBuf;

use nix::unistd::Uid;

/// The process and machine that a file is loaded for; passed in, so that loading is reproducible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The directory in which firelink was started: the default `cwd` of jobs.
    pub start_dir: PathBuf,
    /// Seeds stable jitter: the same at each start on one machine.
    pub machine_seed: u64,
    /// The effective user. Root refuses a file that others may write; other users can't run jobs as somebody else.
    pub uid: u32,
}

impl Surroundings {
    /// Those of this process. The machine is identified by machine-id(5), else by its host name.
    #[must_use]
    pub fn of_this_process() -> Surroundings {
        let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .find(|id| !id.trim().is_empty());
        let id = id.or_else(|| nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned()));
        Surroundings {
            // A removed directory has no name; jobs then start from the root, as those of a daemon do.
            start_dir: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            machine_seed: seed(id.as_deref().unwrap_or_default().trim()),
            uid: Uid::effective().as_raw(),
        }
    }

    /// True if firelink runs as root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// FNV-1a, which no version of firelink or of a library may change.
fn seed(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
