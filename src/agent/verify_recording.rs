//! `verify-recording` of `ssm-agent` and `ssm-cli`: says whether a recording is as it was written.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::transcript::{Digest, Examined, Verdict, verify};

/// What the command does, for its help.
pub const ABOUT: &str = "Say whether a recording is as it was written. A cast proves itself by its \
     seals, up to its end or to its last checkpoint; with the digest from the audit log or the \
     session's result, any file does. The exit status is 0 for a recording that is intact to its \
     end, or has that digest.";

/// Arguments of `verify-recording`.
#[derive(Debug, Args)]
pub struct VerifyRecording {
    /// The file, `<session id>.cast`; or `<session id>.log`, with its digest
    pub file: PathBuf,
    /// The digest that the file must have
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<Digest>,
    /// Print the judgement as JSON
    #[arg(long)]
    pub json: bool,
}

/// Examines the file, prints the judgement, and returns whether it is good.
///
/// # Errors
/// If the file cannot be read or the judgement not be printed.
pub fn run(arguments: &VerifyRecording) -> anyhow::Result<bool> {
    let examined = verify(&arguments.file)?;
    let judgement = Judgement::of(&examined, arguments.sha256);
    let mut out = io::stdout().lock();
    if arguments.json {
        let lines = match &examined.verdict {
            Verdict::Altered { lines, .. } => Some([lines.start(), lines.end()]),
            Verdict::Complete | Verdict::Unended { .. } | Verdict::Foreign => None,
        };
        let answer = json!({
            "file": arguments.file.display().to_string(),
            "good": judgement.is_good,
            "verdict": judgement.name,
            "detail": judgement.text,
            "lines": lines,
            "bytes": examined.bytes,
            "sha256": examined.sha256,
        });
        writeln!(out, "{answer}")?;
    } else {
        writeln!(out, "{}: {}", judgement.name, judgement.text)?;
        writeln!(out, "{} bytes, sha256 {}", examined.bytes, examined.sha256)?;
    }
    Ok(judgement.is_good)
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
struct Judgement {
    is_good: bool,
    name: &'static str,
    text: String,
}

impl Judgement {
    /// Judges by the digest that is known from elsewhere, else by the seals.
    fn of(examined: &Examined, known: Option<Digest>) -> Self {
        let (is_good, name, text) = match (&examined.verdict, known) {
            (verdict, Some(known)) if known == examined.sha256 => {
                let rest = match verdict {
                    Verdict::Unended { .. } => "; its session's end is not in it",
                    Verdict::Complete | Verdict::Altered { .. } | Verdict::Foreign => "",
                };
                (true, "intact", format!("the digest is the given one{rest}"))
            }
            (Verdict::Altered { lines, what }, _) => {
                let place = if lines.start() == lines.end() {
                    format!("at line {}", lines.start())
                } else {
                    format!("first between lines {} and {}", lines.start(), lines.end())
                };
                (false, "altered", format!("{place}: {what}"))
            }
            (_, Some(known)) => (
                false,
                "altered",
                format!("the digest is not {known}, the given one"),
            ),
            (Verdict::Complete, None) => (
                true,
                "intact",
                "all seals fit, to the end of the session".to_owned(),
            ),
            (Verdict::Unended { proven }, None) => (
                false,
                "not ended",
                format!(
                    "intact up to byte {proven}; nothing proves what follows, and the end is missing"
                ),
            ),
            (Verdict::Foreign, None) => (
                false,
                "no recording",
                "it has no seals; a plain log is checked with --sha256 alone".to_owned(),
            ),
        };
        Self {
            is_good,
            name,
            text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const OTHER: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn seals_alone_prove_a_complete_cast_and_nothing_else() {
        let altered = |lines| Verdict::Altered {
            lines,
            what: "it is no event",
        };
        for (verdict, is_good, name, text) in [
            (Verdict::Complete, true, "intact", "all seals fit"),
            (
                Verdict::Unended { proven: 7 },
                false,
                "not ended",
                "intact up to byte 7;",
            ),
            (
                altered(4..=4),
                false,
                "altered",
                "at line 4: it is no event",
            ),
            (
                altered(4..=9),
                false,
                "altered",
                "first between lines 4 and 9: ",
            ),
            (Verdict::Foreign, false, "no recording", "it has no seals"),
        ] {
            let judgement = Judgement::of(&examined(verdict), None);

            assert_eq!((judgement.is_good, judgement.name), (is_good, name));
            assert!(judgement.text.starts_with(text), "{judgement:?}");
        }
    }

    #[test]
    fn known_digest_decides_over_the_seals() {
        let verdicts = [
            Verdict::Complete,
            Verdict::Unended { proven: 7 },
            Verdict::Foreign,
        ];
        for verdict in verdicts {
            let examined = examined(verdict);

            let same = Judgement::of(&examined, Some(KNOWN.parse().unwrap()));
            let other = Judgement::of(&examined, Some(OTHER.parse().unwrap()));

            assert_eq!((same.is_good, same.name), (true, "intact"));
            assert_eq!((other.is_good, other.name), (false, "altered"));
        }
    }

    fn examined(verdict: Verdict) -> Examined {
        Examined {
            bytes: 3,
            sha256: KNOWN.parse().unwrap(),
            verdict,
        }
    }
}
