//! `tidegate configure`: makes the host ready for a configuration, says whether it is, and undoes what was done.
//!
//! Work is done in stages, each a thing that an operator would otherwise do with ethtool, sysctl and echo. `check` looks, and
//! needs no privileges. `init` changes what is not as it should be, and records each change before it makes it. `fini` undoes
//! what the record says and nothing else; what somebody changed since is left as it is. Both can be said again at any time.
//!
//! Only interfaces and cards that the configuration or the command line names are touched.

mod binding;
mod interrupts;
mod irqbalance;
mod pages;
mod privilege;
mod record;
mod setting;
mod stage;
pub mod target;
#[cfg(test)]
mod tests;

pub use pages::nodes_of;
pub use stage::{Item, Stage};

use crate::ConfigArgs;
use crate::host::{Host, System};
use crate::plan::Facts;
use crate::runtime_dir::{Presence, orphaned};
use clap::{Args, Subcommand};
use record::Record;
use setting::{Change, Undone};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use target::Target;
use tidegate_config::{QueueMap, is_name};

/// What to do.
#[derive(Subcommand)]
pub enum ConfigureCommand {
    /// Change what is not as it should be, and record it.
    Init(StageArgs),
    /// Say per stage whether all is as it should be, and how to mend it; needs no privileges.
    Check(StageArgs),
    /// Undo exactly what init did.
    Fini(FiniArgs),
}

/// Stages of a configuration.
#[derive(Args)]
pub struct StageArgs {
    /// Which stages; all of them when none is named.
    #[arg(value_enum, value_name = "STAGE")]
    stages: Vec<Stage>,
    /// The configuration.
    #[arg(short, long, value_name = "FILE", required_unless_present = "device")]
    config: Option<PathBuf>,
    /// Queues and cores of a port instead of the configuration's: eth1:0=2,1=3, or kernel:0=2,1=3 for workers over kernel
    /// sockets. Once per port.
    #[arg(long, value_name = "PORT:QUEUE=CORE,…", requires = "config")]
    map: Vec<QueueMap>,
    /// A card that DPDK is to drive, besides those of the configuration: its PCI address, or the interface that the kernel has on it.
    /// Without a configuration the only stage is cards. Once per card.
    #[arg(long, value_name = "CARD")]
    device: Vec<String>,
    /// Name of the instance whose record it is, where there is no configuration.
    #[arg(long, default_value = "tidegate", conflicts_with = "config")]
    name: String,
}

impl StageArgs {
    /// Goes on with what is asked of the machine, and with the stages that are to be done.
    fn with_target(
        &self,
        root: &Path,
        then: impl FnOnce(&Target, &[Stage]) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        let complete = |target: Target| Target {
            presence: Presence::of(root, &target.name),
            cards: [target.cards, self.device.clone()].concat(),
            ..target
        };
        let Some(file) = &self.config else {
            anyhow::ensure!(is_name(&self.name), "{:?} names no instance", self.name);
            let target = complete(Target {
                name: self.name.clone(),
                ..Target::default()
            });
            // Without a configuration nothing else is known of what the machine should be.
            let stages = match self.stages.as_slice() {
                [] => &[Stage::Cards],
                named => named,
            };
            return then(&target, stages);
        };
        let config = ConfigArgs {
            config: file.clone(),
            map: self.map.clone(),
        };
        config.with_config(|config| {
            let target = Target::of(&config, &Facts::gather(&config));
            then(&complete(target), &self.stages)
        })
    }
}

/// Stages of what init recorded.
#[derive(Args)]
pub struct FiniArgs {
    /// Which stages; all of them when none is named.
    #[arg(value_enum, value_name = "STAGE")]
    stages: Vec<Stage>,
    /// The configuration; only its name counts.
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present = "name",
        conflicts_with = "name"
    )]
    config: Option<PathBuf>,
    /// Name of the instance, in place of its configuration.
    #[arg(long)]
    name: Option<String>,
}

