use std::time::SystemTime;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn header_says_who_where_and_when() {
    let header: Value = serde_json::from_slice(&header(&about())).unwrap();

    assert_eq!(header["version"], 2);
    assert_eq!(
        (&header["width"], &header["height"]),
        (&120.into(), &40.into())
    );
    assert_eq!(header["timestamp"], 1_700_000_000);
    assert_eq!(header["env"]["TERM"], "xterm-256color");
    assert_eq!(header["env"]["SHELL"], "/bin/bash");
    assert_eq!(header["ssm"]["session"], "alice-1");
    assert_eq!(header["ssm"]["owner"], "arn:aws:iam::1:user/alice");
    assert_eq!(header["ssm"]["reason"], "a \"reason\"");
}

#[test]
fn unknown_size_becomes_the_usual_one() {
    let about = About {
        size: TerminalSize { cols: 0, rows: 0 },
        ..about()
    };

    let header: Value = serde_json::from_slice(&header(&about)).unwrap();

    assert_eq!(
        (&header["width"], &header["height"]),
        (&80.into(), &24.into())
    );
}

#[test]
fn each_event_has_its_code() {
    let size = TerminalSize {
        cols: 132,
        rows: 43,
    };
    let end = End {
        reason: "the shell exited".into(),
        exit_code: Some(3),
    };

    let lines = encode([
        (1, Event::Output("a\u{1b}[0m".into())),
        (2, Event::ErrorOutput("e".into())),
        (3, Event::Input("i".into())),
        (4, Event::Resize(size)),
        (5, Event::Missing { bytes: 7 }),
        (6, Event::End(end)),
    ]);

    let expected = concat!(
        "[0.001000,\"o\",\"a\\u001b[0m\"]\n",
        "[0.002000,\"o\",\"e\"]\n",
        "[0.003000,\"i\",\"i\"]\n",
        "[0.004000,\"r\",\"132x43\"]\n",
        "[0.005000,\"m\",\"7 bytes are missing here\"]\n",
        "[0.006000,\"m\",\"session ended: the shell exited, exit status 3\"]\n",
    );
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}

#[test]
fn event_that_only_starts_a_character_leaves_no_line() {
    let lines = encode([
        (1, Event::Output(Bytes::from_static(b"\xc3"))),
        (2, Event::Output(Bytes::from_static(b"\xa4"))),
    ]);

    assert_eq!(
        String::from_utf8(lines).unwrap(),
        "[0.002000,\"o\",\"ä\"]\n"
    );
}

#[test]
fn output_and_error_output_do_not_mix_their_characters() {
    let lines = encode([
        (1, Event::Output(Bytes::from_static(b"\xc3"))),
        (2, Event::ErrorOutput("e".into())),
        (3, Event::Output(Bytes::from_static(b"\xa4"))),
    ]);

    assert_eq!(outputs(&lines), "eä");
}

proptest! {
    #[test]
    fn replay_equals_the_text_that_was_sent(
        text in "\\PC{0,40}[\\x00-\\x7f]{0,40}\\PC{0,40}",
        cuts in proptest::collection::vec(0_usize..300, 0..8),
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let events = cuts.windows(2).zip(0..).map(|(cut, at)| {
            (at, Event::Output(Bytes::copy_from_slice(&bytes[cut[0]..cut[1]])))
        });

        let lines = encode(events);

        prop_assert_eq!(outputs(&lines), text);
    }
}

fn encode(events: impl IntoIterator<Item = (u64, Event)>) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    for (ms, event) in events {
        let at = Duration::from_millis(ms);
        encoder.encode(&Entry { at, event }, &mut out);
    }
    out
}

fn outputs(lines: &[u8]) -> String {
    let lines = lines
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice::<(f64, char, String)>(line).unwrap())
        .filter(|(_, code, _)| *code == 'o')
        .map(|(_, _, text)| text)
        .collect()
}

fn about() -> About {
    About {
        session_id: SessionId::new("alice-1").unwrap(),
        node_id: "mi-0123".into(),
        user: "ssm-user".into(),
        owner: "arn:aws:iam::1:user/alice".into(),
        document: "SSM-SessionManagerRunShell".into(),
        reason: "a \"reason\"".into(),
        size: TerminalSize {
            cols: 120,
            rows: 40,
        },
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        command: "/bin/bash".into(),
    }
}
