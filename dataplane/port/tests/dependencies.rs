//! What the feature `dpdk` brings stays behind it.

use std::process::Command;

/// What cargo would build, as `name version` a line.
fn tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(["--edges", "normal,build,dev"])
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // A patch that nothing uses would be a warning here. Another cargo on this machine is none.
    let warnings = errors.lines().filter(|line| {
        !line
            .trim_start()
            .starts_with("Blocking waiting for file lock")
    });
    assert_eq!(warnings.collect::<Vec<_>>(), [""; 0]);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_of_capsule_is_built_unless_it_is_asked_for() {
    let plain = tree(&["--workspace"]);
    for name in ["capsule", "bindgen", "clang-sys", "tokio v0.2", "mio v0.6"] {
        let found = plain.lines().find(|line| line.starts_with(name));
        assert_eq!(found, None, "without the feature");
    }
    let asked = tree(&["--package", "tidegate-port", "--features", "dpdk"]);
    assert!(asked.lines().any(|line| line == "capsule v0.1.5"));
    let ours = |line: &str| line.starts_with("capsule-ffi v0.1.5 (/");
    assert!(asked.lines().any(ours), "the published capsule-ffi");
}
