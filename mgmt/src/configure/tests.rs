mod cards;
mod memory;

use super::record::Record;
use super::setting::{Interface, Setting, Value};
use super::stage::{Item, Stage};
use super::target::{Port, Target};
use super::{Work, check};
use crate::host::fake::{FakeHost, card};
use crate::host::{Host, value};
use crate::runtime_dir::Presence;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// A machine with the cards eth1 and eth9, of which only eth1 is in the configuration, and a runtime directory.
struct Bench {
    host: FakeHost,
    root: PathBuf,
    target: Target,
}

impl Bench {
    fn new(test: &str) -> Self {
        let host = FakeHost::new(test);
        card(&host, "eth1", 3);
        let root = host.path("run/tidegate");
        Self {
            host,
            root,
            target: Target {
                name: "shop".into(),
                ports: vec![Port {
                    interface: "eth1".into(),
                    ring_size: 2_048,
                    queues: None,
                }],
                cores: vec![Some(2), Some(3)],
                workers: Some(2),
                source_ports: Some((61_000, 61_999)),
                ..Target::default()
            },
        }
    }

    fn work(&self) -> Work<'_> {
        Work {
            host: &self.host,
            root: &self.root,
            name: "shop",
            presence: Presence::Gone,
        }
    }

    fn init(&self, stages: &[Stage]) -> (anyhow::Result<bool>, String) {
        said(|say| self.work().init(&self.target, stages, say))
    }

    fn fini(&self, stages: &[Stage]) -> (anyhow::Result<bool>, String) {
        said(|say| self.work().fini(stages, say))
    }

    fn check(&self) -> (bool, String) {
        let (outcome, text) = said(|say| Ok(check(&self.target, &self.host, &[], say)));
        (outcome.unwrap(), text)
    }

    fn record_exists(&self) -> bool {
        self.root.join("configure-shop.json").exists()
    }
}

fn said(
    run: impl FnOnce(&mut dyn FnMut(String)) -> anyhow::Result<bool>,
) -> (anyhow::Result<bool>, String) {
    let mut text = String::new();
    let outcome = run(&mut |line| {
        text.push_str(&line);
        text.push('\n');
    });
    (outcome, text)
}

#[test]
fn queues_that_a_driver_needs_are_raised_where_workers_follow_from_queues() {
    let mut bench = Bench::new("raise");
    let now = |combined| {
        let mut nics = bench.host.nics.borrow_mut();
        let channels = nics.get_mut("eth1").unwrap().channels.as_mut().unwrap();
        channels.now.combined = combined;
    };
    now(2);
    bench.target.workers = None;
    let (well, text) = said(|say| Ok(check(&bench.target, &bench.host, &[Stage::Channels], say)));
    assert!(
        well.unwrap() && text.contains("takes what is there"),
        "{text}"
    );
    bench.target.ports[0].queues = Some(4);
    let (outcome, text) = bench.init(&[Stage::Channels]);
    assert!(outcome.unwrap() && text.contains("done"), "{text}");
    let combined = || bench.host.channels("eth1").unwrap().unwrap().now.combined;
    assert_eq!(combined(), 4);
    bench.fini(&[]).0.unwrap();
    assert_eq!(combined(), 2);
}

