//! Log set-up: standard error or journald, human or JSON.
//!
//! Logs never go to standard output, which belongs to a command's data. What is logged is up to the
//! caller; nothing here masks secrets, so they must not get into fields in the first place.

use std::io;

use clap::{Args, ValueEnum};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// What operators care about and nothing more.
pub const DEFAULT_LEVEL: &str = "info";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line of text on standard error.
    Human,
    /// A line of JSON on standard error.
    Json,
    /// Structured entries for the systemd journal.
    Journald,
    /// The journal if standard error leads there, else human.
    Auto,
}

/// The logging flags that every program shares.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = Format::Auto, global = true)]
    pub log_format: Format,
    /// error, warn, info, debug, trace, or directives such as "info,ssm_agent::transport=debug"
    #[arg(long, env = "SSM_AGENT_LOG", default_value = DEFAULT_LEVEL, global = true)]
    pub log_level: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_format: Format::Auto,
            log_level: DEFAULT_LEVEL.to_owned(),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level does not parse.
    #[error("log level {level:?} is not valid")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// The journal was asked for and is not there.
    #[error("cannot reach the systemd journal")]
    Journal(#[source] io::Error),
    /// Something else in the process has set up logging.
    #[error("logging is already set up")]
    Twice(#[source] TryInitError),
}

/// Sets up logging for the process; `identifier` is the program's name in the journal.
///
/// # Errors
/// [`LoggingError`].
pub fn init(options: &Options, identifier: &str) -> Result<(), LoggingError> {
    let journal_stream = std::env::var("JOURNAL_STREAM").ok();
    let format = choose(options.log_format, journal_stream.as_deref(), stderr_id());
    let filter = parse_filter(&options.log_level)?;
    match format {
        Format::Journald => {
            let journal = tracing_journald::layer()
                .map_err(LoggingError::Journal)?
                .with_syslog_identifier(identifier.to_owned());
            tracing_subscriber::registry()
                .with(filter)
                .with(journal)
                .try_init()
                .map_err(LoggingError::Twice)
        }
        Format::Json => json(filter, io::stderr)
            .try_init()
            .map_err(LoggingError::Twice),
        Format::Human | Format::Auto => {
            let colour = io::IsTerminal::is_terminal(&io::stderr())
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            human(filter, colour, io::stderr)
                .try_init()
                .map_err(LoggingError::Twice)
        }
    }
}

fn parse_filter(level: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|source| LoggingError::Level {
            level: level.to_owned(),
            source,
        })
}

/// Settles `auto`. `journal_stream` is the device and inode of the stream that systemd connected to
/// the journal; a redirected standard error has others.
fn choose(format: Format, journal_stream: Option<&str>, stderr: Option<(u64, u64)>) -> Format {
    if format != Format::Auto {
        return format;
    }
    let journal = journal_stream
        .and_then(|text| text.split_once(':'))
        .and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    if journal.is_some() && journal == stderr {
        Format::Journald
    } else {
        Format::Human
    }
}

/// Device and inode of standard error.
fn stderr_id() -> Option<(u64, u64)> {
    let stat = nix::sys::stat::fstat(io::stderr()).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

fn human<W>(filter: EnvFilter, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_target(false)
        .with_writer(writer)
        .finish()
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn auto_means_the_journal_only_if_stderr_leads_there() {
        let choose_auto = |stream, stderr| choose(Format::Auto, stream, stderr);

        assert_eq!(choose_auto(Some("8:42"), Some((8, 42))), Format::Journald);
        assert_eq!(choose_auto(Some("8:42"), Some((8, 43))), Format::Human);
        assert_eq!(choose_auto(Some("nonsense"), None), Format::Human);
        assert_eq!(choose_auto(None, None), Format::Human);
    }

    #[test]
    fn a_named_format_is_taken_as_it_is() {
        assert_eq!(
            choose(Format::Json, Some("8:42"), Some((8, 42))),
            Format::Json
        );
    }

    #[test]
    fn a_wrong_level_is_refused_with_its_text() {
        let error = parse_filter("ssm_agent=loud").unwrap_err();

        assert_eq!(
            error.to_string(),
            "log level \"ssm_agent=loud\" is not valid"
        );
    }

    #[test]
    fn human_lines_carry_level_text_and_fields_without_colour_codes() {
        let lines = Lines::default();
        let subscriber = human(parse_filter("info").unwrap(), false, lines.writer());

        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(user = "bob", "session started");
            tracing::debug!("not shown");
        });

        let text = lines.text();
        assert!(text.contains("INFO session started user=\"bob\""), "{text}");
        assert!(
            !text.contains('\u{1b}') && !text.contains("not shown"),
            "{text}"
        );
    }

    #[test]
    fn json_lines_are_json_with_the_fields() {
        let lines = Lines::default();
        let subscriber = json(parse_filter("info").unwrap(), lines.writer());

        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(attempt = 3, "reconnecting");
        });

        let line: serde_json::Value = serde_json::from_str(lines.text().trim()).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["fields"]["message"], "reconnecting");
        assert_eq!(line["fields"]["attempt"], 3);
    }

    #[derive(Default, Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn writer(&self) -> impl for<'a> MakeWriter<'a> + Send + Sync + 'static {
            let lines = self.clone();
            move || lines.clone()
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
