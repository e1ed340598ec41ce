//! What fails, by name.

use std::os::fd::AsFd;

use super::*;
use crate::doorbell::Doorbell;
use crate::test_lab::Lab;
use crate::test_support::wait_readable;

type Endless = Loop<fn() -> ControlFlow<()>>;

/// A loop that finds nothing to do.
#[allow(
    clippy::unnecessary_wraps,
    reason = "run() takes functions that can fail"
)]
fn endless(_worker: usize, _ports: Vec<DpdkPort>) -> Result<Endless, StartError> {
    Ok(Loop(|| {
        std::thread::yield_now();
        ControlFlow::Continue(())
    }))
}

/// What comes of opening this on the appliance, in a child; `check` gets the error.
fn fails(lab: &Lab, config: &DpdkConfig, check: impl FnOnce(DpdkError) + Send + 'static) {
    let config = config.clone();
    let child = child_on(&lab.appliance, move || {
        check(run(&config, endless).unwrap_err());
    });
    assert!(child.wait(), "the child says why");
}

fn af_xdp(start_queue: u32) -> DeviceKind {
    DeviceKind::AfXdp {
        interface: "tg0".to_owned(),
        start_queue,
    }
}

#[test]
fn interfaces_that_cannot_be_opened_are_named() {
    if !alone() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let Some(one) = cores(1) else { return };
    let on = |interface: &str| DeviceKind::AfPacket {
        interface: interface.to_owned(),
    };
    fails(&lab, &config(on("tg7"), one.clone()), |error| {
        assert!(matches!(error, DpdkError::Nic(_)), "{error}");
        assert!(error.to_string().contains("tg0"), "{error}");
    });
    lab.appliance.ip("link set tg0 down");
    fails(&lab, &config(on("tg0"), one.clone()), |error| {
        assert_eq!(error.to_string(), "tg0 is down: ip link set tg0 up");
    });
    lab.appliance.ip("link set tg0 up");
    lab.peer.ip("link set tg1 down");
    let soon = DpdkConfig {
        link_deadline: Duration::from_millis(30),
        ..config(on("tg0"), one)
    };
    fails(&lab, &soon, |error| {
        assert!(matches!(error, DpdkError::LinkDown { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("tg0 has had no link for 30 ms"),
            "{error}"
        );
    });
}

#[test]
fn fewer_queues_than_cores_are_named() {
    if !alone() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let Some(two) = cores(2) else { return };
    fails(&lab, &config(af_xdp(1), two), |error| {
        let text = error.to_string();
        assert!(
            text.starts_with("tg0 has 1 queues, and 2 are wanted"),
            "{text}"
        );
    });
}

#[test]
fn a_queue_that_somebody_has_is_named() {
    if !alone() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let Some(one) = cores(1) else { return };
    let config = config(af_xdp(0), one);
    let ready = Doorbell::new().unwrap();
    let (of_first, bell) = (config.clone(), ready.try_clone().unwrap());
    let first = child_on(&lab.appliance, move || {
        let _outcome = run(&of_first, move |worker, ports: Vec<DpdkPort>| {
            bell.ring();
            endless(worker, ports)
        });
    });
    wait_readable(ready.as_fd());
    fails(&lab, &config, |error| {
        assert!(matches!(error, DpdkError::InUse { .. }), "{error}");
        assert!(
            error.to_string().starts_with("queue 0 of tg0 is in use"),
            "{error}"
        );
    });
    first.kill();
}

#[test]
fn dpdk_starts_once_and_stops_for_a_signal() {
    in_child(1, |one| {
        let config = config(DeviceKind::Loop, one);
        // SAFETY: until the main thread listens, the signal is to do nothing.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        let outcome = run(&config, |_, _| {
            let signal = || {
                // SAFETY: a signal to ourselves.
                unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
                std::thread::yield_now();
                ControlFlow::Continue(())
            };
            Ok(Loop(signal))
        });
        assert_eq!(outcome.unwrap(), Outcome::Signalled);
        let again = run(&config, endless).unwrap_err();
        assert!(matches!(again, DpdkError::Again), "{again}");
    });
}

#[test]
fn a_loop_that_cannot_begin_ends_all() {
    in_child(2, |cores| {
        let config = config(DeviceKind::Loop, cores);
        let outcome = run(&config, |worker, ports: Vec<DpdkPort>| {
            if worker == 1 {
                return Err("no reason".into());
            }
            endless(worker, ports)
        });
        assert_eq!(outcome.unwrap_err().to_string(), "worker 1: no reason");
    });
}

#[test]
fn a_panic_in_a_loop_ends_the_process() {
    if !alone() {
        return;
    }
    let Some(one) = cores(1) else { return };
    let child = child(|| {
        let config = config(DeviceKind::Loop, one);
        let _never = run(&config, |_, _| Ok(Loop(|| panic!("on purpose"))));
    });
    assert!(!child.wait());
}

#[test]
fn nothing_is_written_past_our_log() {
    in_child(1, |one| {
        // SAFETY: a terminated name in, a new descriptor or -1 out.
        let file = unsafe { libc::memfd_create(c"output".as_ptr(), 0) };
        assert!(file >= 0);
        // SAFETY: descriptors of ours; nothing else in this process writes meanwhile.
        let terminal = unsafe {
            let terminal = libc::dup(2);
            libc::dup2(file, 1);
            libc::dup2(file, 2);
            terminal
        };
        let outcome = once(&config(DeviceKind::Loop, one), |port| port.worker());
        // SAFETY: as above.
        unsafe { libc::dup2(terminal, 2) };
        let written = std::fs::read_to_string(format!("/proc/self/fd/{file}")).unwrap();
        assert_eq!((outcome.unwrap(), &*written), (0, ""));
    });
}
