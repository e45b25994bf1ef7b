//! What the watches of AWS services share, [`super::s3`] and [`super::sqs`]: how a server is reached, and what its failures
//! say. Servers that speak the same protocols (MinIO, Garage, ElasticMQ) are reached the same way.
//!
//! | file | subject |
//! | --- | --- |
//! | `endpoint` | a server's URL |
//! | `session` | region, credentials and timeouts, from the settings and from the usual AWS variables and profiles |
//! | `http` | connections, none of which outlives a poll |
//! | `errors` | failed requests as sentences |
//! | `url_encoding` | how listings and notifications encode a key |

mod endpoint;
#[cfg(feature = "s3")]
pub(super) mod errors;
#[cfg(feature = "s3")]
pub(super) mod http;
#[cfg(feature = "s3")]
pub(super) mod session;
#[cfg(feature = "s3")]
pub(super) mod url_encoding;

use std::fmt;
use std::time::Duration;

use crate::model::format_duration;

pub use endpoint::check_endpoint;
#[cfg(feature = "s3")]
pub(super) use endpoint::host_and_port;
#[cfg(feature = "s3")]
use endpoint::host_of;

/// The service that a client talks to.
#[cfg(feature = "s3")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Buckets.
    S3,
    /// Queues.
    #[cfg(feature = "sqs")]
    Sqs,
}

/// An access key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Keypair {
    /// The access key's id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({}, secret)", self.id)
    }
}

/// How to reach a server. Absent settings come from the AWS environment variables and profile. Watches with equal settings
/// share a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientSettings {
    /// The URL of a server other than AWS.
    pub endpoint: Option<String>,
    /// The region of the bucket or queue.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// True: `endpoint/bucket`; false: `bucket.endpoint`. Absent: the first for servers other than AWS.
    pub path_style: Option<bool>,
    /// True: requests are not signed.
    pub anonymous: bool,
    /// To the first byte of an answer. Absent: 20 s.
    pub timeout: Option<Duration>,
    /// Replaces the credentials chain. Not a configuration key: secrets do not belong there.
    pub keypair: Option<Keypair>,
}

impl fmt::Display for ClientSettings {
    /// Each setting that is not its default, after a space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, value) in [("endpoint", &self.endpoint), ("region", &self.region), ("profile", &self.profile)] {
            if let Some(value) = value {
                write!(f, " {word} {value}")?;
            }
        }
        if let Some(path_style) = self.path_style {
            write!(f, " path_style {path_style}")?;
        }
        if self.anonymous {
            f.write_str(" anonymous")?;
        }
        match self.timeout {
            Some(timeout) => write!(f, " timeout {}", format_duration(timeout)),
            None => Ok(()),
        }
    }
}
