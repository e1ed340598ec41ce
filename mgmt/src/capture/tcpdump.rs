//! What captures where the kernel sees every packet.

use tidegate_config::PoolConfig;

/// Most addresses of the expression that is shown: beyond, a person shortens it anyway.
const ADDRESSES_SHOWN: usize = 16;

/// Says how tcpdump captures the same pool.
pub fn hint(pool: &PoolConfig) -> String {
    let addresses = super::addresses(pool);
    let terms: Vec<String> = addresses
        .iter()
        .take(ADDRESSES_SHOWN)
        .map(|address| {
            let port = format!("tcp port {}", address.port());
            if address.ip().is_unspecified() {
                port
            } else {
                format!("(host {} and {port})", address.ip())
            }
        })
        .collect();
    let more = if addresses.len() > ADDRESSES_SHOWN {
        " or …"
    } else {
        ""
    };
    format!(
        "this instance runs on kernel sockets, where the kernel sees every packet: use tcpdump -i any -s 96 -w FILE '{}{more}'",
        terms.join(" or ")
    )
}
