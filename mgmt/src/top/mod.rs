//! `tidegate top`: how much is asked for, how long it takes and who does the work, as it happens.
//!
//! A thread asks the manager once a second ([`feed`]); what it is told is kept with what the keys chose ([`view`]) and drawn
//! ([`draw`]). Only [`terminal`] knows a real terminal.

mod draw;
mod feed;
mod shown;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use clap::Args;
use feed::Feed;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use std::path::Path;
use std::time::{Duration, Instant};
use terminal::{EndSignals, Screen};
use view::View;

/// How long a key is waited for before the feed and signals are looked at again.
const TURN: Duration = Duration::from_millis(100);

/// Which instance to watch.
#[derive(Args)]
pub struct TopArgs {
    /// Name of the instance; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
}

/// Watches until a key or a signal ends it.
pub fn run(root: &Path, args: &TopArgs) -> anyhow::Result<()> {
    terminal::check()?;
    // From here on a signal only ends the loop, and the terminal is given back.
    let signals = EndSignals::block()?;
    // What is wrong from the beginning is told without taking the terminal first.
    let mut feed = Feed::start(root, args.name.as_deref())?;
    let mut view = View::new();
    let mut screen = Screen::take()?;
    while !signals.came() {
        for told in feed.news() {
            view.told(told, Instant::now());
        }
        let now = Instant::now();
        screen.draw(|frame| draw::draw(frame, &mut view, now))?;
        if event::poll(TURN)? {
            // A resize needs nothing: the next turn draws for the new size.
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && view.press(key)
            {
                break;
            }
        }
    }
    Ok(())
}
