//! Network namespaces: made by name, entered by a thread or by a child process.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

/// A network namespace under `/run/netns`, by its name. Dropping the value does not remove the namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace called `name`, whether or not it exists yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that represents it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Moves the calling thread into the namespace, for good. Children that the thread starts are born there.
    pub fn enter(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter the namespace {}", self.name))
    }

    /// Runs `work` on a thread inside the namespace and returns its result. A panic of `work` continues in the caller.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()
                    .expect("the namespace of a living lab can be entered");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside the namespace.
    pub fn spawn<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> thread::JoinHandle<R> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace
                .enter()
                .expect("the namespace of a living lab can be entered");
            work()
        })
    }

    /// A command that will run inside the namespace, with the namespace's own view of `/sys`. `ip` replaces itself by the
    /// program, so the pid of the child is the pid of the program.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a shell script inside the namespace; its failure is an error that carries what it printed.
    pub fn shell(&self, script: &str) -> Result<String> {
        let mut command = self.command("sh");
        command.args(["-euc", script]);
        finish(&mut command)
    }
}

/// Runs `ip` with a batch of commands, one per line, inside `host` or where the caller is; the first that fails ends it.
pub fn ip_batch(host: Option<&Namespace>, lines: &str) -> Result<()> {
    use std::io::Write;
    let mut command = Command::new("ip");
    if let Some(host) = host {
        command.args(["-netns", &host.name]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start ip (package iproute2)")?;
    child
        .stdin
        .take()
        .context("ip has a standard input")?
        .write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip -batch failed:\n{}commands:\n{lines}", printed(&output));
    }
    Ok(())
}

/// Runs a command to its end; its failure is an error that carries what it printed.
pub fn finish(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}",
            output.status,
            printed(&output)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
