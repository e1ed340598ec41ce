//! "Did you mean …?"

/// The candidate that `word` is most likely a misspelling of, as the end of a sentence; empty when none is close.
pub fn did_you_mean<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    // A third of the word may be wrong; more is another word.
    let tolerated = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= tolerated)
        .min()
        .map(|(_, candidate)| format!("; did you mean \"{candidate}\"?"))
        .unwrap_or_default()
}

/// Levenshtein's distance, without regard to case and with `-` equal to `_`.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| -> Vec<char> {
        text.chars()
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let (a, b) = (plain(a), plain(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, distance};

    #[test]
    fn distances_of_known_pairs() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("ring-size", "RING_SIZE"), 0);
    }

    #[test]
    fn only_a_close_word_is_suggested() {
        let words = ["ketama", "modula", "random"];
        assert_eq!(
            did_you_mean("ketma", words.into_iter()),
            "; did you mean \"ketama\"?"
        );
        assert_eq!(did_you_mean("consistent", words.into_iter()), "");
    }
}
