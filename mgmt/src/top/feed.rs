//! Asks the manager once a second, on a thread of its own: a manager that does not answer does not hold up the keys.

use super::wait::Waker;
use crate::control::client::ask;
use crate::control::request::Request;
use crate::stats::model::Stats;
use anyhow::Context;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);

/// What came of a question.
pub type Told = Result<Box<Stats>, String>;

/// What the manager says. Dropping it ends the thread at its next question.
#[derive(Debug)]
pub struct Feed(Receiver<Told>);

impl Feed {
    /// Asks for the first time and goes on asking; each answer wakes who waits for it.
    ///
    /// # Errors
    /// There is no instance, or several and no name: asking again would not help.
    pub fn start(root: &Path, name: Option<&str>, waker: Waker) -> anyhow::Result<Self> {
        let first = question(root, name)?;
        // Later starts of the same name are meant, even if there are others by then.
        let name = first.name.clone();
        let root = root.to_owned();
        let (tell, told) = sync_channel(1);
        let _there_is_room = tell.try_send(Ok(first));
        std::thread::Builder::new()
            .name("feed".into())
            .spawn(move || go_on(&root, &name, &tell, &waker))?;
        Ok(Self(told))
    }

    /// What came since the last call.
    pub fn news(&mut self) -> impl Iterator<Item = Told> + '_ {
        self.0.try_iter()
    }
}

fn question(root: &Path, name: Option<&str>) -> anyhow::Result<Box<Stats>> {
    let answer = ask(root, name, &Request::Stats {})?;
    let stats = serde_json::from_value(answer);
    stats.context("the manager is of another version: use the tidegate that runs it")
}

fn go_on(root: &Path, name: &str, tell: &SyncSender<Told>, waker: &Waker) {
    let mut due = Instant::now() + EVERY;
    loop {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + EVERY).max(Instant::now());
        let told = question(root, Some(name)).map_err(|error| format!("{error:#}"));
        if tell.send(told).is_err() {
            return;
        }
        waker.wake();
    }
}
