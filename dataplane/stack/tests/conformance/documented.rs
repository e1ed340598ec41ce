//! `docs/tcp.md` and the scripts tell of the same deviations.

use crate::script::Script;
use crate::{SCRIPTS, read};
use std::collections::BTreeSet;

/// The headings of one level under the heading `## section`, up to the next of that level.
fn headings(text: &str, section: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            inside = title == section;
        } else if let Some(name) = line.strip_prefix("### ").filter(|_| inside) {
            assert!(
                found.insert(name.to_owned()),
                "docs/tcp.md explains {name} twice"
            );
        }
    }
    found
}

/// The part of the page below the heading `### name`.
fn explanation<'a>(text: &'a str, name: &str) -> &'a str {
    let heading = format!("\n### {name}\n");
    let rest = text
        .split_once(&heading)
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    rest.split("\n##").next().unwrap_or_default()
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tcp.md");
    std::fs::read_to_string(path).expect("docs/tcp.md is there")
}

fn scripts() -> Vec<(&'static str, Script)> {
    SCRIPTS.iter().map(|path| (*path, read(path))).collect()
}

#[test]
fn every_deviation_is_explained_and_every_explanation_is_shown() {
    let (page, scripts) = (page(), scripts());
    let marked = |mark: fn(&Script) -> Option<&crate::script::Mark>| -> BTreeSet<String> {
        scripts
            .iter()
            .filter_map(|(_, script)| mark(script))
            .map(|mark| mark.name.clone())
            .collect()
    };
    let deviations = marked(|script| script.deviation.as_ref());
    assert_eq!(headings(&page, "Deviations"), deviations);
    let costs = marked(|script| script.costs.as_ref());
    assert_eq!(headings(&page, "What conforms and costs"), costs);
}

#[test]
fn every_explanation_names_its_scripts() {
    let page = page();
    for (path, script) in scripts() {
        for mark in [&script.deviation, &script.costs].into_iter().flatten() {
            assert!(
                explanation(&page, &mark.name).contains(&format!("`{path}`")),
                "docs/tcp.md does not name {path} under {}",
                mark.name
            );
        }
    }
}
