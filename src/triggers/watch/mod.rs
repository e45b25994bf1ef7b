//! What the watches share, of buckets, queues and folders.
//!
//! | file | subject |
//! | --- | --- |
//! | `keys` | the keys that several types of source take |
//! | `filter` | the glob on names |
//! | `hash` | how objects are identified |
//! | `seen` | the set of objects seen |

mod filter;
pub(super) mod hash;
pub(super) mod keys;
pub(super) mod seen;

pub use filter::NameFilter;

/// What the first scan of a bucket or folder does with the objects that it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// They count as seen.
    #[default]
    Skip,
    /// Each makes an event.
    Process,
}
