//! The command's end of a capture.

use super::output::Place;
use super::write::{Limits, Over, Scribe};
use super::{Ask, Begun, RATE_MAX, SECONDS_MAX};
use crate::control::client::{self, ask_for_descriptors};
use crate::control::request::Request;
use crate::signals;
use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tidegate_port::capture::Receiver;

/// How long the rings are left alone. They hold twice what the fastest worker copies meanwhile.
const NAP: Duration = Duration::from_millis(4);
/// How long workers may take to say that they have ended.
const GRACE: Duration = Duration::from_secs(1);

/// What is captured, where to, and how much of it.
#[derive(Args)]
pub struct CaptureArgs {
    /// Name of the pool: frames from and to its clients and servers are captured.
    #[arg(long)]
    pool: String,
    /// The file, in the format pcapng; - for standard output.
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
    /// Keep so many bytes of each frame, which may be values and passwords. Without it only headers are kept.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,
    /// End when the file has so many bytes.
    #[arg(long, value_name = "BYTES", default_value_t = u64::MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: u64,
    /// End after so many frames.
    #[arg(long, value_name = "FRAMES", default_value_t = u64::MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    max_frames: u64,
    /// End after so many seconds.
    #[arg(long, default_value_t = SECONDS_MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Capture at most so many frames a second of each worker; others are counted.
    #[arg(long, value_name = "FRAMES", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: u64,
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
}

/// Captures until a limit, Ctrl-C, or a fault ends it.
pub fn run(args: &CaptureArgs, root: &Path) -> anyhow::Result<ExitCode> {
    // Before anything begins: from here on a signal ends the capture and not the process.
    let signals = signals::block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    let file = args.write.display().to_string();
    let cannot_write = || format!("cannot write {file}");
    // A place that is none is told before a worker copies anything, and a refused capture costs no older one.
    let place = Place::open(&args.write).with_context(cannot_write)?;
    let request = Request::Capture(Ask {
        pool: args.pool.clone(),
        snaplen: args.snaplen,
        rate: args.rate,
        seconds: args.seconds,
    });
    let (answer, mut descriptors) = ask_for_descriptors(root, args.name.as_deref(), &request)?;
    let begun: Begun = client::read(answer)?;
    if descriptors.len() != 1 + begun.workers as usize {
        bail!("the manager is of another version: it sent too few descriptors");
    }
    let rings = descriptors.split_off(1);
    let mut rings: Vec<Receiver> = rings
        .iter()
        .map(|ring| Receiver::open(ring.as_fd()))
        .collect::<Result<_, _>>()?;
    let life = descriptors.pop().map(UnixStream::from);
    let life = life.context("the manager sent no socket")?;
    life.set_nonblocking(true)?;
    let out = place.begin().with_context(cannot_write)?;
    let limits = Limits {
        bytes: args.max_bytes,
        frames: args.max_frames,
    };
    let snaplen = args.snaplen.unwrap_or(0);
    let mut scribe = Scribe::new(out, &begun, snaplen, limits).with_context(cannot_write)?;
    let ends = Instant::now() + Duration::from_secs(args.seconds);
    let outcome = record(&mut scribe, &mut rings, &life, &signals, ends);
    // The workers stop copying as soon as the manager sees this.
    drop(life.shutdown(std::net::Shutdown::Both));
    let failed = match outcome {
        Err(error) => Some(error),
        Ok(()) => finish(&mut scribe, &mut rings).err(),
    };
    let (frames, lost) = (scribe.frames(), scribe.lost());
    let lost = if lost > 0 {
        format!(", {lost} lost")
    } else {
        String::new()
    };
    eprintln!("{frames} frames{lost}");
    match failed {
        Some(error) => {
            Err(anyhow::Error::from(error).context(format!("cannot go on writing {file}")))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Writes what comes, until something ends it. `Err`: the file takes no more.
fn record<W: Write>(
    scribe: &mut Scribe<W>,
    rings: &mut [Receiver],
    mut life: &UnixStream,
    signals: &SignalFd,
    ends: Instant,
) -> std::io::Result<()> {
    loop {
        let frames = scribe.frames();
        match scribe.take(rings) {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(Over::Limit) => return Ok(()),
            ControlFlow::Break(Over::Failed(error)) => return Err(error),
        }
        let signalled = matches!(signals.read_signal(), Ok(Some(_)));
        // Nothing is ever said on it: anything but silence is the manager's end.
        let alive = life
            .read(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        if signalled || !alive || Instant::now() >= ends || scribe.is_complete() {
            return Ok(());
        }
        if scribe.frames() == frames {
            scribe.flush()?;
        }
        std::thread::sleep(NAP);
    }
}

/// Takes what was copied before the workers ended, and ends the file.
fn finish<W: Write>(scribe: &mut Scribe<W>, rings: &mut [Receiver]) -> std::io::Result<()> {
    let until = Instant::now() + GRACE;
    while !scribe.is_complete() && Instant::now() < until {
        match scribe.take(rings) {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(Over::Limit) => return scribe.finish(),
            ControlFlow::Break(Over::Failed(error)) => return Err(error),
        }
        std::thread::sleep(NAP);
    }
    scribe.finish()
}
