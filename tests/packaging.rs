//! What is packaged: units that systemd takes, a sample configuration with every key, man pages with
//! every option, and files that are there.
#![allow(
    clippy::unwrap_used,
    reason = "a test program fails by panicking; its helpers do too"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regex::Regex;
use ssm_agent::agent::config;
use ssm_agent::agent::session::DenyList;

const TEMPLATE: &str = "packaging/config/amazon-ssm-agent.json.template";
const UNITS: [&str; 2] = ["ssm-agent.service", "ssm-gateway.service"];

#[test]
fn systemd_takes_the_units_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    let program = Regex::new("(?m)^ExecStart=.*$").unwrap();
    for unit in UNITS {
        // The programs are not installed where the tests run; another one stands in for them.
        let text = read(&format!("systemd/{unit}"));
        let text = program.replace(&text, "ExecStart=/bin/sh");
        let file = folder.path().join(unit);
        fs::write(&file, text.as_bytes()).unwrap();
        verify.arg(file);
    }

    let verified = match verify.output() {
        Ok(verified) => verified,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("left out: there is no systemd-analyze here");
            return;
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    };

    assert!(verified.status.success(), "{verified:?}");
    assert_eq!(String::from_utf8_lossy(&verified.stderr), "");
}

#[test]
fn restrictions_of_the_gateway_have_a_reason_each() {
    let text = read("systemd/ssm-gateway.service");
    let restriction = Regex::new(
        "^(Protect|Private|Restrict|SystemCall|Proc|Lock|MemoryDeny|NoNew|RemoveIPC|Capability)",
    )
    .unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = 0;
    for pair in lines.windows(2) {
        let [before, line] = pair else { continue };
        if restriction.is_match(line) {
            found += 1;
            let is_next_of_two = before.split('=').next() == line.split('=').next();
            assert!(before.starts_with('#') || is_next_of_two, "{line}");
        }
    }
    assert!(found > 20, "{found}");
}

#[test]
fn sample_configuration_is_what_applies_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let (sample, empty) = (folder.path().join("sample"), folder.path().join("empty"));
    fs::write(&sample, sample_json()).unwrap();
    fs::write(&empty, "{}").unwrap();

    let (mut settings, warnings) = config::load(&sample).unwrap();
    let (defaults, _) = config::load(&empty).unwrap();

    assert_eq!(warnings, Vec::<String>::new());
    let denied = settings.session.denied_destinations.take().unwrap();
    assert_eq!(DenyList::new(denied), DenyList::default());
    assert_eq!(settings, defaults);
}

#[test]
fn sample_configuration_names_every_key() {
    let template = read(TEMPLATE);
    let mut known = BTreeSet::new();
    for file in ["config.rs", "config/known.rs", "config/uploads.rs"] {
        let code = read(&format!("src/agent/{file}"));
        let taken =
            r#"(?:boolean|text|texts|number|sections?|read_addresses)\(\s*(?:mgs,\s*)?"(\w+)""#;
        let listed = r#"\(\s*"(\w+)",\s*(?:Text|Flag|OneOf|number|&\[)"#;
        for form in [taken, listed] {
            let names = Regex::new(form).unwrap();
            known.extend(names.captures_iter(&code).map(|name| name[1].to_owned()));
        }
    }

    assert!(known.len() > 80, "{known:?}");
    let missing: Vec<&String> = known
        .iter()
        .filter(|key| !template.contains(&format!("\"{key}\":")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn man_pages_name_every_option() {
    let agent = env!("CARGO_BIN_EXE_ssm-agent");
    let gateway = env!("CARGO_BIN_EXE_ssm-gateway");
    let cli = env!("CARGO_BIN_EXE_ssm-cli");
    for (page, program) in [
        ("ssm-agent.8", agent),
        ("ssm-cli.1", cli),
        ("ssm-gateway.8", gateway),
    ] {
        let page = read(&format!("packaging/man/{page}")).replace("\\-", "-");
        let options = options_of(program, &[]);

        assert!(options.len() > 8, "{options:?}");
        for option in options {
            let named = Regex::new(&format!(r"{option}(?:\W|$)")).unwrap();
            assert!(
                named.is_match(&page),
                "{program}: {option} is not on its page"
            );
        }
    }
}

#[test]
fn program_of_the_agent_is_ssm_cli_too() {
    let alone = run(env!("CARGO_BIN_EXE_ssm-cli"), &["--help"]);

    let within = run(env!("CARGO_BIN_EXE_ssm-agent"), &["cli", "--help"]);

    assert!(alone.status.success(), "{alone:?}");
    assert_eq!(within, alone);
}

#[test]
fn every_packaged_file_exists_and_every_file_for_packages_is_packaged() {
    let manifest = read("Cargo.toml");
    let begin = manifest.find("[package.metadata.deb]").unwrap();
    let metadata = &manifest[begin..manifest.find("[lints.rust]").unwrap()];
    let names = Regex::new(r#""((?:packaging|systemd)/[^"]+)""#).unwrap();
    let named: BTreeSet<PathBuf> = names
        .captures_iter(metadata)
        .map(|name| root().join(&name[1]))
        .collect();

    assert!(named.len() > 12, "{named:?}");
    for path in &named {
        assert!(path.exists(), "{} does not exist", path.display());
    }
    for folder in [
        "packaging/config",
        "packaging/man",
        "packaging/pam",
        "packaging/rpm",
        "systemd",
    ] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(named.contains(&path), "{} is in no package", path.display());
        }
    }
}

#[test]
fn package_scripts_are_good_shell() {
    for folder in [
        "packaging/deb/agent",
        "packaging/deb/gateway",
        "packaging/rpm",
    ] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();

            let checked = run("sh", &["-n", path.to_str().unwrap()]);

            assert!(checked.status.success(), "{}: {checked:?}", path.display());
        }
    }
}

/// Long options of a program and of all its commands.
fn options_of(program: &str, command: &[&str]) -> BTreeSet<String> {
    let help = run(program, &[command, &["--help"]].concat());
    assert!(help.status.success(), "{command:?}: {help:?}");
    let text = String::from_utf8(help.stdout).unwrap();
    let options = Regex::new(r"(?m)^ +(?:-\w, )?(--[a-z0-9-]+)").unwrap();
    let mut found: BTreeSet<String> = options
        .captures_iter(&text)
        .map(|option| option[1].to_owned())
        .collect();
    let commands = text.split_once("\nCommands:\n");
    let commands = commands.map_or("", |(_, rest)| {
        rest.split("\n\n").next().unwrap_or_default()
    });
    for name in Regex::new(r"(?m)^  ([a-z-]+) ")
        .unwrap()
        .captures_iter(commands)
    {
        if &name[1] != "help" {
            found.extend(options_of(program, &[command, &[&name[1]]].concat()));
        }
    }
    found
}

/// The template as people are told to use it.
fn sample_json() -> String {
    let template = read(TEMPLATE);
    let lines = template.lines();
    let kept: Vec<&str> = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    kept.join("\n")
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
