//! Commands that read and change the gateway's store, beside a running gateway or without one.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::start::{has_store, open_store};
use super::super::store::Store;
use super::super::store::access::{AccessKey, Person};
use super::super::store::activations::NewActivation;
use super::super::store::nodes::Node;
use crate::runtime::exit::Hint;

/// Nodes read at a time.
const PAGE: usize = 200;
/// Role written into activations made here; the gateway has no roles.
const ROLE: &str = "ssm-gateway";

/// `ssm-gateway access`.
#[derive(Debug, Subcommand)]
pub(super) enum Access {
    /// Make a key pair and print it, this once
    #[command(after_help = "Example: ssm-gateway access create alice")]
    Create {
        /// Whose key it is; becomes part of session ids
        name: String,
        /// Make it for the agent of a node with a custom identity, or of an EC2 instance, instead of a person
        #[arg(long, value_name = "NODE_ID")]
        node: Option<String>,
        /// User on the hosts that the person's sessions run as, where the preferences enable it
        #[arg(long, value_name = "USER", conflicts_with = "node")]
        run_as: Option<String>,
        /// Let the person read the recordings of other people's sessions
        #[arg(long, conflicts_with = "node")]
        auditor: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List key pairs, without their secrets
    #[command(after_help = "Example: ssm-gateway access list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop a key pair from working, at once
    #[command(after_help = "Example: ssm-gateway access revoke AKIAIOSFODNN7EXAMPLE")]
    Revoke {
        /// Id of the key pair
        access_key_id: String,
    },
}

/// `ssm-gateway activation`.
#[derive(Debug, Subcommand)]
pub(super) enum Activation {
    /// Make an activation and print its code, this once
    #[command(after_help = "Example: ssm-gateway activation create --limit 10 --expires-in 7d")]
    Create {
        /// How many hosts may register with it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// How long it works
        #[arg(long, default_value = "24h", value_parser = lifetime, value_name = "TIME")]
        expires_in: Duration,
        /// Name of the hosts that register with it
        #[arg(long)]
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `ssm-gateway nodes`.
#[derive(Debug, Subcommand)]
pub(super) enum Nodes {
    /// List registered hosts
    #[command(after_help = "Example: ssm-gateway nodes list")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Access {
    /// Runs the command on the state folder `state` and returns what it has to print.
    pub(super) async fn run(self, state: &Path) -> anyhow::Result<String> {
        match self {
            Self::Create {
                name,
                node,
                run_as,
                auditor,
                json,
            } => {
                let (store, now) = (open_store(state)?, SystemTime::now());
                let key = match node {
                    Some(node) => store.create_node_access_key(&name, &node, now).await?,
                    None => {
                        let person = Person {
                            name: &name,
                            run_as: run_as.as_deref(),
                            auditor,
                        };
                        store.create_person_key(person, now).await?
                    }
                };
                Ok(to_profile(&key, json))
            }
            Self::List { json } => {
                let keys = existing_store(state)?.access_keys().await?;
                let rows = keys.iter().map(key_row).collect();
                let columns = [
                    "AccessKeyId",
                    "Name",
                    "Node",
                    "RunAs",
                    "Auditor",
                    "Created",
                    "Revoked",
                ];
                Ok(to_table(&columns, rows, json))
            }
            Self::Revoke { access_key_id } => {
                let store = existing_store(state)?;
                let now = SystemTime::now();
                if !store.revoke_access_key(&access_key_id, now).await? {
                    bail!("there is no access key {access_key_id}");
                }
                Ok(String::new())
            }
        }
    }
}

impl Activation {
    /// Runs the command on the state folder `state` and returns what it has to print.
    pub(super) async fn run(self, state: &Path) -> anyhow::Result<String> {
        let Self::Create {
            limit,
            expires_in,
            name,
            json,
        } = self;
        let now = SystemTime::now();
        let expires = now + expires_in;
        let new = NewActivation {
            description: None,
            default_instance_name: name,
            iam_role: ROLE.into(),
            registration_limit: limit,
            expires,
            tags: Vec::new(),
        };
        let issued = open_store(state)?.create_activation(new, now).await?;
        if json {
            return Ok(to_json(&json!({
                "ActivationId": issued.activation_id,
                "ActivationCode": issued.code.expose(),
                "ExpirationDate": date(expires),
            })));
        }
        Ok(format!(
            "activation id:    {}\nactivation code:  {}\nexpires:          {}\n",
            issued.activation_id,
            issued.code.expose(),
            date(expires)
        ))
    }
}

impl Nodes {
    /// Runs the command on the state folder `state` and returns what it has to print.
    pub(super) async fn run(self, state: &Path) -> anyhow::Result<String> {
        let Self::List { json } = self;
        let store = existing_store(state)?;
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = store.nodes(after, PAGE, |_| true).await?;
            rows.extend(page.items.iter().map(node_row));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let columns = [
            "InstanceId",
            "Name",
            "ComputerName",
            "IPAddress",
            "AgentVersion",
            "LastPing",
        ];
        Ok(to_table(&columns, rows, json))
    }
}

/// The store of the state folder `state`, which must have one.
///
/// # Errors
/// With a hint if it has none, or the store's.
pub(super) fn existing_store(state: &Path) -> anyhow::Result<Store> {
    if !has_store(state) {
        let error = io::Error::from(io::ErrorKind::NotFound);
        let hint = "name the folder that `ssm-gateway serve` was given with --state";
        return Err(Hint::with(error, hint))
            .with_context(|| format!("there is no gateway state in {}", state.display()));
    }
    Ok(open_store(state)?)
}

fn to_profile(key: &AccessKey, as_json: bool) -> String {
    if as_json {
        return to_json(&json!({
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret.expose(),
            "Name": key.name,
            "Node": key.node_id,
            "RunAs": key.run_as,
        }));
    }
    // In the form of the shared credentials file, so that it can be pasted there.
    format!(
        "aws_access_key_id = {}\naws_secret_access_key = {}\n",
        key.access_key_id,
        key.secret.expose()
    )
}

fn key_row(key: &AccessKey) -> Vec<Option<String>> {
    vec![
        Some(key.access_key_id.clone()),
        Some(key.name.clone()),
        key.node_id.clone(),
        key.run_as.clone(),
        key.auditor.then(|| "yes".into()),
        Some(date(key.created)),
        key.disabled.map(date),
    ]
}

fn node_row(node: &Node) -> Vec<Option<String>> {
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    vec![
        Some(node.node_id.clone()),
        known(&node.name),
        known(&node.report.computer_name),
        known(&node.report.ip_address),
        known(&node.report.agent_version),
        node.last_ping.map(date),
    ]
}

/// A list: aligned columns, or an array of objects.
pub(super) fn to_table(columns: &[&str], rows: Vec<Vec<Option<String>>>, as_json: bool) -> String {
    if as_json {
        let object = |row: Vec<Option<String>>| -> Value {
            let members = columns.iter().map(|name| (*name).to_owned());
            members
                .zip(row.into_iter().map(Value::from))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        return to_json(&rows.into_iter().map(object).collect());
    }
    align(columns, rows)
}

fn align(columns: &[&str], rows: Vec<Vec<Option<String>>>) -> String {
    let head = columns.iter().map(|name| (*name).to_owned()).collect();
    let body = rows.into_iter().map(|row| {
        let cells = row.into_iter();
        cells
            .map(|cell| cell.unwrap_or_else(|| "-".into()))
            .collect()
    });
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn to_json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A date in whole seconds.
pub(super) fn date(time: SystemTime) -> String {
    let whole_seconds = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Timestamp::try_from(time).map_or_else(|_| "?".into(), whole_seconds)
}

/// Longest life of an activation, as in AWS.
const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

fn lifetime(text: &str) -> Result<Duration, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.trim().parse::<u32>().ok());
    let time = match days {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 24 * 3600)),
        None => text
            .parse::<SignedDuration>()
            .map_err(|error| error.to_string())
            .and_then(|time| Duration::try_from(time).map_err(|error| error.to_string())),
    }?;
    if time.is_zero() || time > LONGEST_LIFETIME {
        return Err("must be more than nothing and at most 30d".into());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = vec![
            vec![Some("AKIA1".into()), None],
            vec![Some("AKIA22".into()), Some("zoë".into())],
        ];

        assert_eq!(
            align(&["Id", "Name"], rows),
            "Id      Name\nAKIA1   -\nAKIA22  zoë\n"
        );
    }

