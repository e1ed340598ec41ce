//! A browser without a window, for the status page: Chromium, told what to do by the DevTools protocol over a pair of pipes.

use crate::host::Host;
use crate::lab::process::Process;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Turns a hang into a failure; far above what anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// What browsers are called.
const PROGRAMS: [&str; 2] = ["chromium", "chromium-browser"];

/// Why one is not wanted, not even for a moment: it shows what this test made and nothing else, as a user without rights. Its
/// sandbox needs rights to make namespaces, which containers seldom have.
const NO_SANDBOX: &str = "--no-sandbox";

/// A browser with one page. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    process: Process,
    to: File,
    from: File,
    received: Vec<u8>,
    asked: u64,
    session: Option<String>,
    complaints: Vec<String>,
    directory: PathBuf,
}

/// How wide and how high.
pub type Size = (u32, u32);

impl Browser {
    /// Starts it. `None` where there is none.
    ///
    /// # Errors
    /// There is one and it does not start.
    pub fn start() -> Result<Option<Self>> {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&search)
            .flat_map(|place| PROGRAMS.map(|program| place.join(program)))
            .find(|path| path.is_file());
        found
            .map(|program| Self::start_program(&program))
            .transpose()
    }

    fn start_program(program: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-browser-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o777))?;
        for pipe in ["to", "from"] {
            let path = directory.join(pipe);
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
        }
        // It listens on descriptor 3 and speaks on 4, which only a shell gives it. For reading and writing both ends open at once,
        // whether or not somebody is at the other.
        let mut command = Host::Here.command("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<to 4>from"])
            .arg(program)
            .args([
                "--headless=new",
                NO_SANDBOX,
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!(
                "--user-data-dir={}",
                directory.join("profile").display()
            ))
            .arg("about:blank")
            .env("HOME", &directory)
            .current_dir(&directory);
        let open = |pipe: &str| {
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .custom_flags(nix::libc::O_NONBLOCK);
            options.open(directory.join(pipe))
        };
        let mut browser = Self {
            to: open("to")?,
            from: open("from")?,
            process: Process::start_command(
                &mut command,
                "browser",
                directory.join("browser.log"),
            )?,
            received: Vec::new(),
            asked: 0,
            session: None,
            complaints: Vec::new(),
            directory,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Opens a page, as wide as said, for eyes that want it light or dark.
    pub fn open(&mut self, url: &str, (width, height): Size, dark: bool) -> Result<()> {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media)?;
        let opened = self.call("Page.navigate", &json!({"url": url}))?;
        match opened["errorText"].as_str() {
            Some(error) => bail!("{url}: {error}"),
            None => Ok(()),
        }
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let wanted = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let mut found = self.call("Runtime.evaluate", &wanted)?;
        if !found["exceptionDetails"].is_null() {
            bail!("{expression}: {}", found["exceptionDetails"]);
        }
        Ok(found["result"]["value"].take())
    }

    /// Waits until an expression is true.
    pub fn wait_until(&mut self, expression: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            // While another page is being opened there may be nothing to ask.
            let value = self.value(expression);
            if matches!(&value, Ok(Value::Bool(true))) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let text = self.value("document.body.innerText");
                bail!("not within {PATIENCE:?}: {expression} ({value:?})\n{text:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The text that the page shows.
    pub fn text(&mut self) -> Result<String> {
        let text = self.value("document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Types into the element in focus and presses enter.
    pub fn enter(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", &json!({"text": text}))?;
        for kind in ["keyDown", "keyUp"] {
            let key = json!({
                "type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13,
            });
            self.call("Input.dispatchKeyEvent", &key)?;
        }
        Ok(())
    }

    /// What the page's scripts threw or complained of so far, and what could not be loaded.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        // What happened before an answer has been told by then.
        self.value("1")?;
        Ok(std::mem::take(&mut self.complaints))
    }

    /// The upper part of the page as PNG.
    pub fn picture(&mut self, (width, height): Size) -> Result<Vec<u8>> {
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let wanted = json!({"format": "png", "clip": clip, "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", &wanted)?;
        decode(picture["data"].as_str().unwrap_or_default()).context("the picture is not base64")
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        // Messages are far smaller than what a pipe holds.
        self.to.write_all(&bytes)?;
        loop {
            let mut message = self.message()?;
            if message["id"] == self.asked {
                if !message["error"].is_null() {
                    bail!("{method}: {}", message["error"]);
                }
                return Ok(message["result"].take());
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let what = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                matches!(what["type"].as_str(), Some("error" | "warning" | "assert"))
            }
            Some("Log.entryAdded") => {
                matches!(what["entry"]["level"].as_str(), Some("error" | "warning"))
            }
            _ => false,
        };
        if complaint {
            self.complaints.push(what.to_string());
        }
    }

    /// The next message. They end with a zero byte.
    fn message(&mut self) -> Result<Value> {
        let started = Instant::now();
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == 0) {
                let message = serde_json::from_slice(&self.received[..end])?;
                self.received.drain(..=end);
                return Ok(message);
            }
            if let Some(ended) = self.process.ended() {
                bail!("the browser ended ({ended}):\n{}", self.process.log_text());
            }
            if started.elapsed() > PATIENCE {
                bail!("the browser says nothing:\n{}", self.process.log_text());
            }
            let mut wait = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            if poll(&mut wait, PollTimeout::from(100_u8))? > 0 {
                let read = self.from.read(&mut chunk)?;
                self.received.extend_from_slice(&chunk[..read]);
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.stop(Duration::from_secs(5));
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// Base64 with its usual alphabet.
fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        held = held << 6 | u32::from(value(byte)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn pictures_come_as_base64() {
        assert_eq!(decode("iVBORw==").unwrap(), [0x89, b'P', b'N', b'G']);
        assert_eq!(decode("AP8/+w").unwrap(), [0, 0xff, 0x3f, 0xfb]);
        assert!(decode("").unwrap().is_empty());
        assert_eq!(decode("a b"), None);
    }
}
