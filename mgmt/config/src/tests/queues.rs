//! Queues and cores of ports.

use super::{MINIMAL, REDIS, assert_one, faults, faults_with, parse};
use crate::QueueMap;
use std::collections::BTreeMap;

#[test]
fn the_command_line_replaces_the_queues_of_a_port() {
    let mut config = parse(MINIMAL);
    let maps: [QueueMap; 1] = ["eth1:0=4,1=5".parse().expect("a map")];
    config.apply_maps(&maps).expect("the port is there");
    assert_eq!(config.queue_map(), Some(&BTreeMap::from([(0, 4), (1, 5)])));
}

#[test]
fn maps_that_do_not_fit_are_all_reported_and_change_nothing() {
    let text = format!("[[port]]\ninterface = \"eth2\"\nqueues = {{ 0 = 2 }}\n{MINIMAL}");
    let before = parse(&text);
    let mut config = before.clone();
    let maps: Vec<QueueMap> = ["eth1:0=3", "eth9:0=1", "eth1:0=2,1=3"]
        .iter()
        .map(|map| map.parse().expect("a map"))
        .collect();
    let errors = config.apply_maps(&maps).expect_err("three faults");
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(
        errors[0].contains("\"eth9\"; the file has eth2, eth1"),
        "{errors:#?}"
    );
    assert!(
        errors[1].contains("\"eth1\" is mapped twice"),
        "{errors:#?}"
    );
    assert!(
        errors[2].contains("eth1 lacks a queue that eth2 has"),
        "{errors:#?}"
    );
    assert_eq!(config, before);
}

#[test]
fn ports_with_other_queues_or_cores_are_faults() {
    let second = |queues: &str| {
        faults(&format!(
            "{REDIS}\n[[port]]\ninterface = \"eth2\"\nqueues = {queues}\n"
        ))
    };
    assert_eq!(second("\"auto\""), Vec::<String>::new());
    assert_eq!(second("{ 0 = 2, 1 = 3 }"), Vec::<String>::new());
    assert_one(
        &second("{ 0 = 2 }"),
        &["17:10", "port \"eth2\"", "worker 1 owns queue 1"],
    );
    assert_one(
        &second("{ 0 = 2, 1 = 7 }"),
        &["queue 1 is on core 7, but on core 3 for eth1"],
    );
}

#[test]
fn queues_may_be_a_table_of_their_own() {
    let text = MINIMAL.replace("[[pool]]", "[port.queues]\n0 = 2\n1 = 3\n[[pool]]");
    assert_eq!(
        parse(&text).queue_map(),
        Some(&BTreeMap::from([(0, 2), (1, 3)]))
    );
}

#[test]
fn each_mistake_in_queues_is_named() {
    let with = |queues: &str| {
        faults(&MINIMAL.replace("\"eth1\"", &format!("\"eth1\"\nqueues = {queues}")))
    };
    let cases = [
        ("{}", "name at least queue 0"),
        ("\"all\"", "must be \"auto\" or a table"),
        ("2", "must be \"auto\" or a table"),
        (
            "{ 0 = 1024 }",
            "core \"1024\" is not a number from 0 to 1023",
        ),
        ("{ 0 = -1 }", "core \"-1\" is not a number"),
        ("{ rx0 = 1 }", "queue \"rx0\" is not a number below 256"),
        ("{ 0 = 1, 00 = 2 }", "queue 0 is named twice"),
        ("{ 1 = 1 }", "queue 0 has no core"),
    ];
    for (queues, part) in cases {
        assert_one(&with(queues), &["port \"eth1\": queues", part]);
    }
}

#[test]
fn an_interface_twice_is_a_fault() {
    assert_one(
        &faults_with("[[port]]", "interface = \"eth1\""),
        &["12:13", "port of line 3"],
    );
}
