//! `tidegate status`.

use super::report::Report;
use super::table;
use crate::control::client::{self, ask};
use crate::control::request::Request;
use crate::out::shown;
use std::path::Path;

/// Prints the status of `name`, or of the only instance there is.
pub fn run(root: &Path, name: Option<&str>, json: bool) -> anyhow::Result<()> {
    let report = ask(root, name, &Request::Status {})?;
    let out = if json {
        format!("{report}\n")
    } else {
        let report: Report = client::read(report)?;
        shown(&table::render(&report))
    };
    client::print(&out);
    Ok(())
}
