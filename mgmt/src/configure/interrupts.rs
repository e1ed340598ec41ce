//! Which interrupt is which queue's. Only the name that a driver gave it says so.

use crate::host::{self, Host, Interrupt};

/// What stands before the number of a queue, in small letters and without separators at its end. Transmit queues that have
/// interrupts of their own count as well: their completions are work for the same worker.
const BEFORE_NUMBER: [&str; 9] = [
    "txrx", "tx-rx", "rxtx", "rx", "tx", "input", "output", "comp", "fp",
];

/// The queue of an interrupt with this action: `ice-eth1-TxRx-3`, `mlx5_comp3@pci:0000:81:00.0`, `virtio1-input.3`, `eth1-3`.
/// `None`: it is for something else.
fn queue(action: &str, interface: &str) -> Option<u32> {
    let action = action.split('@').next()?;
    let before = action.trim_end_matches(|c: char| c.is_ascii_digit());
    let queue = action[before.len()..].parse().ok()?;
    let before = before.trim_end_matches(['-', '.', '_']);
    let lower = before.to_ascii_lowercase();
    let word = BEFORE_NUMBER.iter().any(|word| {
        lower.strip_suffix(word).is_some_and(|rest| {
            rest.is_empty() || rest.ends_with(|c: char| !c.is_ascii_alphabetic())
        })
    });
    (word || before == interface).then_some(queue)
}

/// The interrupts of an interface's queues.
///
/// # Errors
/// Why they are not known.
pub fn queues(host: &dyn Host, interface: &str) -> Result<Vec<(u32, Interrupt)>, String> {
    if host::interface_directory(host, interface).is_none() {
        return Err(format!(
            "{interface}: /sys shows another network namespace, so its interrupts are not known"
        ));
    }
    let interrupts = host::interrupts(host, interface);
    if interrupts.is_empty() {
        return Err(format!(
            "{interface}: no interrupts of its own (a virtual interface)"
        ));
    }
    let actions: Vec<String> = interrupts
        .iter()
        .map(|interrupt| interrupt.action.clone())
        .collect();
    let queues: Vec<(u32, Interrupt)> = interrupts
        .into_iter()
        .filter_map(|interrupt| Some((queue(&interrupt.action, interface)?, interrupt)))
        .collect();
    if queues.is_empty() {
        return Err(format!(
            "{interface}: which interrupt is which queue's cannot be told from their names: {}",
            actions.join(", ")
        ));
    }
    Ok(queues)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_common_drivers_are_understood() {
        for (action, expected) in [
            ("ice-eth1-TxRx-3", Some(3)),
            ("eth1-TxRx-0", Some(0)),
            ("eth1-Tx-Rx-7", Some(7)),
            ("eth1-rx-12", Some(12)),
            ("eth1-tx-12", Some(12)),
            ("mlx5_comp15@pci:0000:81:00.0", Some(15)),
            ("virtio1-input.2", Some(2)),
            ("virtio1-output.2", Some(2)),
            ("bnx2x-eth1-fp-4", Some(4)),
            ("eth1-5", Some(5)),
            ("eth1-rxtx-1", Some(1)),
            ("virtio1-config", None),
            ("ice-eth1-misc", None),
            ("eth1", None),
            ("eth1-event-4", None),
            ("mlx5_async0@pci:0000:81:00.0", None),
            ("ena-mgmnt@pci:0000:00:05.0", None),
            ("matrx3", None),
            ("", None),
        ] {
            assert_eq!(queue(action, "eth1"), expected, "{action}");
        }
    }
}
