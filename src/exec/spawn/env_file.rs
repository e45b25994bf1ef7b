//! `env_file`: lines of `KEY=value`, read at each start. Errors name file and line, never the contents: these files hold
//! secrets.

use std::path::Path;

/// The largest file, in bytes.
const LIMIT: u64 = 1 << 20;

/// Reads the file.
pub(in crate::exec) fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let unreadable = |error: std::io::Error| format!("env_file {} can't be read: {error}", path.display());
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    // Opening a FIFO blocks until it has a writer, and a device may have no end; both would block the daemon.
    if !meta.is_file() {
        return Err(format!("env_file {} is not a regular file", path.display()));
    }
    if meta.len() > LIMIT {
        return Err(format!("env_file {} is larger than 1 MiB", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|(line, what)| format!("env_file {}:{line}: {what}", path.display()))
}

fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut vars = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or((number, "a line must be KEY=value"))?;
        let name = name.trim_end();
        if value.contains('\0') {
            return Err((number, "the value contains a NUL byte"));
        }
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err((number, "a variable's name consists of letters, digits and `_`, and does not start with a digit"));
        }
        vars.push((name.to_owned(), unquote(value.trim()).ok_or((number, "a quote is not closed"))?));
    }
    Ok(vars)
}

/// Single quotes keep everything; double quotes know `\"`, `\\`, `\n` and `\t`; unquoted text ends at ` #`.
fn unquote(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.strip_suffix('\'').map(str::to_owned);
    }
    let Some(rest) = value.strip_prefix('"') else {
        return Some(value.split_once(" #").map_or(value, |(value, _)| value.trim_end()).to_owned());
    };
    let mut plain = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return chars.as_str().trim_start().chars().next().is_none_or(|c| c == '#').then_some(plain),
            '\\' => match chars.next()? {
                'n' => plain.push('\n'),
                't' => plain.push('\t'),
                other => plain.push(other),
            },
            other => plain.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_lines_are_parsed() {
        let text = "# comment\n\nA=1\nexport B=two words # said\nC='it''s'\nD=\"a \\\"b\\\"\\n\"\nE=\n F = x \n";
        let expected = [("A", "1"), ("B", "two words"), ("C", "it''s"), ("D", "a \"b\"\n"), ("E", ""), ("F", "x")];
        let read = parse(text).unwrap();
        assert_eq!(read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_error_names_the_line_and_not_the_secret() {
        for (text, line) in [("A=1\nsecret", 2), ("1A=secret", 1), ("A='secret", 1), ("A=\"secret", 1), ("A B=secret", 1)] {
            let (at, what) = parse(text).unwrap_err();
            assert_eq!(at, line);
            assert!(!what.contains("secret"));
        }
    }
}
