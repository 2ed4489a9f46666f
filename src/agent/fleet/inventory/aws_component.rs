//! `AWS:AWSComponent`: those of the packages that are AWS's own.

use super::application::Package;
use super::item::{Item, Row};

/// The type of the item.
pub(super) const TYPE: &str = "AWS:AWSComponent";

/// The version of its schema: that of packages before it had more attributes that may be left out.
const SCHEMA: &str = "1.0";

/// Packages by name, in lower case.
const NAMES: [&str; 2] = ["amazon-ssm-agent", "aws-cfn-bootstrap"];
/// Parts of the names of others.
const PARTS: [&str; 2] = ["aws-apitools-", "aws-amitools-"];
/// The name that this agent's package has; the service knows it by the reference's.
const OURS: (&str, &str) = ("ssm-agent", "amazon-ssm-agent");

/// The item; its attributes are those of packages.
pub(super) fn item(packages: &[Package]) -> Item {
    let rows = packages.iter().map(Package::row);
    let components = rows.filter_map(component);
    Item::new(TYPE, SCHEMA, components.collect())
}

fn component(row: Row) -> Option<Row> {
    let name = row.get("Name").to_ascii_lowercase();
    if name == OURS.0 {
        return Some(row.renamed(OURS.1));
    }
    let is_one = NAMES.contains(&name.as_str()) || PARTS.iter().any(|part| name.contains(part));
    is_one.then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_known_by_name_and_this_agent_by_the_references() {
        let names = [
            "bash",
            "AWS-CFN-Bootstrap",
            "ssm-agent",
            "old-aws-apitools-x",
        ];

        let found = names.into_iter().filter_map(|name| {
            let row = Row::of([("Name", name), ("Version", "1")]);
            component(row).map(|row| row.get("Name").to_owned())
        });

        let expected = [
            "AWS-CFN-Bootstrap",
            "amazon-ssm-agent",
            "old-aws-apitools-x",
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
