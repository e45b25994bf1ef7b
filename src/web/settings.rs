//! The settings of the web UI.

use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cron::Zone;

/// How much of a token file is read, in bytes.
const LARGEST_TOKEN: u64 = 4096;

/// A shorter token can be guessed, in characters.
const SHORTEST_TOKEN: usize = 16;

/// The settings of the web UI.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address that it listens on; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// The token that requests which change something must carry.
    pub token: Option<String>,
    /// Host names that are accepted besides those of this machine, in lower case.
    pub allowed_hosts: Vec<String>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The time zone of timestamps in answers.
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
/// A sentence that never holds the contents of the file.
pub fn read_token(path: &Path) -> Result<String, String> {
    let refused = |error: std::io::Error| format!("the token can't be read from {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(refused)?;
    let mode = file.metadata().map_err(refused)?.mode();
    if mode & 0o044 != 0 {
        log::warn!("{} is readable by other users, and so is its token; chmod 600 it", path.display());
    }
    let mut text = String::new();
    file.take(LARGEST_TOKEN).read_to_string(&mut text).map_err(refused)?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "the first line of {} is not a token: it must be at least {SHORTEST_TOKEN} visible ASCII characters, for example from \
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
    fn a_token_is_the_first_line_and_is_never_in_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(read_token(&path).unwrap_err().contains("token"));
        for bad in ["", "\nsecret-secret-secret", "short", "with a space in the middle"] {
            std::fs::write(&path, bad).unwrap();
            let error = read_token(&path).unwrap_err();
            assert!(error.contains("is not a token") && !error.contains("secret-secret"), "{error}");
        }
        std::fs::write(&path, "  0123456789abcdef  \nmore\n").unwrap();
        assert_eq!(read_token(&path).unwrap(), "0123456789abcdef");
    }
}
