"""Distributor with no AWS: packages that the gateway has, installed and uninstalled by Run Command; and
docker, by a program that stands in for it."""

import functools
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import uuid
import zipfile

import boto3

from checks import check, error_code, eventually
from run_commands import PENDING, result, send, status_of

PACKAGE = "AWS-ConfigureAWSPackage"


def tidy(story):
    """Deletes the documents that a story made."""
    @functools.wraps(story)
    def told(world, *arguments):
        try:
            story(world, *arguments)
        finally:
            while Package.made_by_stories:
                world.ssm.delete_document(Name=Package.made_by_stories.pop())
    return told


class Package:
    """A package of its own for each story; its scripts write to `proof` what they did."""

    made_by_stories = []

    def __init__(self, world):
        self.world = world
        self.name = f"Story-{uuid.uuid4()}"
        self.proof = world.path(self.name)
        self.made = False

    def archive(self, version, **scripts):
        """Scripts that note that they ran, or those given."""
        scripts = {"install": "", "uninstall": "", **scripts}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zip:
            for action, lines in scripts.items():
                if lines is not None:
                    zip.writestr(f"{action}.sh", f"echo {action}-{version} | tee -a {self.proof}\n{lines}\n")
            zip.writestr("data/readme.txt", "x" * 1000)
        return buffer.getvalue()

    def manifest(self, version, archive, **changes):
        return json.dumps({
            "schemaVersion": "2.0", "version": version, "publisher": "story",
            "packages": {"_any": {"_any": {"x86_64": {"file": "p.zip"}, "arm64": {"file": "p.zip"}}}},
            "files": {"p.zip": {"checksums": {"sha256": hashlib.sha256(archive).hexdigest()}, "size": len(archive),
                                **changes}}})

    def offer(self, version, archive=None, sources=(), **scripts):
        """Makes the package, or another version of it that counts from now on."""
        if archive is None:
            archive = self.archive(version, **scripts)
            self.store(archive)
        arguments = {"Name": self.name, "VersionName": version, "Content": self.manifest(version, archive)}
        if sources:
            arguments["Attachments"] = list(sources)
        if not self.made:
            self.world.ssm.create_document(DocumentType="Package", **arguments)
            self.note_as_made()
            return
        made = self.world.ssm.update_document(DocumentVersion="$LATEST", **arguments)
        number = made["DocumentDescription"]["DocumentVersion"]
        self.world.ssm.update_document_default_version(Name=self.name, DocumentVersion=number)

    def note_as_made(self):
        self.made = True
        Package.made_by_stories.append(self.name)

    def store(self, archive):
        """Puts a file where the gateway has its own."""
        path = self.world.path(f"{uuid.uuid4()}.zip")
        with open(path, "wb") as file:
            file.write(archive)
        added = subprocess.run([self.world.program("ssm-gateway"), "attachment", "add", path, "--json", "--state",
                                self.world.path("gateway")], check=True, capture_output=True)
        return json.loads(added.stdout)[0]

    def configure(self, action, **parameters):
        parameters = {"name": [self.name], "action": [action], **parameters}
        return send(self.world, document=PACKAGE, parameters=parameters)

    def install(self, **parameters):
        return result(self.world, self.configure("Install", **parameters))

    def uninstall(self):
        return result(self.world, self.configure("Uninstall"))

    def did(self):
        if not os.path.exists(self.proof):
            return []
        with open(self.proof) as file:
            return file.read().split()

    def folder(self, *parts):
        return os.path.join(self.world.path("agent"), "packages", self.name, *parts)

    def state(self):
        with open(self.folder("installstate")) as file:
            return json.load(file)


