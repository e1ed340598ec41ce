//! Frames that get lost: a program on the far end of a cable, in both directions.

use crate::netns::Namespace;
use anyhow::{Context, Result};
use tidegate_port::bpf::asm::{Assembler, Helper, Reg};
use tidegate_port::bpf::{Link, Program, ProgramKind};

/// `TC_ACT_UNSPEC`: no verdict, the frame goes on.
const GO_ON: i32 = -1;
/// `TC_ACT_SHOT`: the frame is lost.
const LOSE: i32 = 2;

/// Lost frames on one end of a cable. Dropping it ends that.
#[derive(Debug)]
pub struct Loss {
    _links: [Link; 2],
}

impl Loss {
    /// Loses `percent` of the frames that `device` of the lab's `host` sends, and as many of those that it receives.
    pub fn begin(host: &Namespace, device: &str, percent: u32) -> Result<Self> {
        let instructions = program(percent);
        let attach = |kind| -> Result<Link> {
            let program = Program::load(kind, "tg_loss", &instructions)?;
            // The calling thread's namespace decides which device is meant.
            host.run(|| -> Result<Link> {
                let index = nix::net::if_::if_nametoindex(device)?;
                Ok(program.attach(index, 0)?)
            })
            .with_context(|| format!("cannot lose frames of {device}"))
        };
        Ok(Self {
            _links: [
                attach(ProgramKind::TcxEgress)?,
                attach(ProgramKind::TcxIngress)?,
            ],
        })
    }
}

/// Loses a frame if 31 random bits are below the share.
fn program(percent: u32) -> Vec<u64> {
    let share = i32::try_from(u64::from(percent.min(100)) * (i32::MAX as u64) / 100)
        .expect("a share of a number is below it");
    let mut asm = Assembler::new();
    asm.call(Helper::RandomU32);
    asm.shift_right(Reg::R0, 1);
    asm.set(Reg::R3, share);
    asm.jump_gt_reg(Reg::R0, Reg::R3, "go on");
    asm.set(Reg::R0, LOSE);
    asm.exit();
    asm.label("go on");
    asm.set(Reg::R0, GO_ON);
    asm.exit();
    asm.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of the program: their share is off by a fiftieth once in many thousand years.
    const RUNS: u32 = 20_000;

    #[test]
    fn as_many_frames_are_lost_as_were_asked_for() {
        if !nix::unistd::geteuid().is_root() {
            return crate::scene::say_skipped("loading a program into the kernel needs root");
        }
        for percent in [0, 10, 50, 100] {
            let program =
                Program::load(ProgramKind::TcxEgress, "tg_loss", &program(percent)).unwrap();
            let lost = |_: &u32| program.test_run(&[0; 60]).unwrap().action == LOSE as u32;
            let lost = (0..RUNS).filter(lost).count() as f64 / f64::from(RUNS) * 100.0;
            let expected = f64::from(percent);
            assert!(
                (lost - expected).abs() < 2.0,
                "{lost} % instead of {percent} %"
            );
        }
    }
}
