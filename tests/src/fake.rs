//! Servers that a test plays itself.

use nix::sys::socket::{Shutdown, shutdown};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A listening fake. Dropping it ends the listening; connections end with their other side.
#[derive(Debug)]
pub struct Fake {
    listener: Arc<TcpListener>,
    accepting: Option<JoinHandle<()>>,
}

impl Fake {
    /// Listens on `address` of the calling thread's host, and gives each connection to `behave`, on a thread of its own.
    pub fn play(address: SocketAddr, behave: fn(TcpStream)) -> Self {
        let listener = Arc::new(
            TcpListener::bind(address)
                .unwrap_or_else(|error| panic!("a fake cannot listen on {address}: {error}")),
        );
        let own = Arc::clone(&listener);
        let accepting = std::thread::spawn(move || {
            while let Ok((stream, _)) = own.accept() {
                std::thread::spawn(move || behave(stream));
            }
        });
        Self {
            listener,
            accepting: Some(accepting),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // Linux wakes who waits in accept, with an error.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