@tidy
def package_is_installed_upgraded_and_uninstalled(world):
    package = Package(world)
    package.offer("1.0")
    found = package.install()
    check(found["Status"] == "Success" and found["PluginName"] == "configurePackage", f"{found}")
    check(found["StandardOutputContent"] == (
        f"Initiating {package.name} 1.0 install\nPlugin aws:runShellScript ResultStatus Success\n"
        f"install output: Running sh install.sh\ninstall-1.0\n\nSuccessfully installed {package.name} 1.0\n"), f"{found}")
    state = package.state()
    check((state["name"], state["version"], state["state"]) == (package.name, "1.0", 8), f"{state}")
    check(package.install()["StandardOutputContent"] == f"{package.name} 1.0 is already installed\n", "once")
    package.offer("2.0", validate="")
    found = package.install()
    check(found["Status"] == "Success", f"{found}")
    check(package.did() == ["install-1.0", "uninstall-1.0", "install-2.0", "validate-2.0"], f"{package.did()}")
    check(not os.path.exists(package.folder("1.0")) and os.path.exists(package.folder("2.0", "data/readme.txt")), "files")
    found = package.install(version=["1.0"])
    check(found["StandardOutputContent"].endswith(f"Successfully installed {package.name} 1.0\n"), f"{found}")
    found = package.uninstall()
    check(found["StandardOutputContent"].endswith(f"Successfully uninstalled {package.name} 1.0\n"), f"{found}")
    check(not os.path.exists(package.folder("1.0")) and package.state()["state"] == 0, f"{package.state()}")
    found = package.uninstall()
    check((found["Status"], found["StandardOutputContent"]) == ("Success", "version:  is not installed\n"), f"{found}")


@tidy
def package_is_updated_in_place(world):
    package = Package(world)
    package.offer("1.0")
    package.install()
    package.offer("2.0")
    found = package.install(installationType=["In-place update"])
    check(found["Status"] == "Failed" and "missing update script" in found["StandardErrorContent"], f"{found}")
    package.offer("3.0", update="", uninstall="exit 1")
    found = package.install(installationType=["In-place update"])
    check(found["Status"] == "Success" and package.did()[-1] == "update-3.0", f"{found} {package.did()}")


@tidy
def failing_install_is_rolled_back(world):
    package = Package(world)
    package.offer("1.0", validate="")
    package.install()
    package.offer("2.0", install="exit 7")
    found = package.install()
    check((found["Status"], found["ResponseCode"]) == ("Failed", 1), f"{found}")
    check(found["StandardOutputContent"].endswith(
        f"Failed to install {package.name} 2.0, successfully rolled back to {package.name} 1.0\n"), f"{found}")
    check(found["StandardErrorContent"] == "install errors: failed to run commands: exit status 7\n"
          "Failed to install package; install status Failed\n", f"{found}")
    check(package.did()[2:] == ["uninstall-1.0", "install-2.0", "uninstall-2.0", "install-1.0", "validate-1.0"],
          f"{package.did()}")
    state = package.state()
    check((state["version"], state["state"]) == ("1.0", 8), f"{state}")


@tidy
def package_that_is_not_what_its_manifest_says_is_not_unpacked(world):
    """One whose checksum differs, one that leads out of its folder, one with a link."""
    bucket = f"packages-{uuid.uuid4()}"
    s3 = boto3.client("s3", endpoint_url=world.aws_url, region_name="us-east-1", aws_access_key_id="any",
                      aws_secret_access_key="any")
    s3.create_bucket(Bucket=bucket)
    source = [{"Key": "SourceUrl", "Values": [f"https://s3.amazonaws.com/{bucket}/folder"]}]

    package = Package(world)
    archive = package.archive("1.0")
    s3.put_object(Bucket=bucket, Key="folder/p.zip", Body=archive)
    package.offer("1.0", archive, source)
    check(package.install()["Status"] == "Success", "it comes from S3")

    package = Package(world)
    archive = package.archive("1.0")
    s3.put_object(Bucket=bucket, Key="folder/p.zip", Body=archive[:-1] + b"!")
    package.offer("1.0", archive, source)
    found = package.install()
    check(found["Status"] == "Failed" and "failed to verify its checksum" in found["StandardErrorContent"], f"{found}")
    check(not os.path.exists(package.folder("1.0")) and package.did() == [], "nothing was unpacked")

    for name, mode, text in [("../../../../evil.txt", 0o644, "leads out of the package's folder"),
                             ("link", stat.S_IFLNK | 0o777, "neither a file nor a folder")]:
        package = Package(world)
        buffer = io.BytesIO(package.archive("1.0"))
        with zipfile.ZipFile(buffer, "a") as zip:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            zip.writestr(entry, "/etc/passwd")
        package.store(buffer.getvalue())
        package.offer("1.0", buffer.getvalue())
        found = package.install()
        check(found["Status"] == "Failed" and text in found["StandardErrorContent"], f"{name}: {found}")
        check(package.did() == [] and not os.path.exists(package.folder("1.0")), f"{name}: nothing ran")
    check(not os.path.exists(os.path.join(world.root, "evil.txt")), "nothing is outside")


