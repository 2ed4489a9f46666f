//! What is told of a document: results turned into replies, and streams cut to what a reply takes.

use std::collections::BTreeMap;

use super::route::Route;
use super::state::{DocumentResult, DocumentState, StepResult, StepState};
use crate::protocol::wire::command::{
    AdditionalInfo, AgentInfo, OUTPUT_LIMIT, REPLY_LIMIT, Report, STREAM_LIMIT, Status, StepReport,
};
use crate::protocol::wire::job::iso_8601;
use crate::protocol::wire::version::AGENT_WIRE_VERSION;
use crate::runtime::clock::unix_ms;

/// Heads the error output within the short output.
const ERROR_TITLE: &str = "\n----------ERROR-------\n";
/// Ends output that was cut within the short output.
const OUTPUT_MARK: &str = "\n---Output truncated---";
/// Ends error output that was cut within the short output.
const ERROR_MARK: &str = "\n---Error truncated----";
/// Ends a stream that was cut.
const STREAM_MARK: &str = "--output truncated--";

/// Status of the whole document, by the statuses of its steps.
pub(super) fn document_status<'a>(steps: impl Iterator<Item = &'a Status>) -> Status {
    let mut worst = None;
    for status in steps {
        let rank = match status {
            Status::SuccessAndReboot | Status::PassedAndReboot => 5,
            Status::Failed | Status::Unknown(_) => 4,
            Status::TimedOut => 3,
            Status::Cancelled => 2,
            Status::NotStarted | Status::InProgress => 1,
            Status::Success | Status::Skipped => 0,
        };
        worst = worst.max(Some(rank));
    }
    match worst {
        Some(5) => Status::SuccessAndReboot,
        Some(4) => Status::Failed,
        Some(3) => Status::TimedOut,
        Some(2) => Status::Cancelled,
        Some(1) => Status::InProgress,
        Some(_) | None => Status::Success,
    }
}

/// Status of a step whose plugin ran several times, by the reference's order.
pub(super) fn merge(one: Status, other: Status) -> Status {
    let rank = |status: &Status| match status {
        Status::Skipped => 0,
        Status::Success => 1,
        Status::SuccessAndReboot => 2,
        Status::PassedAndReboot => 3,
        Status::NotStarted => 4,
        Status::InProgress => 5,
        Status::Failed | Status::Unknown(_) => 6,
        Status::Cancelled => 7,
        Status::TimedOut => 8,
    };
    if rank(&other) > rank(&one) {
        other
    } else {
        one
    }
}

/// What is told after the step `id`.
pub(super) fn after_step(state: &DocumentState, id: &str) -> DocumentResult {
    DocumentResult {
        status: Status::InProgress,
        last_plugin: id.to_owned(),
        ..result(state)
    }
}

/// What is told at the end.
pub(super) fn at_end(state: &DocumentState) -> DocumentResult {
    DocumentResult {
        status: state.document_information.document_status.clone(),
        ..result(state)
    }
}

fn result(state: &DocumentState) -> DocumentResult {
    let information = &state.document_information;
    let finished = state.finished();
    DocumentResult {
        document_name: information.document_name.clone(),
        document_version: information.document_version.clone(),
        message_id: information.message_id.clone(),
        plugin_results: finished
            .map(|step| (step.id.clone(), step.result.clone()))
            .collect(),
        n_plugins: state.instance_plugins_information.len(),
        upstream_service_name: state.upstream_service_name.clone(),
        result_type: "RunCommandResult".into(),
        related_document_type: state.document_type.clone(),
        ..DocumentResult::default()
    }
}

/// The content of the reply that tells `result`; `is_connected` is what replies over the message delivery
/// service say of the control channel.
pub(super) fn content(result: &DocumentResult, is_connected: Option<bool>) -> String {
    let mut counts = BTreeMap::new();
    for step in result.plugin_results.values() {
        let count: &mut u64 = counts.entry(step.status.as_str().to_owned()).or_default();
        *count += 1;
    }
    let is_told = |id: &str| {
        if result.last_plugin.is_empty() {
            // The steps of longer documents were told one by one.
            result.plugin_results.len() <= 1
        } else {
            result.last_plugin == id
        }
    };
    let steps = result.plugin_results.iter().filter(|(id, _)| is_told(id));
    let steps = steps.map(|(id, step)| (id.clone(), step_report(step)));
    let mut report = report(
        result.status.clone(),
        &result.trace,
        Some(counts),
        Some(steps.collect()),
        is_connected,
    );
    let mut text = report.encode();
    let mut limit = STREAM_LIMIT;
    // Control characters take six bytes each in JSON; the reference drops such a reply.
    while text.len() > REPLY_LIMIT && limit > OUTPUT_LIMIT {
        limit /= 2;
        for step in report
            .runtime_status
            .iter_mut()
            .flat_map(BTreeMap::values_mut)
        {
            step.standard_output = prefix(&step.standard_output, limit, STREAM_MARK);
            step.standard_error = prefix(&step.standard_error, limit, STREAM_MARK);
        }
        text = report.encode();
    }
    text
}

