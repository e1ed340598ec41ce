//! Reloads with workers that say what they are told to.

use super::Outcome;
use super::edit::Edit;
use crate::control::request::Request;
use crate::lifecycle::drain::DrainRequest;
use crate::manager::fixture::{Client, Fixture, StandIn};
use crate::worker_process::{LEAVING_GRACE, Stage};
use std::os::fd::OwnedFd;
use std::time::Instant;
use tidegate_channel::counters::PoolCounters;
use tidegate_channel::message::{FromWorker, ToWorker, WorkerStart};
use tidegate_channel::payload;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsWriter};

const RELOAD: Request = Request::Reload { dry_run: false };
const DRAIN: Request = Request::Drain(DrainRequest {
    worker: None,
    deadline_ms: None,
});
const PREPARE: ToWorker = ToWorker::Prepare { opened: Vec::new() };

#[test]
fn a_drain_while_workers_make_ready_refuses_the_reload() {
    let mut fixture = Fixture::new("drain-prepare");
    let workers = fixture.serve();
    fixture.write(&Fixture::text("client_stall_ms = 9000\n"));
    let mut client = fixture.ask(&RELOAD);
    fixture.turn();
    workers[0].obey(&PREPARE);
    assert_eq!(client.answer(), None);
    fixture.ask(&DRAIN);
    fixture.turn();
    let faults = client.faults();
    assert!(faults.contains("the instance is about to end"), "{faults}");
    assert!(fixture.manager.reload.is_none(), "nothing is due any more");
}

#[test]
fn a_drain_while_workers_take_it_up_answers_that_it_is_in_force() {
    let mut fixture = Fixture::new("drain-take-up");
    let workers = fixture.serve();
    fixture.write(&Fixture::text("client_stall_ms = 9000\n"));
    let mut client = fixture.ask(&RELOAD);
    fixture.turn();
    for worker in &workers {
        worker.obey(&PREPARE);
    }
    fixture.turn();
    workers[1].obey(&ToWorker::TakeUp);
    fixture.ask(&DRAIN);
    fixture.turn();
    let outcome = client.outcome();
    assert!(outcome.applied && !outcome.replacing, "{outcome:?}");
    assert_eq!((outcome.generation, outcome.differences.len()), (2, 1));
    assert!(fixture.manager.reload.is_none());
}

fn stall(ms: &str) -> Edit {
    Edit::Worker {
        settings: vec![("client_stall_ms".into(), ms.into())],
    }
}

#[test]
fn a_second_change_is_refused_and_costs_the_first_nothing() {
    let mut fixture = Fixture::new("second");
    let workers = fixture.serve();
    let set = |value| Request::Set {
        edits: vec![stall(value)],
        save: true,
    };
    let mut first = fixture.ask(&set("9000"));
    fixture.turn();
    // One that would change something, one that would not, and one that only wants to know.
    for request in [set("8000"), RELOAD, set("")] {
        let faults = fixture.ask(&request).faults();
        assert!(faults.contains("is under way"), "{faults}");
    }
    let outcome = fixture.ask(&Request::Reload { dry_run: true }).outcome();
    assert!(!outcome.applied, "{outcome:?}");
    for message in [PREPARE, ToWorker::TakeUp] {
        for worker in &workers {
            worker.obey(&message);
        }
        fixture.turn();
    }
    let outcome = first.outcome();
    assert!(outcome.applied && outcome.saved, "{outcome:?}");
    let text = std::fs::read_to_string(fixture.file()).unwrap();
    assert!(text.contains("client_stall_ms = 9000"), "{text}");
    let outcome = fixture.ask(&RELOAD).outcome();
    assert!(!outcome.applied, "{outcome:?}");
}

#[test]
fn a_signal_while_a_change_is_under_way_is_not_lost() {
    let mut fixture = Fixture::new("signal");
    let workers = fixture.serve();
    fixture.write(&Fixture::text("client_stall_ms = 9000\n"));
    let mut client = fixture.ask(&RELOAD);
    fixture.turn();
    // Twice, and the file is another one by now.
    fixture.write(&Fixture::text("client_stall_ms = 8000\n"));
    fixture.manager.reload_by_signal();
    fixture.manager.reload_by_signal();
    let (_, outcome) = take_up(&mut fixture, &[&workers[0], &workers[1]], &mut client);
    assert!(outcome.applied, "{outcome:?}");
    assert_eq!(
        fixture.manager.parts.shared.config.worker.client_stall_ms,
        9_000
    );
    for message in [PREPARE, ToWorker::TakeUp] {
        fixture.turn();
        for worker in &workers {
            worker.obey(&message);
        }
    }
    fixture.turn();
    assert_eq!(
        fixture.manager.parts.shared.config.worker.client_stall_ms,
        8_000
    );
    assert!(fixture.manager.reload.is_none(), "once for both");
}

