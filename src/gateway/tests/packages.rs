//! Packages through the API: documents with files, which their nodes get by a URL that nobody else has.

use serde_json::{Value, json};

use super::caller::{Host, Tool};
use super::{Gateway, activate, gateway};
use crate::gateway::attachments::Folder;

/// SHA-256 of `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[tokio::test]
async fn node_gets_a_file_of_a_package_by_its_url_alone() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    store(&gateway);
    let made = create(&alice, json!({"VersionName": "1.0"})).await.unwrap();
    let made = &made["DocumentDescription"];
    assert_eq!(made["AttachmentsInformation"], json!([{"Name": "p.zip"}]));
    assert_eq!(made["PlatformTypes"], json!(["Linux"]));
    let node = node(&gateway, &alice).await;

    let wanted = json!({"Name": "Nginx", "VersionName": "1.0"});
    let described = node.ssm("DescribeDocument", wanted.clone()).await.unwrap();
    let got = node.ssm("GetDocument", wanted).await.unwrap();

    assert_eq!(described["Document"]["Status"], "Active");
    let file = &got["AttachmentsContent"][0];
    assert_eq!(
        (
            &file["Name"],
            &file["Size"],
            &file["Hash"],
            &file["HashType"]
        ),
        (&json!("p.zip"), &json!(3), &json!(ABC), &json!("Sha256"))
    );
    let url = file["Url"].as_str().unwrap();
    let path = url.strip_prefix(gateway.running.url.as_str()).unwrap();
    let answer = alice.rest("GET", &format!("/{path}"), b"").await;
    assert_eq!(
        (answer.status(), answer.text().await.as_str()),
        (200, "abc")
    );
    for wrong in [
        path.replace("token=", "token=0"),
        path.replace("expires=", "expires=9"),
        path.split('?').next().unwrap().into(),
    ] {
        let answer = alice.rest("GET", &format!("/{wrong}"), b"").await;
        assert_eq!(answer.status(), 403, "{wrong}");
    }
    Folder::new(gateway.state.path()).remove(ABC).unwrap();
    assert_eq!(
        alice.rest("GET", &format!("/{path}"), b"").await.status(),
        404
    );
}

#[tokio::test]
async fn files_are_where_the_attachments_say() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let url = async |attachments: Value| {
        let name = "Nginx";
        let made = create(&alice, json!({"Attachments": attachments})).await;
        made?;
        let got = alice.ssm("GetDocument", json!({"Name": name})).await?;
        alice.ssm("DeleteDocument", json!({"Name": name})).await?;
        Ok::<_, String>(
            got["AttachmentsContent"][0]["Url"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };

    for (attachments, expected) in [
        (
            json!([{"Key": "SourceUrl", "Values": ["https://h/folder/"]}]),
            Ok("https://h/folder/p.zip"),
        ),
        (
            json!([{"Key": "SourceUrl", "Values": ["s3://bucket/a"]}]),
            Ok("https://s3.amazonaws.com/bucket/a/p.zip"),
        ),
        (
            json!([{"Key": "S3FileUrl", "Values": ["https://h/other"], "Name": "p.zip"}]),
            Ok("https://h/other"),
        ),
        (
            json!([{"Key": "S3FileUrl", "Values": ["https://h/a/p.zip"]}]),
            Ok("https://h/a/p.zip"),
        ),
        (
            json!([{"Key": "S3FileUrl", "Values": ["https://h/a/q.zip"]}]),
            Err("InvalidDocumentContent"),
        ),
        (json!([]), Err("InvalidDocumentContent")),
        (
            json!([{"Key": "SourceUrl", "Values": [gateway.running.url.as_str()]}]),
            Err("InvalidDocumentContent"),
        ),
        (
            json!([{"Key": "SourceUrl", "Values": []}]),
            Err("ValidationException"),
        ),
        (
            json!([{"Key": "Elsewhere", "Values": ["https://h"]}]),
            Err("ValidationException"),
        ),
        (
            json!([{"Key": "SourceUrl", "Values": ["file:///etc"]}]),
            Err("ValidationException"),
        ),
        (
            json!([{"Key": "AttachmentReference", "Values": ["Other/1/p.zip"]}]),
            Err("InvalidDocument"),
        ),
    ] {
        let got = url(attachments.clone()).await;
        assert_eq!(
            got.as_deref().map_err(String::as_str),
            expected,
            "{attachments}"
        );
    }
}

#[tokio::test]
async fn new_version_takes_a_file_of_another_document() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let source = json!([{"Key": "SourceUrl", "Values": ["https://h"]}]);
    create(&alice, json!({"VersionName": "1.0", "Attachments": source}))
        .await
        .unwrap();

    let again = json!({
        "Name": "Nginx", "VersionName": "2.0", "DocumentVersion": "1", "Content": manifest("2.0"),
        "Attachments": [{"Key": "AttachmentReference", "Values": ["Nginx/1/p.zip"]}],
    });
    alice.ssm("UpdateDocument", again).await.unwrap();

    let wanted = json!({"Name": "Nginx", "VersionName": "2.0"});
    let got = alice.ssm("GetDocument", wanted).await.unwrap();
    assert_eq!(got["AttachmentsContent"][0]["Url"], "https://h/p.zip");
    assert_eq!(got["DocumentVersion"], "2");
}

