//! The interfaces and their drivers.

use super::{Findings, Patient};
use crate::virtio;
use tidegate_config::{Pmd, PortConfig};
use tidegate_port::nic::Nic;

const ABOUT: &str = "interface";

/// Drivers that give frames to AF_XDP without a copy, as their kernels document it. A driver that has learnt it since is called
/// slower than it is, and `tidegate status` says what was obtained.
const ZERO_COPY: [&str; 12] = [
    "fsl_dpaa2_eth",
    "gve",
    "i40e",
    "ice",
    "idpf",
    "igb",
    "igc",
    "ixgbe",
    "mlx5_core",
    "nfp",
    "st_gmac",
    "tsnep",
];
/// Drivers that run XDP programs themselves and copy, at least in most kernels.
const NATIVE: [&str; 16] = [
    "bnxt_en",
    "ena",
    "enetc",
    "fec",
    "hv_netvsc",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mvneta",
    "mvpp2",
    "qede",
    "sfc",
    "veth",
    "vif",
    "virtio_net",
    "vmxnet3",
];
/// Bytes of the largest packet that fits a frame.
const MTU_BYTES_MAX: usize = 1_792;

pub fn look(patient: &Patient<'_>, findings: &mut Findings) {
    let Some(config) = patient.config else { return };
    for port in &config.ports {
        // One that is missing is a fault of the plan.
        let Some(Ok(nic)) = patient.facts.nics.get(&port.interface) else {
            continue;
        };
        of_carrier(nic, findings);
        if let Some(dpdk) = &port.dpdk {
            of_virtual_device(port, dpdk.pmd, nic, findings);
            continue;
        }
        of_driver(port, nic, findings);
        of_mtu(port, nic, findings);
        of_virtio(nic, findings);
        of_fixed_features(patient, nic, findings);
    }
}

fn of_carrier(nic: &Nic, findings: &mut Findings) {
    if nic.is_up && !nic.is_running {
        findings.blocks(
            ABOUT,
            format!("{} has no carrier", nic.name),
            "plug it in, or raise the other end",
        );
    }
}

/// DPDK over an interface that stays with the kernel: for tests, whatever is below.
fn of_virtual_device(port: &PortConfig, pmd: Pmd, nic: &Nic, findings: &mut Findings) {
    let name = &nic.name;
    let (device, cost) = match pmd {
        Pmd::AfPacket => (
            "net_af_packet",
            "the kernel sees and copies every frame as well",
        ),
        Pmd::AfXdp => (
            "net_af_xdp",
            "driver = \"afxdp\" does the same better, and leaves the kernel its own",
        ),
        Pmd::Pci => return,
    };
    findings.slower(
        ABOUT,
        format!("{name} stays with the kernel, and DPDK reaches it through {device}: good for tests, {cost}"),
        "give a card to DPDK and name its address (docs/dpdk.md), or use driver = \"afxdp\"",
    );
    if let Some(mtu_bytes) = port.mtu_bytes
        && mtu_bytes as usize > nic.mtu_bytes
    {
        findings.blocks(
            ABOUT,
            format!(
                "mtu_bytes = {mtu_bytes}, and {name} has only {}",
                nic.mtu_bytes
            ),
            format!("ip link set {name} mtu {mtu_bytes}, or lower mtu_bytes"),
        );
    }
}

fn of_driver(port: &PortConfig, nic: &Nic, findings: &mut Findings) {
    let name = &nic.name;
    let driver = nic.driver.as_deref().unwrap_or("unknown");
    if ZERO_COPY.contains(&driver) {
        return;
    }
    let what = match driver {
        "veth" => format!(
            "{name} is a veth: good for tests, every frame is copied and both ends share the machine's cores"
        ),
        "tun" => format!("{name} is a TAP device: good for tests, every frame passes a process"),
        _ if NATIVE.contains(&driver) => {
            format!("{name}: driver {driver} is not known for zero copy: one copy per frame")
        }
        _ => format!(
            "{name}: driver {driver} is not known to run XDP programs itself: the kernel's generic path is several times slower"
        ),
    };
    let mut mend = "a card whose driver does zero copy, such as ice, i40e, ixgbe, igc or mlx5_core; `tidegate status` \
                    shows what was obtained"
        .to_owned();
    if port.require_zero_copy {
        mend.push_str("; require_zero_copy = true will probably refuse to start");
    }
    findings.slower(ABOUT, what, mend);
}

fn of_mtu(port: &PortConfig, nic: &Nic, findings: &mut Findings) {
    let name = &nic.name;
    if nic.mtu_bytes > MTU_BYTES_MAX {
        findings.blocks(
            ABOUT,
            format!(
                "{name} has an MTU of {} bytes, AF_XDP takes at most {MTU_BYTES_MAX} here",
                nic.mtu_bytes
            ),
            format!("ip link set {name} mtu 1500"),
        );
    } else if let Some(mtu_bytes) = port.mtu_bytes
        && mtu_bytes as usize > nic.mtu_bytes
    {
        findings.slower(
            ABOUT,
            format!(
                "mtu_bytes = {mtu_bytes}, and {name} has only {}: larger packets are lost",
                nic.mtu_bytes
            ),
            format!("ip link set {name} mtu {mtu_bytes}, or lower mtu_bytes"),
        );
    }
}

/// What keeps virtio_net from running the steering program. Its queues are a matter of the plan, and so is what makes `tidegate run`
/// refuse to start.
fn of_virtio(nic: &Nic, findings: &mut Findings) {
    if virtio::bypass(nic).is_some() {
        return;
    }
    if let Some((what, mend)) = virtio::complaint(nic) {
        if virtio::spoils_generic_mode(nic) {
            findings.blocks(ABOUT, what, mend);
        } else {
            findings.slower(ABOUT, what, mend);
        }
    }
}

/// What joins frames and cannot be switched off.
fn of_fixed_features(patient: &Patient<'_>, nic: &Nic, findings: &mut Findings) {
    // Of virtio_net more is known than that.
    if nic.virtio.is_some() {
        return;
    }
    let features = patient.host.features(&nic.name).unwrap_or_default();
    let joins = features.iter().filter(|feature| {
        let joins = ["rx-lro", "rx-gro-hw"].contains(&feature.name.as_str());
        joins && feature.active && !feature.changeable
    });
    for feature in joins {
        findings.slower(
            ABOUT,
            format!(
                "{}: {} is on and the driver keeps it so: it may refuse native mode",
                nic.name, feature.name
            ),
            "in a virtual machine: switch it off at the host (QEMU: guest_tso4=off,guest_tso6=off,guest_ufo=off, or \
             ctrl_guest_offloads=on)",
        );
    }
}
