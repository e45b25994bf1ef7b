//! What the window is opened with.

use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cron::Zone;

/// The largest token file that is read.
const LARGEST_TOKEN: u64 = 4096;

/// Below this a token can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// What the window is opened with.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address that it listens on; none for a socket's file.
    pub address: Option<IpAddr>,
    /// What requests must carry that change something.
    pub token: Option<String>,
    /// Names by which it may be called besides those of this machine, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Where the state is.
    pub state_dir: PathBuf,
    /// The zone in which instants are told.
    pub zone: Zone,
}

impl fmt::Debug for Settings {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("allowed_hosts", &self.allowed_hosts)
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}

/// Reads a token: the first line of a file that only its owner should be able to read.
///
/// # Errors
/// A sentence for a person; it never holds what stands in the file.
pub fn read_token(path: &Path) -> Result<String, String> {
    let refused = |error: std::io::Error| format!("the token can't be read from {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(refused)?;
    let mode = file.metadata().map_err(refused)?.mode();
    if mode & 0o044 != 0 {
        log::warn!("{} can be read by other users, and its token with it; chmod 600 it", path.display());
    }
    let mut text = String::new();
    file.take(LARGEST_TOKEN).read_to_string(&mut text).map_err(refused)?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "the first line of {} is no token: it must be at least {SHORTEST_TOKEN} visible ASCII characters, for example of \
             `openssl rand -hex 32`",
            path.display()
        ));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_first_line_and_never_stands_in_a_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(read_token(&path).unwrap_err().contains("token"));
        for bad in ["", "\nsecret-secret-secret", "short", "with a space in the middle"] {
            std::fs::write(&path, bad).unwrap();
            let error = read_token(&path).unwrap_err();
            assert!(error.contains("is no token") && !error.contains("secret-secret"), "{error}");
        }
        std::fs::write(&path, "  0123456789abcdef  \nmore\n").unwrap();
        assert_eq!(read_token(&path).unwrap(), "0123456789abcdef");
    }
}
