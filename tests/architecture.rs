//! Keeps the picture true: who may import whom, what the protocol may touch, how long files get.
#![allow(
    clippy::unwrap_used,
    reason = "a test program fails by panicking; its helpers do too"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may import, besides itself and its own sub-rooms. A room that is not listed
/// here joins others and may import everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("protocol::wire", &[]),
    ("runtime", &[]),
    ("protocol::channel", &["protocol::wire"]),
    ("protocol::mux", &["protocol::wire"]),
    ("aws", &["protocol::wire", "runtime"]),
    ("transport", &["protocol", "runtime"]),
    ("agent::host", &["protocol::wire", "runtime"]),
    (
        "agent::identity",
        &["aws", "transport", "protocol::wire", "runtime"],
    ),
    (
        "agent::control",
        &["aws", "transport", "protocol::wire", "runtime"],
    ),
    (
        "agent::transcript",
        &["aws", "transport", "protocol::wire", "runtime"],
    ),
    ("agent::audit", &["protocol::wire", "runtime"]),
    ("agent::parameter_store", &["protocol::wire", "runtime"]),
    (
        "agent::run_command",
        &[
            "agent::audit",
            // A step is one of the ways to gather inventory.
            "agent::fleet",
            "agent::host",
            "agent::parameter_store",
            "aws",
            "protocol::wire",
            "runtime",
        ],
    ),
    ("agent::fleet", &["aws", "protocol::wire", "runtime"]),
    (
        "agent::session",
        &[
            "agent::audit",
            "agent::host",
            "agent::parameter_store",
            "agent::transcript",
            "transport",
            "protocol",
            "runtime",
        ],
    ),
    (
        "agent",
        &["agent", "aws", "transport", "protocol", "runtime"],
    ),
    ("client", &["aws", "transport", "protocol", "runtime"]),
    ("gateway::store", &["protocol::wire", "runtime"]),
    (
        "gateway::broker",
        &["gateway::store", "transport", "protocol::wire", "runtime"],
    ),
    (
        "gateway::recordings",
        &["gateway::store", "protocol::wire", "runtime"],
    ),
    ("gateway::attachments", &["runtime"]),
    (
        "gateway::api",
        &[
            "gateway::attachments",
            "gateway::broker",
            "gateway::recordings",
            "gateway::store",
            "transport",
            "protocol::wire",
            "runtime",
        ],
    ),
    (
        "gateway",
        &["gateway", "transport", "protocol::wire", "runtime"],
    ),
    (
        "cli",
        &[
            "agent::DEFAULT_RUNTIME_DIR",
            "agent::Places",
            "agent::config",
            "agent::identity",
            "agent::setup",
            // One command under two names.
            "agent::verify_recording",
            "aws",
            "transport",
            "protocol::wire",
            "runtime",
        ],
    ),
];

/// No file of ours is longer than this many lines.
const LONGEST_FILE: usize = 600;

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut violations = Vec::new();
    for file in code() {
        let module = module_of(&file);
        let Some((room, allowed)) = room_of(&module) else {
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for import in imports(&text, &module) {
            let own = is_within(&import, room);
            if !own && !allowed.iter().any(|allowed| is_within(&import, allowed)) {
                violations.push(format!("{}: {room} imports {import}", file.display()));
            }
        }
    }

    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_room_of_the_table_exists() {
    for (room, _) in MAY_IMPORT {
        let path = source_root().join(room.replace("::", "/"));
        assert!(path.join("mod.rs").exists(), "{room} has no door");
    }
}

#[test]
fn protocol_touches_no_socket_file_task_clock_or_environment() {
    const FORBIDDEN: &[&str] = &[
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::process",
        "std::io",
        "tokio",
        "Instant::now",
        "SystemTime",
        "rand::",
        "getrandom",
        "Uuid::new_v4",
        "static mut",
        "thread_local",
        "OnceLock",
        "LazyLock",
        "Mutex",
        "tracing",
    ];
    let mut violations = Vec::new();
    for file in code()
        .into_iter()
        .filter(|file| module_of(file).starts_with("protocol"))
    {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in code_lines(&text) {
            for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
                violations.push(format!("{}:{number}: {word}", file.display()));
            }
        }
    }

    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn unsafe_code_lives_with_the_system_calls() {
    let with_unsafe: BTreeSet<String> = sources()
        .into_iter()
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            code_lines(&text)
                .any(|(_, line)| line.contains("unsafe {") || line.contains("unsafe fn"))
        })
        .map(|file| module_of(&file))
        .collect();

    // The calls of a library that is loaded at run time (PAM) are a subject of their own.
    let allowed = ["agent::host::sys", "agent::host::sys::pam"];
    let allowed = BTreeSet::from(allowed.map(str::to_owned));
    assert!(with_unsafe.is_subset(&allowed), "{with_unsafe:?}");
}

