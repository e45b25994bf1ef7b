//! The parser of `env_file`: lines of `KEY=value`.
//!
//! It runs in the child, as the job's user, on a buffer that it shares with the daemon: it works in place and neither
//! allocates nor panics. Errors name the line, never its contents: these files hold secrets.

/// The largest file, in bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// The most variables: each is compared with every other.
pub(super) const MOST: usize = 4096;

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Fault {
    NotAnAssignment = 1,
    HasNul,
    BadName,
    OpenQuote,
    TooMany,
    NotRegular,
    TooLarge,
}

impl Fault {
    pub const ALL: [Fault; 7] = [
        Fault::NotAnAssignment,
        Fault::HasNul,
        Fault::BadName,
        Fault::OpenQuote,
        Fault::TooMany,
        Fault::NotRegular,
        Fault::TooLarge,
    ];

    /// As a sentence about the line, or, for the last two, the end of one about the file.
    pub fn text(self) -> &'static str {
        match self {
            Fault::NotAnAssignment => "a line must be KEY=value",
            Fault::HasNul => "the value contains a NUL byte",
            Fault::BadName => "a variable's name consists of letters, digits and `_`, and does not start with a digit",
            Fault::OpenQuote => "a quote is not closed",
            Fault::TooMany => "this is more than 4096 variables",
            Fault::NotRegular => "is not a regular file",
            Fault::TooLarge => "is larger than 1 MiB",
        }
    }
}

/// Parses the first `length` bytes of `buffer`, which is at least one byte longer, and replaces them by the variables: each is
/// `KEY=value` and a NUL, one after the other. `found` gets the offset of each.
///
/// # Errors
/// The fault and the number of its line, counted from 1.
pub(super) fn parse(buffer: &mut [u8], length: usize, mut found: impl FnMut(usize)) -> Result<(), (Fault, u32)> {
    let (mut at, mut out, mut count) = (0, 0, 0_usize);
    let mut number = 0_u32;
    while at < length {
        number = number.saturating_add(1);
        let rest = buffer.get(at..length).unwrap_or_default();
        let end = at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (mut from, mut to) = trim(buffer, at, end);
        at = end + 1;
        let line = buffer.get(from..to).unwrap_or_default();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.starts_with(b"export ") {
            (from, to) = trim(buffer, from + b"export ".len(), to);
        }
        let line = buffer.get(from..to).unwrap_or_default();
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else { return Err((Fault::NotAnAssignment, number)) };
        if line.contains(&0) {
            return Err((Fault::HasNul, number));
        }
        let (name_from, name_to) = trim_end(buffer, from, from + equals);
        let name = buffer.get(name_from..name_to).unwrap_or_default();
        let starts_well = name.first().is_some_and(|c| c.is_ascii_alphabetic() || *c == b'_');
        if !starts_well || !name.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_') {
            return Err((Fault::BadName, number));
        }
        if count == MOST {
            return Err((Fault::TooMany, number));
        }
        count += 1;
        let start = out;
        for index in name_from..name_to {
            put(buffer, &mut out, index);
        }
        set(buffer, &mut out, b'=');
        let (value_from, value_to) = trim(buffer, from + equals + 1, to);
        if !unquote(buffer, value_from, value_to, &mut out) {
            return Err((Fault::OpenQuote, number));
        }
        set(buffer, &mut out, 0);
        found(start);
    }
    Ok(())
}

/// Single quotes keep everything; double quotes know `\"`, `\\`, `\n` and `\t`; unquoted text ends at ` #`. What is written is
/// never longer than what is read, so that it does not reach what is still to be read. False if a quote is not closed.
fn unquote(buffer: &mut [u8], from: usize, to: usize, out: &mut usize) -> bool {
    let byte = |buffer: &[u8], at: usize| if at < to { buffer.get(at).copied() } else { None };
    match byte(buffer, from) {
        Some(b'\'') => {
            let is_closed = to >= from + 2 && byte(buffer, to - 1) == Some(b'\'');
            if is_closed {
                for index in from + 1..to - 1 {
                    put(buffer, out, index);
                }
            }
            is_closed
        }
        Some(b'"') => {
            let mut at = from + 1;
            while let Some(this) = byte(buffer, at) {
                at += 1;
                match this {
                    b'"' => {
                        let (rest, _) = trim(buffer, at, to);
                        return byte(buffer, rest).is_none_or(|next| next == b'#');
                    }
                    b'\\' => {
                        let Some(escaped) = byte(buffer, at) else { return false };
                        at += 1;
                        set(
                            buffer,
                            out,
                            match escaped {
                                b'n' => b'\n',
                                b't' => b'\t',
                                other => other,
                            },
                        );
                    }
                    other => set(buffer, out, other),
                }
            }
            false
        }
        _ => {
            let text = buffer.get(from..to).unwrap_or_default();
            let end = text.windows(2).position(|two| two == b" #").map_or(to, |length| from + length);
            let (from, end) = trim_end(buffer, from, end);
            for index in from..end {
                put(buffer, out, index);
            }
            true
        }
    }
}