/// Runs the command.
pub fn run(command: &ConfigureCommand, root: &Path) -> anyhow::Result<ExitCode> {
    let host = System::new();
    let mut say = |line: String| say!("{line}");
    match command {
        ConfigureCommand::Check(args) => args.with_target(root, |target, stages| {
            Ok(code(check(target, &host, stages, &mut say)))
        }),
        ConfigureCommand::Init(args) => args.with_target(root, |target, stages| {
            let work = Work {
                host: &host,
                root,
                name: &target.name,
                presence: target.presence.clone(),
            };
            Ok(code(work.init(target, stages, &mut say)?))
        }),
        ConfigureCommand::Fini(args) => {
            let name = match (&args.name, &args.config) {
                (Some(name), _) => name.clone(),
                (None, Some(file)) => {
                    let config = ConfigArgs {
                        config: file.clone(),
                        map: Vec::new(),
                    };
                    match config.load() {
                        Ok(config) => config.name,
                        Err(faults) => {
                            crate::faults::print(&faults);
                            return Ok(ExitCode::FAILURE);
                        }
                    }
                }
                (None, None) => anyhow::bail!("neither a configuration nor a name"),
            };
            let work = Work {
                host: &host,
                root,
                name: &name,
                presence: Presence::of(root, &name),
            };
            Ok(code(work.fini(&args.stages, &mut say)?))
        }
    }
}

fn code(all_is_well: bool) -> ExitCode {
    if all_is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The stages that were named, in the order of work; all of them when none was.
fn chosen(stages: &[Stage]) -> impl DoubleEndedIterator<Item = Stage> {
    let all = Stage::all().iter().copied();
    all.filter(move |stage| stages.is_empty() || stages.contains(stage))
}

/// Says what each stage finds. `false`: something is wrong.
fn check(target: &Target, host: &dyn Host, stages: &[Stage], say: &mut dyn FnMut(String)) -> bool {
    let mut well = true;
    for stage in chosen(stages) {
        for item in stage.inspect(target, host) {
            well &= !matches!(item, Item::Wrong { .. });
            say(line(stage, &item));
        }
    }
    well
}

fn line(stage: Stage, item: &Item) -> String {
    let name = stage.name();
    match item {
        Item::Fine(text) => format!("{name:<10} ok     {text}"),
        Item::Nothing(text) => format!("{name:<10} -      {text}"),
        Item::Unknown(text) => format!("{name:<10} ?      {text}"),
        Item::Wrong {
            what,
            by_hand,
            change,
        } => {
            let mend = match change {
                Some(_) => format!("`tidegate configure init {name}`, or {by_hand}"),
                None => by_hand.clone(),
            };
            format!("{name:<10} WRONG  {what}; to mend it: {mend}")
        }
    }
}

/// What is changed, where, and for whom.
struct Work<'a> {
    host: &'a dyn Host,
    root: &'a Path,
    name: &'a str,
    /// Who there is of the instance.
    presence: Presence,
}

