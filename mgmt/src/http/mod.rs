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
mod watch;

use crate::manager::Manager;
use crate::slowlog::Ask;
use board::Board;
use std::io;
use std::net::TcpListener;
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
    /// Does all that can fail.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn open(config: &HttpConfig) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let token = config.token.as_deref().map(Token::read).transpose();
        let token = token.map_err(|fault| faults.push(fault)).ok().flatten();
        let listener = TcpListener::bind(config.listen)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| faults.push(cannot_listen(config, &error)))
            .ok();
        match listener {
            Some(listener) if faults.is_empty() => Ok(Self { listener, token }),
            _ => Err(faults),
        }
    }
}

fn cannot_listen(config: &HttpConfig, error: &io::Error) -> String {
    let listen = config.listen;
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            ": another process listens there (ss -ltnp 'sport = :{}' says which); choose another port",
            listen.port()
        ),
        io::ErrorKind::AddrNotAvailable => ": this machine does not have the address".into(),
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one".into()
        }
        _ => String::new(),
    };
    format!("http_listen = \"{listen}\": {error}{hint}")
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
    if let Some(before) = board.snapshot() {
        watch::log(&before.stats, &stats);
    }
    board.publish(now, stats, slow);
}
