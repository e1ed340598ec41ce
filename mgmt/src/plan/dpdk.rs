//! What of a plan is DPDK's own.

use tidegate_config::limits::MTU_BYTES;
use tidegate_config::{Config, Pmd, PortConfig, Table};
use tidegate_port::nic::Nic;

/// Whether DPDK has the card, so that the kernel has no interface.
pub(super) fn is_card(port: &PortConfig) -> bool {
    let dpdk = port.dpdk.as_ref();
    dpdk.is_some_and(|dpdk| dpdk.pmd == Pmd::Pci)
}

/// What is known of a card before DPDK has opened it. Its address and its MTU the workers find out.
pub(super) fn card(port: &PortConfig, workers: u32) -> Nic {
    Nic {
        name: port.interface.clone(),
        ifindex: 0,
        mac: [0; 6],
        mtu_bytes: MTU_BYTES.default as usize,
        is_up: true,
        is_running: true,
        driver: Some("dpdk".into()),
        rx_queues: workers,
        rx_queues_max: workers,
        rss: None,
        numa_node: None,
        virtio: None,
    }
}

/// DPDK's threads need what the file has to say, and a core each.
pub(super) fn check_threads(config: &Config, cores: &[Option<u32>], faults: &mut Vec<String>) {
    if config.queue_map().is_none() {
        faults.push(format!(
            "{}queues = \"auto\" is not for driver = \"dpdk\": what a card has is known when DPDK has it; write queues = {{ 0 = 2, 1 = 3 }} \
             or --map",
            config.place_of_map()
        ));
    }
    for (queue, core) in cores.iter().enumerate() {
        let before = cores[..queue].iter().position(|other| other == core);
        if let (Some(core), Some(before)) = (core, before) {
            faults.push(format!(
                "{}queues {before} and {queue} are both on core {core}: with driver = \"dpdk\" each needs a core of its own; map one of them to \
                 another, or serve fewer queues",
                config.place_of_map()
            ));
        }
    }
    if !cfg!(feature = "dpdk") {
        faults.push(format!(
            "{}driver = \"dpdk\": this program was built without DPDK; build it with --features dpdk (docs/dpdk.md), or use another driver",
            config.place(Table::Port(0), "driver")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, make};
    use super::*;
    use tidegate_channel::message::Oracle;

    fn faults_of(queues: &str) -> Vec<String> {
        let text = format!(
            "[[port]]\ndriver = \"dpdk\"\ninterface = \"0000:3b:00.1\"\naddresses = [\"192.0.2.10/24\"]\nqueues = {queues}\n\
             [[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.10:1\"\nservers = [\"192.0.2.11:1\"]\n"
        );
        let config = Config::parse(&text, "test").unwrap();
        let facts = Facts {
            cores: vec![0, 1, 2],
            ..Facts::default()
        };
        match make(&config, &facts) {
            Ok(plan) => {
                let oracle = Oracle::Device {
                    workers: 2,
                    required: false,
                };
                assert_eq!(plan.ports[0].oracle, oracle);
                assert_eq!(plan.cores, [Some(2), Some(1)]);
                Vec::new()
            }
            Err(faults) => faults,
        }
    }

    #[test]
    fn threads_have_a_queue_and_a_core_each() {
        let found = |queues: &str, words: &str| {
            let faults = faults_of(queues);
            assert!(
                faults.iter().any(|fault| fault.contains(words)),
                "{faults:?}"
            );
        };
        found("\"auto\"", "queues = \"auto\" is not for driver = \"dpdk\"");
        found(
            "{ 0 = 2, 1 = 2 }",
            "test:5:10: queues 0 and 1 are both on core 2",
        );
        found("{ 0 = 2, 1 = 3 }", "core 3 (worker 1) is not available");
    }

    #[test]
    fn a_program_without_dpdk_says_so() {
        let faults = faults_of("{ 0 = 2, 1 = 1 }");
        if cfg!(feature = "dpdk") {
            assert_eq!(faults, Vec::<String>::new());
        } else {
            assert!(faults[0].contains("was built without DPDK"), "{faults:?}");
            assert_eq!(faults.len(), 1);
        }
    }
}
