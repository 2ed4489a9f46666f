//! Documents through the API: their life, their versions, and every way in which a call is refused.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::caller::Tool;
use super::gateway;
use crate::gateway::{Settings, start};

const SHELL: &str = "SSM-SessionManagerRunShell";

#[tokio::test]
async fn document_is_made_read_changed_and_deleted() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;

    let made = create(&alice, "My-Shell", json!({"VersionName": "one"})).await;
    let made = &made["DocumentDescription"];
    assert_eq!(made["Owner"], "000000000000");
    assert_eq!(made["Author"], "arn:aws:iam::000000000000:user/alice");
    assert_eq!(made["HashType"], "Sha256");
    assert_eq!(made["Hash"].as_str().unwrap().len(), 64);
    assert_eq!(
        (&made["Status"], &made["SchemaVersion"]),
        (&"Active".into(), &"1.0".into())
    );
    let parameter = json!([{"Name": "who", "Type": "String", "DefaultValue": "me"}]);
    assert_eq!(made["Parameters"], parameter);

    let update = json!({"Name": "My-Shell", "Content": shell("two"), "DocumentVersion": "$LATEST"});
    let updated = alice.ssm("UpdateDocument", update).await.unwrap();
    let updated = &updated["DocumentDescription"];
    assert_eq!(updated["DocumentVersion"], "2");
    assert_eq!(
        (&updated["LatestVersion"], &updated["DefaultVersion"]),
        (&"2".into(), &"1".into())
    );
    let version = async |request: Value| {
        let got = alice.ssm("GetDocument", request).await.unwrap();
        got["DocumentVersion"].as_str().unwrap().to_owned()
    };
    assert_eq!(version(json!({"Name": "My-Shell"})).await, "1");
    assert_eq!(
        version(json!({"Name": "My-Shell", "DocumentVersion": "$LATEST"})).await,
        "2"
    );
    assert_eq!(
        version(json!({"Name": "My-Shell", "VersionName": "one"})).await,
        "1"
    );

    let default = json!({"Name": "My-Shell", "DocumentVersion": "2"});
    let set = alice.ssm("UpdateDocumentDefaultVersion", default).await;
    let set = set.unwrap();
    assert_eq!(
        set["Description"],
        json!({"Name": "My-Shell", "DefaultVersion": "2"})
    );
    assert_eq!(version(json!({"Name": "My-Shell"})).await, "2");
    let described = alice
        .ssm("DescribeDocument", json!({"Name": "My-Shell"}))
        .await;
    assert_eq!(described.unwrap()["Document"]["Description"], "two");

    let old = json!({"Name": "My-Shell", "DocumentVersion": "1"});
    assert_eq!(alice.ssm("DeleteDocument", old).await, Ok(json!({})));
    let all = json!({"Name": "My-Shell"});
    assert_eq!(
        alice.ssm("DeleteDocument", all.clone()).await,
        Ok(json!({}))
    );
    let gone = alice.ssm("GetDocument", all).await;
    assert_eq!(gone.unwrap_err(), "InvalidDocument");
}

#[tokio::test]
async fn content_comes_in_the_format_that_is_asked_for() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let yaml =
        "# a comment\nschemaVersion: '1.0'\nsessionType: Port\nproperties:\n  portNumber: '22'\n";
    let request = json!({"Content": yaml, "DocumentFormat": "YAML"});
    create(&alice, "Yaml", request).await;

    let get = async |format: Value| {
        let request = json!({"Name": "Yaml", "DocumentFormat": format});
        alice.ssm("GetDocument", request).await.unwrap()
    };
    let as_written = get("YAML".into()).await;
    assert_eq!(as_written["Content"], yaml);
    for format in [Value::Null, "JSON".into()] {
        let got = get(format).await;
        assert_eq!(got["DocumentFormat"], "JSON");
        let content: Value = serde_json::from_str(got["Content"].as_str().unwrap()).unwrap();
        assert_eq!(content["properties"]["portNumber"], "22");
    }
}

