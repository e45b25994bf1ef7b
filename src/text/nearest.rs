//! The known word nearest to a misspelt one.

/// The candidate that differs least from `word`, if it differs by no more than a third of its letters; case and the
/// difference between `_`, `-` and a space are ignored.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any name; bounds the work for a hostile text.
    const LONGEST: usize = 64;
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let folded = fold(word);
    let limit = (folded.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().map(|c| if matches!(c, '-' | ' ') { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// The optimal string alignment distance: insertions, deletions, substitutions and transpositions of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_differs_least_is_suggested() {
        let words = ["@daily", "@weekly", "@hourly"];
        assert_eq!(nearest("@dailyy", words), Some("@daily"));
        assert_eq!(nearest("@Weekly", words), Some("@weekly"));
        assert_eq!(nearest("@never", words), None);
        assert_eq!(nearest(&"@daily".repeat(1_000), words), None);
    }

    #[test]
    fn the_distance_counts_single_letters_and_swapped_neighbours() {
        let chars = |word: &str| word.chars().collect::<Vec<_>>();
        for (a, b, expect) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("abc", "abc", 0),
            ("ab", "ba", 1),
            ("corn", "cron", 1),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(&chars(a), &chars(b)), expect, "{a} {b}");
        }
    }
}
