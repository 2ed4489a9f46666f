"""Documents through boto3 and the AWS CLI."""

import json
import subprocess

from checks import Failure, check, error_code
from shells import start_cli_shell


def boto3_writes_reads_and_deletes_documents(world):
    ssm = world.ssm
    parameters = {"port": {"type": "String", "default": "22", "allowedPattern": "^[0-9]+$"}}
    made = ssm.create_document(Name="Story-Doc", DocumentType="Session", VersionName="one",
                               Content=session_document(description="first", parameters=parameters),
                               Tags=[{"Key": "of", "Value": "story"}])["DocumentDescription"]
    check(made["Status"] == "Active" and made["HashType"] == "Sha256" and made["DocumentVersion"] == "1", f"{made}")
    check(made["Parameters"] == [{"Name": "port", "Type": "String", "DefaultValue": "22"}], f"{made}")
    try:
        for call, arguments, error in [
                (ssm.create_document, {"DocumentType": "Session", "Content": session_document()},
                 ssm.exceptions.DocumentAlreadyExists),
                (ssm.update_document, {"Content": session_document(description="first", parameters=parameters)},
                 ssm.exceptions.DuplicateDocumentContent),
                (ssm.update_document, {"Content": session_document(), "VersionName": "one"},
                 ssm.exceptions.DuplicateDocumentVersionName),
                (ssm.update_document, {"Content": "{"}, ssm.exceptions.InvalidDocumentContent),
                (ssm.update_document, {"Content": session_document(schemaVersion="2.2")},
                 ssm.exceptions.InvalidDocumentSchemaVersion),
                (ssm.update_document, {"Content": session_document(description="x" * 65536)},
                 ssm.exceptions.MaxDocumentSizeExceeded),
                (ssm.update_document_default_version, {"DocumentVersion": "9"}, ssm.exceptions.InvalidDocumentVersion),
                (ssm.get_document, {"DocumentVersion": "9"}, ssm.exceptions.InvalidDocumentVersion),
                (ssm.delete_document, {"DocumentVersion": "1"}, ssm.exceptions.InvalidDocumentOperation)]:
            try:
                call(Name="Story-Doc", **arguments)
            except error:
                continue
            raise Failure(f"{arguments} was not refused with {error.__name__}")
        yaml = "schemaVersion: '1.0'\nsessionType: Standard_Stream\ndescription: second\n"
        ssm.update_document(Name="Story-Doc", DocumentVersion="$LATEST", DocumentFormat="YAML", Content=yaml)
        check(json.loads(ssm.get_document(Name="Story-Doc")["Content"])["description"] == "first", "the default version")
        latest = ssm.get_document(Name="Story-Doc", DocumentVersion="$LATEST", DocumentFormat="YAML")
        check(latest["Content"] == yaml and latest["DocumentVersion"] == "2", f"{latest}")
        ssm.update_document_default_version(Name="Story-Doc", DocumentVersion="2")
        described = ssm.describe_document(Name="Story-Doc")["Document"]
        check(described["Description"] == "second" and described["DefaultVersion"] == "2", f"{described}")
        pages = ssm.get_paginator("list_document_versions").paginate(Name="Story-Doc", PaginationConfig={"PageSize": 1})
        versions = [(version["DocumentVersion"], version["IsDefaultVersion"])
                    for page in pages for version in page["DocumentVersions"]]
        check(versions == [("2", True), ("1", False)], f"{versions}")
        ssm.delete_document(Name="Story-Doc", DocumentVersion="1")
    finally:
        ssm.delete_document(Name="Story-Doc")
    check(error_code(ssm.get_document, Name="Story-Doc") == "InvalidDocument", "it is gone")


def boto3_lists_the_documents_of_amazon_and_its_own(world):
    ssm = world.ssm
    ssm.create_document(Name="Story-List", DocumentType="Session", Content=session_document())
    try:
        def names(*filters):
            pages = ssm.get_paginator("list_documents").paginate(Filters=list(filters), PaginationConfig={"PageSize": 3})
            return [document["Name"] for page in pages for document in page["DocumentIdentifiers"]]
        own = {"Key": "Owner", "Values": ["Self"]}
        check(names(own) == ["Story-List"], f"{names(own)}")
        amazon = names({"Key": "Owner", "Values": ["Amazon"]})
        for name in ["AWS-StartSSHSession", "AWS-StartPortForwardingSession", "AWS-StartInteractiveCommand",
                     "AWS-StartPortForwardingSessionToRemoteHost", "AWS-StartNonInteractiveCommand"]:
            check(name in amazon, f"{name} is not in {amazon}")
            check(error_code(ssm.delete_document, Name=name) == "InvalidDocumentOperation", f"{name} is read-only")
        check(names({"Key": "Name", "Values": ["Story"]}) == ["Story-List"], "by the beginning of the name")
    finally:
        ssm.delete_document(Name="Story-List")


def cli_manages_documents(world, aws):
    def ssm(*arguments):
        done = subprocess.run([aws, "ssm", *arguments, "--endpoint-url", world.url, "--output", "json"],
                              env=world.environment, capture_output=True)
        check(done.returncode == 0, f"{arguments}: {done.stderr.decode()}")
        return json.loads(done.stdout or b"{}")

    with open(world.path("document.json"), "w") as file:
        file.write(session_document(description="from a file"))
    content = "file://" + world.path("document.json")
    ssm("create-document", "--name", "Cli-Doc", "--document-type", "Session", "--content", content)
    try:
        with open(world.path("document.json"), "w") as file:
            file.write(session_document(description="changed"))
        ssm("update-document", "--name", "Cli-Doc", "--content", content, "--document-version", "$LATEST")
        ssm("update-document-default-version", "--name", "Cli-Doc", "--document-version", "2")
        described = ssm("describe-document", "--name", "Cli-Doc")["Document"]
        check(described["Description"] == "changed" and described["LatestVersion"] == "2", f"{described}")
        check("changed" in ssm("get-document", "--name", "Cli-Doc")["Content"], "the content")
        listed = ssm("list-documents", "--filters", "Key=Owner,Values=Self")["DocumentIdentifiers"]
        check("Cli-Doc" in [document["Name"] for document in listed], f"{listed}")
        check(len(ssm("list-document-versions", "--name", "Cli-Doc")["DocumentVersions"]) == 2, "two versions")
    finally:
        ssm("delete-document", "--name", "Cli-Doc")


def preferences_of_the_account_reach_the_shell(world, aws):
    name = "SSM-SessionManagerRunShell"
    world.ssm.create_document(Name=name, DocumentType="Session", Content=session_document(
        inputs={"shellProfile": {"linux": "echo first-$((6*7))"}}))
    try:
        # Nothing but update-document, as AWS's guide has it.
        world.ssm.update_document(Name=name, DocumentVersion="$LATEST", Content=session_document(
            inputs={"shellProfile": {"linux": "echo second-$((6*7))"}}))
        terminal = start_cli_shell(world, aws)
        terminal.expect(rb"second-42\r\n")
        terminal.send(b"exit\r")
        terminal.wait()
    finally:
        world.ssm.delete_document(Name=name)


def session_document(**members):
    return json.dumps({"schemaVersion": "1.0", "sessionType": "Standard_Stream", **members})
