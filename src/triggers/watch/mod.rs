//! What every watch shares, of a bucket, a queue or a folder: names filtered, objects identified, the set of objects seen.

mod filter;
pub(super) mod hash;
pub(super) mod seen;

pub use filter::NameFilter;
