//! Tidegate over kernel sockets, end to end: on loopback, as an ordinary user.

mod adoption;
mod control;
mod faults;
mod home;
mod import;
mod lifecycle;
mod reload;
mod serving;
mod top;
mod try_out;
mod unix_sockets;
mod workers;
