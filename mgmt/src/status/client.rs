//! `tidegate status`.

use super::report::Report;
use super::table;
use crate::control::client::ask;
use crate::control::request::Request;
use anyhow::Context;
use std::io::Write;
use std::path::Path;

/// Prints the status of `name`, or of the only instance there is.
pub fn run(root: &Path, name: Option<&str>, json: bool) -> anyhow::Result<()> {
    let report = ask(root, name, &Request::Status {})?;
    let out = if json {
        format!("{report}\n")
    } else {
        let report: Report = serde_json::from_value(report)
            .context("the manager is of another version: try --json")?;
        table::render(&report)
    };
    // A reader that went away (`| head`) is no error of ours.
    let _closed = std::io::stdout().write_all(out.as_bytes());
    Ok(())
}