#[tokio::test]
async fn every_refusal_has_the_code_of_aws() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    create(&alice, "Doc", json!({"VersionName": "one"})).await;
    let second = json!({"Name": "Doc", "Content": shell("two")});
    alice.ssm("UpdateDocument", second).await.unwrap();
    let large = shell(&"x".repeat(64 << 10));
    let content = shell("more");
    let command = json!({"schemaVersion": "9.9", "mainSteps": []}).to_string();

    for (operation, request, code) in [
        (
            "CreateDocument",
            json!({"Name": "New-Doc"}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": "a b", "Content": content}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": "AWS-Doc", "Content": content}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": content, "DocumentType": "Policy"}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": SHELL, "Content": content, "DocumentType": "Command"}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": content, "DocumentFormat": "TEXT"}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": content, "Requires": [{"Name": "Doc"}]}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": content, "Attachments": [{}]}),
            "ValidationException",
        ),
        (
            "CreateDocument",
            json!({"Name": "Doc", "Content": content, "DocumentType": "Session"}),
            "DocumentAlreadyExists",
        ),
        (
            "CreateDocument",
            json!({"Name": "SSM-RunProgram", "Content": content, "DocumentType": "Session"}),
            "DocumentAlreadyExists",
        ),
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": "{", "DocumentType": "Session"}),
            "InvalidDocumentContent",
        ),
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": "{}", "DocumentType": "Session"}),
            "InvalidDocumentContent",
        ),
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": large, "DocumentType": "Session"}),
            "MaxDocumentSizeExceeded",
        ),
        // Without a type a document is a command.
        (
            "CreateDocument",
            json!({"Name": "New-Doc", "Content": command}),
            "InvalidDocumentSchemaVersion",
        ),
        (
            "UpdateDocument",
            json!({"Name": "None", "Content": content}),
            "InvalidDocument",
        ),
        (
            "UpdateDocument",
            json!({"Name": "Doc", "Content": shell("two")}),
            "DuplicateDocumentContent",
        ),
        (
            "UpdateDocument",
            json!({"Name": "Doc", "Content": content, "VersionName": "one"}),
            "DuplicateDocumentVersionName",
        ),
        (
            "UpdateDocument",
            json!({"Name": "Doc", "Content": content, "DocumentVersion": "1"}),
            "InvalidDocumentVersion",
        ),
        (
            "UpdateDocument",
            json!({"Name": "AWS-StartSSHSession", "Content": content}),
            "InvalidDocumentOperation",
        ),
        (
            "UpdateDocumentDefaultVersion",
            json!({"Name": "Doc", "DocumentVersion": "7"}),
            "InvalidDocumentVersion",
        ),
        (
            "UpdateDocumentDefaultVersion",
            json!({"Name": "Doc", "DocumentVersion": "$LATEST"}),
            "ValidationException",
        ),
        ("GetDocument", json!({"Name": "None"}), "InvalidDocument"),
        ("GetDocument", json!({"Name": SHELL}), "InvalidDocument"),
        (
            "GetDocument",
            json!({"Name": "Doc", "DocumentVersion": "7"}),
            "InvalidDocumentVersion",
        ),
        (
            "GetDocument",
            json!({"Name": "Doc", "DocumentVersion": "99999999999"}),
            "InvalidDocumentVersion",
        ),
        (
            "GetDocument",
            json!({"Name": "Doc", "DocumentVersion": "0"}),
            "ValidationException",
        ),
        (
            "GetDocument",
            json!({"Name": "Doc", "DocumentFormat": "XML"}),
            "ValidationException",
        ),
        (
            "GetDocument",
            json!({"Name": "Doc", "DocumentVersion": "2", "VersionName": "one"}),
            "InvalidDocumentVersion",
        ),
        (
            "DescribeDocument",
            json!({"Name": "AWS-StartSSHSession", "DocumentVersion": "2"}),
            "InvalidDocumentVersion",
        ),
        (
            "ListDocumentVersions",
            json!({"Name": "None"}),
            "InvalidDocument",
        ),
        (
            "ListDocumentVersions",
            json!({"Name": "Doc", "NextToken": "x"}),
            "InvalidNextToken",
        ),
        (
            "ListDocuments",
            json!({"NextToken": "x"}),
            "InvalidNextToken",
        ),
        (
            "ListDocuments",
            json!({"MaxResults": 51}),
            "ValidationException",
        ),
        (
            "ListDocuments",
            json!({"Filters": [{"Key": "Colour", "Values": ["red"]}]}),
            "InvalidFilterKey",
        ),
        (
            "ListDocuments",
            json!({"Filters": [{"Key": "Owner", "Values": ["Self", "Amazon"]}]}),
            "ValidationException",
        ),
        ("DeleteDocument", json!({"Name": "None"}), "InvalidDocument"),
        (
            "DeleteDocument",
            json!({"Name": "SSM-RunProgram"}),
            "InvalidDocumentOperation",
        ),
        (
            "DeleteDocument",
            json!({"Name": "Doc", "DocumentVersion": "$DEFAULT"}),
            "InvalidDocumentOperation",
        ),
        (
            "DeleteDocument",
            json!({"Name": "Doc", "DocumentVersion": "7"}),
            "InvalidDocumentVersion",
        ),
    ] {
        let refused = alice.ssm(operation, request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{operation} {request:.200}");
    }
}