/// The content of the first reply: the document is taken.
pub(super) fn taken(is_connected: Option<bool>) -> String {
    report(Status::InProgress, "", None, None, is_connected).encode()
}

/// What is told of a command that came by `route` and never ran.
pub(super) fn not_run(route: Route, job_id: &str, status: Status, why: &str) -> DocumentResult {
    DocumentResult {
        message_id: job_id.to_owned(),
        status,
        trace: why.to_owned(),
        upstream_service_name: route.upstream().into(),
        result_type: "RunCommandResult".into(),
        related_document_type: route.document_type().into(),
        ..DocumentResult::default()
    }
}

fn report(
    document_status: Status,
    trace: &str,
    runtime_status_counts: Option<BTreeMap<String, u64>>,
    runtime_status: Option<BTreeMap<String, StepReport>>,
    able_to_open_mgs_connection: Option<bool>,
) -> Report {
    Report {
        additional_info: AdditionalInfo {
            agent: AgentInfo {
                lang: "en-US".into(),
                name: "amazon-ssm-agent".into(),
                os: "linux".into(),
                osver: "1".into(),
                ver: AGENT_WIRE_VERSION.into(),
            },
            date_time: iso_8601(unix_ms()),
            run_id: String::new(),
            runtime_status_counts,
            able_to_open_mgs_connection,
        },
        document_status,
        document_trace_output: prefix(trace, OUTPUT_LIMIT, OUTPUT_MARK),
        runtime_status,
    }
}

fn step_report(step: &StepResult) -> StepReport {
    let output = if step.error.is_empty() {
        step.output.clone()
    } else {
        prefix(&step.error, OUTPUT_LIMIT, OUTPUT_MARK)
    };
    StepReport {
        status: step.status.clone(),
        code: match (&step.status, step.code) {
            (Status::Failed, 0) => 1,
            (_, code) => code,
        },
        name: step.plugin_name.clone(),
        output,
        start_date_time: step.start_date_time.clone(),
        end_date_time: step.end_date_time.clone(),
        output_s3_bucket_name: step.output_s3_bucket_name.clone(),
        output_s3_key_prefix: step.output_s3_key_prefix.clone(),
        step_name: step.step_name.clone(),
        standard_output: step.standard_output.clone(),
        standard_error: step.standard_error.clone(),
    }
}

/// Both streams in [`OUTPUT_LIMIT`] bytes, by the reference's rules.
pub(super) fn short_output(output: &str, error: &str) -> String {
    let title = if error.is_empty() { "" } else { ERROR_TITLE };
    let space = OUTPUT_LIMIT - title.len();
    let (out, err) = (output.len(), error.len());
    let cut = |text: &str, bytes: usize, mark: &str| format!("{}{mark}", head(text, bytes));
    if out + err < space {
        format!("{output}{title}{error}")
    } else if out > space / 2 && err > space / 2 {
        let each = (space - OUTPUT_MARK.len() - ERROR_MARK.len()) / 2;
        let (output, error) = (cut(output, each, OUTPUT_MARK), cut(error, each, ERROR_MARK));
        format!("{output}{title}{error}")
    } else if out <= space / 2 {
        let error = cut(error, space - ERROR_MARK.len() - out, ERROR_MARK);
        format!("{output}{title}{error}")
    } else {
        let output = cut(output, space - OUTPUT_MARK.len() - err, OUTPUT_MARK);
        format!("{output}{title}{error}")
    }
}

/// A stream in [`STREAM_LIMIT`] bytes.
pub(super) fn short_stream(text: &str) -> String {
    prefix(text, STREAM_LIMIT, STREAM_MARK)
}

/// `text` if it is shorter than `limit`, else its start and `mark`, together `limit` bytes.
fn prefix(text: &str, limit: usize, mark: &str) -> String {
    if text.len() < limit {
        return text.to_owned();
    }
    format!("{}{mark}", head(text, limit - mark.len()))
}

