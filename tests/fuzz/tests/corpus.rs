//! Every input of the corpus goes through its target: what was found once is not broken again.

use std::fs;
use std::path::Path;
use tidegate_fuzz::TARGETS;

/// Bytes of the whole corpus. It is there to be replayed by every test run, not to be complete: `scripts/fuzz` goes on from it.
const CORPUS_BYTES_MAX: usize = 300 * 1024;

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("the folder can be read").path();
            let bytes = fs::read(&path).expect("the file can be read");
            (path.display().to_string(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn the_corpus_breaks_no_promise() {
    let mut bytes = 0;
    for target in TARGETS {
        let inputs = inputs(target.name);
        assert!(!inputs.is_empty(), "{} has a corpus", target.name);
        for (file, input) in inputs {
            bytes += input.len();
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{}: {file}", target.name);
        }
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "the corpus has {bytes} bytes");
}

/// Parts of inputs, and inputs one after the other, are inputs as well: a little of what the fuzzer does.
#[test]
fn crossed_inputs_break_no_promise() {
    for target in TARGETS {
        let inputs = inputs(target.name);
        for pair in inputs.windows(2) {
            let [(left, first), (right, second)] = pair else {
                continue;
            };
            let crossed = [&first[..first.len() / 2], &second[second.len() / 3..]].concat();
            let outcome = std::panic::catch_unwind(|| (target.run)(&crossed));
            assert!(outcome.is_ok(), "{}: {left} with {right}", target.name);
        }
    }
}
