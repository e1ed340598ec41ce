//! What would keep devices from being opened, told without opening them: to those who only look.

use super::checks;
use super::config::{DeviceConfig, DpdkConfig};
use super::error::DpdkError;

/// Everything that [`run`](super::run) would find before it starts DPDK, apart from cores: of each device, by its position, and of all of them
/// together. Where `run` ends with the first fault, this goes on.
pub fn foresee(config: &DpdkConfig) -> Vec<(Option<usize>, DpdkError)> {
    let nodes = checks::nodes(&config.cores);
    let of_device = |(index, device): (usize, &DeviceConfig)| {
        let fault = checks::device(device, config, &nodes).err()?;
        Some((Some(index), fault))
    };
    let devices = config.devices.iter().enumerate();
    let mut faults: Vec<_> = devices.filter_map(of_device).collect();
    faults.extend(
        checks::memory(config, &nodes)
            .err()
            .map(|fault| (None, fault)),
    );
    faults
}
