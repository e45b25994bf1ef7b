//! The `firelink` process.
fn main() {}
