//! Log set-up: standard error or journald, human or JSON.
//!
//! Logs never go to standard output, which belongs to a command's data. What is logged is up to the
//! caller; nothing here masks secrets, so they must not get into fields in the first place.

use std::io;

use clap::{Args, ValueEnum};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
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
    /// A line of text on standard error for the systemd journal, which has the time of its own and is
    /// told the priority.
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
    /// Something else in the process has set up logging.
    #[error("logging is already set up")]
    Twice(#[source] TryInitError),
}

/// Sets up logging for the process.
///
/// # Errors
/// [`LoggingError`].
pub fn init(options: &Options) -> Result<(), LoggingError> {
    let journal_stream = std::env::var("JOURNAL_STREAM").ok();
    let format = choose(options.log_format, journal_stream.as_deref(), stderr_id());
    let filter = parse_filter(&options.log_level)?;
    match format {
        Format::Journald => journal(filter, io::stderr)
            .try_init()
            .map_err(LoggingError::Twice),
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

/// With the fields in the text: as fields of the journal's own, `journalctl` would not show them, and a
/// warning without its cause helps nobody.
fn journal<F, W>(filter: EnvFilter, writer: F) -> impl Subscriber + Send + Sync
where
    F: Fn() -> W + Send + Sync + 'static,
    W: io::Write,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_level(false)
        .without_time()
        .with_writer(Prioritized(writer))
        .finish()
}

/// Begins each line with its priority, as `sd-daemon(3)` has it.
struct Prioritized<F>(F);

/// A line that has not begun yet, or has.
struct Line<W> {
    writer: W,
    prefix: &'static str,
}

impl<'a, F, W> MakeWriter<'a> for Prioritized<F>
where
    F: Fn() -> W,
    W: io::Write,
{
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Self::Writer {
        let writer = (self.0)();
        Line {
            writer,
            prefix: "<6>",
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        let writer = (self.0)();
        let prefix = match *meta.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<5>",
            Level::DEBUG => "<6>",
            Level::TRACE => "<7>",
        };
        Line { writer, prefix }
    }
}

impl<W: io::Write> io::Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.prefix.is_empty() {
            return self.writer.write(bytes);
        }
        // In one piece, as other threads write lines too.
        let line = [self.prefix.as_bytes(), bytes].concat();
        self.prefix = "";
        self.writer.write_all(&line)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
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
    fn lines_for_the_journal_have_priority_and_fields() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = journal(parse_filter("info").unwrap(), move || writer.clone());

        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(error = "no route", "trying again");
            tracing::info!("connected");
        });

        assert_eq!(
            lines.text(),
            "<4>trying again error=\"no route\"\n<5>connected\n"
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
