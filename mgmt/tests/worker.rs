//! The worker process against a manager that is this test: what it says when it cannot start.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::message::{
    Envelope, FromWorker, NetworkDescriptors, Oracle, PacketDescriptors, PortFacts,
    StartDescriptors, ToWorker, UserIds, WorkerStart,
};
use tidegate_channel::paths::PathWriter;
use tidegate_channel::payload;
use tidegate_channel::statistics::StatisticsLayout;
use tidegate_config::Config;
use tidegate_port::doorbell::Doorbell;

fn spawn(stdin: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("worker")
        .stdin(stdin)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn worker() -> (ControlSocket, Child) {
    let (ours, theirs) = ControlSocket::pair().unwrap();
    (ours, spawn(Stdio::from(theirs)))
}

/// Reads until the worker says that it failed.
fn failure(control: &ControlSocket) -> (String, bool) {
    loop {
        match control.receive::<FromWorker>().unwrap().0 {
            FromWorker::Failed { reason, permanent } => return (reason, permanent),
            FromWorker::Acknowledged { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn end(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status, log)
}

fn start(worker: u32, core: u32) -> WorkerStart {
    let text = r#"
        [[port]]
        interface = "eth1"
        queues = { 0 = 0 }
        [[pool]]
        name = "sessions"
        listen = "192.0.2.10:11211"
        protocol = "memcached"
        servers = ["192.0.2.11:11211:1"]
    "#;
    WorkerStart {
        config: Config::parse(text, "test").unwrap(),
        worker,
        workers: 1,
        core: Some(core),
        ports: vec![PortFacts {
            ifindex: 0x7fff_0000,
            queue: 0,
            mac: [2, 0, 0, 0, 0, 1],
            mtu_bytes: 1_500,
            generic: false,
            oracle: Oracle::Single,
        }],
        shared_listeners: Vec::new(),
        user: Some(UserIds {
            name: "nobody".into(),
            uid: 65_534,
            gid: 65_534,
        }),
        seed: 1,
        orphans: Vec::new(),
        timestamps_us: 0,
    }
}

fn send_start(control: &ControlSocket, start: &WorkerStart) {
    let layout = StatisticsLayout::of(&start.config, 1);
    let descriptors = StartDescriptors {
        payload: payload::write(start).unwrap(),
        statistics: layout.create().unwrap(),
        bell: Doorbell::new().unwrap().into_fd(),
        network: NetworkDescriptors::Packets(PacketDescriptors {
            paths: PathWriter::create(1).unwrap().file().try_clone().unwrap(),
            bells: vec![],
            hand_over_to: vec![],
            hand_over_from: vec![],
        }),
    };
    let list = descriptors.into_list();
    let list: Vec<_> = list.iter().map(AsFd::as_fd).collect();
    let envelope = Envelope {
        generation: 1,
        message: ToWorker::Start,
    };
    control.send(&envelope, &list).unwrap();
}

#[test]
fn a_worker_started_by_hand_says_who_starts_workers() {
    let (status, log) = end(spawn(Stdio::null()));
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("`tidegate run`"), "{log}");
}

#[test]
fn a_worker_whose_manager_is_gone_ends() {
    let (control, child) = worker();
    drop(control);
    assert_eq!(end(child).0.code(), Some(1));
}

#[test]
fn a_core_that_does_not_exist_is_named_to_the_manager() {
    let (control, child) = worker();
    send_start(&control, &start(0, 100_000));
    let (reason, permanent) = failure(&control);
    assert!(reason.contains("core 100000"), "{reason}");
    assert!(permanent);
    assert!(matches!(
        control.receive::<FromWorker>(),
        Err(ControlError::Closed)
    ));
    assert_eq!(end(child).0.code(), Some(1));
}

#[test]
fn a_socket_that_cannot_be_opened_is_explained_to_the_manager() {
    let (control, child) = worker();
    let core = tidegate_dataplane::affinity::available_cores()[0];
    send_start(&control, &start(0, core));
    let (reason, _) = failure(&control);
    assert!(!reason.is_empty());
    let (status, log) = end(child);
    assert_eq!(status.code(), Some(1));
    assert!(!log.contains(&reason), "the manager tells the log: {log}");
}

#[test]
fn nonsense_from_the_manager_is_refused() {
    let (control, child) = worker();
    let envelope = Envelope {
        generation: 1,
        message: ToWorker::Ping,
    };
    control.send(&envelope, &[]).unwrap();
    assert!(failure(&control).0.contains("different builds"));
    end(child);

    let (control, child) = worker();
    send_start(&control, &start(5, 0));
    assert!(failure(&control).0.contains("wrong number of workers"));
    end(child);
}

/// Over kernel sockets a worker opens what it is not given, has nothing to insert, and is ready at once.
#[test]
fn a_worker_over_kernel_sockets_is_ready_without_more_questions_and_stops() {
    let shared = TcpListener::bind("127.85.0.1:0").unwrap();
    shared.set_nonblocking(true).unwrap();
    let listen = [
        shared.local_addr().unwrap().to_string(),
        "127.85.0.2:22121".into(),
    ];
    let text = format!(
        "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = {listen:?}\n\
         servers = [\"127.85.0.1:1\"]\n[worker]\nclients_max = 16\nhalf_open_max = 16\n"
    );
    let root = nix::unistd::geteuid().is_root();
    let start = WorkerStart {
        config: Config::parse(&text, "test").unwrap(),
        core: None,
        ports: vec![],
        shared_listeners: vec![0],
        user: start(0, 0).user.filter(|_| root),
        ..start(0, 0)
    };
    let layout = StatisticsLayout::of(&start.config, 0);
    let descriptors = StartDescriptors {
        payload: payload::write(&start).unwrap(),
        statistics: layout.create().unwrap(),
        bell: Doorbell::new().unwrap().into_fd(),
        network: NetworkDescriptors::Sockets(vec![shared.into()]),
    };
    let (control, child) = worker();
    let list = descriptors.into_list();
    let list: Vec<_> = list.iter().map(AsFd::as_fd).collect();
    let say = |generation, message, list: &[_]| {
        let envelope = Envelope {
            generation,
            message,
        };
        control.send(&envelope, list).unwrap();
    };
    say(1, ToWorker::Start, &list);
    let (answer, _) = control.receive::<FromWorker>().unwrap();
    assert_eq!(answer, FromWorker::Acknowledged { generation: 1 });
    let (answer, sockets) = control.receive::<FromWorker>().unwrap();
    assert_eq!((answer, sockets.len()), (FromWorker::Ready, 0));
    for address in &listen {
        TcpStream::connect(address).unwrap();
    }
    // It may be gone before it has acknowledged this one.
    say(2, ToWorker::Stop, &[]);
    assert_eq!(end(child).0.code(), Some(0));
}
