//! `tidegate top`: how much is asked for, how long it takes and who does the work, as it happens.
//!
//! A thread asks the manager once a second ([`feed`]); what it is told is kept with what the keys chose ([`view`]) and drawn
//! ([`draw`]) when there is something new to show. Only [`terminal`] and [`wait`] know a real terminal.

mod draw;
mod feed;
mod keys;
mod shown;
mod terminal;
#[cfg(test)]
mod tests;
mod view;
mod wait;

use clap::Args;
use feed::Feed;
use std::path::Path;
use std::time::Instant;
use terminal::Screen;
use view::View;
use wait::{Came, Waiter};

/// Which instance to watch.
#[derive(Args)]
pub struct TopArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
}

/// Watches until a key, a signal or the end of the terminal ends it.
pub fn run(root: &Path, args: &TopArgs) -> anyhow::Result<()> {
    terminal::check()?;
    // From here on a signal only ends the loop, and the terminal is given back.
    let (mut waiter, waker) = Waiter::start()?;
    // What is wrong from the beginning is told without taking the terminal first.
    let mut feed = Feed::start(root, args.name.as_deref(), waker)?;
    let mut view = View::new();
    let mut screen = Screen::take()?;
    loop {
        for told in feed.news() {
            view.told(told, Instant::now());
        }
        let now = Instant::now();
        screen.draw(|frame| draw::draw(frame, &mut view, now))?;
        match waiter.wait()? {
            Came::End => return Ok(()),
            Came::Keys(keys) => {
                if keys.into_iter().any(|key| view.press(key)) {
                    return Ok(());
                }
            }
        }
    }
}