#[test]
fn what_could_not_be_saved_is_known_to_be_unsaved() {
    let mut fixture = Fixture::new("unsaved");
    let workers = fixture.serve();
    let mut client = fixture.ask(&Request::Set {
        edits: vec![stall("9000")],
        save: true,
    });
    let edited = Fixture::text("# By hand.\n");
    fixture.write(&edited);
    let both = [&workers[0], &workers[1]];
    let (_, outcome) = take_up(&mut fixture, &both, &mut client);
    assert!(outcome.applied && !outcome.saved, "{outcome:?}");
    assert!(outcome.not_saved.unwrap().contains("somebody else"));
    assert_eq!(std::fs::read_to_string(fixture.file()).unwrap(), edited);
    let manager = &fixture.manager;
    assert_eq!(manager.unsaved, [stall("9000")]);
    assert_eq!(manager.parts.record.unsaved, [stall("9000")]);
    // The hand only wrote a comment: saved once more it is in the file, with what the hand wrote.
    let mut client = fixture.ask(&Request::Set {
        edits: Vec::new(),
        save: true,
    });
    let outcome = client.outcome();
    assert!(outcome.saved && !outcome.applied, "{outcome:?}");
    let text = std::fs::read_to_string(fixture.file()).unwrap();
    assert!(
        text.contains("# By hand.") && text.contains("= 9000"),
        "{text}"
    );
    assert!(fixture.manager.parts.record.unsaved.is_empty());
}

#[test]
fn cores_that_do_not_exist_are_refused_at_run_time_too() {
    let core = tidegate_dataplane::affinity::available_cores()[0];
    let missing = tidegate_config::limits::CORE_MAX;
    let mut fixture = Fixture::of("cores", &Fixture::text_on([core, core]));
    let workers = fixture.serve();
    let fault = format!("core {missing} (worker 1) is not available to this process; available:");
    let moved = Request::Queues {
        port: "kernel".into(),
        cores: [(1, missing)].into(),
        save: true,
    };
    fixture.write(&Fixture::text_on([core, core]));
    let faults = fixture.ask(&moved).faults();
    assert!(faults.contains(&fault), "{faults}");
    fixture.write(&Fixture::text_on([core, missing]));
    for dry_run in [true, false] {
        let faults = fixture.ask(&Request::Reload { dry_run }).faults();
        assert!(faults.contains(&fault), "{faults}");
    }
    fixture.turn();
    let heard = workers.each_ref().map(StandIn::hear);
    assert!(heard.iter().all(Option::is_none), "{heard:?}");
    assert_eq!(fixture.manager.generation, 1);
}

#[test]
fn a_file_that_is_none_is_refused_at_once() {
    let mut fixture = Fixture::new("pipe");
    let _workers = fixture.serve();
    std::fs::remove_file(fixture.file()).unwrap();
    for command in [&["mkfifo"][..], &["ln", "-s", "/dev/zero"]] {
        let mut made = std::process::Command::new(command[0]);
        made.args(&command[1..]).arg(fixture.file());
        assert!(made.status().unwrap().success());
        let faults = fixture.ask(&RELOAD).faults();
        assert!(faults.contains("it is no regular file"), "{faults}");
        std::fs::remove_file(fixture.file()).unwrap();
    }
    let long = "#".repeat(tidegate_config::limits::FILE_BYTES_MAX + 1);
    fixture.write(&long);
    let faults = fixture.ask(&RELOAD).faults();
    assert!(faults.contains("the most that is read"), "{faults}");
}

/// What a worker would be started with, were it started with what came along.
fn payload(mut descriptors: Vec<OwnedFd>) -> WorkerStart {
    payload::read(descriptors.swap_remove(0)).unwrap()
}

/// Has these workers take up what they are asked to. Returns what they were to make ready.
fn take_up(
    fixture: &mut Fixture,
    workers: &[&StandIn],
    client: &mut Client,
) -> (Vec<WorkerStart>, Outcome) {
    fixture.turn();
    let prepared = workers.iter().map(|worker| payload(worker.obey(&PREPARE)));
    let prepared = prepared.collect();
    fixture.turn();
    for worker in workers {
        worker.obey(&ToWorker::TakeUp);
    }
    fixture.turn();
    (prepared, client.outcome())
}