#[test]
fn users_are_changed_only_by_the_login_step_and_the_system_calls() {
    const CALLS: &[&str] = &[
        "setresuid",
        "setresgid",
        "setreuid",
        "setregid",
        "seteuid",
        "setegid",
        "setuid",
        "setgid",
        "setgroups",
        "initgroups",
    ];
    const ALLOWED: &[&str] = &["agent::host::login", "agent::host::sys"];
    let mut violations = Vec::new();
    for file in code() {
        let module = module_of(&file);
        if ALLOWED.iter().any(|room| is_within(&module, room)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in code_lines(&text) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = words.find(|word| CALLS.contains(word)) {
                violations.push(format!("{}:{number}: {word}", file.display()));
            }
        }
    }

    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn no_file_is_longer_than_the_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = sources();
    collect(&root.join("tests"), &mut files);
    let long: Vec<String> = files
        .iter()
        .map(|file| (file, fs::read_to_string(file).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(file, lines)| format!("{} has {lines} lines", file.display()))
        .collect();

    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn top_level_holds_only_what_the_design_names() {
    const NAMES: &[&str] = &[
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "packaging",
        "systemd",
        "tests",
        "README.md",
        "LICENSE",
        "target",
    ];
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || NAMES.contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn import_reader_understands_the_forms_in_use() {
    let text = "use crate::protocol::{wire::{Message, id}, channel};\nuse super::store::Store;\n\
                fn f() { crate::runtime::exit::report(); }\n// use crate::gateway;\n";

    let found = imports(text, "gateway::broker");

    for expected in [
        "protocol::wire::Message",
        "protocol::wire::id",
        "protocol::channel",
        "gateway::store::Store",
        "runtime::exit::report",
    ] {
        assert!(
            found.iter().any(|import| import == expected),
            "{expected} not in {found:?}"
        );
    }
    assert!(!found.iter().any(|import| import == "gateway"));
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&source_root(), &mut files);
    files
}

/// The sources that are not tests in files of their own; tests may join rooms and read clocks.
fn code() -> Vec<PathBuf> {
    let is_test = |file: &PathBuf| {
        file.iter()
            .any(|part| part == "tests" || part == "tests.rs")
    };
    let mut files = sources();
    let root = source_root();
    files.retain(|file| !is_test(&file.strip_prefix(&root).unwrap().to_path_buf()));
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `src/agent/host/mod.rs` is `agent::host`, `src/agent/host/pty.rs` is `agent::host::pty`.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(source_root()).unwrap().with_extension("");
    let mut parts: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
    if matches!(parts.last(), Some(&"mod" | &"lib")) {
        parts.pop();
    }
    parts.join("::")
}

fn room_of(module: &str) -> Option<(&'static str, &'static [&'static str])> {
    MAY_IMPORT
        .iter()
        .filter(|(room, _)| is_within(module, room))
        .max_by_key(|(room, _)| room.len())
        .copied()
}

fn is_within(module: &str, room: &str) -> bool {
    module == room
        || module
            .strip_prefix(room)
            .is_some_and(|rest| rest.starts_with("::"))
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests_start = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..tests_start]
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Every path into this crate that the code of a file names, from `crate` or `super`, groups opened.
/// Tests at the end of a file may join rooms and are left out.
fn imports(text: &str, module: &str) -> Vec<String> {
    let code: String = code_lines(text)
        .flat_map(|(_, line)| [line, "\n"])
        .collect();
    // A visibility names a room without importing from it.
    let code = code.replace("pub(in crate::", "pub(in ");
    let mut found = Vec::new();
    for (start, prefix) in path_starts(&code, module) {
        expand(&code[start..], &prefix, &mut found);
    }
    found
}

fn path_starts(code: &str, module: &str) -> Vec<(usize, String)> {
    let mut starts: Vec<(usize, String)> = code
        .match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, word)| (at + word.len(), String::new()))
        .collect();
    for (at, word) in code.match_indices("use super::") {
        let mut base: Vec<&str> = module.split("::").collect();
        let mut rest = &code[at + "use ".len()..];
        let mut offset = at + "use ".len();
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            offset += "super::".len();
            rest = after;
        }
        debug_assert!(!word.is_empty());
        // A file's `super` is its room; a door's `super` is the room above. Both pop once here, and
        // for a door the module path is the room itself, so the result is the same.
        starts.push((offset, base.join("::")));
    }
    starts
}

fn expand(rest: &str, prefix: &str, found: &mut Vec<String>) {
    let join = |name: &str| match (prefix.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => prefix.to_owned(),
        (false, false) => format!("{prefix}::{name}"),
    };
    if let Some(group) = rest.strip_prefix('{') {
        for item in split_group(group) {
            expand(item.trim(), prefix, found);
        }
        return;
    }
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    let name = &rest[..end];
    match rest[end..].strip_prefix("::") {
        Some(after) => expand(after, &join(name), found),
        None => found.push(join(name)),
    }
}

fn split_group(group: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}
