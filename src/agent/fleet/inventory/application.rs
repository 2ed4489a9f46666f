//! `AWS:Application`: packages, as dpkg, rpm and snap tell them.
//!
//! Fields are told apart by characters that are in no field.

use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Map;
use tracing::{debug, warn};

use super::error::GatherError;
use super::item::{Item, Row};
use super::tool;
use crate::runtime::cause::in_one_line;

/// The type of the item.
pub(super) const TYPE: &str = "AWS:Application";
/// The version of its schema.
pub(super) const SCHEMA: &str = "1.1";

/// Longest value, in bytes, counting those that JSON would need to hold quotes and the like.
const VALUE: usize = 100;
/// Ends a field.
const FIELD: char = '\u{1f}';
/// Ends a package.
const RECORD: char = '\u{1e}';
/// What rpm says where there is nothing.
const NONE: &str = "(none)";
/// The package whose presence means that there may be snaps.
const SNAPD: &str = "snapd";
/// The distribution that keeps its own list.
const BOTTLEROCKET: &str = "Bottlerocket";
const BOTTLEROCKET_LIST: &str = "/var/lib/bottlerocket/inventory/application.json";
/// Largest list that is read.
const LIST: u64 = 16 << 20;

/// The attributes, in the order that they are sent in, and whether they are left out when empty.
const ATTRIBUTES: [(&str, bool); 11] = [
    ("Name", false),
    ("Publisher", false),
    ("Version", false),
    ("Release", true),
    ("Epoch", true),
    ("InstalledTime", true),
    ("ApplicationType", true),
    ("Architecture", false),
    ("URL", true),
    ("Summary", true),
    ("PackageId", true),
];

/// A package.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Package {
    name: String,
    publisher: String,
    version: String,
    release: String,
    epoch: String,
    installed_time: String,
    application_type: String,
    architecture: String,
    #[serde(alias = "URL")]
    url: String,
    summary: String,
    package_id: String,
}

impl Package {
    pub(super) fn row(&self) -> Row {
        let values = [
            &self.name,
            &self.publisher,
            &self.version,
            &self.release,
            &self.epoch,
            &self.installed_time,
            &self.application_type,
            &self.architecture,
            &self.url,
            &self.summary,
            &self.package_id,
        ];
        let mut row = Row::default();
        for ((name, may_be_left_out), value) in ATTRIBUTES.into_iter().zip(values) {
            if may_be_left_out {
                row.push_some(name, value);
            } else {
                row.push(name, value.as_str());
            }
        }
        row
    }
}

/// All packages of this host, whose distribution is called `platform`. A manager that fails is passed
/// over, as in the reference.
pub(super) async fn packages(platform: &str) -> Vec<Package> {
    if platform == BOTTLEROCKET
        && let Some(packages) = listed(Path::new(BOTTLEROCKET_LIST)).await
    {
        return packages;
    }
    let mut packages = Vec::new();
    if tool::find("dpkg-query").is_some() {
        add(&mut packages, dpkg().await);
    }
    if tool::find("rpm").is_some() {
        add(&mut packages, rpm().await);
    }
    let is_snapd = |package: &Package| package.name.eq_ignore_ascii_case(SNAPD);
    if packages.iter().any(is_snapd) {
        add(&mut packages, snap().await);
    }
    packages
}

/// The item of `packages`.
pub(super) fn item(packages: &[Package]) -> Item {
    Item::new(TYPE, SCHEMA, packages.iter().map(Package::row).collect())
}

fn add(packages: &mut Vec<Package>, found: Result<Vec<Package>, GatherError>) {
    match found {
        Ok(found) => packages.extend(found),
        Err(error) => warn!(error = in_one_line(&error), "some packages are not told"),
    }
}

async fn dpkg() -> Result<Vec<Package>, GatherError> {
    const FIELDS: [&str; 7] = [
        "${Package}",
        "${Maintainer}",
        "${Version}",
        "${Section}",
        "${Architecture}",
        "${Homepage}",
        "${Description}",
    ];
    let format = format!("-f={}{RECORD}", FIELDS.join(&FIELD.to_string()));
    let said = tool::ask("dpkg-query", &["-W", &format]).await?;
    Ok(records(&said).filter_map(dpkg_package).collect())
}

