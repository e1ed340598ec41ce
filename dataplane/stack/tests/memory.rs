//! What a connection costs: at most 10 KiB with buffers of 4 KiB each, all of it allocated at start.

use tidegate_stack::Stack;

const CONNECTION_BYTES_MAX: usize = 10 * 1_024;
const BUFFER_BYTES: usize = 4_096;

#[test]
fn an_idle_client_fits_in_ten_kibibytes() {
    let overhead = Stack::BYTES_PER_FLOW;
    println!("per flow beside its buffers: {overhead} bytes");
    assert!(
        overhead <= 1_024,
        "{overhead} bytes per flow beside its buffers"
    );
    // What is left is the proxy's: a session may take as much as the stack's own share.
    assert!(2 * BUFFER_BYTES + 2 * overhead <= CONNECTION_BYTES_MAX);
}