#[test]
fn init_mends_everything_once_and_fini_brings_back_exactly_what_was() {
    let bench = Bench::new("whole");
    let before = bench.host.state();
    let (well, text) = bench.check();
    assert!(!well, "{text}");
    for expected in [
        "channels   WRONG  eth1: 4 queues for 2 workers",
        "ethtool -L eth1 combined 2",
        "rings      WRONG  eth1: rings of 512",
        "offloads   WRONG  eth1: rx-lro is on",
        "ethtool -K eth1 rxvlan off",
        "irqs       WRONG  eth1: interrupt 40 of queue 0 is on cores 0-3, its worker on 2",
        "hugepages  ok",
        "ports      WRONG  source_ports 61000-61999",
        "governor   WRONG  core 3",
        "irqbalance -      irqbalance does not run",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(bench.host.state(), before, "check changed something");

    let (outcome, text) = bench.init(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert!(
        text.contains(
            "channels   done   eth1: channels: rx 0 tx 0 combined 4 → rx 0 tx 0 combined 2"
        ),
        "{text}"
    );
    let (well, text) = bench.check();
    assert!(well && !text.contains("WRONG"), "{text}");
    let nics = bench.host.nics.borrow().clone();
    assert_eq!(nics["eth1"].channels.unwrap().now.combined, 2);
    assert_eq!(nics["eth1"].rings.unwrap().now.rx, 2_048);
    assert!(
        nics["eth1"]
            .features
            .iter()
            .any(|feature| feature.name == "rx-gro" && feature.active)
    );
    let read = |path: &str| value(&bench.host, path).unwrap();
    assert_eq!(read("/proc/irq/41/smp_affinity_list"), "3");
    assert_eq!(
        read("/proc/irq/42/smp_affinity_list"),
        "0-3",
        "not a queue's"
    );
    assert_eq!(
        read("/proc/sys/net/ipv4/ip_local_reserved_ports"),
        "8080,61000-61999"
    );
    assert_eq!(
        read("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor"),
        "performance"
    );
    assert_eq!(
        read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "powersave"
    );

    let writes = bench.host.written.borrow().len();
    let (outcome, text) = bench.init(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert_eq!(
        bench.host.written.borrow().len(),
        writes,
        "a second init changes nothing"
    );

    let (outcome, text) = bench.fini(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert_eq!(bench.host.state(), before);
    let (outcome, text) = bench.fini(&[]);
    assert!(
        outcome.unwrap() && text.contains("nothing to undo"),
        "{text}"
    );
}

#[test]
fn an_interface_that_the_configuration_does_not_name_is_never_touched() {
    let bench = Bench::new("others");
    card(&bench.host, "eth9", 9);
    // The card of eth9 shares numbers with that of eth1 in this tree: give it others.
    for number in [40, 41, 42] {
        let from = bench
            .host
            .path(&format!("sys/class/net/eth9/device/msi_irqs/{number}"));
        std::fs::remove_file(from).unwrap();
        let action = format!("ice-eth1-TxRx-{}", number - 40);
        bench
            .host
            .file(&format!("sys/kernel/irq/{number}/actions"), &action);
        let other = number + 10;
        bench.host.file(
            &format!("sys/class/net/eth9/device/msi_irqs/{other}"),
            "msix",
        );
        bench.host.file(
            &format!("sys/kernel/irq/{other}/actions"),
            &format!("ice-eth9-TxRx-{}", other - 50),
        );
        bench
            .host
            .file(&format!("proc/irq/{other}/smp_affinity_list"), "0-3");
    }
    let before = bench.host.nics.borrow()["eth9"].clone();
    bench.init(&[]).0.unwrap();
    assert_eq!(bench.host.nics.borrow()["eth9"], before);
    let affinity = value(&bench.host, "/proc/irq/50/smp_affinity_list").unwrap();
    assert_eq!(affinity, "0-3");
}

#[test]
fn only_the_stages_that_are_named_are_done_and_undone() {
    let bench = Bench::new("stages");
    bench.init(&[Stage::Rings, Stage::Ports]).0.unwrap();
    let written = bench.host.written.borrow().clone();
    assert_eq!(
        written,
        ["rings", "/proc/sys/net/ipv4/ip_local_reserved_ports"]
    );
    bench.fini(&[Stage::Rings]).0.unwrap();
    assert_eq!(bench.host.nics.borrow()["eth1"].rings.unwrap().now.rx, 512);
    assert!(bench.record_exists());
    bench.fini(&[]).0.unwrap();
    assert!(!bench.record_exists());
}

#[test]
fn an_init_that_fails_half_way_says_what_is_done_and_can_be_undone() {
    let bench = Bench::new("half");
    let before = bench.host.state();
    bench.host.refused.borrow_mut().insert("feature".into());
    let (outcome, text) = bench.init(&[]);
    assert!(!outcome.unwrap());
    for expected in [
        "channels   done",
        "rings      done",
        "offloads   FAILED eth1: rx-lro: refused although CAP_NET_ADMIN is there",
        "not tried: irqbalance, irqs, hugepages, memory, ports, governor",
        "  eth1: rings: rx 512 tx 512 → rx 2048 tx 2048",
        "`tidegate configure fini --name shop` undoes it",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!text.contains("  eth1: rx-lro"), "not changed: {text}");
    let (outcome, text) = bench.fini(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert_eq!(bench.host.state(), before);
}

#[test]
fn without_the_privileges_each_is_named_and_nothing_is_begun() {
    let bench = Bench::new("nobody");
    bench.host.file(
        "proc/self/status",
        "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n",
    );
    let before = bench.host.state();
    let (well, text) = bench.check();
    assert!(!well && !text.contains("CAP_"), "check needs none: {text}");
    let error = bench.init(&[]).0.unwrap_err().to_string();
    assert!(
        error.contains("nothing was changed: missing capability CAP_NET_ADMIN"),
        "{error}"
    );
    assert!(
        error.contains("missing capability CAP_DAC_OVERRIDE"),
        "{error}"
    );
    assert_eq!(bench.host.state(), before);
}

#[test]
fn a_running_instance_keeps_its_queues_and_lets_the_rest_be_changed() {
    let bench = Bench::new("running");
    let work = |presence| Work {
        presence,
        ..bench.work()
    };
    for (presence, reason) in [
        (Presence::Running, "\"shop\" is running"),
        (
            Presence::Workers(vec![17, 18]),
            "the workers of \"shop\" (processes 17, 18) go on without a manager",
        ),
    ] {
        let error = said(|say| work(presence).init(&bench.target, &[], say))
            .0
            .unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(bench.host.written.borrow().is_empty());
    }
    let work = work(Presence::Running);
    let (outcome, text) =
        said(|say| work.init(&bench.target, &[Stage::Irqs, Stage::Governor], say));
    assert!(outcome.unwrap(), "{text}");
    let (outcome, text) = said(|say| work.fini(&[Stage::Governor], say));
    assert!(outcome.unwrap(), "{text}");
}

#[test]
fn what_somebody_changed_since_is_left_alone() {
    let bench = Bench::new("theirs");
    bench.init(&[]).0.unwrap();
    bench.host.file(
        "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "schedutil\n",
    );
    bench.host.file(
        "proc/sys/net/ipv4/ip_local_reserved_ports",
        "9000,61000-61999\n",
    );
    bench.host.nics.borrow_mut().get_mut("eth1").unwrap().index = 30;
    let (outcome, text) = bench.fini(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert!(
        text.contains(
            "governor of core 2: somebody made it schedutil since, left alone (it was powersave)"
        ),
        "{text}"
    );
    assert!(
        text.contains("eth1: channels: no longer there"),
        "another card by now: {text}"
    );
    let read = |path: &str| value(&bench.host, path).unwrap();
    assert_eq!(read("/proc/sys/net/ipv4/ip_local_reserved_ports"), "9000");
    assert_eq!(
        bench.host.nics.borrow()["eth1"]
            .channels
            .unwrap()
            .now
            .combined,
        2
    );
    assert!(!bench.record_exists());
}

#[test]
fn two_changes_of_one_setting_are_undone_to_the_first() {
    let mut bench = Bench::new("twice");
    let before = bench.host.state();
    bench.init(&[]).0.unwrap();
    bench.target.workers = Some(1);
    bench.target.ports[0].ring_size = 4_096;
    bench.target.source_ports = Some((61_500, 62_500));
    bench.init(&[]).0.unwrap();
    assert_eq!(
        bench.host.nics.borrow()["eth1"]
            .channels
            .unwrap()
            .now
            .combined,
        1
    );
    bench.fini(&[]).0.unwrap();
    assert_eq!(bench.host.state(), before);
}

#[test]
fn a_change_that_was_recorded_and_not_made_needs_no_undoing() {
    let bench = Bench::new("killed");
    let before = bench.host.state();
    let planned = bench
        .target
        .ports
        .iter()
        .flat_map(|_| Stage::Rings.inspect(&bench.target, &bench.host));
    let mut record = Record::open(&bench.root, "shop", &bench.host).unwrap();
    for item in planned {
        if let Item::Wrong {
            change: Some(change),
            ..
        } = item
        {
            record.add(&change).unwrap();
        }
    }
    drop(record);
    assert!(bench.record_exists());
    let (outcome, text) = bench.fini(&[]);
    assert!(
        outcome.unwrap() && text.contains("was undone already"),
        "{text}"
    );
    assert!(bench.host.written.borrow().is_empty());
    std::fs::remove_dir(&bench.root).ok();
    std::fs::remove_dir(bench.root.parent().unwrap()).ok();
    assert_eq!(bench.host.state(), before);
}

#[test]
fn a_record_of_an_earlier_boot_undoes_nothing() {
    let bench = Bench::new("boot");
    bench.init(&[]).0.unwrap();
    bench
        .host
        .file("proc/sys/kernel/random/boot_id", "next-boot\n");
    let writes = bench.host.written.borrow().len();
    let (outcome, text) = bench.fini(&[]);
    assert!(outcome.unwrap(), "{text}");
    assert_eq!(bench.host.written.borrow().len(), writes);
    assert!(!bench.record_exists());
}

#[test]
fn a_record_of_another_network_namespace_is_kept_for_those_in_it() {
    let bench = Bench::new("elsewhere");
    bench.init(&[Stage::Rings, Stage::Governor]).0.unwrap();
    let file = bench.root.join("configure-shop.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let here = format!("\"namespace\": {}", crate::runtime_dir::network_namespace());
    std::fs::write(&file, text.replace(&here, "\"namespace\": 1")).unwrap();
    let (outcome, text) = bench.fini(&[]);
    assert!(!outcome.unwrap());
    assert!(
        text.contains("eth1: rings: changed in another network namespace"),
        "{text}"
    );
    assert!(text.contains("undone governor of core 2"), "{text}");
    assert!(bench.record_exists());
}

#[test]
fn a_damaged_record_and_a_second_configure_are_refused() {
    let bench = Bench::new("damaged");
    let first = Record::open(&bench.root, "other", &bench.host).unwrap();
    let error = bench.init(&[]).0.unwrap_err().to_string();
    assert!(
        error.contains("another `tidegate configure` is at work"),
        "{error}"
    );
    drop(first);
    std::fs::write(bench.root.join("configure-shop.json"), "{").unwrap();
    for outcome in [bench.init(&[]).0, bench.fini(&[]).0] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("configure-shop.json is damaged"), "{error}");
    }
    assert!(bench.host.written.borrow().is_empty());
}

#[test]
fn kernel_sockets_need_only_their_cores() {
    let mut bench = Bench::new("kernel");
    bench.target.ports.clear();
    bench.target.source_ports = None;
    bench.target.workers = None;
    bench.init(&[]).0.unwrap();
    let written = bench.host.written.borrow().clone();
    assert!(
        written.iter().all(|path| path.contains("scaling_governor")),
        "{written:?}"
    );
    assert_eq!(written.len(), 2);
}

#[test]
fn what_cannot_be_changed_is_said_and_is_not_wrong() {
    let bench = Bench::new("fixed");
    bench.init(&[]).0.unwrap();
    {
        let mut nics = bench.host.nics.borrow_mut();
        let nic = nics.get_mut("eth1").unwrap();
        nic.features[0].active = true;
        nic.features[0].changeable = false;
        nic.rings = None;
        nic.channels = None;
    }
    bench.host.file(
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always madvise [never]",
    );
    let (well, text) = bench.check();
    assert!(!well, "{text}");
    assert!(
        text.contains("offloads   -      eth1: rx-lro is on and its driver keeps it so"),
        "{text}"
    );
    assert!(text.contains("channels   -"), "{text}");
    assert!(text.contains("hugepages  WRONG"), "{text}");
    bench.init(&[]).0.unwrap();
    let (well, text) = bench.check();
    assert!(well, "{text}");
}

#[test]
fn more_workers_than_the_card_has_queues_can_only_be_mended_by_hand() {
    let mut bench = Bench::new("few");
    bench.target.workers = Some(8);
    let (outcome, text) = bench.init(&[Stage::Channels]);
    assert!(!outcome.unwrap());
    assert!(
        text.contains("at most 4 queues, and there are 8 workers"),
        "{text}"
    );
    assert!(!bench.record_exists());
}

#[test]
fn a_setting_and_a_value_of_another_kind_are_refused() {
    let bench = Bench::new("kinds");
    let setting = Setting::Rings(Interface {
        name: "eth1".into(),
        index: 3,
    });
    assert!(setting.set(&bench.host, &Value::Switch(true)).is_err());
    assert!(bench.host.written.borrow().is_empty());
}

/// Answers as irqbalance does, one command per connection, until it has got `commands` of them; returns the last list.
fn irqbalance(bench: &Bench, commands: usize) -> std::thread::JoinHandle<String> {
    bench.host.file("proc/77/comm", "irqbalance\n");
    let directory = bench.host.path("run/irqbalance");
    std::fs::create_dir_all(&directory).unwrap();
    let listener = UnixListener::bind(directory.join("irqbalance77.sock")).unwrap();
    std::thread::spawn(move || {
        let mut bans = "7".to_owned();
        for _ in 0..commands {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1_024];
            let read = stream.read(&mut buffer).unwrap();
            let command = String::from_utf8_lossy(&buffer[..read]).into_owned();
            if let Some(list) = command.strip_prefix("settings ban irqs ") {
                bans = list.to_owned();
            } else {
                assert_eq!(command, "setup");
                let words: Vec<String> = bans
                    .split(' ')
                    .filter(|word| *word != "NONE")
                    .map(|irq| format!("IRQ {irq} LOAD 0 DIFF 0 CLASS 5 "))
                    .collect();
                let answer = format!("SLEEP 10 {}BANNED 00000000", words.concat());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
        bans
    })
}

#[test]
fn irqbalance_is_told_to_leave_the_queues_alone_and_keeps_its_other_bans() {
    let bench = Bench::new("balance");
    // Init looks twice, tells it, and looks again.
    let daemon = irqbalance(&bench, 4);
    let (outcome, text) = bench.init(&[Stage::Irqbalance]);
    assert!(outcome.unwrap(), "{text}");
    assert!(text.contains("7 → 7,40-41"), "{text}");
    assert_eq!(daemon.join().unwrap(), "7 40 41");
    std::fs::remove_file(bench.host.path("run/irqbalance/irqbalance77.sock")).unwrap();

    let (well, text) = bench.check();
    assert!(
        !well && text.contains("no socket to be spoken to"),
        "{text}"
    );
    assert!(text.contains("--banirq=40 --banirq=41"), "{text}");
}

#[test]
fn files_are_written_through_the_host_only() {
    let bench = Bench::new("through");
    bench
        .host
        .refused
        .borrow_mut()
        .insert("/proc/irq/40/smp_affinity_list".into());
    let (outcome, text) = bench.init(&[Stage::Irqs]);
    assert!(!outcome.unwrap());
    assert!(text.contains("interrupt 40"), "{text}");
    assert_eq!(
        bench
            .host
            .read("/proc/irq/40/smp_affinity_list")
            .unwrap()
            .trim(),
        "0-3"
    );
    assert!(!bench.record_exists());
}