fn is_told_to_drain(worker: &StandIn) -> bool {
    let heard = std::iter::from_fn(|| worker.hear_to_the_end());
    let mut messages = heard.map(|(envelope, _)| envelope.message);
    messages.any(|message| matches!(message, ToWorker::Drain { .. }))
}

#[test]
fn a_configuration_that_workers_cannot_start_with_can_be_mended() {
    let mut fixture = Fixture::new("mend");
    let workers = fixture.serve();
    fixture.write(&Fixture::text("clients_max = 300\n"));
    let mut client = fixture.ask(&RELOAD);
    let both = [&workers[0], &workers[1]];
    let (prepared, outcome) = take_up(&mut fixture, &both, &mut client);
    let limit = prepared[0].config.worker.clients_max;
    assert!(limit != 300 && outcome.replacing, "{outcome:?}");
    assert!(is_told_to_drain(&workers[0]));
    fixture.kill(0);
    // Here no process can start.
    fixture.turn_until("start that fails", |manager| {
        let slot = &manager.slots[0];
        slot.starts > 1 && slot.last_exit.as_deref() == Some("exit code 1")
    });
    assert!(workers[1].hear().is_none(), "one after the other");

    fixture.write(&Fixture::text(""));
    let mut client = fixture.ask(&RELOAD);
    let (prepared, outcome) = take_up(&mut fixture, &[&workers[1]], &mut client);
    assert_eq!(prepared[0].config.worker.clients_max, limit, "as it has it");
    assert!(outcome.applied && outcome.replacing, "{outcome:?}");
    assert_eq!(
        fixture.manager.parts.shared.config.worker.clients_max,
        limit
    );
    let _successor = fixture.stand_in(0, Stage::Running);
    fixture.turn_until("end of it", |manager| manager.replacement.is_none());
    let heard = workers[1].hear();
    assert!(heard.is_none(), "it never had anything else: {heard:?}");
    let generation = fixture.manager.generation;
    assert_eq!(fixture.manager.slots[1].generation, generation);
}

#[test]
fn a_worker_that_starts_when_its_turn_comes_is_replaced_once_it_serves() {
    let mut fixture = Fixture::new("turn");
    let workers = fixture.serve();
    fixture.write(&Fixture::text("clients_max = 300\n"));
    let mut client = fixture.ask(&RELOAD);
    fixture.turn();
    for worker in &workers {
        worker.obey(&PREPARE);
    }
    fixture.turn();
    // It dies while it takes up; the next one begins before the limits are in force.
    fixture.kill(1);
    let late = fixture.stand_in(1, Stage::Starting);
    workers[0].obey(&ToWorker::TakeUp);
    fixture.turn();
    assert!(client.outcome().replacing);
    assert!(is_told_to_drain(&workers[0]) && !is_told_to_drain(&late));
    fixture.kill(0);
    let _first = fixture.stand_in(0, Stage::Running);
    fixture.turn();
    assert!(!is_told_to_drain(&late), "it cannot yet");
    late.say(&FromWorker::Ready);
    fixture.turn();
    assert!(is_told_to_drain(&late));
    fixture.kill(1);
    let _second = fixture.stand_in(1, Stage::Running);
    fixture.turn();
    assert!(fixture.manager.replacement.is_none());
}

#[test]
fn a_worker_that_has_to_finish_does_not_stay_by_saying_that_it_is_ready() {
    let settings = |more: &str| Fixture::text(&format!("drain_timeout_ms = 600_000\n{more}"));
    let mut fixture = Fixture::of("ready-again", &settings(""));
    let workers = fixture.serve();
    fixture.write(&settings("clients_max = 300\n"));
    let mut client = fixture.ask(&RELOAD);
    take_up(&mut fixture, &[&workers[0], &workers[1]], &mut client);
    assert!(is_told_to_drain(&workers[0]));
    workers[0].say(&FromWorker::Ready);
    fixture.turn();
    assert!(
        !is_told_to_drain(&workers[0]),
        "its time does not begin anew"
    );
    fixture.wait_until_killed(0);
    let _successor = fixture.stand_in(0, Stage::Running);
    fixture.turn();
    assert!(is_told_to_drain(&workers[1]), "the others are not held up");
}

#[test]
fn a_worker_that_is_asked_twice_to_finish_has_the_shorter_time() {
    const LONG_MS: u32 = 600_000;
    for times in [[0, LONG_MS], [LONG_MS, 0]] {
        let mut fixture = Fixture::new("twice");
        let _workers = fixture.serve();
        let process = fixture.manager.slots[0].process.as_mut().unwrap();
        let began = Instant::now();
        for deadline_ms in times {
            process.drain(deadline_ms);
        }
        assert!(!process.overstays(began), "{times:?}");
        assert!(
            process.overstays(Instant::now() + LEAVING_GRACE),
            "{times:?}"
        );
    }
}