@tidy
def install_survives_the_death_of_the_agent_once(world):
    package = Package(world)
    package.offer("1.0")
    package.install()
    package.offer("2.0", install="sleep 3; exit 9")
    command = package.configure("Install")
    eventually("it installs", lambda: "install-2.0" in package.did())
    world.agent.send_signal(signal.SIGKILL)
    world.agent.wait()
    world.start_agent_again()
    found = result(world, command)
    check(found["Status"] == "Failed" and "successfully rolled back to" in found["StandardOutputContent"], f"{found}")
    check(found["StandardOutputContent"].count("Successfully uninstalled") == 2, f"{found}")
    check(package.did()[1:] == ["uninstall-1.0", "install-2.0", "uninstall-2.0", "install-1.0"], f"{package.did()}")
    listed = world.ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"]
    check(len(listed) == 1 and len(listed[0]["CommandPlugins"]) == 1, f"{listed}")


@tidy
def cancelled_install_ends_with_its_script(world):
    package = Package(world)
    package.offer("1.0", install="sleep 300")
    command = package.configure("Install")
    eventually("it installs", package.did)
    world.ssm.cancel_command(CommandId=command)
    found = result(world, command)
    check(found["Status"] == "Cancelled" and package.state()["state"] == 2, f"{found} {package.state()}")


@tidy
def packages_are_documents_with_attachments(world):
    ssm, package = world.ssm, Package(world)
    archive = package.archive("1.0")
    refused = error_code(ssm.create_document, Name=package.name, DocumentType="Package",
                         Content=package.manifest("1.0", archive))
    check(refused == "InvalidDocumentContent", f"its file is nowhere: {refused}")
    stored = package.store(archive)
    check(stored["Sha256"] == hashlib.sha256(archive).hexdigest() and int(stored["Size"]) == len(archive), f"{stored}")
    package.offer("1.0", archive)
    got = ssm.get_document(Name=package.name, VersionName="1.0")["AttachmentsContent"]
    check([(item["Name"], item["Size"], item["Hash"], item["HashType"]) for item in got]
          == [("p.zip", len(archive), stored["Sha256"], "Sha256")], f"{got}")
    check(got[0]["Url"].startswith(f"{world.url}/v1/attachments/{stored['Sha256']}/p.zip?expires="), f"{got}")
    described = ssm.describe_document(Name=package.name)["Document"]
    check(described["AttachmentsInformation"] == [{"Name": "p.zip"}] and described["DocumentType"] == "Package",
          f"{described}")
    other = Package(world)
    ssm.create_document(Name=other.name, DocumentType="Package", Content=package.manifest("3.0", archive),
                        Attachments=[{"Key": "AttachmentReference", "Values": [f"{package.name}/1/p.zip"]}])
    other.note_as_made()
    check(error_code(ssm.create_document, Name="Story-Bad", DocumentType="Package", Content=package.manifest("1.0", b""),
                     Attachments=[{"Key": "SourceUrl", "Values": ["file:///etc"]}]) == "ValidationException", "a file")
    check(error_code(ssm.send_command, InstanceIds=[world.node], DocumentName=package.name) == "InvalidDocument",
          "a package is no command")
    wrong = result(world, send(world, document=PACKAGE, parameters={"name": ["No-Such-Package"], "action": ["Install"]}))
    check(wrong["Status"] == "Failed" and "failed to download manifest" in wrong["StandardErrorContent"], f"{wrong}")


