//! Which worker serves which queue on which core, and how the queue of a tuple is known.
//!
//! A plan follows from the configuration and from what is known of this machine; nothing is changed yet. Every fault is
//! reported at once.

mod dpdk;

use crate::host::{Host, System, numbers};
use crate::netlink::query::Query;
use crate::virtio;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_channel::message::{Oracle, WORKERS_MAX};
use tidegate_config::{Config, Driver, PortConfig, RssMode, Table};
use tidegate_port::nic::{Nic, Rss, RssFunction};

/// What is known of this machine.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Interfaces of the configuration; the text says why one cannot be used.
    pub nics: BTreeMap<String, Result<Nic, String>>,
    /// Cores that we may use, ascending.
    pub cores: Vec<u32>,
    /// Cores of each memory node.
    pub node_cores: BTreeMap<u32, Vec<u32>>,
    /// CPUs that the kernel has prepared for, those that could be plugged in among them.
    pub processors: u32,
    /// Interfaces with an XDP program in the driver: ours, if an instance runs.
    pub attached: BTreeSet<String>,
}

impl Facts {
    /// Looks at the interfaces of `config` and at the cores.
    pub fn gather(config: &Config) -> Self {
        let in_kernel = |port: &&PortConfig| match port.driver {
            Driver::Afxdp => true,
            Driver::Dpdk => !dpdk::is_card(port),
            Driver::Kernel => false,
        };
        let nic_ports = config.ports.iter().filter(in_kernel);
        let nics = nic_ports.map(|port| {
            let nic = Nic::by_name(&port.interface).map_err(|error| error.to_string());
            (port.interface.clone(), nic)
        });
        let nics: BTreeMap<_, _> = nics.collect();
        let nodes = nics.values().flatten().filter_map(|nic| nic.numa_node);
        let node_cores = nodes
            .filter_map(|node| Some((node, cores_of_node(node)?)))
            .collect();
        Self {
            attached: with_program(nics.values().flatten()),
            nics,
            cores: tidegate_dataplane::affinity::available_cores(),
            node_cores,
            processors: processors(&System::new()),
        }
    }
}

fn with_program<'a>(nics: impl Iterator<Item = &'a Nic>) -> BTreeSet<String> {
    let Ok(mut query) = Query::open() else {
        return BTreeSet::new();
    };
    let attached = nics.filter(|nic| query.has_program(nic.ifindex).unwrap_or(false));
    attached.map(|nic| nic.name.clone()).collect()
}

/// Numbers of CPUs go up to here.
fn processors(host: &dyn Host) -> u32 {
    let possible = host.read("/sys/devices/system/cpu/possible");
    let last = numbers(&possible.unwrap_or_default()).last().copied();
    last.map_or(0, |last| last.saturating_add(1))
}

fn cores_of_node(node: u32) -> Option<Vec<u32>> {
    let list =
        std::fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist")).ok()?;
    let mut cores = Vec::new();
    for item in list.trim().split(',').filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        cores.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(cores)
}

/// One port of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPort {
    /// The interface.
    pub nic: Nic,
    /// MTU to use.
    pub mtu_bytes: u32,
    /// How the queue of a tuple is known.
    pub oracle: Oracle,
    /// What the device is told of RSS once a program is attached; `None`: nothing.
    pub rss: Option<Rss>,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Ports, in the order of the configuration; none for kernel sockets.
    pub ports: Vec<PlannedPort>,
    /// Worker n owns queue n of every port and runs on this core; `None`: wherever the scheduler likes.
    pub cores: Vec<Option<u32>>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

/// Makes the plan, or says everything that is wrong.
pub fn make(config: &Config, facts: &Facts) -> Result<Plan, Vec<String>> {
    match config.kernel_port() {
        Some(port) => crate::sockets::plan::make(port, &config.place_of_map(), facts),
        None => make_for_nics(config, facts),
    }
}

