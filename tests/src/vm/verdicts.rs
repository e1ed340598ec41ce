//! What was checked, and what came of it, a line each.

use anyhow::Result;
use std::time::Instant;

/// Counts verdicts and prints them.
#[derive(Debug)]
pub struct Verdicts {
    started: Instant,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Verdicts {
    /// None yet.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    /// Checks one thing. `work` returns what was seen, in words, and what later checks need; `None` when it failed.
    pub fn check<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(String, T)>,
    ) -> Option<T> {
        let started = Instant::now();
        let outcome = work();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok((seen, value)) => {
                println!("ok       {name}: {seen} ({seconds:.1} s)");
                self.passed += 1;
                Some(value)
            }
            Err(error) => {
                println!("FAILED   {name} ({seconds:.1} s): {error:#}");
                self.failed += 1;
                None
            }
        }
    }

    /// Says that something was not checked, and why.
    pub fn skip(&mut self, name: &str, why: &str) {
        println!("skipped: {name}: {why}");
        self.skipped += 1;
    }

    /// Checks that have failed so far.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Prints the sum, in the words of other test programs. Whether nothing failed.
    pub fn finish(self) -> bool {
        let word = if self.failed == 0 { "ok" } else { "FAILED" };
        println!(
            "test result: {word}. {} passed; {} failed; {} skipped; finished in {:.1} s",
            self.passed,
            self.failed,
            self.skipped,
            self.started.elapsed().as_secs_f64()
        );
        self.failed == 0
    }
}
