//! Notices ports that lose their link, and says so.

use std::collections::BTreeSet;

/// Which ports have no link.
#[derive(Debug, Default)]
pub struct Links {
    down: BTreeSet<String>,
}

impl Links {
    /// Takes note of how it stands with a port now. Whether that has changed.
    pub fn note(&mut self, interface: &str, is_down: bool) -> bool {
        if is_down == self.is_down(interface) {
            return false;
        }
        if is_down {
            tracing::error!(
                "{interface} has no link: nothing arrives or leaves until cable, switch or hypervisor bring it back"
            );
            self.down.insert(interface.to_owned())
        } else {
            tracing::info!("{interface} has a link again");
            self.down.remove(interface)
        }
    }

    /// Whether a port was without a link when it was looked at last.
    pub fn is_down(&self, interface: &str) -> bool {
        self.down.contains(interface)
    }
}

#[cfg(test)]
mod tests {
    use super::Links;

    #[test]
    fn a_change_is_noted_once() {
        let mut links = Links::default();
        let noted = [false, true, true, false, false].map(|is_down| links.note("eth1", is_down));
        assert_eq!(noted, [false, true, false, true, false]);
        links.note("eth1", true);
        assert!(links.is_down("eth1") && !links.is_down("eth2"));
    }
}
