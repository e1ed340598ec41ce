//! Reloads with workers that say what they are told to.

use super::edit::Edit;
use crate::control::request::Request;
use crate::lifecycle::drain::DrainRequest;
use crate::manager::fixture::Fixture;
use tidegate_channel::message::ToWorker;

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

#[test]
fn a_second_change_is_refused_and_costs_the_first_nothing() {
    let mut fixture = Fixture::new("second");
    let workers = fixture.serve();
    let set = |value: &str| Request::Set {
        edits: vec![Edit::Worker {
            settings: vec![("client_stall_ms".into(), value.into())],
        }],
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
