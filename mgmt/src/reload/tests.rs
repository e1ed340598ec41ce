//! Reloads with workers that say what they are told to.

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
