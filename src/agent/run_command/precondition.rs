//! Whether a step runs: what plugins there are, and what its precondition says.

use std::collections::BTreeMap;

use super::state::Argument;
use super::steps::{Support, support};

/// The variable that stands for the operating system.
const PLATFORM_TYPE: &str = "platformType";
/// What it stands for.
const PLATFORM: &str = "linux";

/// What to do with a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Run it.
    Run,
    /// Leave it out, and say why.
    Skip(String),
    /// It cannot be run; say why.
    Fail(String),
}

/// Decides on the step `id` of `plugin`; `preconditions` is `None` where the document's schema has
/// none.
pub(super) fn judge(
    plugin: &str,
    id: &str,
    preconditions: &BTreeMap<String, Vec<Argument>>,
    schema_has_preconditions: bool,
) -> Verdict {
    let support = support(plugin);
    if !schema_has_preconditions {
        return match support {
            Support::Unknown => unknown(plugin, id),
            Support::Built | Support::Elsewhere if !preconditions.is_empty() => {
                Verdict::Fail(format!(
                    "Precondition is not supported for document schema version prior to 2.2. Step name: {id}"
                ))
            }
            Support::Elsewhere => Verdict::Fail(format!(
                "Plugin with name {plugin} not found. Step name: {id}"
            )),
            Support::Built => Verdict::Run,
        };
    }
    let (is_allowed, objections) = evaluate(preconditions);
    match support {
        Support::Unknown if is_allowed => unknown(plugin, id),
        Support::Unknown | Support::Elsewhere => Verdict::Skip(format!(
            "Step execution skipped due to unsupported plugin: {plugin}. Step name: {id}"
        )),
        Support::Built if !is_allowed => Verdict::Skip(format!(
            "Step execution skipped due to unsatisfied preconditions: '{}'. Step name: {id}",
            objections.join(", ")
        )),
        Support::Built if !objections.is_empty() => Verdict::Fail(format!(
            "Unrecognized precondition(s): '{}', please update agent to latest version. Step name: {id}",
            objections.join(", ")
        )),
        Support::Built => Verdict::Run,
    }
}

fn unknown(plugin: &str, id: &str) -> Verdict {
    Verdict::Fail(format!(
        "Plugin with name {plugin} is not supported by this version of ssm agent, please update to latest version. Step name: {id}"
    ))
}

/// Whether all operators hold as far as they are understood, and what is to be said of those that do
/// not or are not.
fn evaluate(preconditions: &BTreeMap<String, Vec<Argument>>) -> (bool, Vec<String>) {
    let mut is_allowed = true;
    let mut objections = Vec::new();
    for (operator, arguments) in preconditions {
        match (operator.as_str(), arguments.as_slice()) {
            ("StringEquals", [one, other]) => match compare(one, other) {
                Comparison::Holds => {}
                Comparison::Differs => {
                    is_allowed = false;
                    objections.push(format!(
                        "\"{operator}\": [{}, {}]",
                        one.initial, other.initial
                    ));
                }
                Comparison::Unusable(why) => objections.push(format!("\"{operator}\": {why}")),
            },
            ("StringEquals", _) => objections.push(format!(
                "\"{operator}\": operator accepts exactly 2 arguments"
            )),
            _ => objections.push(format!("unrecognized operator: \"{operator}\"")),
        }
    }
    (is_allowed, objections)
}

enum Comparison {
    Holds,
    Differs,
    Unusable(String),
}

fn compare(one: &Argument, other: &Argument) -> Comparison {
    let unusable = |why: &str| Comparison::Unusable(why.to_owned());
    let both = [one, other];
    if one.initial == other.initial {
        return if one.initial == PLATFORM_TYPE {
            Comparison::Unusable(format!("[{} {}]", one.initial, other.initial))
        } else {
            unusable("operator's arguments can't be identical")
        };
    }
    let refers_to = |marker: &str| {
        both.iter()
            .any(|argument| has_marker(&argument.initial, marker))
    };
    if refers_to("ssm:") {
        return unusable("operator's arguments can't contain SSM parameters");
    }
    if refers_to("ssm-secure:") {
        return unusable("operator's arguments can't contain secure SSM parameters");
    }
    let platform = match both.map(|argument| argument.initial == PLATFORM_TYPE) {
        [true, _] => Some(other),
        [_, true] => Some(one),
        [false, false] => None,
    };
    if let Some(value) = platform {
        return if !value.initial.eq_ignore_ascii_case(&value.resolved) {
            unusable(
                "the second argument for the platformType variable can't contain document parameters",
            )
        } else if value.initial.eq_ignore_ascii_case(PLATFORM) {
            Comparison::Holds
        } else {
            Comparison::Differs
        };
    }
    if both
        .iter()
        .all(|argument| argument.initial == argument.resolved)
    {
        return unusable(
            "at least one of operator's arguments must contain a valid document parameter",
        );
    }
    if one.resolved == other.resolved {
        Comparison::Holds
    } else {
        Comparison::Differs
    }
}

