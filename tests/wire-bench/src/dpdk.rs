//! Two devices of DPDK in place of the wire. Each is a loop in memory, and the two ports have exchanged their transmit halves: what
//! the worker sends the load receives, and the other way round.

use anyhow::{Context, Result, bail};
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;
use tidegate_port::dpdk::{
    self, DeviceConfig, DeviceKind, DpdkConfig, DpdkPort, Memory, QueueLoop,
};

/// The core of everything.
const CORE: usize = 0;

/// What the ring of a loop has, whatever it was asked for.
const RING_SIZE: u16 = 1_024;

/// A loop is up at once.
const LINK_DEADLINE: Duration = Duration::from_secs(1);

/// A loop of one turn, in which everything happens.
struct Once<F>(Option<F>);

impl<F: FnOnce()> QueueLoop for Once<F> {
    fn turn(&mut self) -> ControlFlow<()> {
        if let Some(body) = self.0.take() {
            body();
        }
        ControlFlow::Break(())
    }
}

/// Does something with the ends of such a wire, on the thread that DPDK has for them. DPDK starts once in the life of a process, and
/// so does this.
pub fn on_loops<T, F>(body: F) -> Result<T>
where
    T: Send + 'static,
    F: Fn(DpdkPort, DpdkPort) -> Result<T> + Clone + Send + Sync + 'static,
{
    let device = DeviceConfig {
        kind: DeviceKind::Loop,
        ring_size: RING_SIZE,
        without_iommu: false,
    };
    let config = DpdkConfig {
        name: "wire-bench".to_owned(),
        cores: vec![CORE],
        memory: Memory::Ordinary,
        devices: vec![device.clone(), device],
        link_deadline: LINK_DEADLINE,
    };
    let (sender, receiver) = mpsc::channel();
    dpdk::run(&config, move |_worker, ports: Vec<DpdkPort>| {
        let (sender, body) = (sender.clone(), body.clone());
        Ok(Once(Some(move || {
            // The receiver waits until the loop has ended.
            let _received = sender.send(crossed(ports, body));
        })))
    })?;
    receiver.try_recv().context("a signal ended the loop")?
}

fn crossed<T>(ports: Vec<DpdkPort>, body: impl Fn(DpdkPort, DpdkPort) -> Result<T>) -> Result<T> {
    let mut ports = ports.into_iter();
    let (Some(mut one), Some(mut other)) = (ports.next(), ports.next()) else {
        bail!("there is no port on one of the two devices");
    };
    one.exchange_tx(&mut other);
    body(one, other)
}