@tidy
def cli_configures_packages(world, aws):
    package = Package(world)
    archive = package.archive("1.0", install='echo "mode is $SSM_MODE"')
    package.store(archive)
    manifest = world.path(f"{package.name}.json")
    with open(manifest, "w") as file:
        file.write(package.manifest("1.0", archive))

    def ssm(*arguments):
        status, output, errors = world.run([aws, "ssm", *arguments, "--endpoint-url", world.url, "--output", "json"])
        check(status == 0, f"{arguments}: {status} {errors}")
        return json.loads(output)
    ssm("create-document", "--name", package.name, "--document-type", "Package", "--version-name", "1.0", "--content",
        f"file://{manifest}", "--attachments", f"Key=SourceUrl,Values={world.url}/v1/attachments")
    package.note_as_made()
    sent = ssm("send-command", "--instance-ids", world.node, "--document-name", PACKAGE, "--parameters",
               json.dumps({"action": ["Install"], "name": [package.name], "additionalArguments": ['{"SSM_MODE":"fast one"}']}))
    found = result(world, sent["Command"]["CommandId"])
    check("mode is fast one\n" in found["StandardOutputContent"] and found["Status"] == "Success", f"{found}")


def docker_is_asked_by_its_arguments(world):
    """A program that stands in for docker notes what it is asked."""
    asked = world.path("docker-asked")
    with world.stand_in("docker", f"#!/bin/sh\nfor word; do printf '<%s>' \"$word\"; done >>{asked}\necho >>{asked}\n"
                        "[ \"$1\" = stop ] && sleep 300\n[ \"$1\" = rm ] && exit 5\nexit 0\n"):
        for parameters, line in [
                ({"action": ["Run"], "image": ["alpine:3"], "container": ["c"], "cmd": ["echo $(id) `id`"],
                  "volume": ["/a:/b"], "env": ["A=$HOME x"]},
                 "<run><-d><--volume></a:/b><--name><c><--env><A=$HOME x><alpine:3><echo $(id) `id`>"),
                ({"action": ["Ps"]}, "<ps><--all>"),
                ({"action": ["Pull"], "image": ["registry/x:1"]}, "<pull><registry/x:1>")]:
            found = result(world, send(world, document="AWS-RunDockerAction", parameters=parameters))
            with open(asked) as file:
                check(found["Status"] == "Success" and file.read().splitlines()[-1] == line, f"{parameters}: {found}")
        found = result(world, send(world, document="AWS-RunDockerAction", parameters={"action": ["Rm"], "container": ["c"]}))
        check((found["Status"], found["ResponseCode"]) == ("Failed", 5), f"{found}")
        for parameters, text in [
                ({"action": ["Start"]}, "Action Start requires parameter container"),
                ({"action": ["Run"], "image": ["a;b"]}, "Validation error, Invalid image value, only [a-zA-Z0-9.:_-\\/] are allowed")]:
            found = result(world, send(world, document="AWS-RunDockerAction", parameters=parameters))
            check((found["Status"], found["StandardErrorContent"]) == ("Failed", text), f"{found}")
        late = {"action": ["Stop"], "container": ["c"], "timeoutSeconds": ["5"]}
        found = result(world, send(world, document="AWS-RunDockerAction", parameters=late))
        check((found["Status"], found["ResponseCode"]) == ("TimedOut", 137), f"{found}")
        command = send(world, document="AWS-RunDockerAction", parameters={"action": ["Stop"], "container": ["cancel"]})
        eventually("it runs", lambda: "<cancel>" in open(asked).read())
        world.ssm.cancel_command(CommandId=command)
        check(result(world, command)["Status"] == "Cancelled", "it is cancelled")


def plugins_that_cannot_do_it_say_why(world):
    found = result(world, send(world, document="AWS-UpdateSSMAgent"))
    check(found["Status"] == "Failed" and found["StandardErrorContent"].startswith("The manifest of AWS lists"), f"{found}")
    steps = [("aws:domainJoin", "join", {}), ("aws:configureDocker", "docker", {"action": "Repair"})]
    content = {"schemaVersion": "2.2", "mainSteps": [
        {"action": action, "name": name, "inputs": inputs} for action, name, inputs in steps]}
    world.ssm.create_document(Name="Story-Join", DocumentType="Command", Content=json.dumps(content))
    try:
        command = send(world, document="Story-Join")
        eventually("the command is over", lambda: status_of(world, command) not in PENDING)
        listed = world.ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"][0]
        outputs = {plugin["Name"]: plugin["Output"] for plugin in listed["CommandPlugins"]}
        check("This agent does not join domains" in outputs["join"], f"{outputs}")
        check(status_of(world, command) == "Failed", f"{outputs}")
        check("configure Action is set to unsupported value: Repair" in outputs["docker"], f"{outputs}")
    finally:
        world.ssm.delete_document(Name="Story-Join")
