//! Runtime directories in a place of the tests'.

use super::*;
use std::os::unix::fs::PermissionsExt;

struct Root(PathBuf);

impl Root {
    fn new(test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("tidegate-runtime-{test}-{}", std::process::id()));
        Self(path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_second_instance_of_the_same_name_is_refused_with_the_process_of_the_first() {
    let root = Root::new("second");
    let first = RuntimeDir::claim(&root.0, "edge").unwrap();
    let error = RuntimeDir::claim(&root.0, "edge").unwrap_err().to_string();
    assert!(
        error.contains("\"edge\"") && error.contains(&std::process::id().to_string()),
        "{error}"
    );
    RuntimeDir::claim(&root.0, "other").unwrap().remove();
    first.remove();
    assert!(!root.0.join("edge").exists());
    RuntimeDir::claim(&root.0, "edge").unwrap();
}

#[test]
fn a_killed_instance_leaves_a_record() {
    let root = Root::new("record");
    let first = RuntimeDir::claim(&root.0, "edge").unwrap();
    assert_eq!(first.record(), None);
    let record = Record {
        reserved_ports: "40000-49999".into(),
        workers: vec![WorkerRecord {
            worker: 0,
            process: Some(ProcessId { pid: 1, started: 2 }),
            starts: 3,
            hung: 1,
            forbidden_calls: 0,
            generation: 57,
            last_exit: Some("killed by SIGKILL".into()),
        }],
        network_namespace: network_namespace(),
        generation: 57,
        unsaved: vec![Edit::Worker {
            settings: vec![("idle".into(), "spin".into())],
        }],
        moved: true,
        programs: vec![ProgramRecord {
            interface: "eth1".into(),
            id: 7,
        }],
        sockets: vec![PathBuf::from("/run/cache.sock")],
    };
    first.recorder().write(&record).unwrap();
    assert_eq!(Presence::of(&root.0, "edge"), Presence::Running);
    drop(first);
    assert_eq!(Presence::of(&root.0, "edge"), Presence::Gone);
    assert_eq!(
        RuntimeDir::claim(&root.0, "edge").unwrap().record(),
        Some(record)
    );
}

#[test]
fn totals_have_their_room_from_the_start() {
    let root = Root::new("totals");
    let claimed = RuntimeDir::claim(&root.0, "edge").unwrap();
    let recorder = claimed.recorder();
    recorder.forget_totals().unwrap();
    let room = || {
        std::fs::metadata(root.0.join("edge/totals.json"))
            .unwrap()
            .len()
    };
    let taken = room();
    assert!(taken > 0);
    assert!(recorder.read_totals::<Vec<u64>>().is_empty());
    recorder.write_totals(&[7, 8]).unwrap();
    assert_eq!(recorder.read_totals::<Vec<u64>>(), [7, 8]);
    assert_eq!(room(), taken);
    recorder.forget_totals().unwrap();
    assert!(recorder.read_totals::<Vec<u64>>().is_empty());
}

#[test]
fn workers_that_go_on_are_seen() {
    let root = Root::new("orphans");
    let claimed = RuntimeDir::claim(&root.0, "edge").unwrap();
    let me = std::process::id();
    let worker = |worker| WorkerRecord {
        worker,
        process: ProcessId::of(me),
        starts: 1,
        hung: 0,
        forbidden_calls: 0,
        generation: 1,
        last_exit: None,
    };
    let record = Record {
        workers: vec![worker(0), worker(1)],
        ..Record::default()
    };
    claimed.recorder().write(&record).unwrap();
    drop(claimed);
    let presence = Presence::of(&root.0, "edge");
    assert_eq!(presence, Presence::Workers(vec![me]));
    assert!(presence.serves() && !Presence::of(&root.0, "other").serves());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let error = RuntimeDir::claim(Path::new("/proc/nowhere"), "edge")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/proc/nowhere") && error.contains("--runtime-dir"),
        "{error}"
    );
    let error = RuntimeDir::claim(Path::new("/tmp"), &"x".repeat(120)).unwrap_err();
    assert!(matches!(error, RuntimeError::TooLong { .. }));
}

#[test]
fn directories_that_were_made_are_removed_and_others_are_not() {
    let root = Root::new("made");
    let deep = root.0.join("a/b");
    let first = RuntimeDir::claim(&deep, "one").unwrap();
    let second = RuntimeDir::claim(&deep, "two").unwrap();
    assert!(is_running(&deep, "one") && !is_running(&deep, "three"));
    first.remove();
    assert!(deep.join("two").is_dir() && !deep.join("one").exists());
    second.remove();
    assert!(deep.is_dir(), "the second one did not make it");
    std::fs::remove_dir_all(&root.0).unwrap();
    RuntimeDir::claim(&deep, "one").unwrap().remove();
    assert!(!root.0.exists());
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let root = Root::new("foreign");
    let path = root.0.join("edge");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = RuntimeDir::claim(&root.0, "edge").unwrap_err();
    assert!(matches!(error, RuntimeError::Foreign { .. }), "{error}");
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/tmp", &path).unwrap();
    let error = RuntimeDir::claim(&root.0, "edge").unwrap_err();
    assert!(matches!(error, RuntimeError::Foreign { .. }), "{error}");
}

#[test]
fn processes_are_told_apart_by_their_start() {
    let own = ProcessId::of(std::process::id()).unwrap();
    assert!(own.lives());
    assert!(own.age() < Duration::from_hours(24), "{:?}", own.age());
    assert!(
        !ProcessId {
            started: own.started + 1,
            ..own
        }
        .lives()
    );
    let stat = "7 (a) S (b) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
    assert_eq!(parse_stat(stat), Some(('R', 4242)));
    assert_eq!(parse_stat("nonsense"), None);
}