impl Work<'_> {
    /// Changes what is wrong. `false`: something still is.
    fn init(
        &self,
        target: &Target,
        stages: &[Stage],
        say: &mut dyn FnMut(String),
    ) -> anyhow::Result<bool> {
        let planned: Vec<Change> = chosen(stages)
            .flat_map(|stage| stage.inspect(target, self.host))
            .filter_map(|item| match item {
                Item::Wrong { change, .. } => change,
                _ => None,
            })
            .collect();
        self.refuse(&planned)?;
        let mut record = Record::open(self.root, self.name, self.host)?;
        let mut well = true;
        let mut rest = chosen(stages);
        while let Some(stage) = rest.next() {
            for item in stage.inspect(target, self.host) {
                let Item::Wrong {
                    change: Some(change),
                    ..
                } = &item
                else {
                    well &= !matches!(item, Item::Wrong { .. });
                    say(line(stage, &item));
                    continue;
                };
                match self.make(&mut record, change) {
                    Ok(made) => {
                        say(format!("{:<10} done   {made}", stage.name()));
                        let short = change.setting.shortfall(&change.after, &made.after);
                        well &= short.is_none();
                        if let Some(short) = short {
                            say(format!("{:<10} WRONG  {short}", stage.name()));
                        }
                    }
                    Err(error) => {
                        say(format!("{:<10} FAILED {error:#}", stage.name()));
                        let left: Vec<&str> = rest.map(Stage::name).collect();
                        self.say_half_done(&record, &left, say);
                        record.close()?;
                        return Ok(false);
                    }
                }
            }
        }
        record.close()?;
        Ok(well)
    }

    /// Every reason for which nothing is begun.
    fn refuse(&self, planned: &[Change]) -> anyhow::Result<()> {
        let mut reasons: Vec<String> = Vec::new();
        for change in planned {
            let missing = change.setting.privilege().missing(self.host);
            reasons.extend(missing.filter(|reason| !reasons.contains(reason)));
        }
        if planned.iter().any(|change| change.setting.disturbs()) {
            reasons.extend(self.served());
        }
        anyhow::ensure!(
            reasons.is_empty(),
            "nothing was changed: {}",
            reasons.join("; ")
        );
        Ok(())
    }

    /// From whom queues would be pulled.
    fn served(&self) -> Option<String> {
        match &self.presence {
            Presence::Gone => None,
            Presence::Running => Some(format!(
                "an instance named {:?} is running, and its queues would be pulled from under it: stop it first",
                self.name
            )),
            Presence::Workers(workers) => Some(format!(
                "queues would be pulled from under workers that serve: {}",
                orphaned(self.name, workers)
            )),
        }
    }

    /// Records a change and makes it. Returns what it came to.
    fn make(&self, record: &mut Record, change: &Change) -> anyhow::Result<Change> {
        record.add(change)?;
        match change.apply(self.host) {
            Ok(now) if now == change.after => Ok(change.clone()),
            Ok(now) if now == change.before => {
                record.forget(change)?;
                if let Some(short) = change.setting.shortfall(&change.after, &now) {
                    anyhow::bail!(short);
                }
                anyhow::bail!(
                    "{}: was set to {} and has {now} all the same",
                    change.setting,
                    change.after
                )
            }
            Ok(now) => {
                let made = Change {
                    after: now,
                    ..change.clone()
                };
                record.amend(&made)?;
                Ok(made)
            }
            Err(error) => {
                // Refused as a whole, or done in part: only the former leaves nothing to undo.
                let now = change.setting.get(self.host);
                if now.is_ok_and(|now| now.as_ref() == Some(&change.before)) {
                    record.forget(change)?;
                }
                anyhow::bail!(change.setting.explain(self.host, &error))
            }
        }
    }

    fn say_half_done(&self, record: &Record, left: &[&str], say: &mut dyn FnMut(String)) {
        if !left.is_empty() {
            say(format!("not tried: {}", left.join(", ")));
        }
        if record.changes().is_empty() {
            say("nothing was changed".into());
            return;
        }
        say("changed so far:".into());
        for change in record.changes() {
            say(format!("  {change}"));
        }
        say(format!(
            "`tidegate configure fini --name {}` undoes it; `init` goes on from here once the reason is mended",
            self.name
        ));
    }

    /// Undoes what the record says. `false`: something is left to undo.
    fn fini(&self, stages: &[Stage], say: &mut dyn FnMut(String)) -> anyhow::Result<bool> {
        if !record::file(self.root, self.name).exists() {
            say(format!(
                "nothing to undo: no record of {:?} in {}",
                self.name,
                self.root.display()
            ));
            return Ok(true);
        }
        let mut record = Record::open(self.root, self.name, self.host)?;
        let mine: Vec<Change> = record
            .changes()
            .iter()
            .rev()
            .filter(|change| stages.is_empty() || stages.contains(&change.setting.stage()))
            .cloned()
            .collect();
        self.refuse(&mine)?;
        let mut well = true;
        for change in mine {
            let stage = change.setting.stage().name();
            let (setting, before) = (&change.setting, &change.before);
            let text = match change.undo(self.host) {
                Ok(Undone::Restored) => format!("undone {setting}: {before} again"),
                Ok(Undone::WasBack) => format!("-      {setting}: was undone already"),
                Ok(Undone::Theirs(now)) => format!(
                    "-      {setting}: somebody made it {now} since, left alone (it was {before})"
                ),
                Ok(Undone::Gone) => format!("-      {setting}: no longer there"),
                Ok(Undone::Elsewhere) => {
                    well = false;
                    say(format!(
                        "{stage:<10} FAILED {setting}: changed in another network namespace; run this there"
                    ));
                    continue;
                }
                Err(error) => {
                    well = false;
                    let why = setting.explain(self.host, &error);
                    say(format!("{stage:<10} FAILED {why}"));
                    continue;
                }
            };
            record.forget(&change)?;
            say(format!("{stage:<10} {text}"));
        }
        record.close()?;
        Ok(well)
    }
}
