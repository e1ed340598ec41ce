//! Our own link addresses.

use crate::stack::Stack;

impl Stack {
    /// Our link address on the port at position `port` is `mac` from now on: frames for it are taken, and what is sent comes from it, on
    /// living connections as well. Frames for the one before are another station's.
    pub fn set_station(&mut self, port: usize, mac: [u8; 6]) {
        let Some(state) = self.ports.get_mut(port) else {
            return;
        };
        if state.mac == mac {
            return;
        }
        state.mac = mac;
        let flows = self.flows.iter_mut();
        for flow in flows.filter(|flow| usize::from(flow.port) == port) {
            flow.link[6..12].copy_from_slice(&mac);
        }
    }
}