#[tokio::test]
async fn packages_are_made_only_of_manifests_and_are_no_commands() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    store(&gateway);
    create(&alice, json!({})).await.unwrap();

    let broken = create(
        &alice,
        json!({"Name": "Other", "Content": "{\"schemaVersion\":\"2.0\"}"}),
    )
    .await;
    assert_eq!(broken.unwrap_err(), "InvalidDocumentContent");
    let shell = json!({
        "Name": "Shell", "DocumentType": "Command", "Attachments": [{"Key": "SourceUrl", "Values": ["https://h"]}],
        "Content": "{\"schemaVersion\":\"2.2\",\"mainSteps\":[{\"action\":\"aws:runShellScript\",\"name\":\"a\"}]}",
    });
    assert_eq!(
        create(&alice, shell).await.unwrap_err(),
        "ValidationException"
    );
    let sent = json!({"DocumentName": "Nginx", "InstanceIds": ["mi-0123456789abcdef0"]});
    assert_eq!(
        alice.ssm("SendCommand", sent).await.unwrap_err(),
        "InvalidDocument"
    );
}

#[tokio::test]
async fn node_is_told_that_packages_are_documents_and_reports_what_it_did() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let node = node(&gateway, &alice).await;

    let asked = json!({"PackageName": "Nginx", "PackageVersion": "latest"});
    let refused = node.ssm("GetManifest", asked).await.unwrap_err();
    let report = json!({"PackageName": "Nginx", "PackageVersion": "1.0", "Operation": "Install", "Result": 0});
    let told = node.ssm("PutConfigurePackageResult", report).await;

    assert_eq!(refused, "ResourceNotFoundException");
    assert_eq!(told, Ok(json!({})));
}

fn manifest(version: &str) -> String {
    json!({
        "schemaVersion": "2.0", "version": version,
        "packages": {"debian": {"_any": {"_any": {"file": "p.zip"}}}},
        "files": {"p.zip": {"checksums": {"sha256": ABC}, "size": 3}},
    })
    .to_string()
}

/// Makes the package `Nginx` with the members of `request`.
async fn create(tool: &Tool, request: Value) -> Result<Value, String> {
    let mut whole = json!({"Name": "Nginx", "DocumentType": "Package", "Content": manifest("1.0")});
    for (member, value) in request.as_object().unwrap() {
        whole[member] = value.clone();
    }
    tool.ssm("CreateDocument", whole).await
}

/// Gives the gateway the package's file.
fn store(gateway: &Gateway) {
    let file = gateway.state.path().join("p.zip");
    std::fs::write(&file, "abc").unwrap();
    Folder::new(gateway.state.path()).add(&file).unwrap();
}

async fn node(gateway: &Gateway, person: &Tool) -> Tool {
    let (id, code) = activate(person, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    host.credentials(&gateway.running, &node_id).await.unwrap()
}