fn dpkg_package(record: &str) -> Option<Package> {
    let [
        name,
        publisher,
        version,
        section,
        architecture,
        url,
        summary,
    ] = fields(record)?;
    Some(Package {
        name: value(name),
        publisher: value(publisher),
        version: value(version),
        application_type: value(section),
        architecture: architecture_of(architecture),
        url: value(url),
        summary: value(summary),
        package_id: value(&format!("{name}_{version}_{architecture}.deb")),
        ..Package::default()
    })
}

async fn rpm() -> Result<Vec<Package>, GatherError> {
    const FIELDS: [&str; 11] = [
        "%{NAME}",
        "%{VENDOR}",
        "%{VERSION}",
        "%{RELEASE}",
        "%{EPOCH}",
        "%{INSTALLTIME}",
        "%{GROUP}",
        "%{ARCH}",
        "%{URL}",
        "%{SUMMARY}",
        "%{SOURCERPM}",
    ];
    let format = format!("{}{RECORD}", FIELDS.join(&FIELD.to_string()));
    let said = tool::ask("rpm", &["-qa", "--queryformat", &format]).await?;
    Ok(records(&said).filter_map(rpm_package).collect())
}

fn rpm_package(record: &str) -> Option<Package> {
    let [
        name,
        vendor,
        version,
        release,
        epoch,
        installed,
        group,
        architecture,
        url,
        summary,
        source,
    ] = fields(record)?;
    Some(Package {
        name: value(name),
        publisher: value(vendor),
        version: value(version),
        release: value(release),
        epoch: if epoch == NONE {
            String::new()
        } else {
            value(epoch)
        },
        installed_time: installed_time(installed),
        application_type: value(group),
        architecture: architecture_of(architecture),
        url: value(url),
        summary: value(summary),
        package_id: value(source),
    })
}

async fn snap() -> Result<Vec<Package>, GatherError> {
    Ok(snaps(&tool::ask("snap", &["list"]).await?))
}

/// The table of `snap list`: name, version, revision, tracking, publisher, notes.
fn snaps(said: &str) -> Vec<Package> {
    let rows = said.lines().skip(1);
    rows.filter_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let [name, version, _, _, publisher, _, ..] = columns[..] else {
            debug!(row, "a row of snap list is not understood");
            return None;
        };
        Some(Package {
            name: value(name),
            publisher: value(publisher),
            version: value(version),
            application_type: "admin".to_owned(),
            package_id: value(&format!("pkg:snap/{publisher}/{name}@{version}")),
            ..Package::default()
        })
    })
    .collect()
}

/// The list that the distribution keeps, if it does.
async fn listed(path: &Path) -> Option<Vec<Package>> {
    let size = tokio::fs::metadata(path).await.ok()?.len();
    if size > LIST {
        warn!(path = %path.display(), size, "the list of packages is too large");
        return Some(Vec::new());
    }
    let text = tokio::fs::read(path).await.ok()?;
    Some(parse_list(&text).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "the list of packages is not understood");
        Vec::new()
    }))
}

fn parse_list(text: &[u8]) -> serde_json::Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct List {
        #[serde(rename = "Content")]
        content: Vec<Map<String, serde_json::Value>>,
    }
    let list: List = serde_json::from_slice(text)?;
    let packages = list.content.into_iter();
    packages
        .map(|package| serde_json::from_value(package.into()))
        .collect()
}

fn records(said: &str) -> impl Iterator<Item = &str> {
    let records = said.split(RECORD);
    records.filter(|record| !record.trim().is_empty())
}

fn fields<const N: usize>(record: &str) -> Option<[&str; N]> {
    let fields: Vec<&str> = record.split(FIELD).collect();
    fields
        .try_into()
        .inspect_err(|_| debug!("a package is not understood"))
        .ok()
}

/// The first line of a field, cut where its JSON would have more than [`VALUE`] bytes.
fn value(field: &str) -> String {
    let line = field.trim_start_matches(['\r', '\n']).lines().next();
    let mut left = VALUE;
    let mut value = String::new();
    for c in line.unwrap_or_default().chars().filter(|&c| c != '\r') {
        let size = match c {
            '"' | '\\' | '\t' => 2,
            c => c.len_utf8(),
        };
        let Some(rest) = left.checked_sub(size) else {
            break;
        };
        left = rest;
        value.push(c);
    }
    value
}