fn make_for_nics(config: &Config, facts: &Facts) -> Result<Plan, Vec<String>> {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let mut nics = Vec::new();
    let mapped = config.queue_map().map_or(1, BTreeMap::len) as u32;
    let cards: Vec<Nic> = config
        .ports
        .iter()
        .map(|port| dpdk::card(port, mapped))
        .collect();
    for (index, (port, card)) in config.ports.iter().zip(&cards).enumerate() {
        match facts.nics.get(&port.interface) {
            _ if dpdk::is_card(port) => nics.push((port, card)),
            Some(Ok(nic)) => nics.push((port, nic)),
            Some(Err(fault)) => {
                let place = config.place(Table::Port(index), "interface");
                faults.push(format!("{place}{fault}"));
            }
            None => faults.push(format!("interface {} was not looked at", port.interface)),
        }
    }
    let cores = cores_of_nics(config, &nics, facts);
    let of_map = config.place_of_map();
    check_cores(&of_map, &cores, &facts.cores, &mut faults, &mut warnings);
    if config.is_on_dpdk() {
        dpdk::check_threads(config, &cores, &mut faults);
    }
    let workers = cores.len() as u32;
    let ports: Vec<PlannedPort> = nics
        .iter()
        .map(|(port, nic)| {
            let place = |key: &str| place_of_port(config, port, key);
            if port.driver == Driver::Afxdp {
                check_queues(
                    &place("queues"),
                    nic,
                    workers,
                    facts,
                    &mut faults,
                    &mut warnings,
                );
                faults.extend(virtio::bypass(nic));
            }
            if !nic.is_up {
                faults.push(format!("{0} is down: ip link set {0} up", port.interface));
            }
            let rss = virtio::rss_to_set(nic, workers, facts);
            let told = virtio::spread(nic, rss.as_ref());
            PlannedPort {
                nic: (*nic).clone(),
                mtu_bytes: port.mtu_bytes.unwrap_or(nic.mtu_bytes as u32),
                oracle: oracle(
                    &place("rss"),
                    port,
                    told,
                    workers,
                    &mut faults,
                    &mut warnings,
                ),
                rss,
            }
        })
        .collect();
    if faults.is_empty() {
        Ok(Plan {
            ports,
            cores,
            warnings,
        })
    } else {
        Err(faults)
    }
}

/// Where the file says `key` of a port.
fn place_of_port(config: &Config, port: &PortConfig, key: &str) -> String {
    let same = |other: &PortConfig| other.interface == port.interface;
    let index = config.ports.iter().position(same).unwrap_or_default();
    config.place(Table::Port(index), key)
}

/// The core of each worker, as far as they can be known: nothing is checked, and interfaces that are missing are left out.
pub fn cores(config: &Config, facts: &Facts) -> Vec<Option<u32>> {
    if let Some(port) = config.kernel_port() {
        return crate::sockets::plan::cores(port, facts);
    }
    let nics: Vec<(&PortConfig, &Nic)> = config
        .ports
        .iter()
        .filter_map(|port| Some((port, facts.nics.get(&port.interface)?.as_ref().ok()?)))
        .collect();
    cores_of_nics(config, &nics, facts)
}

fn cores_of_nics(config: &Config, nics: &[(&PortConfig, &Nic)], facts: &Facts) -> Vec<Option<u32>> {
    let cores = match config.queue_map() {
        Some(map) => map.values().copied().collect(),
        None => spread(nics, facts),
    };
    cores.into_iter().map(Some).collect()
}

/// `queues = "auto"`: as many workers as the narrowest port has queues, on the cores next to the first NIC. A core has one, unless a
/// queue without a worker would lose frames.
fn spread(nics: &[(&PortConfig, &Nic)], facts: &Facts) -> Vec<u32> {
    let queues = nics
        .iter()
        .map(|(_, nic)| virtio::queues_for_auto(nic, facts))
        .min()
        .unwrap_or(1)
        .max(1);
    let to_serve = nics
        .iter()
        .filter_map(|(_, nic)| virtio::queues_to_serve(nic, facts));
    let to_serve = to_serve.max().unwrap_or(0).min(queues);
    let node = nics.iter().find_map(|(_, nic)| nic.numa_node);
    let near = node.and_then(|node| facts.node_cores.get(&node));
    let near = near.map_or(&facts.cores, |cores| cores);
    let cores: Vec<u32> = near
        .iter()
        .copied()
        .filter(|core| facts.cores.contains(core))
        .collect();
    // The first core takes most interrupts and the kernel's own work: it is used last.
    let first = cores.first().copied();
    let rest = cores.iter().copied().skip(1).chain(first);
    let workers = (cores.len() as u32).max(to_serve).min(queues);
    rest.cycle().take(workers as usize).collect()
}

