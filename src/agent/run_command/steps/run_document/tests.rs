use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::agent::audit::AuditLog;
use crate::agent::run_command::Services;
use crate::agent::run_command::settings::Settings;
use crate::agent::run_command::steps;
use crate::aws::tests::server::{Reply, TestServer};
use crate::protocol::wire::job::CommandId;

/// A command on a host.
struct World {
    root: tempfile::TempDir,
    settings: Settings,
    services: Services,
    command: CommandId,
    folder: PathBuf,
    boot_id: &'static str,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::new(root.path().join("mi-1"), "mi-1");
        // Its own for each test: what is killed is found by it.
        let command = CommandId::new(uuid::Uuid::new_v4().to_string()).unwrap();
        let folder = settings.orchestration().join(command.as_str());
        Self {
            root,
            settings,
            services: Services {
                parameters: None,
                client: None,
                audit: AuditLog::off(),
            },
            command,
            folder,
            boot_id: "boot",
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a document; returns its path.
    fn document(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn task<'a>(&'a self, properties: &'a Value, begun: Begun) -> Task<'a> {
        Task {
            settings: &self.settings,
            services: &self.services,
            command: &self.command,
            folder: &self.folder,
            boot_id: self.boot_id,
            within: "",
            depth: 0,
            plugin: "aws:runDocument",
            id: "outer",
            properties,
            begun,
        }
    }

    async fn run_with(&self, properties: &Value, begun: Begun) -> Ended {
        steps::run(self.task(properties, begun), &CancellationToken::new()).await
    }

    async fn run(&self, path: &str, parameters: Value) -> Ended {
        self.run_with(&local(path, parameters), Begun::No).await
    }
}

fn local(path: &str, parameters: Value) -> Value {
    let mut inputs = json!({"documentType": "LocalPath", "documentPath": path});
    inputs["documentParameters"] = parameters;
    inputs
}

fn step(name: &str, lines: &[&str]) -> Value {
    json!({"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": lines}})
}

fn document(steps: &[Value]) -> String {
    json!({"schemaVersion": "2.2", "mainSteps": steps}).to_string()
}

async fn until(what: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "it does not come to that"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn steps_run_in_order_and_leave_their_files_in_the_places_of_the_reference() {
    let world = World::new();
    let path = world.document(
        "d.yaml",
        "schemaVersion: '2.2'\nparameters:\n  word: {type: String, allowedValues: [one, two]}\nmainSteps:\n\
         - action: aws:runShellScript\n  name: first\n  inputs: {runCommand: ['echo {{ word }}', 'echo oh >&2; exit 3']}\n\
         - action: aws:runShellScript\n  name: windows\n  precondition: {StringEquals: [platformType, Windows]}\n  inputs: {runCommand: [never]}\n\
         - action: aws:runShellScript\n  name: last\n  inputs: {runCommand: ['echo last; pwd']}\n",
    );

    let ended = world.run(&path, json!("word: two")).await;

    assert_eq!((ended.status, ended.code), (Status::Failed, 1));
    assert_eq!(ended.output, "two\n\nlast\n/usr/bin\n");
    assert_eq!(
        ended.error_output,
        "oh\nfailed to run commands: exit status 3"
    );
    let outer = world.folder.join("outer");
    assert!(text(&outer.join("first/_script.sh")).starts_with("echo two\n"));
    assert_eq!(
        text(&outer.join("awsrunShellScript/last/stdout")),
        "last\n/usr/bin\n"
    );
    let streams = ended.streams.unwrap();
    assert_eq!(streams.folder, world.folder.join("awsrunDocument/outer"));
    assert_eq!(text(&streams.output()), ended.output);
}

#[tokio::test]
async fn document_of_systems_manager_is_saved_and_its_scripts_run_beside_it() {
    let content = document(&[step("here", &["pwd; ls"])]);
    let server = TestServer::start(move |_, seen| {
        assert_eq!(seen.operation(), "GetDocument");
        match seen.json()["Name"].as_str() {
            Some("Doc") => Reply::json(&json!({"Content": content}).to_string()),
            _ => Reply::refusal("InvalidDocument"),
        }
    })
    .await;
    let mut world = World::new();
    world.services.client = Some(server.client());
    let inputs = |path: &str| json!({"documentType": "SSMDocument", "documentPath": path});

    let ended = world.run_with(&inputs("Doc:4"), Begun::No).await;
    let gone = world.run_with(&inputs("Gone"), Begun::No).await;
    let noop = world.run_with(&inputs("AWS-Noop"), Begun::No).await;

    let downloads = world.folder.join("outer/downloads");
    assert_eq!(ended.output, format!("{}\nDoc.json\n", downloads.display()));
    assert_eq!(
        server.seen()[0].json(),
        json!({"Name": "Doc", "DocumentVersion": "4"})
    );
    assert_eq!(gone.status, Status::Failed);
    assert!(
        gone.error_output.contains("InvalidDocument"),
        "{}",
        gone.error_output
    );
    assert_eq!((noop.status, noop.output.as_str()), (Status::Success, ""));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn path_that_is_not_absolute_is_among_the_downloads() {
    let world = World::new();
    fs::create_dir_all(world.folder.join("downloads/docs")).unwrap();
    let path = world.folder.join("downloads/docs/d.json");
    fs::write(path, document(&[step("s", &["echo found"])])).unwrap();

    let ended = world.run("docs/d.json", json!(null)).await;

    assert_eq!(ended.output, "found\n");
}

#[tokio::test]
async fn parameters_are_held_to_all_rules() {
    let world = World::new();
    let content = json!({
        "schemaVersion": "2.2",
        "parameters": {
            "m": {"type": "String", "allowedValues": ["ok"], "default": "ok"},
            "n": {"type": "String", "minChars": 2, "default": "nn"},
        },
        "mainSteps": [step("s", &["echo {{ m }} {{ n }}"])],
    });
    let path = world.document("d.json", &content.to_string());

    let fine = world.run(&path, json!({"m": null})).await;
    let refused = world.run(&path, json!({"m": "bad", "n": "1"})).await;

    assert_eq!(fine.output, "ok nn\n");
    assert_eq!(refused.status, Status::Failed);
    assert_eq!(
        refused.error_output,
        "There was an error while preparing documents - all errors during param validation errors: \
         error thrown in 'AllowedValueParamValidator' while validating parameter /m/: parameter value /bad/ is not in the allowed list [ok]\n\
         error thrown in 'MinMaxCharParamValidator' while validating parameter /n/: parameter value /1/ is less than the min char limit /2/"
    );
}

#[tokio::test]
async fn document_that_runs_itself_ends_at_the_third() {
    let world = World::new();
    let path = world.path("d.json").display().to_string();
    let again =
        json!({"action": "aws:runDocument", "name": "again", "inputs": local(&path, json!({}))});
    world.document("d.json", &document(&[step("say", &["echo here"]), again]));

    let ended = world.run(&path, json!({})).await;

    assert_eq!(ended.status, Status::Failed);
    assert_eq!(ended.output, "here\n\nhere\n\nhere\n");
    assert_eq!(
        ended.error_output,
        "Maximum depth for document execution exceeded. Maximum depth permitted - 3 and current depth - 4"
    );
    let third = world
        .folder
        .join("outer/again/again/awsrunShellScript/say/stdout");
    assert_eq!(text(&third), "here\n");
}

#[tokio::test]
async fn documents_that_are_not_ready_to_run_say_why() {
    let world = World::new();
    let prefix = "There was an error while preparing documents - ";
    for (name, content, why) in [
        ("empty", String::new(), "it is empty"),
        ("garbage", "{".to_owned(), "it is neither JSON"),
        ("text", "words".to_owned(), "document must be an object"),
        ("none", document(&[]), "Unsupported schema format"),
        (
            "automation",
            json!({"schemaVersion": "0.3"}).to_string(),
            "Document with schema version 0.3 is not supported",
        ),
        (
            "huge",
            "x".repeat(1_100_000),
            "it is longer than 1048576 bytes",
        ),
        (
            "bomb",
            "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
                + &(0..12)
                    .map(|n| {
                        let before = if n == 0 {
                            "a".to_owned()
                        } else {
                            format!("b{}", n - 1)
                        };
                        format!(
                            "b{n}: &b{n} [{}]\n",
                            vec![format!("*{before}"); 9].join(",")
                        )
                    })
                    .collect::<String>(),
            "it is neither JSON",
        ),
    ] {
        let path = world.document(name, &content);
        let ended = world.run(&path, json!({})).await;
        let text = ended.error_output;
        assert!(
            text.starts_with(prefix) && text.contains(why),
            "{name}: {text}"
        );
        assert!(text.len() < 1000, "{name}: {text}");
        assert_eq!((ended.status, ended.code), (Status::Failed, 1));
    }
    for (path, why) in [
        ("/no/such/file", "No such file"),
        ("/dev/zero", "it is no file"),
    ] {
        let text = world.run(path, json!({})).await.error_output;
        assert!(text.starts_with(prefix) && text.contains(why), "{text}");
    }
    let path = world.document("stored", &document(&[step("s", &["{{ssm:x}}"])]));
    let text = world.run(&path, json!({})).await.error_output;
    assert!(text.contains("this agent cannot ask"), "{text}");
}

#[tokio::test]
async fn inner_steps_are_skipped_and_fail_as_those_of_a_command() {
    let world = World::new();
    let mut first = step("first", &["exit 1"]);
    first["inputs"]["onFailure"] = json!("exit");
    let mut last = step("last", &["echo last"]);
    last["inputs"]["finallyStep"] = json!(true);
    let unknown = json!({"action": "aws:novelty", "name": "new", "inputs": {}});
    let path = world.document("d", &document(&[first, step("second", &["echo no"]), last]));
    let other = world.document("e", &document(&[unknown]));

    let ended = world.run(&path, json!({})).await;
    let failed = world.run(&other, json!({})).await;

    assert_eq!(ended.status, Status::Failed);
    assert!(
        !ended.output.contains("no\n") && ended.output.ends_with("last\n"),
        "{}",
        ended.output
    );
    assert_eq!(
        failed.error_output,
        "Plugin with name aws:novelty is not supported by this version of ssm agent, please update to latest version. Step name: new"
    );
    let path = world.document(
        "f",
        &document(&[step("well", &["exit 168"]), step("b", &["echo no"])]),
    );
    let well = world.run(&path, json!({})).await;
    assert_eq!((well.status, well.code), (Status::Success, 0));
}

#[tokio::test]
async fn cancelled_command_ends_the_steps_of_its_document() {
    let world = World::new();
    let begun = world.path("begun");
    let wait = format!("touch {}; sleep 600", begun.display());
    let inner = world.document("inner", &document(&[step("wait", &[&wait])]));
    let nested =
        json!({"action": "aws:runDocument", "name": "nested", "inputs": local(&inner, json!({}))});
    let proof = world.path("proof");
    let after = format!("touch {}", proof.display());
    let path = world.document("d", &document(&[nested, step("after", &[&after])]));
    let inputs = local(&path, json!({}));
    let cancel = CancellationToken::new();

    let cancelling = async {
        until(|| begun.exists()).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(
        steps::run(world.task(&inputs, Begun::No), &cancel),
        cancelling
    );

    assert_eq!((ended.status, ended.code), (Status::Cancelled, 1));
    assert!(!proof.exists());
    let never = steps::run(world.task(&local("/no", json!({})), Begun::No), &cancel).await;
    assert_eq!(never.status, Status::Cancelled);
}

#[tokio::test]
async fn agent_that_comes_next_goes_on_and_runs_no_step_twice() {
    let world = World::new();
    let (proof, gate) = (world.path("proof"), world.path("gate"));
    let note = |word: &str| format!("echo {word} >>{}", proof.display());
    let wait = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; echo waited",
        gate.display()
    );
    let inner = world.document(
        "inner",
        &document(&[step("a", &[&note("a")]), step("b", &[&note("b"), &wait])]),
    );
    let nested =
        json!({"action": "aws:runDocument", "name": "nested", "inputs": local(&inner, json!({}))});
    let path = world.document(
        "d",
        &document(&[
            step("first", &[&note("first")]),
            nested,
            step("c", &[&note("c")]),
        ]),
    );
    let inputs = local(&path, json!({}));

    // The first agent is killed while the script waits, the second one too, the third finds it done.
    for _ in 0..2 {
        let begun = if proof.exists() {
            Begun::ThisBoot
        } else {
            Begun::No
        };
        tokio::select! {
            ended = world.run_with(&inputs, begun) => panic!("{ended:?}"),
            () = until(|| text(&proof) == "first\na\nb\n") => {}
        }
    }
    // What it was made of is of no interest any more.
    fs::remove_file(&path).unwrap();
    fs::write(&inner, "{}").unwrap();
    fs::write(&gate, "").unwrap();
    let ended = world.run_with(&inputs, Begun::ThisBoot).await;
    let again = world.run_with(&inputs, Begun::ThisBoot).await;

    assert_eq!(ended.status, Status::Success, "{}", ended.error_output);
    assert_eq!(ended.output, "waited\n");
    assert_eq!(again, ended);
    assert_eq!(text(&proof), "first\na\nb\nc\n");
}

#[tokio::test]
async fn script_that_a_crash_of_the_host_cut_off_is_not_run_again() {
    let mut world = World::new();
    let proof = world.path("proof");
    let note = |word: &str| format!("echo {word} >>{}", proof.display());
    let path = world.document(
        "d",
        &document(&[
            step("a", &[&note("a"), "sleep 600"]),
            step("b", &[&note("b")]),
        ]),
    );
    let inputs = local(&path, json!({}));
    tokio::select! {
        ended = world.run_with(&inputs, Begun::No) => panic!("{ended:?}"),
        () = until(|| text(&proof) == "a\n") => {}
    }
    let mark = format!("{}/outer/a", world.command);
    super::super::processes::kill_marked(&mark).await;
    // The wrapper notes the end of what it waits for, as it does not when the host goes down.
    let exit = world.folder.join("outer/a/exit");
    let _ = fs::remove_file(exit);

    world.boot_id = "the next one";
    let ended = world.run_with(&inputs, Begun::EarlierBoot).await;

    assert_eq!(ended.status, Status::Failed);
    assert!(
        ended
            .error_output
            .contains("the host was restarted while it ran"),
        "{}",
        ended.error_output
    );
    assert_eq!(text(&proof), "a\nb\n");
}

#[tokio::test]
async fn script_that_asks_for_a_reboot_runs_again_after_it_and_those_before_do_not() {
    let mut world = World::new();
    let proof = world.path("proof");
    let reboot = format!(
        "echo ask >>{0}; [ $(grep -c ask {0}) = 2 ] || exit 194",
        proof.display()
    );
    let before = format!("echo before >>{}; exit 1", proof.display());
    let path = world.document(
        "d",
        &document(&[
            step("before", &[&before]),
            step("ask", &[&reboot]),
            step("after", &["echo after"]),
        ]),
    );
    let inputs = local(&path, json!({}));

    let asked = world.run_with(&inputs, Begun::No).await;
    assert_eq!((asked.status, asked.code), (Status::SuccessAndReboot, 0));
    // The agent alone starts anew.
    let asked = world.run_with(&inputs, Begun::ThisBoot).await;
    assert_eq!(asked.status, Status::SuccessAndReboot);
    world.boot_id = "the next one";
    let ended = world.run_with(&inputs, Begun::No).await;

    assert_eq!(ended.status, Status::Failed);
    assert_eq!(ended.output, "after\n");
    assert_eq!(text(&proof), "before\nask\nask\n");
}
