//! A client with Nagle's algorithm on that writes each request in two pieces. Its second piece leaves when the first has been
//! acknowledged; a receiver that delays its acknowledgements makes it wait 40 ms.

use crate::lab::contender::{Cores, Running, Span};
use crate::lab::{self};
use crate::machine::{self, LOAD_CORE, PROXY_CORE};
use crate::results::{Contender, Latency, NagleResults, NagleRow};
use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tidegate_tests::stage::Driver;

/// Requests before the clock starts.
const WARM_UP: usize = 100;

/// All contenders.
pub fn measure(quick: bool) -> Result<NagleResults> {
    let mut results = NagleResults {
        machine: machine::describe(quick, &[("nutcracker", "-V")]),
        rows: Vec::new(),
    };
    let requests = if quick { 200 } else { 2_000 };
    let raised = lab::raise_for_one(Driver::Afxdp)?;
    for contender in Contender::ALL {
        let running = Running::start(&raised, contender, Cores::One)?;
        machine::pin(&[LOAD_CORE])?;
        let target = running.target();
        let span = Span::begin(&raised, &running)?;
        let latency = raised.hosts.client.run(|| ask(target, requests))?;
        let used = span.end(&raised, &running, requests as u64)?;
        eprintln!("nagle: {}: {latency:?}", contender.name());
        results.rows.push(NagleRow {
            contender,
            requests,
            latency,
            losses: used.losses,
        });
        drop(running);
        machine::pin(&[PROXY_CORE, LOAD_CORE])?;
    }
    results.machine.load_after = machine::load_average();
    Ok(results)
}

fn ask(target: SocketAddr, requests: usize) -> Result<Latency> {
    // Nagle's algorithm is on unless a program turns it off.
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let value = [b'x'; 100];
    let mut times_ns = Vec::with_capacity(requests);
    for number in 0..WARM_UP + requests {
        let head = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{:012}\r\n", number % 1_000);
        let rest = [b"$100\r\n".as_slice(), &value, b"\r\n"].concat();
        let started = Instant::now();
        stream.write_all(head.as_bytes())?;
        stream.write_all(&rest)?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply)?;
        if number >= WARM_UP {
            times_ns.push(started.elapsed().as_nanos() as u64);
        }
        ensure!(
            reply == *b"+OK\r\n",
            "a wrong reply: {}",
            reply.escape_ascii()
        );
    }
    Ok(Latency::of(&mut times_ns))
}