/// Faults and warnings of the cores that a configuration maps queues to. It is what of a plan can become another one while an instance
/// runs.
pub fn check_map(config: &Config, present: &[u32]) -> (Vec<String>, Vec<String>) {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    if let Some(map) = config.queue_map() {
        let cores: Vec<Option<u32>> = map.values().copied().map(Some).collect();
        let place = config.place_of_map();
        check_cores(&place, &cores, present, &mut faults, &mut warnings);
    }
    (faults, warnings)
}

/// Faults and warnings of a choice of cores, which stands at `place`.
pub fn check_cores(
    place: &str,
    cores: &[Option<u32>],
    present: &[u32],
    faults: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let pinned = cores.iter().enumerate();
    for (worker, core) in pinned.filter_map(|(worker, core)| Some((worker, core.as_ref()?))) {
        if !present.contains(core) {
            let present = tidegate_dataplane::affinity::core_list(present);
            faults.push(format!(
                "{place}core {core} (worker {worker}) is not available to this process; available: {present}"
            ));
        }
        if cores[..worker].contains(&Some(*core)) {
            warnings.push(format!(
                "core {core} serves several workers: they take turns on it"
            ));
        }
    }
    if cores.is_empty() {
        faults.push("no queue to serve, or no core to run on".into());
    }
    if cores.len() > WORKERS_MAX {
        faults.push(format!(
            "{place}{} workers: at most {WORKERS_MAX} workers are supported",
            cores.len()
        ));
    }
}

fn check_queues(
    place: &str,
    nic: &Nic,
    workers: u32,
    facts: &Facts,
    faults: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let (name, has, most) = (&nic.name, nic.rx_queues, nic.rx_queues_max);
    if has < workers {
        faults.push(if most >= workers {
            let why = virtio::why_so_many(nic, workers, facts);
            format!("{place}{name} has {has} receive queues, the plan needs {workers}: ethtool -L {name} combined {workers}{why}")
        } else {
            format!(
                "{place}{name} has {has} receive queues and can have at most {most}, the plan needs {workers}: map fewer queues \
                 (queues = {{ … }} or --map; ethtool -l {name} shows what it has, ethtool -L {name} combined N sets it)"
            )
        });
    }
    if let Some(fault) = virtio::fault(nic, workers, facts) {
        faults.push(fault);
    } else if has > workers && virtio::rss_to_set(nic, workers, facts).is_none() {
        warnings.push(format!(
            "{name} has {has} receive queues but only {workers} are served: what arrives for us on the others is dropped; \
             ethtool -L {name} combined {workers}"
        ));
    }
}

