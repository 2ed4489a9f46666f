//! `AWS:InstanceDetailedInformation`: processors and kernel, as lscpu and the kernel tell them.

use std::collections::BTreeMap;

use tracing::warn;

use super::item::{Item, Row};
use super::tool;
use crate::runtime::cause::in_one_line;

/// The type of the item.
pub(super) const TYPE: &str = "AWS:InstanceDetailedInformation";
const SCHEMA: &str = "1.0";

/// The item. Where lscpu is not there its attributes are empty.
pub(super) async fn item() -> Item {
    let said = tool::ask("lscpu", &[]).await.unwrap_or_else(|error| {
        warn!(error = in_one_line(&error), "processors are not told");
        String::new()
    });
    let kernel = nix::sys::utsname::uname();
    let kernel = kernel
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    Item::new(TYPE, SCHEMA, vec![row(&said, &kernel)])
}

fn row(lscpu: &str, kernel: &str) -> Row {
    let facts: BTreeMap<&str, &str> = lscpu
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let text = |name: &str| facts.get(name).copied().unwrap_or_default();
    let number = |name: &str| text(name).parse::<u64>().ok();
    let cores = number("Socket(s)").zip(number("Core(s) per socket"));
    let cores = cores.and_then(|(sockets, each)| sockets.checked_mul(each));
    let threads = number("Thread(s) per core");
    let speed = text("CPU MHz").split('.').next().unwrap_or_default();
    let shown = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    Row::of([
        ("CPUModel", text("Model name").to_owned()),
        ("CPUSpeedMHz", speed.to_owned()),
        ("CPUs", text("CPU(s)").to_owned()),
        ("CPUSockets", text("Socket(s)").to_owned()),
        ("CPUCores", shown(cores)),
        (
            "CPUHyperThreadEnabled",
            threads.map_or_else(String::new, |threads| (threads > 1).to_string()),
        ),
        ("OSServicePack", String::new()),
        ("KernelVersion", kernel.to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read_from_lscpu() {
        let lscpu = "Architecture:        x86_64\nCPU(s):              8\nOn-line CPU(s) list: 0-7\n\
                     Thread(s) per core:  2\nCore(s) per socket:  4\nSocket(s):           1\n\
                     Model name:          Intel(R) Xeon(R) @ 2.50GHz\nCPU MHz:             2499.998\n";

        let row = row(lscpu, "6.1.0-28-amd64");

        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            concat!(
                r#"{"CPUModel":"Intel(R) Xeon(R) @ 2.50GHz","CPUSpeedMHz":"2499","CPUs":"8","#,
                r#""CPUSockets":"1","CPUCores":"4","CPUHyperThreadEnabled":"true","#,
                r#""OSServicePack":"","KernelVersion":"6.1.0-28-amd64"}"#
            )
        );
    }

    #[test]
    fn what_is_not_told_is_empty() {
        let row = row("CPU(s): 2\nThread(s) per core: 1\n", "");

        assert_eq!((row.get("CPUs"), row.get("CPUCores")), ("2", ""));
        assert_eq!(row.get("CPUHyperThreadEnabled"), "false");
    }
}
