use std::time::{Duration, SystemTime};

use super::*;
use crate::agent::transcript::entry::End;
use crate::agent::transcript::file_sink::tests::about;

#[test]
fn records_have_lines_without_sequences_tabs_and_returns() {
    let mut lines = Lines::new(Manner::Records);

    let first = lines.split(&story(), &[output(b"$ echo o")]);
    let rest = lines.split(
        &story(),
        &[
            output(b"ne\r\none\r\n\x1b[31mred\x1b[0m\ta\r\n\r\n"),
            at(0, Event::Input("secret\n".into())),
            at(0, Event::ErrorOutput(b"wrong\n"[..].into())),
            at(0, Event::Missing { bytes: 7 }),
            output(b"last"),
            end(Some(0)),
        ],
    );

    assert_eq!(first, []);
    let expected = [
        "$ echo one",
        "one",
        "red a",
        "",
        "wrong",
        "",
        "[7 bytes are missing here]",
        "last",
    ];
    assert_eq!(texts(&rest), expected);
    assert!(rest.iter().all(|line| line.is_end));
}

#[test]
fn text_is_what_script_makes_of_a_session() {
    let mut lines = Lines::new(Manner::Text);
    let session = [
        output(b"one\r\n\x1b[31mred\x1b[0m\r\n\xff"),
        at(2, end(Some(3)).event),
    ];

    let lines = lines.split(&story(), &session);

    let expected = [
        "Script started on 2026-11-22 10:07:32+00:00 [COMMAND=\"/bin/sh -l\" <not executed on terminal>]",
        "one\r",
        "\u{1b}[31mred\u{1b}[0m\r",
        "\u{fffd}",
        "Script done on 2026-11-22 10:07:34+00:00 [COMMAND_EXIT_CODE=\"3\"]",
    ];
    assert_eq!(texts(&lines), expected);
}

#[test]
fn session_without_a_byte_is_two_lines_of_text_and_no_record() {
    let text = Lines::new(Manner::Text).split(&story(), &[end(None)]);
    let records = Lines::new(Manner::Records).split(&story(), &[end(None)]);

    assert_eq!(texts(&text).len(), 3, "{text:?}");
    assert!(text[2].text.ends_with("[<terminated by alice>]"));
    assert_eq!(records, []);
}

#[test]
fn lines_do_not_depend_on_how_bytes_come_in_entries() {
    let mut bytes = "é\r\n\x1b[1mx\ty\n".repeat(50).into_bytes();
    bytes.extend("ü".repeat(40_000).into_bytes());
    bytes.extend([0xff; 70_000]);
    bytes.extend(b"\nend");
    for manner in [Manner::Records, Manner::Text] {
        let whole = Lines::new(manner).split(&story(), &[output(&bytes), end(None)]);
        for size in [1, 7, 32_999, 33_001, 65_536] {
            let mut lines = Lines::new(manner);
            let mut pieces = Vec::new();
            for part in bytes.chunks(size) {
                pieces.extend(lines.split(&story(), &[output(part)]));
                assert!(lines.partial.len() <= manner.event_text());
            }
            pieces.extend(lines.split(&story(), &[end(None)]));

            assert!(pieces == whole, "{manner:?} in pieces of {size}");
        }
        assert!(
            whole
                .iter()
                .all(|line| line.text.len() <= manner.event_text())
        );
        let joined: String = whole.iter().map(|line| &line.text[..]).collect();
        assert!(joined.contains(&"ü".repeat(40_000)), "{manner:?}");
    }
}

#[test]
fn line_beyond_the_limit_goes_on_in_the_next_piece() {
    let bytes = vec![b'x'; 70_000];

    let lines = Lines::new(Manner::Records).split(&story(), &[output(&bytes), end(None)]);

    let lengths: Vec<_> = (lines.iter())
        .map(|line| (line.text.len(), line.is_end))
        .collect();
    assert_eq!(lengths, [(33_000, false), (33_000, false), (4000, true)]);
}

fn story() -> About {
    About {
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_342_052),
        command: "/bin/sh\n-l".into(),
        ..about("alice-1")
    }
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| &line.text[..]).collect()
}

fn at(seconds: u64, event: Event) -> Entry {
    let at = Duration::from_secs(seconds);
    Entry { at, event }
}

fn output(bytes: &[u8]) -> Entry {
    at(0, Event::Output(bytes.to_vec().into()))
}

fn end(exit_code: Option<i32>) -> Entry {
    let reason = "terminated\nby alice".into();
    at(0, Event::End(End { reason, exit_code }))
}