fn oracle(
    place: &str,
    port: &PortConfig,
    rss: Result<&Rss, &str>,
    workers: u32,
    faults: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Oracle {
    if workers <= 1 {
        return Oracle::Single;
    }
    let name = &port.interface;
    if port.driver == Driver::Dpdk && matches!(port.rss, RssMode::Auto | RssMode::Toeplitz) {
        let required = port.rss == RssMode::Toeplitz;
        return Oracle::Device { workers, required };
    }
    match (port.rss, toeplitz(rss, workers)) {
        (RssMode::PortXor, _) => Oracle::PortXor { queues: workers },
        (RssMode::Software, _) => Oracle::Software { workers },
        (RssMode::Auto | RssMode::Toeplitz, Ok(oracle)) => oracle,
        (RssMode::Toeplitz, Err(why)) => {
            faults.push(format!(
                "{place}rss = \"toeplitz\" on {name}: {why}; use rss = \"auto\""
            ));
            Oracle::Software { workers }
        }
        (RssMode::Auto, Err(why)) => {
            warnings.push(format!(
                "{name}: {why}; a software hash chooses the worker of a flow, frames that arrive elsewhere are handed over"
            ));
            Oracle::Software { workers }
        }
    }
}

fn toeplitz(rss: Result<&Rss, &str>, workers: u32) -> Result<Oracle, String> {
    let rss = rss?;
    if rss.function != RssFunction::Toeplitz {
        return Err(format!(
            "its RSS function is {:?}, not Toeplitz",
            rss.function
        ));
    }
    if let Some(queue) = rss.indirection.iter().find(|queue| **queue >= workers) {
        return Err(format!(
            "its RSS table sends frames to queue {queue}, which no worker serves"
        ));
    }
    if rss.indirection.is_empty() || rss.key.len() < 40 {
        return Err("its RSS key or table is empty".into());
    }
    Ok(Oracle::Toeplitz {
        key: rss.key.clone(),
        indirection: rss.indirection.clone(),
    })
}

impl Plan {
    /// Workers without queues.
    fn fmt_workers(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pinned = self.cores.iter().enumerate();
        for (worker, core) in pinned.filter_map(|(worker, core)| Some((worker, (*core)?))) {
            writeln!(f, "worker {worker} on core {core}")?;
        }
        match self.cores.iter().filter(|core| core.is_none()).count() {
            0 => Ok(()),
            1 => writeln!(f, "1 worker, not pinned"),
            free => writeln!(f, "{free} workers, not pinned"),
        }
    }
}

impl std::fmt::Display for Plan {
    /// The queue → core plan as `tidegate check` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.ports.is_empty() {
            return self.fmt_workers(f);
        }
        for (worker, core) in self.cores.iter().enumerate() {
            let core = core.unwrap_or_default();
            let queues: Vec<String> = self
                .ports
                .iter()
                .map(|port| format!("{}:{worker}", port.nic.name))
                .collect();
            writeln!(
                f,
                "worker {worker}: core {core}, queues {}",
                queues.join(" ")
            )?;
        }
        for port in &self.ports {
            let oracle = match &port.oracle {
                Oracle::Single => "one queue".into(),
                Oracle::PortXor { queues } => format!("port-xor over {queues} queues"),
                Oracle::Toeplitz { indirection, .. } => {
                    format!("Toeplitz over a table of {}", indirection.len())
                }
                Oracle::Software { workers } => format!("software hash over {workers} workers"),
                Oracle::Device { .. } => "RSS as the device tells".into(),
            };
            let (nic, mtu) = (&port.nic, port.mtu_bytes);
            let driver = nic.driver.as_deref().unwrap_or("unknown driver");
            // Of a card its own driver, its MTU and its queues are known when DPDK has opened it.
            if nic.ifindex == 0 {
                writeln!(f, "{}: a card of DPDK, {oracle}", nic.name)?;
                continue;
            }
            writeln!(
                f,
                "{}: {driver}, MTU {mtu}, {} receive queues, {oracle}",
                nic.name, nic.rx_queues
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [[port]]
        interface = "eth1"
        queues = { 0 = 2, 1 = 3 }
        [[port]]
        interface = "eth2"
        queues = { 0 = 2, 1 = 3 }
        [[pool]]
        name = "sessions"
        listen = "10.0.0.10:11211"
        protocol = "memcached"
        servers = ["10.0.1.11:11211:1"]
    "#;

    fn config() -> Config {
        Config::parse(CONFIG, "test").unwrap()
    }

    fn nic(name: &str, queues: u32) -> Nic {
        Nic {
            name: name.into(),
            ifindex: 3,
            mac: [2, 0, 0, 0, 0, 1],
            mtu_bytes: 1_500,
            is_up: true,
            is_running: true,
            driver: Some("veth".into()),
            rx_queues: queues,
            rx_queues_max: 8,
            rss: None,
            virtio: None,
            numa_node: None,
        }
    }

    fn facts(nics: Vec<Nic>) -> Facts {
        Facts {
            nics: nics
                .into_iter()
                .map(|nic| (nic.name.clone(), Ok(nic)))
                .collect(),
            cores: vec![0, 1, 2, 3],
            ..Facts::default()
        }
    }

    #[test]
    fn a_worker_owns_the_same_queue_of_every_port() {
        let plan = make(&config(), &facts(vec![nic("eth1", 2), nic("eth2", 2)])).unwrap();
        assert_eq!(plan.cores, [Some(2), Some(3)]);
        let text = plan.to_string();
        assert!(
            text.contains("worker 1: core 3, queues eth1:1 eth2:1"),
            "{text}"
        );
        assert_eq!(plan.ports[0].oracle, Oracle::Software { workers: 2 });
        assert_eq!(
            plan.warnings.len(),
            2,
            "both ports fall back to the software hash: {:?}",
            plan.warnings
        );
    }

    #[test]
    fn every_fault_of_the_machine_is_reported_at_once() {
        let mut down = nic("eth1", 1);
        down.is_up = false;
        let mut facts = facts(vec![down]);
        facts.nics.insert(
            "eth2".into(),
            Err("interface eth2 does not exist; present: eth1".into()),
        );
        facts.cores = vec![0, 1, 2];
        let faults = make(&config(), &facts).unwrap_err().join("\n");
        for expected in [
            "interface eth2 does not exist",
            "core 3 (worker 1) is not available to this process; available: 0-2",
            "ethtool -L eth1 combined 2",
            "ip link set eth1 up",
        ] {
            assert!(
                faults.contains(expected),
                "{expected:?} is not in\n{faults}"
            );
        }
    }

    #[test]
    fn a_nic_that_tells_its_table_is_believed_unless_it_names_queues_without_workers() {
        let mut told = nic("eth1", 2);
        let rss = Rss {
            function: RssFunction::Toeplitz,
            key: vec![1; 40],
            indirection: vec![0, 1],
        };
        told.rss = Some(rss.clone());
        let mut wide = nic("eth2", 4);
        wide.rss = Some(Rss {
            indirection: vec![0, 1, 2, 3],
            ..rss
        });
        let plan = make(&config(), &facts(vec![told, wide])).unwrap();
        assert!(matches!(plan.ports[0].oracle, Oracle::Toeplitz { .. }));
        assert_eq!(plan.ports[1].oracle, Oracle::Software { workers: 2 });
        let warnings = plan.warnings.join("\n");
        assert!(
            warnings.contains("only 2 are served") && warnings.contains("queue 2"),
            "{warnings}"
        );
    }

    #[test]
    fn auto_takes_the_narrowest_port_and_the_first_core_last() {
        let text = CONFIG.replace("queues = { 0 = 2, 1 = 3 }", "queues = \"auto\"");
        let config = Config::parse(&text, "test").unwrap();
        let plan = make(&config, &facts(vec![nic("eth1", 4), nic("eth2", 3)])).unwrap();
        assert_eq!(plan.cores, [1, 2, 3].map(Some));
        let plan = make(&config, &facts(vec![nic("eth1", 8), nic("eth2", 8)])).unwrap();
        assert_eq!(plan.cores, [1, 2, 3, 0].map(Some));
    }

    #[test]
    fn a_map_is_looked_at_without_its_interfaces() {
        assert_eq!(check_map(&config(), &[0, 1, 2, 3]), Default::default());
        let (faults, _) = check_map(&config(), &[0, 1, 2]);
        assert!(faults[0].starts_with("test:4:18: core 3 (worker 1) is not available"));
        let text = CONFIG.replace("queues = { 0 = 2, 1 = 3 }", "queues = \"auto\"");
        let spread = Config::parse(&text, "test").unwrap();
        assert_eq!(check_map(&spread, &[]), Default::default());
    }

    #[test]
    fn one_worker_needs_no_oracle() {
        let mut config = config();
        let maps = ["eth1:0=1", "eth2:0=1"].map(|map| map.parse().unwrap());
        config.apply_maps(&maps).unwrap();
        let plan = make(&config, &facts(vec![nic("eth1", 1), nic("eth2", 1)])).unwrap();
        assert_eq!(plan.ports[1].oracle, Oracle::Single);
        assert!(plan.warnings.is_empty());
    }
}
