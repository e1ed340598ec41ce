//! Workers over kernel sockets: how many, and on which cores.

use crate::plan::{Facts, Plan, check_cores};
use tidegate_channel::message::WORKERS_MAX;
use tidegate_config::PortConfig;

/// The core of each worker; nothing is checked.
pub fn cores(port: &PortConfig, facts: &Facts) -> Vec<Option<u32>> {
    match (port.workers, port.queues.map()) {
        (Some(workers), _) => vec![None; workers as usize],
        (None, Some(map)) => map.values().copied().map(Some).collect(),
        (None, None) => facts
            .cores
            .iter()
            .take(WORKERS_MAX)
            .copied()
            .map(Some)
            .collect(),
    }
}

/// Makes the plan, or says everything that is wrong. The file maps workers to cores at `place`.
pub fn make(port: &PortConfig, place: &str, facts: &Facts) -> Result<Plan, Vec<String>> {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    let cores = cores(port, facts);
    let (workers, present) = (cores.len(), facts.cores.len());
    if port.workers.is_some() && workers > present {
        warnings.push(format!(
            "{workers} workers share {present} cores: more than one on each gains nothing and costs connections to every server"
        ));
    }
    check_cores(place, &cores, &facts.cores, &mut faults, &mut warnings);
    if faults.is_empty() {
        Ok(Plan {
            ports: Vec::new(),
            cores,
            warnings,
        })
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::Config;

    fn plan(line: &str) -> Result<Plan, Vec<String>> {
        let text = format!(
            "[[port]]\ndriver = \"kernel\"\n{line}\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\n\
             listen = \"127.0.0.1:1\"\nservers = [\"127.0.0.1:2\"]\n"
        );
        let config = Config::parse(&text, "test").unwrap();
        let facts = Facts {
            cores: vec![0, 2, 3],
            ..Facts::default()
        };
        crate::plan::make(&config, &facts)
    }

    #[test]
    fn workers_are_pinned_unless_only_their_number_is_given() {
        assert_eq!(plan("").unwrap().cores, [Some(0), Some(2), Some(3)]);
        let mapped = plan("queues = { 0 = 3, 1 = 0 }").unwrap();
        assert_eq!(mapped.cores, [Some(3), Some(0)]);
        assert_eq!(
            mapped.to_string(),
            "worker 0 on core 3\nworker 1 on core 0\n"
        );
        let free = plan("workers = 2").unwrap();
        assert_eq!(free.cores, [None, None]);
        assert_eq!(free.to_string(), "2 workers, not pinned\n");
        assert!(free.warnings.is_empty(), "{:?}", free.warnings);
        let crowded = plan("workers = 4").unwrap().warnings.join("\n");
        assert!(crowded.contains("4 workers share 3 cores"), "{crowded}");
    }

    #[test]
    fn a_core_that_is_not_there_and_too_many_workers_are_faults() {
        let faults = plan("queues = { 0 = 1 }").unwrap_err().join("\n");
        assert!(
            faults.contains("core 1 (worker 0) is not available"),
            "{faults}"
        );
        let faults = plan("workers = 65").unwrap_err().join("\n");
        assert!(faults.contains("at most 64 workers"), "{faults}");
    }
}
