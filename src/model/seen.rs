//! What a watch has seen, and what it found: handed from a trigger's source to the store.

/// The identity of an object within one watch: the first 128 bits of a hash of its key. Aligned as a machine word, so
/// that a [`SeenObject`] takes 24 bytes and not 32: a restart reads a million of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct ObjectKey(pub u128);

/// The state of an object: 64 bits of a hash of what must differ for it to count as changed (etag and size).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectVersion(pub u64);

/// One record of the seen-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenObject {
    /// Which object.
    pub key: ObjectKey,
    /// In which state it was seen.
    pub version: ObjectVersion,
}

/// What the store knows of a watch when its source starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenSnapshot {
    /// True once a first scan was recorded whole.
    pub baseline_done: bool,
    /// Every object seen, ordered by key.
    pub objects: Vec<SeenObject>,
}

/// What a source found, to be recorded whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Each makes exactly one run; the payload becomes `FIRELINK_EVENT`.
    pub events: Vec<serde_json::Value>,
    /// Objects that count as seen from now on.
    pub seen: Vec<SeenObject>,
    /// Objects that no longer exist and leave the seen-set.
    pub gone: Vec<ObjectKey>,
    /// True when the first scan ends with this batch.
    pub baseline_done: bool,
}