#[tokio::test]
async fn documents_are_listed_with_those_of_amazon_by_filters_and_pages() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    for name in ["Zulu", "Alpha", "Alphabet"] {
        let tags = json!({"Tags": [{"Key": "of", "Value": name}]});
        create(&alice, name, tags).await;
    }
    let list = async |request: Value| {
        let page = alice.ssm("ListDocuments", request).await.unwrap();
        let names = page["DocumentIdentifiers"].as_array().unwrap().iter();
        let names: Vec<String> = names
            .map(|d| d["Name"].as_str().unwrap().to_owned())
            .collect();
        (names, page["NextToken"].clone())
    };
    let filtered = async |key: &str, values: &[&str]| {
        list(json!({"Filters": [{"Key": key, "Values": values}]}))
            .await
            .0
    };

    let (mut names, mut request) = (Vec::new(), json!({"MaxResults": 2}));
    loop {
        let (page, next) = list(request.clone()).await;
        names.extend(page);
        if next.is_null() {
            break;
        }
        request["NextToken"] = next;
    }
    let mut sorted = names.clone();
    sorted.sort();
    let amazon = filtered("Owner", &["Amazon"]).await.len();
    assert_eq!((names.len(), &names), (amazon + 3, &sorted));

    assert_eq!(filtered("Name", &["Alph"]).await, ["Alpha", "Alphabet"]);
    assert_eq!(
        filtered("Owner", &["Self"]).await,
        ["Alpha", "Alphabet", "Zulu"]
    );
    assert_eq!(filtered("Owner", &["ThirdParty"]).await.len(), 0);
    assert_eq!(
        filtered("tag:of", &["Zulu", "Alpha"]).await,
        ["Alpha", "Zulu"]
    );
    let commands = filtered("DocumentType", &["Command"]).await;
    assert!(commands.contains(&"AWS-RunShellScript".to_owned()));
    assert!(commands.iter().all(|name| name.starts_with("AWS-")));
    assert_eq!(filtered("PlatformTypes", &["Linux"]).await, names);
    assert_eq!(
        filtered("SearchKeyword", &["ssh"]).await,
        ["AWS-StartSSHSession"]
    );
    let older = json!({"DocumentFilterList": [{"key": "Owner", "value": "Self"}, {"key": "Name", "value": "Z"}]});
    assert_eq!(list(older).await.0, ["Zulu"]);
}

