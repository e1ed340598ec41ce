//! `tidegate doctor`: what stands between this host and full speed, each with what to do about it.
//!
//! It looks, and changes nothing. Each file here is a family of findings; what `tidegate configure` would change is one of them.
//! The exit code is 0 when nothing was found, 1 when something makes Tidegate slower, and 2 when something keeps it from running.

mod cards;
mod cores;
mod dpdk;
mod interrupts;
mod kernel;
mod privileges;
mod settings;
#[cfg(test)]
mod tests;

use crate::ConfigArgs;
use crate::configure::target::Target;
use crate::host::{Host, System};
use crate::plan::{self, Facts};
use crate::preflight;
use crate::remains::programs;
use crate::runtime_dir::Presence;
use crate::sockets::preflight::Taken;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_config::{Config, Driver, Pmd, PortConfig};

/// Options of the command.
#[derive(Args)]
pub struct DoctorArgs {
    /// The configuration; without one only what every configuration needs is looked at.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Tidegate runs, slower than it could.
    Slower,
    /// Tidegate does not run, or loses what it should serve.
    Blocks,
}

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The family.
    pub about: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is found, and what it costs.
    pub what: String,
    /// What to do about it; empty where the sentence says so itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

/// What is looked at.
pub struct Patient<'a> {
    /// The machine.
    pub host: &'a dyn Host,
    /// The configuration, if one was named.
    pub config: Option<&'a Config>,
    /// What the plan knows of the machine.
    pub facts: &'a Facts,
    /// What the configuration asks of the machine; empty without one.
    pub target: Target,
}

impl Patient<'_> {
    /// Whether frames are taken from a card over AF_XDP. Without a configuration that is still open.
    pub fn uses_afxdp(&self) -> Option<bool> {
        let uses = |port: &PortConfig| port.driver == Driver::Afxdp;
        self.config.map(|config| config.ports.iter().any(uses))
    }

    /// The cores that workers have for themselves, ascending.
    pub fn cores(&self) -> Vec<u32> {
        let mut cores: Vec<u32> = self.target.cores.iter().copied().flatten().collect();
        cores.sort_unstable();
        cores.dedup();
        cores
    }
}

/// Collects findings.
#[derive(Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        about: &'static str,
        severity: Severity,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Finding {
            about,
            severity,
            what: what.into(),
            mend: mend.into(),
        });
    }

    /// It works, and is slower.
    pub fn slower(
        &mut self,
        about: &'static str,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(about, Severity::Slower, what, mend);
    }

    /// It does not work.
    pub fn blocks(
        &mut self,
        about: &'static str,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.add(about, Severity::Blocks, what, mend);
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    verdict: &'static str,
    findings: &'a [Finding],
}

/// Runs the command.
pub fn run(args: &DoctorArgs, root: &Path) -> ExitCode {
    let config = match &args.config {
        None => None,
        Some(file) => {
            let file = ConfigArgs {
                config: file.clone(),
                map: Vec::new(),
            };
            match file.load() {
                Ok(config) => Some(config),
                Err(faults) => {
                    crate::faults::print(&faults);
                    return ExitCode::from(2);
                }
            }
        }
    };
    let facts = config.as_ref().map(Facts::gather).unwrap_or_default();
    let host = System::new();
    let patient = Patient {
        host: &host,
        config: config.as_ref(),
        facts: &facts,
        target: target(config.as_ref(), &facts, root),
    };
    let mut findings = Findings::default();
    if let Some(config) = &config {
        of_addresses(config, &facts, root, &mut findings);
    }
    look(&patient, &mut findings);
    let findings = sorted(findings);
    if args.json {
        let report = Report {
            verdict: verdict(&findings),
            findings: &findings,
        };
        match serde_json::to_string_pretty(&report) {
            Ok(text) => say!("{text}"),
            Err(error) => eprintln!("error: {error}"),
        }
    } else {
        print(&findings, config.is_some());
    }
    ExitCode::from(code(&findings))
}

fn target(config: Option<&Config>, facts: &Facts, root: &Path) -> Target {
    match config {
        Some(config) => Target {
            presence: Presence::of(root, &config.name),
            ..Target::of(config, facts)
        },
        None => Target::default(),
    }
}

/// What `tidegate run` would refuse, apart from the plan.
fn of_addresses(config: &Config, facts: &Facts, root: &Path, findings: &mut Findings) {
    let taken = Taken::by(&Presence::of(root, &config.name));
    // Of cards the stages of `tidegate configure` say more, and what mends it.
    let has_card = config.ports.iter().any(|port| {
        let dpdk = port.dpdk.as_ref();
        dpdk.is_some_and(|dpdk| dpdk.pmd == Pmd::Pci)
    });
    if !has_card {
        for fault in preflight::devices(config, taken) {
            findings.blocks("plan", fault, "");
        }
    }
    for fault in programs::faults(config, root, taken) {
        findings.blocks("interface", fault, "");
    }
    if let Some(fault) = preflight::memory(config) {
        findings.blocks("plan", fault, "");
    }
    // Over AF_XDP a running instance leaves its addresses to nobody's sockets.
    for fault in preflight::addresses(config, facts, taken) {
        findings.blocks("addresses", fault, "");
    }
    if let Err(fault) = preflight::user(config) {
        findings.blocks("privileges", fault, "");
    }
}

/// Every family.
fn look(patient: &Patient<'_>, findings: &mut Findings) {
    kernel::look(patient, findings);
    privileges::look(patient, findings);
    of_plan(patient, findings);
    cards::look(patient, findings);
    dpdk::look(patient, findings);
    cores::look(patient, findings);
    interrupts::look(patient, findings);
    settings::look(patient, findings);
}

/// What the plan of queues and cores says.
fn of_plan(patient: &Patient<'_>, findings: &mut Findings) {
    let Some(config) = patient.config else { return };
    match plan::make(config, patient.facts) {
        Ok(plan) => {
            for warning in plan.warnings {
                findings.slower("plan", warning, "");
            }
        }
        Err(faults) => {
            for fault in faults {
                findings.blocks("plan", fault, "");
            }
        }
    }
}

/// The worst first.
fn sorted(findings: Findings) -> Vec<Finding> {
    let mut findings = findings.0;
    // Several who look at the same thing say the same.
    let mut told = BTreeSet::new();
    findings.retain(|finding| told.insert(finding.what.clone()));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.severity).max() {
        None => 0,
        Some(Severity::Slower) => 1,
        Some(Severity::Blocks) => 2,
    }
}

fn verdict(findings: &[Finding]) -> &'static str {
    match code(findings) {
        0 => "fine",
        1 => "slower",
        _ => "blocked",
    }
}

fn print(findings: &[Finding], with_config: bool) {
    for finding in findings {
        let word = match finding.severity {
            Severity::Slower => "slower",
            Severity::Blocks => "BLOCKS",
        };
        say!("{word}  {}: {}", finding.about, finding.what);
        if !finding.mend.is_empty() {
            say!("        {}", finding.mend);
        }
    }
    match findings {
        [] => say!("nothing found that stands between this host and full speed"),
        some => {
            let severe = |finding: &&Finding| finding.severity == Severity::Blocks;
            let blocks = some.iter().filter(severe).count();
            say!(
                "{} findings: {blocks} that keep Tidegate from running, {} that make it slower",
                some.len(),
                some.len() - blocks
            );
        }
    }
    if !with_config {
        say!("cores, queues and interfaces were not looked at: name a configuration with -c");
    }
}
