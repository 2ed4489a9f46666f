//! The filters of DescribeInstanceInformation.

use serde::Deserialize;

use super::super::answer::ApiError;
use super::nodes::resource_type;
use crate::gateway::store::nodes::Node;

/// A filter as it comes: a node passes if one of the values fits.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StringFilter {
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

/// All filters of a call: a node is listed if it passes every one.
#[derive(Debug)]
pub(super) struct NodeFilter(Vec<(Key, Vec<String>)>);

#[derive(Debug, PartialEq, Eq)]
enum Key {
    InstanceIds,
    AgentVersion,
    PingStatus,
    PlatformTypes,
    ActivationIds,
    IamRole,
    ResourceType,
    AssociationStatus,
    TagName,
    TagValue(String),
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "InstanceIds" => Self::InstanceIds,
            "AgentVersion" => Self::AgentVersion,
            "PingStatus" => Self::PingStatus,
            "PlatformTypes" => Self::PlatformTypes,
            "ActivationIds" => Self::ActivationIds,
            "IamRole" => Self::IamRole,
            "ResourceType" => Self::ResourceType,
            "AssociationStatus" => Self::AssociationStatus,
            "tag-key" => Self::TagName,
            _ => Self::TagValue(text.strip_prefix("tag:")?.to_owned()),
        })
    }

    /// The only values that make sense, if the model lists them.
    fn values(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::PingStatus => Some(&["Online", "ConnectionLost", "Inactive"]),
            Self::PlatformTypes => Some(&["Windows", "Linux", "MacOS"]),
            Self::ResourceType => Some(&["ManagedInstance", "EC2Instance"]),
            Self::InstanceIds
            | Self::AgentVersion
            | Self::ActivationIds
            | Self::IamRole
            | Self::AssociationStatus
            | Self::TagName
            | Self::TagValue(_) => None,
        }
    }
}

impl NodeFilter {
    /// Checks keys and values.
    ///
    /// # Errors
    /// `InvalidFilterKey`, `InvalidInstanceInformationFilterValue`.
    pub(super) fn new(filters: impl Iterator<Item = StringFilter>) -> Result<Self, ApiError> {
        let parse = |filter: StringFilter| {
            let key = Key::parse(&filter.key).ok_or_else(|| {
                let text = format!("The specified key {} isn't valid.", filter.key);
                ApiError::new("InvalidFilterKey", text)
            })?;
            let wrong = |value: &&String| {
                key.values()
                    .is_some_and(|allowed| !allowed.contains(&value.as_str()))
            };
            if let Some(value) = filter.values.iter().find(wrong) {
                return Err(ApiError::new(
                    "InvalidInstanceInformationFilterValue",
                    format!("The specified filter value {value} isn't valid."),
                ));
            }
            Ok((key, filter.values))
        };
        filters.map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `node`, whose state is `ping_status`, is listed.
    pub(super) fn accepts(&self, node: &Node, ping_status: &str) -> bool {
        self.0.iter().all(|(key, values)| {
            let has = |text: &str| values.iter().any(|value| value == text);
            match key {
                Key::InstanceIds => has(&node.node_id),
                Key::AgentVersion => has(&node.report.agent_version),
                Key::PingStatus => has(ping_status),
                Key::PlatformTypes => has(&node.report.platform_type),
                Key::ActivationIds => node.activation_id.as_deref().is_some_and(has),
                Key::IamRole => has(&node.iam_role),
                Key::ResourceType => has(resource_type(&node.node_id)),
                // No node has associations yet.
                Key::AssociationStatus => false,
                Key::TagName => node.tags.iter().any(|tag| has(&tag.key)),
                Key::TagValue(name) => {
                    let mut tags = node.tags.iter();
                    tags.any(|tag| tag.key == *name && has(&tag.value))
                }
            }
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::gateway::store::activations::Tag;
    use crate::gateway::store::nodes::Report;

    #[test]
    fn node_must_pass_every_filter_with_one_of_its_values() {
        let node = node("mi-1");

        for (filters, listed) in [
            (vec![], true),
            (vec![("InstanceIds", vec!["mi-2", "mi-1"])], true),
            (vec![("InstanceIds", vec!["mi-2"])], false),
            (vec![("PingStatus", vec!["Online"])], true),
            (vec![("PingStatus", vec!["ConnectionLost"])], false),
            (vec![("ResourceType", vec!["ManagedInstance"])], true),
            (
                vec![("PlatformTypes", vec!["Linux"]), ("IamRole", vec!["other"])],
                false,
            ),
            (vec![("tag:site", vec!["lab"])], true),
            (vec![("tag:site", vec!["office"])], false),
            (vec![("tag-key", vec!["site"])], true),
            (vec![("ActivationIds", vec!["x"])], false),
            (vec![("AssociationStatus", vec!["Success"])], false),
        ] {
            let filter = NodeFilter::new(filters_of(&filters)).unwrap();
            assert_eq!(filter.accepts(&node, "Online"), listed, "{filters:?}");
        }
    }

    #[test]
    fn unknown_keys_and_values_are_refused() {
        let code = |filters: &[(&str, Vec<&str>)]| {
            NodeFilter::new(filters_of(filters)).unwrap_err().code()
        };

        assert_eq!(code(&[("Colour", vec!["red"])]), "InvalidFilterKey");
        assert_eq!(
            code(&[("PingStatus", vec!["Online", "Tired"])]),
            "InvalidInstanceInformationFilterValue"
        );
    }

    fn filters_of(filters: &[(&str, Vec<&str>)]) -> impl Iterator<Item = StringFilter> {
        let filters: Vec<StringFilter> = filters
            .iter()
            .map(|(key, values)| StringFilter {
                key: (*key).to_owned(),
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            })
            .collect();
        filters.into_iter()
    }

    pub(in super::super) fn node(node_id: &str) -> Node {
        Node {
            node_id: node_id.into(),
            name: String::new(),
            public_key: None,
            fingerprint: String::new(),
            activation_id: None,
            iam_role: "role".into(),
            registered: SystemTime::UNIX_EPOCH,
            last_ping: None,
            tags: vec![Tag {
                key: "site".into(),
                value: "lab".into(),
            }],
            report: Report {
                platform_type: "Linux".into(),
                ..Report::default()
            },
        }
    }
}
