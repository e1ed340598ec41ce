//! No build of the product has a mutant.

use std::process::Command;

/// What cargo would build, each with its features.
fn features(arguments: &[&str]) -> String {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--edges",
            "normal",
            "--format",
            "{p}: {f}",
        ])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{tree:?}");
    String::from_utf8_lossy(&tree.stdout).into_owned()
}

#[test]
fn mutants_are_in_no_build_that_does_not_ask_for_them() {
    let asked = features(&["--package", "tidegate-sim", "--features", "mutants"]);
    let has_it = |line: &str| line.starts_with("tidegate-stack ") && line.ends_with("mutants");
    assert!(asked.lines().any(has_it), "{asked}");
    for arguments in [
        &["--workspace"][..],
        &["--package", "tidegate", "--features", "dpdk"],
    ] {
        let product = features(arguments);
        assert!(!product.contains("mutants"), "{product}");
    }
}