fn architecture_of(field: &str) -> String {
    match value(field).to_ascii_lowercase().as_str() {
        "amd64" => "x86_64".to_owned(),
        "386" => "i386".to_owned(),
        other => other.to_owned(),
    }
}

fn installed_time(field: &str) -> String {
    let seconds = field.trim().parse();
    let time = seconds
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| value(field), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(packages: &[Package]) -> String {
        serde_json::to_string(&item(packages).content).unwrap()
    }

    #[test]
    fn package_of_dpkg_has_the_attributes_of_the_reference() {
        let record = "sed\u{1f}Someone <s@example>\u{1f}4.9-1\u{1f}utils\u{1f}amd64\u{1f}https://x/\u{1f}GNU stream editor\n sed reads\n more";

        let package = dpkg_package(record).unwrap();

        assert_eq!(
            json(&[package]),
            concat!(
                r#"[{"Name":"sed","Publisher":"Someone <s@example>","Version":"4.9-1","#,
                r#""ApplicationType":"utils","Architecture":"x86_64","URL":"https://x/","#,
                r#""Summary":"GNU stream editor","PackageId":"sed_4.9-1_amd64.deb"}]"#
            )
        );
    }

    #[test]
    fn package_of_rpm_has_the_attributes_of_the_reference() {
        let record = "bash\u{1f}(none)\u{1f}5.2\u{1f}1.amzn\u{1f}(none)\u{1f}1461974307\u{1f}System/Shells\u{1f}X86_64\u{1f}https://x\u{1f}A shell\u{1f}bash-5.2.src.rpm";

        let package = rpm_package(record).unwrap();

        assert_eq!(
            json(&[package]),
            concat!(
                r#"[{"Name":"bash","Publisher":"(none)","Version":"5.2","Release":"1.amzn","#,
                r#""InstalledTime":"2016-04-29T23:58:27Z","ApplicationType":"System/Shells","#,
                r#""Architecture":"x86_64","URL":"https://x","Summary":"A shell","#,
                r#""PackageId":"bash-5.2.src.rpm"}]"#
            )
        );
    }

    #[test]
    fn snaps_are_read_from_their_table() {
        let said = "Name  Version  Rev  Tracking  Publisher  Notes\ncore  16-2.61  1    latest/stable  canonical*  core\nodd\n";

        let snaps = snaps(said);

        assert_eq!(
            json(&snaps),
            concat!(
                r#"[{"Name":"core","Publisher":"canonical*","Version":"16-2.61","ApplicationType":"admin","#,
                r#""Architecture":"","PackageId":"pkg:snap/canonical*/core@16-2.61"}]"#
            )
        );
    }

    #[test]
    fn list_of_the_distribution_is_taken_as_it_is() {
        let text = br#"{"Content":[{"Name":"glibc","Publisher":"B","Version":"2.38","Release":"1","Architecture":"x86_64","Url":"u"}]}"#;

        let packages = parse_list(text).unwrap();

        assert_eq!(
            json(&packages),
            r#"[{"Name":"glibc","Publisher":"B","Version":"2.38","Release":"1","Architecture":"x86_64","URL":"u"}]"#
        );
        assert!(parse_list(b"{}").is_err());
    }

    #[test]
    fn values_are_cut_by_the_bytes_that_they_take_in_json() {
        assert_eq!(value(&"a".repeat(101)).len(), 100);
        assert_eq!(value(&"\"".repeat(60)).len(), 50);
        assert_eq!(value(&"ü".repeat(60)).chars().count(), 50);
        assert_eq!(value("first\r\nsecond"), "first");
        assert_eq!(value(""), "");
    }

    #[tokio::test]
    async fn packages_of_this_host_are_found_where_dpkg_is() {
        if tool::find("dpkg-query").is_none() {
            println!("left out: there is no dpkg-query here");
            return;
        }

        let packages = packages("Debian GNU/Linux").await;

        let dpkg = packages.iter().find(|package| package.name == "dpkg");
        assert!(!dpkg.unwrap().version.is_empty());
    }
}