/// Copies the byte at `from` to `out`.
fn put(buffer: &mut [u8], out: &mut usize, from: usize) {
    if let Some(byte) = buffer.get(from).copied() {
        set(buffer, out, byte);
    }
}

fn set(buffer: &mut [u8], out: &mut usize, byte: u8) {
    if let Some(place) = buffer.get_mut(*out) {
        *place = byte;
        *out += 1;
    }
}

fn trim(buffer: &[u8], mut from: usize, to: usize) -> (usize, usize) {
    while from < to && buffer.get(from).is_some_and(u8::is_ascii_whitespace) {
        from += 1;
    }
    trim_end(buffer, from, to)
}

fn trim_end(buffer: &[u8], from: usize, mut to: usize) -> (usize, usize) {
    while to > from && buffer.get(to - 1).is_some_and(u8::is_ascii_whitespace) {
        to -= 1;
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The variables in their order, or the fault.
    fn parsed(text: &[u8]) -> Result<Vec<Vec<u8>>, (Fault, u32)> {
        let mut buffer = [text, b"?"].concat();
        let mut offsets = Vec::new();
        parse(&mut buffer, text.len(), |offset| offsets.push(offset))?;
        Ok(offsets.iter().map(|at| buffer[*at..].split(|byte| *byte == 0).next().unwrap().to_vec()).collect())
    }

    #[test]
    fn all_forms_of_lines_are_parsed() {
        let text =
            "# comment\n\nA=1\nexport B=two words # said\r\nC='it''s'\nD=\"a \\\"b\\\"\\n\" # x\nE=\n F = x \nG=\"\"\nH=last";
        let expected = ["A=1", "B=two words", "C=it''s", "D=a \"b\"\n", "E=", "F=x", "G=", "H=last"];
        assert_eq!(parsed(text.as_bytes()).unwrap(), expected.map(|entry| entry.as_bytes().to_vec()));
        assert_eq!(parsed(b"").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(parsed(b"L=caf\xe9").unwrap(), [b"L=caf\xe9".to_vec()]);
    }

    #[test]
    fn an_error_has_the_number_of_its_line() {
        let cases: [(&[u8], Fault, u32); 9] = [
            (b"A=1\nsecret", Fault::NotAnAssignment, 2),
            (b"1A=secret", Fault::BadName, 1),
            (b"=secret", Fault::BadName, 1),
            (b"A='secret", Fault::OpenQuote, 1),
            (b"A='", Fault::OpenQuote, 1),
            (b"A=\"secret", Fault::OpenQuote, 1),
            (b"A=\"secret\\", Fault::OpenQuote, 1),
            (b"\n\nA B=secret", Fault::BadName, 3),
            (b"A=1\nB=\0", Fault::HasNul, 2),
        ];
        for (text, fault, line) in cases {
            assert_eq!(parsed(text), Err((fault, line)), "{}", String::from_utf8_lossy(text));
        }
        let many: Vec<u8> = (0..=MOST).flat_map(|index| format!("A{index}=\n").into_bytes()).collect();
        assert_eq!(parsed(&many), Err((Fault::TooMany, u32::try_from(MOST).unwrap() + 1)));
        for fault in Fault::ALL {
            assert!(!fault.text().is_empty());
        }
    }

    proptest! {
        #[test]
        fn quoted_values_come_back_and_nothing_panics(
            values in prop::collection::vec("[ -~]{0,20}", 0..12),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let quote = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"");
            let text: String = values.iter().map(|value| format!("  export  NAME = \"{}\"  # why\n", quote(value))).collect();
            let expected: Vec<Vec<u8>> = values.iter().map(|value| format!("NAME={value}").into_bytes()).collect();
            prop_assert_eq!(parsed(text.as_bytes()).unwrap(), expected);
            let _ = parsed(&noise);
        }
    }
}
