//! Names of pools. twemproxy takes any text, Tidegate what can stand in a file name.

use crate::notes::Notes;
use crate::options::shown_name;
use crate::yaml::Pool;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_config::is_name;
use tidegate_config::limits::NAME_BYTES_MAX;

/// Room for a number behind a name that is taken: as many digits as pools can be counted with.
const NUMBER_BYTES: usize = 8;

/// A name for each pool, in order. What names decide is only how a pool is shown.
pub(crate) fn choose(pools: &[Pool], notes: &mut Notes) -> Vec<String> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let twice: Vec<bool> = pools
        .iter()
        .map(|pool| is_twice(&mut first, pool, notes))
        .collect();
    let mut taken: BTreeSet<String> = first.keys().map(|&name| name.to_owned()).collect();
    // The number to try next behind each base, so that many names with one base take no more time.
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let choose = |(pool, twice): (&Pool, bool)| {
        let name = &pool.name;
        if is_name(&name.text) && !twice {
            return name.text.clone();
        }
        let base = plain(&name.text);
        let number = numbers.entry(base.clone()).or_insert(1);
        let mut chosen = base.clone();
        while !taken.insert(chosen.clone()) {
            *number += 1;
            chosen = format!("{base}-{number}");
        }
        let what = format!(
            "pool {} becomes {chosen:?}: names have at most {NAME_BYTES_MAX} letters, digits, '-', '_' and '.'",
            shown_name(&name.text)
        );
        notes.warn(name.at, what);
        chosen
    };
    pools.iter().zip(twice).map(choose).collect()
}

/// Notes a name that twemproxy refuses, and says whether it was there before.
fn is_twice<'p>(first: &mut BTreeMap<&'p str, usize>, pool: &'p Pool, notes: &mut Notes) -> bool {
    let name = &pool.name;
    if name.text.is_empty() {
        notes.fault(name.at, "a pool without a name");
    }
    let line = *first.entry(&name.text).or_insert(name.at.line);
    let twice = line != name.at.line;
    if twice {
        let what = format!(
            "pool {} is written twice, first in line {line}",
            shown_name(&name.text)
        );
        notes.fault(name.at, what);
    }
    twice
}

/// A name like `text` that Tidegate takes, with room for a number.
fn plain(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let kept = text.chars().map(|c| if allowed(c) { c } else { '-' });
    let kept: String = kept
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(NAME_BYTES_MAX - NUMBER_BYTES)
        .collect();
    if kept.is_empty() {
        "pool".to_owned()
    } else {
        kept
    }
}
