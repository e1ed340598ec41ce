use super::*;
use crate::configure::target::Target;
use crate::plan::{self, Plan};
use std::collections::BTreeSet;
use tidegate_channel::message::Oracle;
use tidegate_config::Config;
use tidegate_port::nic::RssFunction;

/// QEMU's device with its defaults.
const DEFAULTS: &str = "1110010111111111111101110000110010000000000000000000000000000000";

fn config(queues: &str) -> Config {
    let text = format!(
        "[[port]]\ninterface = \"eth0\"\nqueues = {queues}\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\n\
         listen = \"10.0.0.1:1\"\nservers = [\"10.0.0.2:2\"]\n"
    );
    Config::parse(&text, "test").unwrap()
}

/// A device that uses `now` of `max` queues.
fn nic(now: u32, max: u32) -> Nic {
    Nic {
        name: "eth0".into(),
        ifindex: 2,
        mac: [2, 0, 0, 0, 0, 1],
        mtu_bytes: 1_500,
        is_up: true,
        is_running: true,
        driver: Some(DRIVER.into()),
        rx_queues: now,
        rx_queues_max: max,
        rss: None,
        virtio: Virtio::read(DEFAULTS),
        numa_node: None,
    }
}

fn with_rss(nic: Nic, table: &[u32]) -> Nic {
    Nic {
        rss: Some(Rss {
            function: RssFunction::Toeplitz,
            key: vec![9; 40],
            indirection: table.to_vec(),
        }),
        ..nic
    }
}

/// The same features, but for these.
fn without(nic: Nic, features: &[usize]) -> Nic {
    let mut text = DEFAULTS.as_bytes().to_vec();
    for feature in features {
        text[*feature] = b'0';
    }
    let text = String::from_utf8(text).unwrap();
    Nic {
        virtio: Virtio::read(&text),
        ..nic
    }
}

/// A machine with two cores.
fn facts(nic: Nic) -> Facts {
    Facts {
        nics: [(nic.name.clone(), Ok(nic))].into(),
        cores: vec![0, 1],
        processors: 2,
        ..Facts::default()
    }
}

fn attached(nic: Nic) -> Facts {
    Facts {
        attached: BTreeSet::from(["eth0".to_owned()]),
        ..facts(nic)
    }
}

fn plan(queues: &str, facts: &Facts) -> Result<Plan, String> {
    plan::make(&config(queues), facts).map_err(|faults| faults.join("\n"))
}

const TWO: &str = "{ 0 = 0, 1 = 1 }";
const FOUR: &str = "{ 0 = 0, 1 = 1, 2 = 0, 3 = 1 }";

#[test]
fn as_many_queues_as_workers_are_fine() {
    assert!(plan(TWO, &facts(nic(2, 2))).is_ok());
    assert!(plan(FOUR, &facts(nic(4, 4))).is_ok());
    // There is not one more for each CPU, so the driver stays with those that it has.
    assert!(plan(TWO, &facts(nic(2, 3))).is_ok());
    let unknown = Facts {
        processors: 0,
        ..facts(nic(2, 4))
    };
    assert!(plan(TWO, &unknown).is_ok());
}

#[test]
fn queues_that_attaching_would_open_are_refused_with_what_to_do() {
    let refused = plan(TWO, &facts(nic(2, 4))).unwrap_err();
    for expected in [
        "eth0: with the steering program virtio_net spreads over 4 receive queues and 2 are served",
        "one more for each of 2 CPUs",
        "ethtool -L eth0 combined 4",
        "QEMU: queues=2",
        "rss=on,hash=on",
    ] {
        assert!(
            refused.contains(expected),
            "{expected:?} is not in {refused}"
        );
    }
    let one = "{ 0 = 0 }";
    let refused = plan(one, &facts(nic(1, 4))).unwrap_err();
    assert!(
        refused.contains("over 3 receive queues and 1 are served"),
        "{refused}"
    );
    // The number of workers would do, the number of queues does not.
    let refused = plan(TWO, &facts(nic(3, 3))).unwrap_err();
    let mend = "ethtool -L eth0 combined 2, or `tidegate configure init channels`";
    assert!(refused.contains(mend), "{refused}");
    // What mends too few queues must not end in the next fault.
    let refused = plan(TWO, &facts(nic(1, 4))).unwrap_err();
    assert!(
        refused.contains("the plan needs 2") && refused.contains("over 4"),
        "{refused}"
    );
}

#[test]
fn other_drivers_keep_the_queues_that_they_have() {
    let other = Nic {
        driver: Some("ice".into()),
        virtio: None,
        ..nic(2, 4)
    };
    assert!(plan(TWO, &facts(other)).unwrap().ports[0].rss.is_none());
}

#[test]
fn auto_serves_every_queue_that_would_be_in_use() {
    let refused = plan("\"auto\"", &facts(nic(2, 4))).unwrap_err();
    let mend = "eth0 has 2 receive queues, the plan needs 4: ethtool -L eth0 combined 4, or `tidegate configure init channels`; with";
    assert!(refused.contains(mend), "{refused}");
    let target = Target::of(&config("\"auto\""), &facts(nic(2, 4)));
    assert_eq!(target.ports[0].queues, Some(4), "`configure` raises them");
    let raised = plan("\"auto\"", &facts(nic(4, 4))).unwrap();
    assert_eq!(raised.cores, [1, 0, 1, 0].map(Some));
    assert!(
        raised
            .warnings
            .iter()
            .any(|warning| warning.contains("core 1 serves several"))
    );
    let exact = plan("\"auto\"", &facts(nic(2, 2))).unwrap();
    assert_eq!(exact.cores, [1, 0].map(Some));
    let mapped = Target::of(&config(TWO), &facts(nic(2, 4)));
    assert_eq!(mapped.ports[0].queues, None, "a map is what was asked for");
}