/// The first `bytes` bytes. The reference may cut a character in two, which JSON cannot carry.
fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The steps' own words for the end of the document.
pub(super) fn conclude(state: &mut DocumentState) {
    let steps: &[StepState] = &state.instance_plugins_information;
    let status = document_status(steps.iter().map(|step| &step.result.status));
    state.document_information.document_status = status;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_keeps_what_the_reference_keeps() {
        let long = "x".repeat(3000);
        for (output, error, kept_output, kept_error) in [
            (&long, &long, 1215, 1215),
            (&long, &String::new(), 2477, 0),
            (&String::new(), &long, 0, 2453),
        ] {
            let short = short_output(output, error);
            assert_eq!(short.len(), OUTPUT_LIMIT);
            assert_eq!(
                short.matches('x').count(),
                kept_output + kept_error,
                "{kept_output} {kept_error}"
            );
        }
        assert_eq!(
            short_output("out", "err"),
            "out\n----------ERROR-------\nerr"
        );
        assert_eq!(short_output("out", ""), "out");
    }

    #[test]
    fn streams_are_cut_at_their_limit_and_never_within_a_character() {
        assert_eq!(short_stream(&"x".repeat(23_999)).len(), 23_999);
        let cut = short_stream(&"x".repeat(24_000));
        assert_eq!(cut.len(), 24_000);
        assert!(cut.ends_with("x--output truncated--"));
        let cut = short_stream(&format!("x{}", "\u{e9}".repeat(20_000)));
        assert!(cut.ends_with("\u{e9}--output truncated--"));
    }

    #[test]
    fn document_stands_as_its_worst_step() {
        use Status::{Cancelled, Failed, InProgress, Skipped, Success, SuccessAndReboot, TimedOut};

        for (steps, expected) in [
            (vec![], Success),
            (vec![Success, Skipped], Success),
            (vec![Success, Failed, TimedOut], Failed),
            (vec![TimedOut, Cancelled], TimedOut),
            (vec![Cancelled, InProgress], Cancelled),
            (vec![Failed, SuccessAndReboot], SuccessAndReboot),
            (vec![InProgress, Success], InProgress),
        ] {
            assert_eq!(document_status(steps.iter()), expected, "{steps:?}");
        }
        assert_eq!(merge(Success, Failed), Failed);
        assert_eq!(merge(TimedOut, Failed), TimedOut);
    }

    #[test]
    fn replies_tell_steps_one_by_one_and_the_only_one_at_the_end() {
        let mut state = with_steps(&["a", "b"]);
        state.instance_plugins_information[0]
            .result
            .end(Status::Success);

        let first = read(&after_step(&state, "a"));
        state.instance_plugins_information[1]
            .result
            .end(Status::Failed);
        conclude(&mut state);
        let last = read(&at_end(&state));

        assert_eq!(first.document_status, Status::InProgress);
        assert_eq!(
            first.runtime_status.unwrap().keys().collect::<Vec<_>>(),
            ["a"]
        );
        assert_eq!(last.document_status, Status::Failed);
        assert_eq!(last.runtime_status.unwrap().len(), 0);
        let counts = last.additional_info.runtime_status_counts.unwrap();
        assert_eq!((counts["Success"], counts["Failed"]), (1, 1));

        let mut single = with_steps(&["a"]);
        single.instance_plugins_information[0]
            .result
            .end(Status::Failed);
        conclude(&mut single);
        let steps = read(&at_end(&single)).runtime_status.unwrap();
        assert_eq!(steps["a"].code, 1);
    }

    #[test]
    fn reply_full_of_control_characters_still_fits() {
        let mut state = with_steps(&["a"]);
        let result = &mut state.instance_plugins_information[0].result;
        result.standard_output = short_stream(&"\u{1}".repeat(30_000));
        result.standard_error.clone_from(&result.standard_output);
        result.end(Status::Success);
        conclude(&mut state);

        let text = content(&at_end(&state), None);

        assert!(text.len() <= REPLY_LIMIT, "{}", text.len());
        let step = &Report::decode(&text).unwrap().runtime_status.unwrap()["a"];
        assert!(step.standard_output.ends_with("--output truncated--"));
        assert!(step.standard_output.len() > 5000);
    }

    #[test]
    fn replies_over_the_older_way_tell_of_the_control_channel() {
        let result = at_end(&with_steps(&["a"]));

        assert!(content(&result, Some(false)).contains(r#""ableToOpenMGSConnection":false"#));
        assert!(taken(Some(true)).contains(r#""ableToOpenMGSConnection":true"#));
        assert!(!content(&result, None).contains("ableToOpen"));
    }

    #[test]
    fn first_reply_knows_no_steps() {
        let report = Report::decode(&taken(None)).unwrap();

        assert_eq!(report.document_status, Status::InProgress);
        assert_eq!(report.runtime_status, None);
        assert_eq!(report.additional_info.runtime_status_counts, None);
    }

    fn with_steps(names: &[&str]) -> DocumentState {
        let steps = names.iter().map(|name| StepState {
            id: (*name).into(),
            ..StepState::default()
        });
        DocumentState {
            instance_plugins_information: steps.collect(),
            ..DocumentState::default()
        }
    }

    fn read(result: &DocumentResult) -> Report {
        Report::decode(&content(result, None)).unwrap()
    }
}
