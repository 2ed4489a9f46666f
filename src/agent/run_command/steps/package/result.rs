//! What the service gets to know of a step that is over.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::warn;

use super::flow::End;
use super::service::Kind;
use super::trace::{Section, Trace, now};
use super::{Step, Work};
use crate::runtime::cause::in_one_line;

/// How long the step waits for that.
const PATIENCE: Duration = Duration::from_secs(30);

impl Step<'_> {
    /// Tells the service how it ended, or keeps what was done until after the reboot that was asked for.
    pub(super) async fn tell_service(&self, work: &Work, end: End, began: i64, trace: &mut Trace) {
        let package = &work.plan.package;
        if end == End::Reboot {
            if let Err(error) = self.repository.keep_traces(package, &trace.sections) {
                warn!(package, %error, "cannot keep what was done with a package");
            }
            return;
        }
        let request = self.report(work, end, began, &trace.sections);
        let telling = self
            .service
            .client
            .ssm::<_, Value>("PutConfigurePackageResult", &request);
        let text = match tokio::time::timeout(PATIENCE, telling).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => in_one_line(&error),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        match work.kind {
            Kind::Document => {
                warn!(package, error = text, "the result of a package is not told");
            }
            Kind::Package => trace.error(&format!(
                "Error reporting results: failed to report results: {text}"
            )),
        }
    }

    fn report(&self, work: &Work, end: End, began: i64, sections: &[Section]) -> Value {
        let settings = self.task.settings;
        let code = match end {
            End::Success | End::Reboot => 0,
            End::Failed | End::Cancelled => 1,
        };
        let mut request = json!({
            "PackageName": work.plan.package,
            "PackageVersion": work.version,
            "Operation": self.inputs.operation.as_str(),
            "OverallTiming": milliseconds(began, now()),
            "Result": code,
            "Attributes": {
                "platformName": work.host.platform,
                "platformVersion": work.host.version,
                "architecture": work.host.architecture,
                "instanceID": settings.node_id,
                "instanceType": "",
                "region": settings.region,
                "availabilityZone": "",
            },
            "Steps": steps(sections, began),
        });
        if !work.previous.is_empty() {
            request["PreviousPackageVersion"] = work.previous.as_str().into();
        }
        request
    }
}

/// The beginning and the end of each section, in the order of time.
fn steps(sections: &[Section], began: i64) -> Vec<Value> {
    let mut steps: Vec<(i64, Value)> = Vec::new();
    for section in sections {
        let code = match section.exitcode {
            0 if !section.error.is_empty() => 1,
            code => code,
        };
        let suffix = match section.error.as_str() {
            "" => String::new(),
            error => format!(" (err `{error}`)"),
        };
        for (at, action) in [
            (section.start, format!("> {}", section.operation)),
            (section.stop, format!("< {}{suffix}", section.operation)),
        ] {
            let timing = milliseconds(began, at);
            steps.push((
                at,
                json!({"Action": action, "Result": code, "Timing": timing}),
            ));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps.into_iter().map(|(_, step)| step).collect()
}

fn milliseconds(from: i64, to: i64) -> i64 {
    to.saturating_sub(from) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told_by_their_ends_in_order() {
        let section = |operation: &str, start, stop, error: &str| Section {
            operation: operation.into(),
            exitcode: 0,
            error: error.into(),
            start,
            stop,
        };
        let sections = [
            section("outer", 1_000_000, 9_000_000, ""),
            section("inner", 2_000_000, 3_000_000, "oh"),
        ];

        let steps = steps(&sections, 1_000_000);

        assert_eq!(
            json!(steps),
            json!([
                {"Action": "> outer", "Result": 0, "Timing": 0},
                {"Action": "> inner", "Result": 1, "Timing": 1},
                {"Action": "< inner (err `oh`)", "Result": 1, "Timing": 2},
                {"Action": "< outer", "Result": 0, "Timing": 8},
            ])
        );
    }
}
