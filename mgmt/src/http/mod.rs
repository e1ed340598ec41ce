//! The status page, `/metrics` and JSON over HTTP, where `http_listen` says.
//!
//! The manager puts a [`board::Snapshot`] up once a second; a thread of its own tells whoever asks what stands there, and nothing
//! else. It has no way to change anything, it never waits for the manager, and the manager never waits for it. What clients can
//! take of it is bounded ([`limits`]).
//!
//! | path | what |
//! |---|---|
//! | `/` | the page |
//! | `/metrics` | for Prometheus |
//! | `/api/stats` | [`Stats`](crate::stats::model::Stats), as `tidegate stats --json` prints it |
//! | `/api/history?from=N` | the last ten minutes: [`history::Point`]s from number N on |
//! | `/api/slowlog` | requests that took long |
//! | `/api/events` | what happened: [`Event`](crate::events::Event)s |
//! | `/healthz` | 200 while all workers run, else 503 and why |

mod board;
mod guard;
mod health;
mod history;
mod host;
mod limits;
mod page;
mod routes;
#[cfg(test)]
pub mod sample;
mod server;
#[cfg(test)]
mod tests;
mod token;

use crate::manager::Manager;
use crate::slowlog::Ask;
use crate::sockets::preflight::Taken;
use board::Board;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate_config::HttpConfig;
use token::Token;
use tokio::task::AbortHandle;

/// The manager wakes up about once a second, a little early at times.
const EARLY: Duration = Duration::from_millis(100);

/// An address that is listened on, and nobody is answered yet.
#[derive(Debug)]
pub struct Opened {
    listener: TcpListener,
    token: Option<Token>,
}

impl Opened {
    /// Does all that can fail. The file says at `place` where to listen.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn open(config: &HttpConfig, place: &str) -> Result<Self, Vec<String>> {
        match (read_token(config), listen(config.listen)) {
            (Ok(token), Ok(listener)) => Ok(Self { listener, token }),
            (token, listener) => {
                let listener = listener.map_err(|error| cannot_listen(config, place, &error));
                Err(token.err().into_iter().chain(listener.err()).collect())
            }
        }
    }
}

/// What would keep it from being opened. The file says at `place` where to listen.
pub fn faults(config: &HttpConfig, place: &str, taken: Taken) -> Vec<String> {
    let token = read_token(config).err();
    let listener = listen(config.listen).err();
    let listener = listener.filter(|error| !taken.excuses(error));
    let listener = listener.map(|error| cannot_listen(config, place, &error));
    token.into_iter().chain(listener).collect()
}

fn read_token(config: &HttpConfig) -> Result<Option<Token>, String> {
    config.token.as_deref().map(Token::read).transpose()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn cannot_listen(config: &HttpConfig, place: &str, error: &io::Error) -> String {
    let fault = crate::faults::cannot_listen("http_listen", config.listen, error);
    format!("{place}{fault}")
}

/// The thread that answers. Dropping it ends it.
#[derive(Debug)]
pub struct Http {
    board: Arc<Board>,
    due: Instant,
    stop: AbortHandle,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Begins to answer.
    pub fn start(opened: Opened) -> io::Result<Self> {
        let board = Arc::new(Board::default());
        let (stop, thread) = server::start(opened, Arc::clone(&board))?;
        Ok(Self {
            board,
            due: Instant::now(),
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.abort();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ended = thread.join();
        }
    }
}

/// Tells the thread how things stand, once a second.
pub fn publish_if_due(manager: &mut Manager, now: Instant) {
    let Some(http) = &mut manager.parts.http else {
        return;
    };
    if now + EARLY < http.due {
        return;
    }
    http.due = now + limits::BEAT;
    let board = Arc::clone(&http.board);
    let slow = manager.slowlog.answer(&Ask::Get {
        entries: limits::SLOW_ENTRIES,
    });
    let stats = crate::stats::gather::stats(manager);
    board.publish(now, stats, slow);
}
