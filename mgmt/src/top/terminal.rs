//! The terminal: taken at the beginning, and given back as it was at whatever end.

use anyhow::{Context, bail};
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::prelude::CrosstermBackend;
use ratatui::{Frame, Terminal};
use std::io::{IsTerminal, Stdout, stdin, stdout};
use std::mem::ManuallyDrop;

/// Refuses where nothing can be shown or no key can be pressed.
pub fn check() -> anyhow::Result<()> {
    for (is_terminal, what) in [
        (stdout().is_terminal(), "output"),
        (stdin().is_terminal(), "input"),
    ] {
        if !is_terminal {
            bail!(
                "top needs a terminal, and its {what} is none: `tidegate stats` prints the same once, `tidegate stats --json` \
                 for programs"
            );
        }
    }
    if std::env::var("TERM").is_ok_and(|term| term == "dumb") {
        bail!(
            "top needs a terminal that can place text (TERM is \"dumb\"): `tidegate stats` prints the same once"
        );
    }
    Ok(())
}

/// The terminal while it is ours. What draws is never dropped: it would show the cursor, which [`give_back`] does, and panic when the
/// terminal is gone, standard error with it.
pub struct Screen(ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>);

impl Screen {
    /// Takes it. A panic gives it back before it says what happened.
    pub fn take() -> anyhow::Result<Self> {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            say(panic);
        }));
        enable_raw_mode().context("the terminal cannot be taken")?;
        // From here on it is given back, whatever fails.
        let taken = execute!(stdout(), EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match taken {
            Ok(terminal) => Ok(Self(ManuallyDrop::new(terminal))),
            Err(error) => {
                give_back();
                Err(error).context("the terminal cannot be taken")
            }
        }
    }

    /// Draws once.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> anyhow::Result<()> {
        self.0.draw(draw).context("the terminal is gone")?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// All of it is tried: a terminal that is gone takes none of it, and that is no error of ours.
fn give_back() {
    let _gone = execute!(stdout(), LeaveAlternateScreen, Show);
    let _gone = disable_raw_mode();
}
