//! A running virtual machine, and the channel over which it is told what to do.

use crate::lab::process::Process;
use crate::netns::{Namespace, finish};
use crate::vm::network::{Leg, PCI_SLOT_CHANNEL};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the machine may take until it listens. Emulated it needs five seconds; this turns a hang into a failure.
const BOOT_PATIENCE: Duration = Duration::from_mins(1);

/// How long making the root file system may take; it takes two seconds.
const INITRAMFS_PATIENCE: Duration = Duration::from_mins(1);

/// How long a script may take. Most take a tenth of a second.
const SCRIPT_PATIENCE: Duration = Duration::from_mins(1);

/// After this QEMU is killed, whatever happens to everybody else.
const LIFE: Duration = Duration::from_mins(10);

/// Processors of a machine: as many as its devices have queues in use.
pub const CORES: u32 = 2;

/// Memory. The largest part is packet buffers.
const MEMORY_MIB: u32 = 1_024;

/// What a script may print; more would be a mistake of ours.
const PRINTED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU, an order of magnitude slower.
    Emulation,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Kvm => "KVM",
            Self::Emulation => "emulated",
        })
    }
}

impl Accelerator {
    /// What this machine can. /dev/kvm alone means nothing: where the processor has no virtualisation to offer, as inside many
    /// virtual machines, it can be there and QEMU hangs with it.
    pub fn of_this_machine() -> Self {
        let features = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has = features
            .split_whitespace()
            .any(|feature| feature == "vmx" || feature == "svm");
        let device = fs::File::options().read(true).write(true).open("/dev/kvm");
        if has && device.is_ok() {
            Self::Kvm
        } else {
            Self::Emulation
        }
    }

    /// QEMU's options.
    fn options(self) -> &'static str {
        match self {
            // Remapped interrupts need the interrupt controller in QEMU.
            Self::Kvm => "-machine q35,kernel-irqchip=split -accel kvm -cpu host",
            Self::Emulation => "-machine q35 -accel tcg,thread=multi -cpu max",
        }
    }
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Hardware<'a> {
    /// What executes it.
    pub accelerator: Accelerator,
    /// What `tests/vm/kernel` has made.
    pub kernel: &'a Path,
    /// What `tests/vm/initramfs` has made.
    pub initramfs: &'a Path,
    /// A NIC for each.
    pub legs: &'a [Leg],
}

/// A machine. Dropping it switches it off.
#[derive(Debug)]
pub struct Machine {
    /// How long it took until it listened.
    pub booted_in: Duration,
    process: Process,
    console: PathBuf,
    channel: BufReader<UnixStream>,
}

