//! `tidegate check`: what would happen, without doing it and without privileges.

use crate::http;
use crate::plan::{self, Facts};
use crate::preflight;
use crate::remains::programs;
use crate::runtime_dir::Presence;
use crate::sockets::preflight::Taken;
use crate::stats::listener::StatsListener;
use std::path::Path;
use std::process::ExitCode;
use tidegate_config::{Config, Table};

/// Prints the effective configuration and the plan, or every fault.
pub fn run(config: &Config, config_only: bool, root: &Path) -> ExitCode {
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    say!("{}", config.effective_toml());
    if config_only {
        return ExitCode::SUCCESS;
    }
    for warning in preflight::warnings(config) {
        eprintln!("warning: {warning}");
    }
    let mut faults = Vec::new();
    let facts = Facts::gather(config);
    match plan::make(config, &facts) {
        Ok(plan) => {
            for warning in &plan.warnings {
                eprintln!("warning: {warning}");
            }
            // Comments, so that the whole output is a configuration.
            for line in plan.to_string().lines() {
                say!("# {line}");
            }
        }
        Err(wrong) => faults.extend(wrong),
    }
    let taken = Taken::by(&Presence::of(root, &config.name));
    faults.extend(preflight::memory(config));
    crate::faults::add(&mut faults, preflight::devices(config, taken));
    faults.extend(programs::faults(config, root, taken));
    faults.extend(preflight::addresses(config, &facts, taken));
    faults.extend(preflight::user(config).err());
    let http = config.http.as_ref();
    let place = config.place(Table::Root, "http_listen");
    faults.extend(
        http.into_iter()
            .flat_map(|http| http::faults(http, &place, taken)),
    );
    let told = config.stats_listen;
    let told = told.and_then(|address| StatsListener::fault(address, taken));
    let place = config.place(Table::Root, "stats_listen");
    faults.extend(told.map(|fault| format!("{place}{fault}")));
    crate::faults::print(&faults);
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
