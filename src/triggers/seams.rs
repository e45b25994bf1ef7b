//! What lies within this room and is fuzzed from without. Nothing else uses it.

use super::plugin;

/// The lines that a plugin's output of these pieces is cut into: each one's number, its bytes up to the limit, and
/// whether it was longer; then what was left at the end of the stream.
#[must_use]
pub fn plugin_lines(limit: usize, pieces: &[&[u8]]) -> Vec<(u64, Vec<u8>, bool)> {
    let mut lines = plugin::Lines::new(limit);
    let mut found = Vec::new();
    for piece in pieces {
        lines.push(piece);
        while let Some(line) = lines.next() {
            found.push((line.number, line.bytes.to_vec(), line.is_too_long));
        }
    }
    found.extend(lines.finish().map(|(number, bytes)| (number, bytes, false)));
    found
}

/// Whether an answer's text is a listing from its first tag to its last.
#[cfg(feature = "s3")]
#[must_use]
pub fn is_whole_listing(body: &[u8]) -> bool {
    super::s3::is_whole(body)
}