#[tokio::test]
async fn versions_are_listed_newest_first() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    create(&alice, "Doc", json!({})).await;
    for text in ["two", "three"] {
        let update = json!({"Name": "Doc", "Content": shell(text)});
        alice.ssm("UpdateDocument", update).await.unwrap();
    }

    let (mut seen, mut request) = (Vec::new(), json!({"Name": "Doc", "MaxResults": 2}));
    loop {
        let page = alice
            .ssm("ListDocumentVersions", request.clone())
            .await
            .unwrap();
        for version in page["DocumentVersions"].as_array().unwrap() {
            let number = version["DocumentVersion"].as_str().unwrap().to_owned();
            seen.push((number, version["IsDefaultVersion"].as_bool().unwrap()));
        }
        if page["NextToken"].is_null() {
            break;
        }
        request["NextToken"] = page["NextToken"].clone();
    }
    let expected = [("3", false), ("2", false), ("1", true)];
    assert_eq!(seen, expected.map(|(number, is)| (number.to_owned(), is)));

    let own = json!({"Name": "arn:aws:ssm:us-east-1::document/AWS-StartSSHSession"});
    let own = alice.ssm("ListDocumentVersions", own).await.unwrap();
    assert_eq!(own["DocumentVersions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn session_is_refused_with_a_document_that_starts_none() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let step = json!({"action": "aws:runShellScript", "name": "a", "inputs": {}});
    let command = json!({"schemaVersion": "2.2", "mainSteps": [step]}).to_string();
    let request = json!({"Content": command, "DocumentType": "Command"});
    create(&alice, "Command-Doc", request).await;
    let idle = json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream",
        "parameters": {"idle": {"type": "String"}},
        "inputs": {"idleSessionTimeout": "{{ idle }}"}
    });
    create(&alice, "Idle-Doc", json!({"Content": idle.to_string()})).await;

    for (request, code) in [
        (json!({"DocumentName": "Command-Doc"}), "InvalidDocument"),
        (json!({"DocumentName": "No-Doc"}), "InvalidDocument"),
        (json!({"DocumentName": "Idle-Doc"}), "InvalidParameters"),
        (
            json!({"DocumentName": "Idle-Doc", "Parameters": {"idle": ["61"]}}),
            "InvalidParameters",
        ),
        (
            json!({"DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["ssh"]}}),
            "InvalidParameters",
        ),
        (
            json!({"DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": [""]}}),
            "ValidationException",
        ),
        (
            json!({"DocumentName": "AWS-StartNonInteractiveCommand", "Parameters": {
                "command": ["id"], "separateOutputStream": ["maybe"]}}),
            "InvalidParameters",
        ),
        // Nothing is wrong with these but the target.
        (
            json!({"DocumentName": "Idle-Doc", "Parameters": {"idle": ["60"]}}),
            "TargetNotConnected",
        ),
        (
            json!({"DocumentName": "arn:aws:ssm:us-east-1::document/AWS-StartSSHSession"}),
            "TargetNotConnected",
        ),
    ] {
        let mut request = request;
        request["Target"] = "mi-0123456789abcdef0".into();
        let refused = alice.ssm("StartSession", request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{request}");
    }
}

#[tokio::test]
async fn restarted_gateway_knows_its_documents() {
    let state = tempfile::tempdir().unwrap();
    let run = async || {
        let cancel = CancellationToken::new();
        let settings = Settings::on_loopback(state.path());
        let (running, serving) = start(settings, cancel.clone()).await.unwrap();
        (running, cancel, tokio::spawn(serving))
    };
    let (running, cancel, serving) = run().await;
    let key = running.create_access("alice").await.unwrap();
    let alice = Tool::new(&running, &key.access_key_id, key.secret.expose(), None);
    create(&alice, SHELL, json!({})).await;
    cancel.cancel();
    serving.await.unwrap();

    let (running, _cancel, _serving) = run().await;

    let alice = Tool::new(&running, &key.access_key_id, key.secret.expose(), None);
    let got = alice.ssm("GetDocument", json!({"Name": SHELL})).await;
    assert_eq!(got.unwrap()["Content"], shell("one"));
}

/// Makes a document of type Session with the members of `request`.
async fn create(tool: &Tool, name: &str, request: Value) -> Value {
    let mut whole = json!({"Name": name, "Content": shell("one"), "DocumentType": "Session"});
    for (member, value) in request.as_object().unwrap() {
        whole[member] = value.clone();
    }
    tool.ssm("CreateDocument", whole).await.unwrap()
}

/// A content that starts a shell.
fn shell(description: &str) -> String {
    json!({
        "schemaVersion": "1.0", "description": description, "sessionType": "Standard_Stream",
        "parameters": {"who": {"type": "String", "default": "me"}}
    })
    .to_string()
}
