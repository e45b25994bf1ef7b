//! The bugs of `tests/planted/*.txt` still fit the sources: `tests/planted/run`, which plants them, takes minutes, and drift is
//! noticed here at once.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

/// The file, the text to find and the text to put there.
fn parse(text: &str) -> Option<(&str, &str, &str)> {
    let (head, rest) = text.split_once("\n--- find\n")?;
    let (find, replace) = rest.split_once("\n--- replace\n")?;
    let (breaks, file) = head.split_once("\nfile: ")?;
    (breaks.strip_prefix("breaks: ")?.len() > 10 && !file.contains('\n')).then_some((file, find, replace))
}

#[test]
fn each_planted_bug_replaces_a_text_that_occurs_once_in_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in root.join("tests/planted").read_dir().expect("the folder of bugs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).expect("a bug");
        let (file, find, replace) = parse(&text).unwrap_or_else(|| panic!("{} has another form", path.display()));
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        let times = source.matches(find).count();
        if times != 1 || find == replace.trim_end_matches('\n') {
            wrong.push(format!("{}: its text occurs {times} times in {file}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "adapt these to the sources: {wrong:#?}");
    assert!(count >= 15, "{count} bugs");
}
