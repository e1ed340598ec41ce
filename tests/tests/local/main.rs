//! Tidegate over kernel sockets, end to end: on loopback, as an ordinary user.

mod control;
mod faults;
mod home;
mod import;
mod serving;
mod try_out;
mod unix_sockets;
mod workers;
