//! The payload of a file's event, and the identity of a file in the seen-set.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::helper::FileStat;
use crate::model::{ObjectKey, ObjectVersion, WallTime};
use crate::triggers::watch::hash::{object_key, object_version};

/// A file counts as changed when its modification time, inode or size differ.
pub(super) fn version_of(stat: &FileStat) -> ObjectVersion {
    object_version(&format!("{}.{:09}:{}", stat.mtime, stat.mtime_nanos, stat.inode), stat.size)
}

pub(super) fn modified(stat: &FileStat) -> WallTime {
    let nanos = u64::try_from(stat.mtime_nanos).unwrap_or(0);
    WallTime::from_secs(stat.mtime) + Duration::from_nanos(nanos)
}

/// The key of a path relative to the watched folder.
pub(super) fn key_of(path: &Path) -> ObjectKey {
    object_key(path.as_os_str().as_bytes())
}

/// The payload of a file. JSON is Unicode: a path that is not UTF-8 is shown with replacement characters, and its bytes are
/// in `path_bytes`.
pub(super) fn payload(path: &Path, name: &Path, stat: &FileStat) -> Value {
    let modified = modified(stat).to_string();
    let mut payload = json!({
        "path": path.to_string_lossy(), "name": name.to_string_lossy(), "size": stat.size, "modified": modified,
    });
    if path.to_str().is_none() {
        payload["path_bytes"] = path.as_os_str().as_bytes().into();
    }
    payload
}

/// The path in a payload, byte for byte.
pub(in crate::triggers) fn path_of(event: &Value) -> Option<OsString> {
    let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match event["path_bytes"].as_array() {
        Some(bytes) => Some(OsString::from_vec(bytes.iter().map(byte).collect::<Option<_>>()?)),
        None => event["path"].as_str().map(OsString::from),
    }
}
