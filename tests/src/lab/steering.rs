//! The lab's receive-side scaling: which queue of the appliance a frame arrives on.
//!
//! A veth delivers a frame to the receive queue with the number of the transmit queue it left from, and the kernel moves a
//! flow between transmit queues as it pleases. A small program on the egress of the far end chooses instead:
//! `((source port ^ destination port) >> 1) % queues`. That is the same in both directions of a connection and can be computed
//! by the proxy, as the Toeplitz hash of a real NIC can. The lowest bit is left out because Linux connects from ports of one
//! parity while it has any: all clients would share a queue.
//!
//! The program goes to the tcx hook, which kernels have since 6.6; before that, to the older `clsact` hook through `tc`.

use super::topology::peers;
use super::{Hosts, LabOptions};
use crate::netns::{Namespace, finish};
use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate_port::bpf::asm::{Assembler, Reg};
use tidegate_port::bpf::{Link, Program, ProgramKind};

/// Offsets in `struct __sk_buff`, which the kernel shows to programs.
const SKB_QUEUE_MAPPING: i16 = 12;
const SKB_DATA: i16 = 76;
const SKB_DATA_END: i16 = 80;

/// `TC_ACT_UNSPEC`: no verdict, the frame goes on.
const GO_ON: i32 = -1;

/// The programs of a lab. Dropping them detaches those that are not pinned.
#[derive(Debug, Default)]
pub struct Steering {
    links: Vec<Link>,
}

/// Puts the program on every far end. With [`LabOptions::can_stay`] it is pinned, to outlive this process.
pub fn attach(hosts: &Hosts, options: &LabOptions, directory: &Path) -> Result<Steering> {
    let instructions = program(options.queues);
    let mut steering = Steering::default();
    for (number, (host, device)) in peers(hosts, options.nics).into_iter().enumerate() {
        let program = Program::load(ProgramKind::TcxEgress, "tg_steering", &instructions)
            .context("cannot load the lab's steering program")?;
        let pinned = directory.join("bpf").join(format!("steering-{number}"));
        match host.run(|| tcx(&program, device)) {
            Ok(link) if options.can_stay => {
                pin_directory(directory)?;
                link.pin(&pinned)
                    .context("cannot pin the lab's steering program")?;
            }
            Ok(link) => steering.links.push(link),
            Err(error) => {
                pin_directory(directory)?;
                clsact(host, device, &program, &pinned)
                    .with_context(|| format!("cannot steer frames: {error:#}"))?;
            }
        }
    }
    Ok(steering)
}

/// Undoes what [`attach`] left in the file system.
pub fn unpin(directory: &Path) {
    let pins = directory.join("bpf");
    if pins.exists() {
        // Unmounting drops the pins, which detaches the programs.
        let _ = umount2(&pins, MntFlags::MNT_DETACH);
    }
}

/// The calling thread's namespace decides which `device` is meant.
fn tcx(program: &Program, device: &str) -> Result<Link> {
    let index = nix::net::if_::if_nametoindex(device)?;
    Ok(program.attach(index, 0)?)
}

fn clsact(host: &Namespace, device: &str, program: &Program, pinned: &PathBuf) -> Result<()> {
    program.pin(pinned)?;
    // Not through `ip netns exec`, which would hide the mount: the thread's namespace is inherited.
    host.run(|| {
        finish(Command::new("tc").args(["qdisc", "replace", "dev", device, "clsact"]))?;
        finish(
            Command::new("tc")
                .args([
                    "filter",
                    "add",
                    "dev",
                    device,
                    "egress",
                    "bpf",
                    "direct-action",
                    "object-pinned",
                ])
                .arg(pinned),
        )
    })?;
    // The filter holds the program by itself.
    fs::remove_file(pinned)?;
    Ok(())
}

/// A place to pin things: a file system of BPF objects of the lab's own, since not every machine has one mounted.
fn pin_directory(directory: &Path) -> Result<()> {
    let pins = directory.join("bpf");
    if !pins.exists() {
        fs::create_dir_all(&pins)?;
        mount(
            Some("bpf"),
            &pins,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount a bpffs on {}", pins.display()))?;
    }
    Ok(())
}

/// The program. Frames that are not TCP over IPv4 or IPv6 with plain headers keep the queue the kernel chose.
fn program(queues: u32) -> Vec<u64> {
    const ETHERNET: i16 = 14;
    const IPV4: i16 = 20;
    const IPV6: i16 = 40;
    const TCP: i32 = 6;
    let (context, data, end, value, ports) = (Reg::R6, Reg::R7, Reg::R8, Reg::R3, Reg::R4);
    let mut asm = Assembler::new();
    asm.copy(context, Reg::R1);
    asm.load_u32(data, context, SKB_DATA);
    asm.load_u32(end, context, SKB_DATA_END);
    asm.copy(value, data);
    asm.add(value, i32::from(ETHERNET + IPV4 + 4));
    asm.jump_gt_reg(value, end, "go on");
    asm.load_u16(value, data, 12);
    asm.from_be16(value);
    asm.jump_eq(value, 0x0800, "ipv4");
    asm.jump_ne(value, 0x86dd, "go on");

    asm.copy(value, data);
    asm.add(value, i32::from(ETHERNET + IPV6 + 4));
    asm.jump_gt_reg(value, end, "go on");
    asm.load_u8(value, data, ETHERNET + 6);
    asm.jump_ne(value, TCP, "go on");
    asm.load_u16(value, data, ETHERNET + IPV6);
    asm.load_u16(ports, data, ETHERNET + IPV6 + 2);
    asm.jump("steer");

    asm.label("ipv4");
    asm.load_u8(value, data, ETHERNET);
    asm.jump_ne(value, 0x45, "go on");
    asm.load_u8(value, data, ETHERNET + 9);
    asm.jump_ne(value, TCP, "go on");
    asm.load_u16(value, data, ETHERNET + IPV4);
    asm.load_u16(ports, data, ETHERNET + IPV4 + 2);

    asm.label("steer");
    asm.xor_reg(value, ports);
    asm.from_be16(value);
    asm.shift_right(value, 1);
    asm.and(value, queues as i32 - 1);
    // The kernel keeps queue mappings one higher than queues; 0 means that nobody has chosen.
    asm.add(value, 1);
    asm.store_u32(context, SKB_QUEUE_MAPPING, value);

    asm.label("go on");
    asm.set(Reg::R0, GO_ON);
    asm.exit();
    asm.finish()
}
