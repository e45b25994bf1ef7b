//! Texts as scalars of YAML.

/// True for characters that YAML does not allow unescaped, or reads as a line end.
pub(super) fn is_special(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The text as a YAML scalar on one line: plain if it can't be read as anything else, else in quotes.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(plain);
    let is_typed = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if is_word && !is_typed {
        return text.to_owned();
    }
    // Quotes on request only: block scalars would need the indentation of where the text goes.
    let scalar = serde_yaml::to_string_with_options(&text, serde_yaml::ser_options! { quote_all: true });
    // A string can be serialized; JSON, which is YAML, is the way out if a version of the library finds a reason not to.
    scalar.map_or_else(|_| serde_json::Value::from(text).to_string(), |scalar| scalar.trim_end_matches('\n').to_owned())
}
