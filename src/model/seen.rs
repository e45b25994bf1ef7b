//! The seen-set of a watch, and the changes to it: passed from a trigger's source to the store.

/// The identity of an object within one watch: the first 128 bits of a hash of its key. Aligned as a machine word, so
/// that a [`SeenObject`] takes 24 bytes and not 32: a restart reads a million of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct ObjectKey(pub u128);

/// The version of an object: 64 bits of a hash of its etag and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectVersion(pub u64);

/// One record of the seen-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenObject {
    /// The object.
    pub key: ObjectKey,
    /// Its version when it was seen.
    pub version: ObjectVersion,
}

/// The stored seen-set of a watch, when its source starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenSnapshot {
    /// True after a complete first scan.
    pub baseline_done: bool,
    /// Every object seen, ordered by key.
    pub objects: Vec<SeenObject>,
}

/// Events found by a source, stored in one transaction with the change to the seen-set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Each creates exactly one run; the payload becomes `FIRELINK_EVENT`.
    pub events: Vec<serde_json::Value>,
    /// Objects added to the seen-set.
    pub seen: Vec<SeenObject>,
    /// Objects that no longer exist, removed from the seen-set.
    pub gone: Vec<ObjectKey>,
    /// True for the last batch of the first scan.
    pub baseline_done: bool,
}
