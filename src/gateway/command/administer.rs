//! Commands that read and change the gateway's store, beside a running gateway or without one.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::start::{has_store, open_store};
use super::super::store::Store;
use super::super::store::access::AccessKey;
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
        /// Make it for the agent of a node with a custom identity instead of a person
        #[arg(long, value_name = "NODE_ID")]
        node: Option<String>,
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
    /// Runs the command on the state folder `state`.
    pub(super) async fn run(self, state: &Path) -> anyhow::Result<()> {
        match self {
            Self::Create { name, node, json } => {
                let (store, now) = (open_store(state)?, SystemTime::now());
                let key = match node {
                    Some(node) => store.create_node_access_key(&name, &node, now).await?,
                    None => store.create_access_key(&name, now).await?,
                };
                print_key(&key, json)
            }
            Self::List { json } => {
                let keys = existing_store(state)?.access_keys().await?;
                let rows = keys.iter().map(key_row).collect();
                print_rows(
                    &["AccessKeyId", "Name", "Node", "Created", "Revoked"],
                    rows,
                    json,
                )
            }
            Self::Revoke { access_key_id } => {
                let store = existing_store(state)?;
                if !store
                    .revoke_access_key(&access_key_id, SystemTime::now())
                    .await?
                {
                    bail!("there is no access key {access_key_id}");
                }
                Ok(())
            }
        }
    }
}

impl Activation {
    /// Runs the command on the state folder `state`.
    pub(super) async fn run(self, state: &Path) -> anyhow::Result<()> {
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
            return print_json(&json!({
                "ActivationId": issued.activation_id,
                "ActivationCode": issued.code.expose(),
                "ExpirationDate": date(expires),
            }));
        }
        print(&format!(
            "activation id:    {}\nactivation code:  {}\nexpires:          {}\n",
            issued.activation_id,
            issued.code.expose(),
            date(expires)
        ))
    }
}

impl Nodes {
    /// Runs the command on the state folder `state`.
    pub(super) async fn run(self, state: &Path) -> anyhow::Result<()> {
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
        print_rows(&columns, rows, json)
    }
}

fn existing_store(state: &Path) -> anyhow::Result<Store> {
    if !has_store(state) {
        let error = io::Error::from(io::ErrorKind::NotFound);
        let hint = "name the folder that `ssm-gateway serve` was given with --state";
        return Err(Hint::with(error, hint))
            .with_context(|| format!("there is no gateway state in {}", state.display()));
    }
    Ok(open_store(state)?)
}

fn print_key(key: &AccessKey, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(&json!({
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret.expose(),
            "Name": key.name,
            "Node": key.node_id,
        }));
    }
    // In the form of the shared credentials file, so that it can be pasted there.
    print(&format!(
        "aws_access_key_id = {}\naws_secret_access_key = {}\n",
        key.access_key_id,
        key.secret.expose()
    ))
}

fn key_row(key: &AccessKey) -> Vec<Option<String>> {
    vec![
        Some(key.access_key_id.clone()),
        Some(key.name.clone()),
        key.node_id.clone(),
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

/// Prints a list: aligned columns, or an array of objects.
fn print_rows(
    columns: &[&str],
    rows: Vec<Vec<Option<String>>>,
    as_json: bool,
) -> anyhow::Result<()> {
    if as_json {
        let object = |row: Vec<Option<String>>| -> Value {
            let members = columns.iter().map(|name| (*name).to_owned());
            members
                .zip(row.into_iter().map(Value::from))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        return print_json(&rows.into_iter().map(object).collect());
    }
    print(&align(columns, rows))
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

fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

fn print(text: &str) -> anyhow::Result<()> {
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn date(time: SystemTime) -> String {
    let whole_seconds = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Timestamp::try_from(time).map_or_else(|_| "?".into(), whole_seconds)
}

/// Longest life of an activation, as in AWS.
const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

fn lifetime(text: &str) -> Result<Duration, String> {
    let hours = text
        .strip_suffix('d')
        .and_then(|days| days.trim().parse::<u32>().ok());
    let time = match hours {
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

    #[test]
    fn dates_have_whole_seconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_999);

        assert_eq!(date(time), "2027-01-15T08:00:00Z");
    }
}
