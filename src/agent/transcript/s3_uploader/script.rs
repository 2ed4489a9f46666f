//! The text of a record as `script(1)` writes it, which is what the reference agent brings to S3.
//!
//! The reference lets `script` record a `cat` of what the person was shown, on a terminal, so that each
//! line feed gets one more carriage return; consumers are used to it. The line at the end is not in an
//! object before its session is over.

use crate::agent::transcript::entry::{About, Entry, Event};
use crate::agent::transcript::script::{first_line, last_line};

/// The text of entries; with the line that opens it if they are the first.
pub fn text(about: &About, entries: &[Entry], is_first: bool) -> Vec<u8> {
    let length: usize = entries.iter().map(|entry| entry.event.data_len()).sum();
    // Most lines are longer than 16 bytes.
    let mut out = Vec::with_capacity(length + length / 16);
    if is_first {
        out.extend_from_slice(first_line(about).as_bytes());
    }
    for entry in entries {
        match &entry.event {
            Event::Output(bytes) | Event::ErrorOutput(bytes) => lines(bytes, &mut out),
            Event::Missing { bytes } => {
                let line = format!("\r\r\n[{bytes} bytes are missing here]\r\r\n");
                out.extend_from_slice(line.as_bytes());
            }
            Event::End(end) => out.extend_from_slice(last_line(about, entry.at, end).as_bytes()),
            Event::Input(_) | Event::Resize(_) => {}
        }
    }
    out
}

fn lines(bytes: &[u8], out: &mut Vec<u8>) {
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match line.split_last() {
            Some((b'\n', line)) => {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::agent::transcript::entry::End;
    use crate::agent::transcript::file_sink::tests::about;

    fn at(seconds: u64, event: Event) -> Entry {
        let at = Duration::from_secs(seconds);
        Entry { at, event }
    }

    fn story() -> About {
        About {
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_342_052),
            command: "/bin/sh\n-l".into(),
            ..about("alice-1")
        }
    }

    #[test]
    fn text_is_what_script_writes() {
        let entries = [
            at(0, Event::Output("$ echo o".into())),
            at(
                0,
                Event::Output("ne\r\none\r\n\x1b[31mred\x1b[0m\r\n".into()),
            ),
            at(0, Event::Input("secret".into())),
            at(1, Event::ErrorOutput(vec![0xff, b'\n', 0xc3].into())),
            at(1, Event::Missing { bytes: 7 }),
        ];
        let end = End {
            reason: "the shell exited".into(),
            exit_code: Some(3),
        };

        let mut text = text(&story(), &entries, true);
        text.extend(super::text(&story(), &[at(2, Event::End(end))], false));

        let expected = b"Script started on 2026-11-22 10:07:32+00:00 \
            [COMMAND=\"/bin/sh -l\" <not executed on terminal>]\n\
            $ echo one\r\r\none\r\r\n\x1b[31mred\x1b[0m\r\r\n\xff\r\n\xc3\
            \r\r\n[7 bytes are missing here]\r\r\n\
            \nScript done on 2026-11-22 10:07:34+00:00 [COMMAND_EXIT_CODE=\"3\"]\n";
        assert_eq!(
            text.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    #[test]
    fn session_without_exit_status_and_bytes_has_both_lines() {
        let end = End {
            reason: "terminated\nby alice".into(),
            exit_code: None,
        };

        let text = text(&story(), &[at(1, Event::End(end))], true);

        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.ends_with("\nScript done on 2026-11-22 10:07:33+00:00 [<terminated by alice>]\n")
        );
    }
}