fn count(page: &OwnedFd, layout: StatisticsLayout, pool: usize, requests: u64) {
    let counters = PoolCounters {
        requests,
        client_connections: requests,
        ..PoolCounters::default()
    };
    let writer = StatisticsWriter::map(page, layout).unwrap();
    writer.write_pool(pool, &counters);
}

/// Requests of the pool of the fixture, by `tidegate stats` and by `tidegate status`.
fn counted(fixture: &mut Fixture) -> [u64; 2] {
    let manager = &mut fixture.manager;
    let stats = crate::stats::gather::stats(manager);
    let pool = stats.pools.iter().find(|pool| pool.name == "sessions");
    let of_stats = pool.unwrap().counters.requests;
    let status = crate::status::gather::report(manager);
    let pool = status.pools.iter().find(|pool| pool.name == "sessions");
    [of_stats, pool.unwrap().counters.requests]
}

#[test]
fn counters_go_on_while_workers_take_up_another_configuration() {
    let mut fixture = Fixture::new("counters");
    let workers = fixture.serve();
    let before = fixture.manager.parts.shared.layout;
    for worker in &workers {
        count(&worker.page, before, 0, 7);
    }
    assert_eq!(counted(&mut fixture), [14, 14]);
    let other = "[[pool]]\nname = \"other\"\nprotocol = \"redis\"\nlisten = \"127.84.250.1:22122\"\n\
                 servers = [\"127.84.250.1:6379\"]\n[[pool]]\nname = \"sessions\"";
    let text = Fixture::text("").replace("[[pool]]\nname = \"sessions\"", other);
    fixture.write(&text);
    let _client = fixture.ask(&RELOAD);
    fixture.turn();
    let mut pages = workers.each_ref().map(|worker| worker.obey(&PREPARE));
    fixture.turn();
    let after = fixture.manager.parts.shared.layout;
    assert_eq!((before.pools, after.pools), (1, 2));
    assert_eq!(counted(&mut fixture), [14, 14], "in the pages of before");
    // One counts in the new page from now on, where the pool has another place. One dies before it does.
    count(&pages[0].swap_remove(1), after, 1, 9);
    workers[0].obey(&ToWorker::TakeUp);
    fixture.turn();
    assert_eq!(counted(&mut fixture), [16, 16]);
    count(&workers[1].page, before, 0, 8);
    fixture.kill(1);
    assert_eq!(counted(&mut fixture), [17, 9], "the dead are in the sums");
}

#[test]
fn the_sums_over_all_pools_never_fall() {
    let mut fixture = Fixture::new("sums");
    let workers = fixture.serve();
    let before = fixture.manager.parts.shared.layout;
    for worker in &workers {
        count(&worker.page, before, 0, 7);
    }
    // Over all pools there is no other sum of these: what a worker took.
    let sums = |fixture: &mut Fixture| {
        let stats = crate::stats::gather::stats(&mut fixture.manager);
        let workers = stats.workers.iter();
        let rates = workers.map(|worker| worker.rates.minute.requests_per_s > 0.0);
        let connections = stats.total.client_connections;
        (connections, rates.collect::<Vec<_>>())
    };
    let ago = std::time::Instant::now().checked_sub(std::time::Duration::from_secs(20));
    let nothing = crate::stats::totals::Totals::default();
    fixture.manager.memory.begin(ago.unwrap(), nothing);
    assert_eq!(sums(&mut fixture), (14, vec![true, true]));
    fixture.write(&Fixture::text("").replace("\"sessions\"", "\"renamed\""));
    let mut client = fixture.ask(&RELOAD);
    fixture.turn();
    for worker in &workers {
        worker.obey(&PREPARE);
    }
    fixture.turn();
    workers[0].obey(&ToWorker::TakeUp);
    fixture.turn();
    assert_eq!(sums(&mut fixture), (14, vec![true, true]), "one of two");
    // It says that it has taken it up, and dies.
    workers[1].obey(&ToWorker::TakeUp);
    fixture.kill(1);
    assert_eq!(sums(&mut fixture), (14, vec![true, true]));
    fixture.turn();
    assert!(client.outcome().applied);
    let text = std::fs::read(fixture.file().with_file_name("run/fixture/totals.json"));
    let totals: crate::stats::totals::Totals = serde_json::from_slice(&text.unwrap()).unwrap();
    let of_pool = &totals.pools["sessions"].counters;
    assert_eq!(of_pool.client_connections, 14, "the next manager has it");
}