impl Machine {
    /// Switches a machine on inside `host`, whose TAPs are its cables, and waits until it listens.
    pub fn start(host: &Namespace, directory: &Path, hardware: &Hardware) -> Result<Self> {
        let started = Instant::now();
        let console = directory.join("console.log");
        let socket = directory.join("channel");
        // QEMU connects before the machine begins, so the machine never sees a channel without another end.
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        let mut command = host.command("timeout");
        command.args(["--signal=KILL", &LIFE.as_secs().to_string()]);
        qemu(&mut command, hardware, &console, &socket);
        let mut process = Process::start_command(&mut command, "qemu", directory.join("qemu.log"))?;
        let channel = loop {
            match listener.accept() {
                Ok((channel, _)) => break channel,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("QEMU's channel"),
            }
            if process.ended().is_some() || started.elapsed() > BOOT_PATIENCE {
                bail!("QEMU does not start: {}", process.log_text());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        channel.set_nonblocking(false)?;
        channel.set_read_timeout(Some(SCRIPT_PATIENCE))?;
        channel.set_write_timeout(Some(SCRIPT_PATIENCE))?;
        let mut machine = Self {
            booted_in: Duration::ZERO,
            process,
            console,
            channel: BufReader::new(channel),
        };
        machine.wait_for_console("machine: ready", started)?;
        machine.booted_in = started.elapsed();
        Ok(machine)
    }

    /// Runs a script of its shell; what it printed, or an error with that when it failed.
    pub fn run(&mut self, script: &str) -> Result<String> {
        let (status, printed) = self.ask(script)?;
        if status != 0 {
            bail!("in the machine, status {status}:\n{script}\n{printed}");
        }
        Ok(printed)
    }

    /// Runs a script of its shell; its exit status, and what it printed to both outputs.
    pub fn ask(&mut self, script: &str) -> Result<(i32, String)> {
        self.exchange(script)
            .with_context(|| format!("the machine's console ended with\n{}", self.last_words()))
    }

    fn exchange(&mut self, script: &str) -> Result<(i32, String)> {
        let stream = self.channel.get_mut();
        stream.write_all(format!("{}\n{script}", script.len()).as_bytes())?;
        let mut head = String::new();
        self.channel
            .read_line(&mut head)
            .with_context(|| format!("no answer to\n{script}"))?;
        let (status, bytes) = head
            .trim_end()
            .split_once(' ')
            .and_then(|(status, bytes)| Some((status.parse().ok()?, bytes.parse::<usize>().ok()?)))
            .with_context(|| format!("an answer begins with {head:?}"))?;
        if bytes > PRINTED_BYTES_MAX {
            bail!("{bytes} bytes were printed by\n{script}");
        }
        let mut printed = vec![0; bytes];
        self.channel.read_exact(&mut printed)?;
        Ok((status, String::from_utf8_lossy(&printed).into_owned()))
    }

    /// Writes a file into the machine.
    pub fn write(&mut self, path: &str, text: &str) -> Result<()> {
        self.run(&format!(
            "cat >{path} <<'END OF FILE'\n{text}\nEND OF FILE\n"
        ))
        .map(drop)
    }

    fn wait_for_console(&mut self, marker: &str, started: Instant) -> Result<()> {
        loop {
            let console = fs::read(&self.console).unwrap_or_default();
            if String::from_utf8_lossy(&console).contains(marker) {
                return Ok(());
            }
            if self.process.ended().is_some() || started.elapsed() > BOOT_PATIENCE {
                bail!(
                    "no \"{marker}\" on the console, which ended with\n{}\n{}",
                    self.last_words(),
                    self.process.log_text()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn last_words(&self) -> String {
        const LINES: usize = 20;
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Makes the root file system: `tidegate` and this machine's own network tools. It is made inside `host` only so that it ends
/// with everything else there.
pub fn make_initramfs(
    host: &Namespace,
    output: &Path,
    kernel: &Path,
    tidegate: &Path,
) -> Result<()> {
    let mut command = host.command(Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/initramfs"));
    command.args([output, kernel, tidegate]);
    // Independent witnesses of what Tidegate says about an interface.
    for tool in ["ip", "ethtool"] {
        let path = finish(Command::new("sh").args(["-c", "command -v \"$0\"", tool]))?;
        command.arg(path.trim_end());
    }
    let log = output.with_extension("log");
    let mut process = Process::start_command(&mut command, "initramfs", log)?;
    match process.wait(INITRAMFS_PATIENCE) {
        Some(status) if status.success() => Ok(()),
        _ => bail!("vm/initramfs failed:\n{}", process.log_text()),
    }
}

fn qemu(command: &mut Command, hardware: &Hardware, console: &Path, socket: &Path) {
    command.arg("qemu-system-x86_64");
    let mut words = |text: &str| {
        command.args(text.split_whitespace());
    };
    words(hardware.accelerator.options());
    words(&format!(
        "-smp {CORES} -m {MEMORY_MIB} -display none -nodefaults -no-user-config -no-reboot"
    ));
    // In front of the devices that it is to translate for.
    words("-device intel-iommu,intremap=on");
    for leg in hardware.legs {
        let (tap, queues, slot) = (leg.tap, leg.queues, leg.pci_slot);
        // A vector for each of two queues per pair, one for the control queue, one for changes of the configuration.
        let vectors = 2 * queues + 2;
        let mac = leg.mac();
        let more = leg.device_options;
        words(&format!(
            "-netdev tap,id={tap},ifname={tap},script=no,downscript=no,queues={queues},vhost=off \
             -device virtio-net-pci,netdev={tap},mac={mac},mq=on,vectors={vectors},addr={slot:#x},\
             disable-legacy=on,iommu_platform=on{more}"
        ));
    }
    words(&format!(
        "-device virtio-serial-pci,addr={PCI_SLOT_CHANNEL:#x} -device virtserialport,chardev=channel,name=tidegate.channel"
    ));
    // Paths may hold blanks.
    command
        .arg("-chardev")
        .arg(format!("socket,id=channel,path={}", socket.display()))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(hardware.kernel.join("vmlinux"))
        .arg("-initrd")
        .arg(hardware.initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 intel_iommu=on"]);
}
