//! The filter of a watch: a glob on the names of objects.
//!
//! A pattern without `/` is matched against the last part of the key, one with `/`
//! against the key below the watched prefix. `*` and `?` stop at a `/`; `**` crosses it.

use globset::{GlobBuilder, GlobMatcher};

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct NameFilter {
    matcher: GlobMatcher,
    /// The pattern is matched against the key below the prefix, not against its last component.
    below_prefix: bool,
}

/// The same pattern is compiled to the same matcher.
impl PartialEq for NameFilter {
    fn eq(&self, other: &NameFilter) -> bool {
        self.matcher.glob() == other.matcher.glob()
    }
}

impl NameFilter {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pattern: &str) -> Result<NameFilter, String> {
        if pattern.is_empty() {
            return Err("the filter is empty and matches nothing".into());
        }
        let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|e| format!("the filter `{pattern}` is not a glob: {}", e.kind()))?;
        Ok(NameFilter { matcher: glob.compile_matcher(), below_prefix: pattern.contains('/') })
    }

    /// The pattern as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.matcher.glob().glob()
    }

    /// True if an object with this key, found under this prefix, makes an event.
    #[must_use]
    pub fn matches(&self, prefix: &str, key: &str) -> bool {
        let name = if self.below_prefix {
            let below = key.strip_prefix(prefix).unwrap_or(key);
            below.strip_prefix('/').unwrap_or(below)
        } else {
            key.rsplit('/').next().unwrap_or(key)
        };
        self.matcher.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_slash_matches_the_last_component_of_the_key() {
        let filter = NameFilter::parse("*.tar.gz*").expect("a glob");
        for (key, matches) in [
            ("input/a.tar.gz", true),
            ("input/deep/er/b.tar.gz.part", true),
            ("input/x.tar.gz/readme", false),
            ("input/a.tar", false),
            ("a.TAR.GZ", false),
            ("input/line\nbreak.tar.gz", true),
        ] {
            assert_eq!(filter.matches("input/", key), matches, "{key}");
        }
    }

    #[test]
    fn a_pattern_with_a_slash_matches_the_key_below_the_prefix() {
        let filter = NameFilter::parse("2024/*.csv").expect("a glob");
        for prefix in ["input/", "input"] {
            assert!(filter.matches(prefix, "input/2024/a.csv"), "{prefix}");
            assert!(!filter.matches(prefix, "input/2024/05/a.csv"), "{prefix}");
            assert!(!filter.matches(prefix, "input/a.csv"), "{prefix}");
        }
        let deep = NameFilter::parse("2024/**/*.csv").expect("a glob");
        assert!(deep.matches("", "2024/05/01/a.csv"));
        assert!(deep.matches("", "2024/a.csv"));
    }

    #[test]
    fn an_invalid_pattern_is_an_error() {
        for pattern in ["", "[a", "{a,b", "a\\"] {
            let message = NameFilter::parse(pattern).expect_err(pattern);
            assert!(message.contains("filter"), "{message}");
        }
    }
}
