//! The `tidegate` command: the management process and what talks to it.
#![forbid(unsafe_code)]

mod backoff;
mod capabilities;
mod kernel_listeners;
mod netlink;
mod reserved_ports;
mod runtime_dir;
mod status;

fn main() {}
