//! Entry points for fuzzing. Nothing else uses them.

use super::plugin;

/// Splits the output of a plugin: the number of each line, its bytes up to the limit, and whether it was longer; then the
/// rest at the end of the stream.
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

/// True if the body of an answer is a complete listing.
#[cfg(feature = "s3")]
#[must_use]
pub fn is_whole_listing(body: &[u8]) -> bool {
    super::s3::is_whole(body)
}
