//! The encoding in which object keys travel, in listings and in notifications.

/// Decodes `encoding-type=url`: percent-encoded UTF-8 in which `+` is a space (and a plus sign is `%2B`). `None` if the text
/// is not encoded like that.
pub(in crate::triggers) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_keys_are_decoded() {
        for (text, key) in [
            ("input/a%20b.csv", "input/a b.csv"),
            ("a+b", "a b"),
            ("a%2Bb", "a+b"),
            ("%C3%BC%0A%0D%01", "\u{fc}\n\r\u{1}"),
            ("100%25", "100%"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(key), "{text}");
        }
        for bad in ["%", "%2", "%zz", "%FF"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
