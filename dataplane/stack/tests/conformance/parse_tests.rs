//! What is wrong with a script is said with its line.

use crate::common::{ACK, PSH};
use crate::options::TcpOption;
use crate::parse_segment::URG;
use crate::script::{Action, At, Fault, Number, Script, Side};

const HEAD: &str = "rfc 9293 3.5\nsays \"A sentence.\"\n";

fn fault(line: &str) -> Fault {
    Script::parse(&format!("{HEAD}{line}\n+0 nothing\n")).expect_err(line)
}

#[test]
fn a_fault_names_its_line() {
    let cases = [
        ("+0 < S 0:0(0", "a range is written 1:101(100), not 0:0(0"),
        (
            "+0 < P. 1:11(9) ack 1",
            "1:11(9) does not add up: there are 10 bytes between the two numbers",
        ),
        ("+0 < Q 0:0(0)", "there is no flag Q"),
        (
            "+0 < . 1:1(0)",
            "a dot among the flags and an ack belong together",
        ),
        ("+0 < . 1:1(0) ack", "ack needs a number"),
        ("+0 < . 1:1(0) ack x", "ack is a number, not x"),
        ("+0 < . 1:1(0) ack 1 wind 5", "a segment has no wind"),
        ("+0 > . 1:1(0) ack 1 damaged", "a segment has no damaged"),
        ("+0 < S 0:0(0) <mss>", "the MSS is missing"),
        ("+0 < S 0:0(0) <mss 1460", "options end with >"),
        ("+0 < S 0:0(0) <mood 7>", "there is no option mood 7"),
        (
            "+0 < S 0:0(0) <TS 4 5>",
            "a timestamp is written TS val NUMBER ecr NUMBER",
        ),
        ("+1.x nothing", "a time is written 1.5, not 1.x"),
        ("+1.1234567 nothing", "a time is written 1.5, not 1.1234567"),
        ("+0 dance", "nobody knows what \"dance\" is"),
        ("+0 status well", "there is no status \"well\""),
        (
            "+0 counter frames_lost 1",
            "there is no counter frames_lost",
        ),
        ("option colour 5", "there is no option colour"),
        (
            "option ack never",
            "ack is immediate or with-reply, not never",
        ),
        ("seen", "seen stands in a deviation"),
        ("end", "end stands in a deviation"),
        (
            "deviation Odd Name",
            "a name is lower-case words with hyphens, not \"Odd Name\"",
        ),
    ];
    for (line, text) in cases {
        assert_eq!(fault(line), Fault::new(3, text), "{line}");
    }
}

#[test]
fn a_script_is_whole() {
    let whole = |text: &str| Script::parse(text).map(|_| ()).map_err(|fault| fault.text);
    let head = "a script begins with the RFC and the sentence that it checks";
    assert_eq!(whole("+0 nothing"), Err(head.to_owned()));
    assert_eq!(whole("rfc 9293 3.5\n+0 nothing"), Err(head.to_owned()));
    let open = format!("{HEAD}deviation a-name\n+0 nothing\nseen\n+1 nothing\n");
    assert_eq!(whole(&open), Err("a deviation needs its end".to_owned()));
    let empty = format!("{HEAD}deviation a-name\nseen\n+1 nothing\nend\n");
    let parts = "a deviation says what is asked for and what is seen";
    assert_eq!(whole(&empty), Err(parts.to_owned()));
    assert_eq!(whole(&format!("{open}end\n")), Ok(()));
    let two = format!("{open}end\ndeviation b\n");
    assert_eq!(whole(&two), Err("a script shows one deviation".to_owned()));
}

#[test]
fn a_line_is_read_as_it_is_written() {
    let text = format!("{HEAD}1.5 < PU. =7:17(10) ack -1 win 9 urg 3 <mss mtu,nop> damaged # why");
    let script = Script::parse(&text).expect("it is right");
    let step = &script.steps[0];
    assert_eq!(
        (step.line, step.at, step.side),
        (3, At::Since(1_500_000), Side::Both)
    );
    let Action::Inject(segment) = &step.action else {
        panic!("{step:?}");
    };
    assert_eq!(segment.flags, PSH | URG | ACK);
    assert_eq!(segment.sequence, Number::Absolute(7));
    assert_eq!(segment.acknowledgement, Some(Number::Relative(u32::MAX)));
    assert_eq!((segment.window, segment.urgent), (Some(9), 3));
    assert_eq!(
        segment.options,
        Some(vec![TcpOption::Mss(None), TcpOption::Nop])
    );
    assert!(segment.damaged && segment.payload_bytes == 10);
}
