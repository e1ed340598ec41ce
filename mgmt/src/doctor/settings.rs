//! What `tidegate configure` would change.

use super::{Findings, Patient};
use crate::configure::{Item, Stage};

pub fn look(patient: &Patient<'_>, findings: &mut Findings) {
    let mut target = patient.target.clone();
    // One that is missing is a fault of the plan.
    target
        .ports
        .retain(|port| patient.host.index(&port.interface).is_some());
    for stage in Stage::all() {
        // The plan has said what is wrong with queues, and a running instance reserves its ports.
        let told = matches!(stage, Stage::Channels | Stage::Ports);
        if told || (patient.config.is_none() && *stage != Stage::Hugepages) {
            continue;
        }
        for item in stage.inspect(&target, patient.host) {
            match item {
                Item::Wrong {
                    what,
                    by_hand,
                    change,
                } => {
                    let mend = match change {
                        Some(_) => {
                            format!("tidegate configure init {}, or {by_hand}", stage.name())
                        }
                        None => by_hand,
                    };
                    if stage.blocks() {
                        findings.blocks(stage.name(), what, mend);
                    } else {
                        findings.slower(stage.name(), what, mend);
                    }
                }
                Item::Fine(_) | Item::Nothing(_) | Item::Unknown(_) => {}
            }
        }
    }
}