/// Whether `{{ <marker>` stands in the text.
fn has_marker(text: &str, marker: &str) -> bool {
    let mut parts = text.split("{{").skip(1);
    parts.any(|part| part.trim_start_matches(' ').starts_with(marker) && part.contains("}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: &str = "aws:runShellScript";

    #[test]
    fn step_runs_only_where_its_precondition_holds() {
        let judged = |arguments: &[(&str, &str)]| judge(SHELL, "s", &equals(arguments), true);

        for arguments in [
            [("platformType", "platformType"), ("Linux", "Linux")],
            [("linux", "linux"), ("platformType", "platformType")],
            [("{{ a }}", "x"), ("x", "x")],
        ] {
            assert_eq!(judged(&arguments), Verdict::Run);
        }
        let skipped = judged(&[("platformType", "platformType"), ("Windows", "Windows")]);
        let text = "Step execution skipped due to unsatisfied preconditions: '\"StringEquals\": [platformType, Windows]'. Step name: s";
        assert_eq!(skipped, Verdict::Skip(text.into()));
        assert!(matches!(
            judged(&[("{{ a }}", "y"), ("x", "x")]),
            Verdict::Skip(_)
        ));
    }

    #[test]
    fn precondition_that_is_not_understood_fails_its_step() {
        for (arguments, objection) in [
            (
                vec![("a", "a")],
                "\"StringEquals\": operator accepts exactly 2 arguments",
            ),
            (
                vec![("a", "a"), ("a", "a")],
                "\"StringEquals\": operator's arguments can't be identical",
            ),
            (
                vec![("a", "a"), ("b", "b")],
                "\"StringEquals\": at least one of operator's arguments must contain a valid document parameter",
            ),
            (
                vec![("{{ssm:x}}", "{{ssm:x}}"), ("b", "b")],
                "\"StringEquals\": operator's arguments can't contain SSM parameters",
            ),
            (
                vec![("{{ ssm-secure:x }}", "{{ ssm-secure:x }}"), ("b", "b")],
                "\"StringEquals\": operator's arguments can't contain secure SSM parameters",
            ),
            (
                vec![
                    ("platformType", "platformType"),
                    ("platformType", "platformType"),
                ],
                "\"StringEquals\": [platformType platformType]",
            ),
            (
                vec![("platformType", "platformType"), ("{{ p }}", "Linux")],
                "\"StringEquals\": the second argument for the platformType variable can't contain document parameters",
            ),
        ] {
            let text = format!(
                "Unrecognized precondition(s): '{objection}', please update agent to latest version. Step name: s"
            );
            assert_eq!(
                judge(SHELL, "s", &equals(&arguments), true),
                Verdict::Fail(text)
            );
        }
        let other = BTreeMap::from([("StringLike".to_owned(), Vec::new())]);
        let Verdict::Fail(text) = judge(SHELL, "s", &other, true) else {
            panic!("an operator that nobody knows");
        };
        assert!(
            text.contains("unrecognized operator: \"StringLike\""),
            "{text}"
        );
    }

    #[test]
    fn all_operators_have_to_hold_and_each_is_objected_to() {
        let mut two = equals(&[("a", "a"), ("b", "b")]);
        two.insert("StringLike".to_owned(), Vec::new());
        let Verdict::Fail(text) = judge(SHELL, "s", &two, true) else {
            panic!("neither is understood");
        };
        for objection in [
            "at least one of operator's arguments must contain a valid document parameter, ",
            "unrecognized operator: \"StringLike\"",
        ] {
            assert!(text.contains(objection), "{text}");
        }
        // What does not hold comes first: the step is not for this host.
        let mut two = equals(&[("platformType", "platformType"), ("Windows", "Windows")]);
        two.insert("StringLike".to_owned(), Vec::new());
        let Verdict::Skip(text) = judge(SHELL, "s", &two, true) else {
            panic!("it is for Windows");
        };
        assert!(
            text.contains("[platformType, Windows], unrecognized operator"),
            "{text}"
        );
    }

    #[test]
    fn unknown_plugin_fails_only_where_its_step_is_wanted() {
        let windows = equals(&[("platformType", "platformType"), ("Windows", "Windows")]);

        let verdict = judge("aws:novelty", "s", &windows, true);

        let text = "Step execution skipped due to unsupported plugin: aws:novelty. Step name: s";
        assert_eq!(verdict, Verdict::Skip(text.into()));
    }

    #[test]
    fn domains_are_not_silently_left_alone() {
        let none = BTreeMap::new();
        for schema in [true, false] {
            assert_eq!(judge("aws:domainJoin", "s", &none, schema), Verdict::Run);
        }
        let windows = equals(&[("platformType", "platformType"), ("Windows", "Windows")]);
        let verdict = judge("aws:domainJoin", "s", &windows, true);
        assert!(matches!(verdict, Verdict::Skip(_)));
    }

    #[test]
    fn plugins_that_are_not_here_are_skipped_or_fail_by_the_schema() {
        let none = BTreeMap::new();
        for (plugin, schema, verdict) in [
            (SHELL, false, Verdict::Run),
            (
                "aws:psModule",
                true,
                Verdict::Skip("Step execution skipped due to unsupported plugin: aws:psModule. Step name: s".into()),
            ),
            (
                "aws:psModule",
                false,
                Verdict::Fail("Plugin with name aws:psModule not found. Step name: s".into()),
            ),
            (
                "aws:novelty",
                true,
                Verdict::Fail("Plugin with name aws:novelty is not supported by this version of ssm agent, please update to latest version. Step name: s".into()),
            ),
        ] {
            assert_eq!(judge(plugin, "s", &none, schema), verdict);
        }
        let old = judge(SHELL, "s", &equals(&[("a", "a"), ("b", "b")]), false);
        assert!(
            matches!(old, Verdict::Fail(text) if text.starts_with("Precondition is not supported"))
        );
    }

    fn equals(arguments: &[(&str, &str)]) -> BTreeMap<String, Vec<Argument>> {
        let arguments = arguments.iter().map(|(initial, resolved)| Argument {
            initial: (*initial).into(),
            resolved: (*resolved).into(),
        });
        BTreeMap::from([("StringEquals".to_owned(), arguments.collect())])
    }
}
