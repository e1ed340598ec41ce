//! Servers whose memory is full.

use crate::client::memcached::Memcached;
use crate::client::resp::{Redis, Value};
use crate::lab::servers::SERVER_MEMORY_MIB;
use anyhow::{Result, ensure};
use std::net::SocketAddr;

/// The least memory that memcached lets itself be set to, in MiB.
const LITTLE_MEMORY_MIB: u32 = 8;

/// What fills that: values of the sizes that clients write, so many of each, after large ones.
const FILLER_SIZES: [usize; 6] = [20, 100, 250, 550, 1_050, 2_550];
const FILLERS: usize = 4_000;
const LARGE_FILLERS: usize = 16;
const LARGE_FILLER_BYTES: usize = 900_000;

/// A Redis server refuses writes from now on.
pub(super) fn refuse_writes(server: SocketAddr) -> Result<()> {
    limit_redis(server, "1")
}

/// It takes them again.
pub(super) fn take_writes(server: SocketAddr) -> Result<()> {
    limit_redis(server, &format!("{SERVER_MEMORY_MIB}mb"))
}

fn limit_redis(server: SocketAddr, limit: &str) -> Result<()> {
    let reply = Redis::open(server)?.words(&format!("CONFIG SET maxmemory {limit}"))?;
    ensure!(reply == Value::ok(), "CONFIG SET maxmemory: {reply:?}");
    Ok(())
}

/// Takes a memcached server's memory, until it evicts what it had.
pub(super) fn fill(address: SocketAddr) -> Result<()> {
    let mut server = Memcached::open(address)?;
    limit_memory(&mut server, LITTLE_MEMORY_MIB)?;
    let large = [LARGE_FILLER_BYTES; LARGE_FILLERS];
    let small = FILLER_SIZES
        .iter()
        .cycle()
        .take(FILLERS * FILLER_SIZES.len());
    for (number, bytes) in large.iter().chain(small).enumerate() {
        let mut request = format!("set filler-{number} 0 0 {bytes} noreply\r\n").into_bytes();
        request.resize(request.len() + bytes, b'.');
        request.extend_from_slice(b"\r\n");
        server.connection.send(&request)?;
    }
    // Its reply comes behind all of that; what was refused before it says so too.
    server.connection.send(b"version\r\n")?;
    while !server.connection.line()?.starts_with(b"VERSION") {}
    Ok(())
}

/// Gives it back the memory that it began with.
pub(super) fn relieve(address: SocketAddr) -> Result<()> {
    limit_memory(&mut Memcached::open(address)?, SERVER_MEMORY_MIB)
}

fn limit_memory(server: &mut Memcached, mib: u32) -> Result<()> {
    let reply = server.line(&format!("cache_memlimit {mib}"))?;
    ensure!(reply == "OK", "cache_memlimit {mib}: {reply}");
    Ok(())
}