    #[test]
    fn lifetimes_are_read_in_hours_and_days_up_to_thirty() {
        let hour = 3600;
        for (text, seconds) in [
            ("24h", 24 * hour),
            ("90m", 5400),
            ("7d", 168 * hour),
            ("30d", 720 * hour),
        ] {
            assert_eq!(lifetime(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0h", "-1h", "31d", "soon", "24"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn key_pair_is_shown_once_and_listed_without_its_secret() {
        let state = tempfile::tempdir().unwrap();
        let create = Access::Create {
            name: "alice".into(),
            node: None,
            run_as: None,
            auditor: false,
            json: true,
        };

        let created: Value =
            serde_json::from_str(&create.run(state.path()).await.unwrap()).unwrap();
        let id = created["AccessKeyId"].as_str().unwrap().to_owned();
        let revoke = Access::Revoke {
            access_key_id: id.clone(),
        };
        revoke.run(state.path()).await.unwrap();
        let listed = Access::List { json: true }.run(state.path()).await.unwrap();

        assert!(!listed.contains(created["SecretAccessKey"].as_str().unwrap()));
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed[0]["AccessKeyId"], id);
        assert_eq!(listed[0]["Name"], "alice");
        assert!(listed[0]["Revoked"].is_string());
    }

    #[tokio::test]
    async fn reading_a_folder_without_state_makes_none_and_hints_at_the_flag() {
        let state = tempfile::tempdir().unwrap();

        let error = Nodes::List { json: false }
            .run(state.path())
            .await
            .unwrap_err();

        let text = crate::runtime::exit::describe(error.as_ref());
        assert!(
            text.starts_with("error: there is no gateway state in"),
            "{text}"
        );
        assert!(
            text.contains("hint: ") && text.contains("--state"),
            "{text}"
        );
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nodes_are_listed_with_what_is_known_of_them() {
        let state = tempfile::tempdir().unwrap();
        let create = Access::Create {
            name: "lab".into(),
            node: Some("i-0123456789abcdef0".into()),
            run_as: None,
            auditor: false,
            json: false,
        };
        create.run(state.path()).await.unwrap();

        let listed = Nodes::List { json: false }.run(state.path()).await.unwrap();

        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[0].starts_with("InstanceId"), "{listed}");
        assert!(lines[1].starts_with("i-0123456789abcdef0  lab"), "{listed}");
    }

    #[test]
    fn dates_have_whole_seconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_999);

        assert_eq!(date(time), "2027-01-15T08:00:00Z");
    }
}