#[test]
fn a_running_instance_is_planned_again_as_it_was() {
    let kept = plan("\"auto\"", &attached(nic(4, 4))).unwrap();
    assert_eq!(kept.cores.len(), 4);
    assert!(plan(TWO, &attached(nic(2, 2))).is_ok());
    // Four in use, one of them for each CPU; the table says how many there were.
    let cores = vec![0, 1, 2, 3];
    let table = with_rss(nic(4, 8), &[0, 1, 0, 1]);
    let spread = Facts {
        cores,
        ..attached(table)
    };
    assert_eq!(plan("\"auto\"", &spread).unwrap().cores.len(), 2);
}

#[test]
fn a_device_with_rss_is_told_its_table_again_and_only_of_queues_with_workers() {
    let table = |facts: &Facts, queues: &str| {
        let plan = plan(queues, facts).unwrap();
        let port = plan.ports.into_iter().next().unwrap();
        let rss = port.rss.unwrap();
        let expected = Oracle::Toeplitz {
            key: vec![9; 40],
            indirection: rss.indirection.clone(),
        };
        assert_eq!(port.oracle, expected, "frames go where the table says");
        assert!(
            plan.warnings
                .iter()
                .all(|warning| !warning.contains("served")),
            "{:?}",
            plan.warnings
        );
        rss.indirection
    };
    let weighted = facts(with_rss(nic(2, 4), &[0, 0, 0, 1]));
    assert_eq!(table(&weighted, TWO), [0, 0, 0, 1]);
    let wider = facts(with_rss(nic(4, 4), &[0, 1, 2, 3]));
    assert_eq!(table(&wider, TWO), [0, 1, 0, 1]);
    let mut narrower = facts(with_rss(nic(4, 4), &[0, 1, 0, 1]));
    narrower.cores = vec![0, 1, 2, 3];
    assert_eq!(table(&narrower, FOUR), [0, 1, 2, 3]);
    let alone = plan("{ 0 = 0 }", &facts(with_rss(nic(2, 4), &[0, 1]))).unwrap();
    assert_eq!(alone.ports[0].oracle, Oracle::Single);
    assert_eq!(alone.ports[0].rss.as_ref().unwrap().indirection, [0, 0]);
}

#[test]
fn without_rss_the_spread_is_the_hosts() {
    let crowded = with_rss(nic(4, 4), &[0, 1, 0, 1]);
    let crowded = plan(FOUR, &facts(crowded)).unwrap();
    assert_eq!(crowded.ports[0].oracle, Oracle::Software { workers: 4 });
    assert_eq!(
        crowded.ports[0].rss, None,
        "older kernels would use two queues"
    );
    let said = crowded.warnings.join("\n");
    assert!(said.contains("no more queues than CPUs"), "{said}");
    let plan = plan(TWO, &facts(nic(2, 2))).unwrap();
    assert_eq!(plan.ports[0].oracle, Oracle::Software { workers: 2 });
    assert_eq!(plan.ports[0].rss, None);
}

#[test]
fn a_device_that_would_go_round_the_program_is_refused_before() {
    let bypassing = without(nic(2, 2), &[15]);
    let refused = plan(TWO, &facts(bypassing)).unwrap_err();
    for expected in [
        "eth0: virtio_net takes the steering program and never runs it",
        "mrg_rxbuf=off with guest_tso4, guest_tso6, guest_ecn, guest_ufo",
        "mrg_rxbuf=on or all of guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off",
        "driver = \"kernel\"",
    ] {
        assert!(
            refused.contains(expected),
            "{expected:?} is not in {refused}"
        );
    }
    assert!(plan(TWO, &facts(without(nic(2, 2), &[15, 7, 8, 9, 10]))).is_ok());
}

#[test]
fn what_the_driver_refuses_is_told_in_its_words() {
    let fixed = without(nic(2, 2), &[2]);
    let (what, mend) = complaint(&fixed).unwrap();
    assert!(
        what.contains("Can't set XDP while host is implementing GRO_HW/CSUM"),
        "{what}"
    );
    assert!(mend.contains("ctrl_guest_offloads=on"), "{mend}");
    assert!(spoils_generic_mode(&fixed) && bypass(&fixed).is_none());
    let old = without(nic(2, 2), &[27, 32]);
    let (what, mend) = complaint(&old).unwrap();
    assert!(
        what.contains("any_header_sg required") && mend.contains("any_layout=on"),
        "{what}; {mend}"
    );
    assert_eq!(complaint(&nic(2, 2)), None);
    let unknown = Nic {
        virtio: None,
        ..nic(2, 2)
    };
    assert_eq!(
        (complaint(&unknown), spoils_generic_mode(&unknown)),
        (None, false)
    );
}

#[test]
fn another_interface_is_not_settled() {
    let other = PlannedPort {
        nic: Nic {
            name: "tg-nowhere0".into(),
            driver: Some("ice".into()),
            ..nic(2, 2)
        },
        mtu_bytes: 1_500,
        oracle: Oracle::Single,
        rss: None,
    };
    assert!(settle(&other, 2).is_ok());
    let gone = PlannedPort {
        nic: Nic {
            driver: Some(DRIVER.into()),
            ..other.nic.clone()
        },
        ..other
    };
    assert!(settle(&gone, 2).is_err());
}
