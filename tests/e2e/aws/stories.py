"""Stories with the AWS CLI and boto3 against our gateway, our agent and our plugin.

Called by tests/e2e/aws/run with the folder of the compiled programs. Every program runs with its
own temporary folder on the loopback interface; all are ended at the end.
"""

import errno
import fcntl
import glob
import hashlib
import json
import logging
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

import boto3
import botocore.exceptions
from botocore.config import Config
from moto.server import ThreadedMotoServer

from wire import Relay

PROGRAMS = os.path.abspath(sys.argv[1])
DEADLINE = 30.0
# Moto's server says every request.
logging.getLogger("werkzeug").setLevel(logging.ERROR)


class Failure(Exception):
    """A story did not go as it should."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def eventually(what, attempt, deadline=DEADLINE):
    """Calls `attempt` until it returns something true."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        result = attempt()
        if result:
            return result
        time.sleep(0.05)
    raise Failure(f"not within {deadline} s: {what}")


class World:
    """A gateway with one registered, running agent."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="ssm-aws-")
        self.processes = []
        self.log = open(os.path.join(self.root, "log"), "wb")
        self.moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def start(self):
        state = self.path("gateway")
        gateway = self.spawn(["ssm-gateway", "serve", "--state", state, "--listen", "127.0.0.1:0",
                              "--plain-listen", "127.0.0.1:0"], subprocess.PIPE)
        line = gateway.stdout.readline().decode()
        found = re.search(r"https://[0-9.:]+", line)
        check(found, f"the gateway said {line!r} instead of its address")
        self.url = found.group(0)
        self.plain_url = re.search(r"http://[0-9.:]+", gateway.stdout.readline().decode()).group(0)
        self.moto.start()
        self.aws_url = "http://%s:%d" % self.moto.get_host_and_port()
        self.ca = os.path.join(state, "ca.pem")
        created = subprocess.run([self.program("ssm-gateway"), "access", "create", "tester", "--json", "--state", state],
                                 check=True, capture_output=True)
        key = json.loads(created.stdout)
        self.environment = {
            "PATH": PROGRAMS + ":" + os.environ["PATH"],
            "HOME": self.root,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_CA_BUNDLE": self.ca,
            "SSL_CERT_FILE": self.ca,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_KMS": self.aws_url,
        }
        self.ssm = self.client(key["AccessKeyId"], key["SecretAccessKey"])

    def client(self, access_key, secret):
        return boto3.client("ssm", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=access_key,
                            aws_secret_access_key=secret, verify=self.ca,
                            config=Config(retries={"max_attempts": 1}))

    def start_agent(self):
        activation = self.ssm.create_activation(IamRole="any", DefaultInstanceName="story", RegistrationLimit=1)
        config = self.path("agent.json")
        with open(config, "w") as file:
            json.dump({"Ssm": {"Endpoint": self.url}, "Mgs": {"Endpoint": self.url}, "Mds": {"Endpoint": self.url},
                       "Identity": {"ConsumptionOrder": ["OnPrem"]}, "Kms": {"Endpoint": self.aws_url},
                       "SsmAgent": {"Session": {"DefaultUser": "self"}}}, file)
        self.agent_arguments = ["--config", config, "--state-dir", self.path("agent"), "--log-dir", self.path("agent-log")]
        registered = subprocess.run(
            [self.program("ssm-agent"), "-register", "-code", activation["ActivationCode"], "-id",
             activation["ActivationId"], "-region", "us-east-1", "-y", *self.agent_arguments],
            env=self.environment, capture_output=True)
        check(registered.returncode == 0, f"registration failed: {registered.stderr.decode()}")
        self.node = re.search(r"mi-[0-9a-f]{17}", registered.stdout.decode()).group(0)
        self.agent = self.spawn(["ssm-agent", *self.agent_arguments])
        eventually("the agent is connected",
                   lambda: self.ssm.get_connection_status(Target=self.node)["Status"] == "connected")

    def spawn(self, arguments, stdout=None):
        environment = getattr(self, "environment", {**os.environ, "HOME": self.root})
        process = subprocess.Popen([self.program(arguments[0]), *arguments[1:]], stdin=subprocess.DEVNULL,
                                   stdout=stdout or self.log, stderr=self.log, env=environment)
        self.processes.append(process)
        return process

    def path(self, name):
        return os.path.join(self.root, name)

    @staticmethod
    def program(name):
        return os.path.join(PROGRAMS, name)

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.moto.stop()
        self.log.close()


class Terminal:
    """A program on a terminal of its own, driven by what it prints."""

    def __init__(self, arguments, environment, rows=30, cols=100):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(arguments[0], arguments, environment)
        self.resize(rows, cols)
        self.seen = b""

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def read(self, wait):
        ready, _, _ = select.select([self.fd], [], [], wait)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                return None
            raise
        self.seen += data
        return bool(data) or None

    def expect(self, pattern, start=0, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            found = re.search(pattern, self.seen[start:])
            if found:
                return found
            if self.read(0.2) is None:
                break
        raise Failure(f"{pattern!r} did not appear, but {self.seen[start:][-2000:]!r}")

    def send(self, data):
        """Writes while reading, as a person's terminal does."""
        while data:
            _, writable, _ = select.select([], [self.fd], [], 0.02)
            if writable:
                data = data[os.write(self.fd, data[:512]):]
            self.read(0)

    def run(self, command, pattern):
        start = len(self.seen)
        self.send(command.encode() + b"\r")
        return self.expect(pattern, start)

    def wait(self, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read(0):
                    pass
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise Failure(f"the program did not end, its last words: {self.seen[-500:]!r}")


def error_code(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return None


def boto3_sees_the_node_and_its_sessions(world):
    ssm = world.ssm
    nodes = ssm.describe_instance_information()["InstanceInformationList"]
    check([node["InstanceId"] for node in nodes] == [world.node], f"{nodes}")
    check(nodes[0]["PingStatus"] == "Online" and nodes[0]["PlatformType"] == "Linux", f"{nodes}")
    check(nodes[0]["ResourceType"] == "ManagedInstance", f"{nodes}")
    started = ssm.start_session(Target=world.node, Reason="a story")
    check(started["StreamUrl"].startswith("wss://") and started["TokenValue"], f"{started.keys()}")
    active = ssm.describe_sessions(State="Active")["Sessions"]
    check(started["SessionId"] in [session["SessionId"] for session in active], f"{active}")
    resumed = ssm.resume_session(SessionId=started["SessionId"])
    check(resumed["TokenValue"] and resumed["TokenValue"] != started["TokenValue"], "a fresh token")
    ssm.terminate_session(SessionId=started["SessionId"])
    ended = eventually("the session is in the history", lambda: [
        session for session in ssm.describe_sessions(State="History")["Sessions"]
        if session["SessionId"] == started["SessionId"]])
    check(ended[0]["Target"] == world.node and ended[0]["Reason"] == "a story", f"{ended}")


def boto3_gets_errors_in_awss_shapes(world):
    ssm = world.ssm
    check(error_code(ssm.start_session, Target="mi-00000000000000000") == "TargetNotConnected", "unknown target")
    check(error_code(ssm.start_session, Target=world.node, DocumentName="No-Such") == "InvalidDocument", "document")
    check(error_code(ssm.terminate_session, SessionId="nobody-0123456789abcdef0") in
          (None, "DoesNotExistException"), "unknown session")
    check(error_code(ssm.deregister_managed_instance, InstanceId="mi-00000000000000000") == "InvalidInstanceId", "node")
    check(error_code(ssm.delete_activation, ActivationId="00000000-0000-0000-0000-000000000000") in
          ("InvalidActivationId", "InvalidActivation"), "activation")
    wrong_secret = world.client(world.environment["AWS_ACCESS_KEY_ID"], "x" * 40)
    check(error_code(wrong_secret.describe_sessions, State="Active") in
          ("InvalidSignatureException", "SignatureDoesNotMatch"), "secret")
    unknown_key = world.client("AKIAAAAAAAAAAAAAAAAA", "x" * 40)
    check(error_code(unknown_key.describe_sessions, State="Active") == "UnrecognizedClientException", "key")


def boto3_pages_through_activations(world):
    ssm = world.ssm
    made = {ssm.create_activation(IamRole="r", Description=f"page {n}")["ActivationId"] for n in range(7)}
    pages = list(ssm.get_paginator("describe_activations").paginate(PaginationConfig={"PageSize": 2}))
    found = {activation["ActivationId"] for page in pages for activation in page["ActivationList"]}
    check(made <= found and len(pages) >= 4, f"{len(pages)} pages")
    for activation in made:
        ssm.delete_activation(ActivationId=activation)


def start_cli_shell(world, aws, **size):
    before = set(recordings(world))
    terminal = Terminal([aws, "ssm", "start-session", "--target", world.node, "--endpoint-url", world.url],
                        world.environment, **size)
    terminal.expect(rb"[$#] ")
    terminal.before = before
    return terminal


def recordings(world):
    return glob.glob(os.path.join(world.root, "agent-log", "**", "*.log"), recursive=True) + \
        glob.glob(os.path.join(world.root, "agent", "**", "*.log"), recursive=True)


def recorded_since(world, before):
    new = eventually("the recording is there", lambda: [path for path in recordings(world) if path not in before])
    return new[0]


def cli_shell_works(world, aws):
    terminal = start_cli_shell(world, aws, rows=31, cols=97)
    terminal.run("PS1='rdy> '", rb"rdy> $")
    terminal.run("stty size", rb"[\r\n]31 97\r\n")
    terminal.resize(40, 120)
    eventually("the new size arrives",
               lambda: re.search(rb"40 120\r\n", terminal.run("stty size", rb"\d+ \d+\r\n").string[-200:]))
    terminal.run("sh -c 'echo star''ted; exec sleep 1000'", rb"started\r\n")
    start = len(terminal.seen)
    terminal.send(b"\x03")
    terminal.expect(rb"rdy> $", start)
    terminal.run("echo interrupted=$?", rb"interrupted=130\r\n")
    terminal.run("printf 'h\\303\\251llo \\342\\202\\254\\n'", "h\u00e9llo \u20ac\r\n".encode())
    terminal.send(b"exit 5\r")
    check(terminal.wait() in (0, 5, 255), "exit")


def cli_paste_of_a_megabyte_loses_nothing(world, aws):
    terminal = start_cli_shell(world, aws)
    target = world.path("pasted")
    text = os.urandom(786432).hex().encode()[:1048576]
    start = len(terminal.seen)
    terminal.send(f"stty raw -echo; printf rea; printf dy; head -c {len(text)} >{target}; stty sane; echo do''ne\r".encode())
    terminal.expect(rb"ready", start)
    terminal.send(text)
    terminal.expect(rb"done", start, deadline=60)
    with open(target, "rb") as file:
        check(hashlib.sha256(file.read()).digest() == hashlib.sha256(text).digest(), "the paste arrived changed")
    terminal.send(b"exit\r")
    terminal.wait()


def cli_recording_replays_byte_for_byte(world, aws):
    terminal = start_cli_shell(world, aws)
    terminal.run("vi -u NONE /etc/passwd", rb"root:")
    terminal.send(b"/daemon\r")
    left = len(terminal.seen)
    terminal.send(b":q!\r")
    terminal.expect(rb"1049l(.|\n)*[$#] $", left)
    terminal.run("seq 1 2000; printf '\\033[31mred\\033[0m\\377\\n'", rb"red\x1b\[0m\xff\r\n")
    terminal.send(b"exit\r")
    terminal.wait()
    log = recorded_since(world, terminal.before)
    session = os.path.basename(log)[: -len(".log")]
    eventually("the recording is complete", lambda: os.path.exists(log) and open(log, "rb").read() in terminal.seen
               and len(open(log, "rb").read()) > 8000)
    cast = log[: -len(".log")] + ".cast"
    with open(cast, "rb") as file:
        lines = [json.loads(line) for line in file.read().splitlines()]
    check(lines[0]["version"] == 2 and lines[0]["width"] > 0, f"{lines[0]}")
    replayed = "".join(event[2] for event in lines[1:] if event[1] == "o")
    expected = open(log, "rb").read().decode("utf-8", "replace")
    check(replayed == expected, f"the cast of {session} differs from the log")


def cli_leaves_with_tilde_dot(world, aws):
    terminal = start_cli_shell(world, aws)
    terminal.send(b"\r")
    terminal.expect(rb"[$#] $")
    terminal.send(b"~.")
    terminal.wait()


def vim_in_tmux_draws_and_follows_the_size(world, aws):
    tmux = ["tmux", "-S", world.path("tmux"), "-f", "/dev/null"]

    def screen():
        return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, env=world.environment).stdout.decode()

    def keys(*names):
        subprocess.run([*tmux, "send-keys", *names], check=True, env=world.environment)

    with open(world.path("poem"), "w") as file:
        file.writelines(f"line {n} of the poem\n" for n in range(1, 200))
    command = f"{aws} ssm start-session --target {world.node} --endpoint-url {world.url}"
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", command], check=True, env=world.environment)
    try:
        eventually("a prompt", lambda: re.search(r"[$#]\s*$", screen()))
        keys(f"vi -u NONE {world.path('poem')}", "Enter")
        eventually("vim shows the file", lambda: "line 23 of the poem" in screen())
        subprocess.run([*tmux, "resize-window", "-x", "90", "-y", "40"], check=True, env=world.environment)
        eventually("vim fills the larger window", lambda: "line 39 of the poem" in screen())
        keys("G", "o", "the end", "Escape")
        eventually("vim went to the end", lambda: "the end" in screen() and "line 199" in screen())
        keys(":wq", "Enter")
        eventually("the file is written", lambda: open(world.path("poem")).read().endswith("the end\n"))
        keys("exit", "Enter")
        eventually("the window is gone", lambda: subprocess.run(
            [*tmux, "has-session"], capture_output=True, env=world.environment).returncode != 0)
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, env=world.environment)


def killed_agent_ends_the_cli_within_ten_seconds(world, aws):
    terminal = start_cli_shell(world, aws)
    world.agent.kill()
    world.agent.wait()
    start = time.monotonic()
    terminal.wait(deadline=10)
    print(f"      ended {time.monotonic() - start:.1f} s after the kill")
    world.agent = world.spawn(["ssm-agent", *world.agent_arguments])
    eventually("the agent is back",
               lambda: world.ssm.get_connection_status(Target=world.node)["Status"] == "connected")


def session_document(**members):
    return json.dumps({"schemaVersion": "1.0", "sessionType": "Standard_Stream", **members})


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


def idle_and_old_sessions_end_with_a_reason(world, aws):
    ssm = world.ssm
    documents = {"Story-Idle": {"idleSessionTimeout": "1"}, "Story-Old": {"maxSessionDuration": "1"}}
    for name, inputs in documents.items():
        ssm.create_document(Name=name, DocumentType="Session", Content=session_document(inputs=inputs))
    try:
        began = time.monotonic()
        terminals = {name: Terminal([aws, "ssm", "start-session", "--target", world.node, "--document-name", name,
                                     "--endpoint-url", world.url], world.environment) for name in documents}
        idle, old = terminals["Story-Idle"], terminals["Story-Old"]
        for terminal in terminals.values():
            terminal.expect(rb"[$#] ")
        # Output alone keeps no terminal alive.
        idle.send(b"while sleep 5; do echo busy; done\r")
        active = ssm.describe_sessions(State="Active")["Sessions"]
        check("1" in [session.get("MaxSessionDuration") for session in active], f"{active}")
        while time.monotonic() - began < 58:
            old.send(b"true\r")
            idle.read(0.5)
        idle.expect(rb"Your session timed out due to inactivity and has been terminated\.", deadline=15)
        old.expect(rb"Your session reached its maximum duration of 1 minute", deadline=15)
        took = time.monotonic() - began
        check(took < 70, f"{took:.0f} s")
        for terminal in terminals.values():
            terminal.wait()
        details = {session["DocumentName"]: session for session in eventually(
            "both are in the history", lambda: [
                session for session in ssm.describe_sessions(State="History")["Sessions"]
                if session["DocumentName"] in documents and session["Status"] == "Terminated"])}
        check("inactivity" in details["Story-Idle"]["Details"], f"{details}")
        check("maximum duration" in details["Story-Old"]["Details"], f"{details}")
    finally:
        for name in documents:
            ssm.delete_document(Name=name)


class Encryption:
    """Preferences that name a key of KMS, for as long as the block runs."""

    def __init__(self, world, key=None):
        self.ssm = world.ssm
        kms = boto3.client("kms", endpoint_url=world.aws_url, region_name="us-east-1", aws_access_key_id="any",
                           aws_secret_access_key="any")
        self.key = key or kms.create_key()["KeyMetadata"]["Arn"]

    def __enter__(self):
        self.ssm.create_document(Name="SSM-SessionManagerRunShell", DocumentType="Session",
                                 Content=session_document(inputs={"kmsKeyId": self.key}))

    def __exit__(self, *_):
        self.ssm.delete_document(Name="SSM-SessionManagerRunShell")


def encrypted_shell_works(world, aws):
    with Encryption(world):
        terminal = start_cli_shell(world, aws, rows=31, cols=97)
        check(b"This session is encrypted using AWS KMS." in terminal.seen, "the person is told")
        terminal.run("stty size", rb"[\r\n]31 97\r\n")
        terminal.resize(40, 120)
        eventually("the new size arrives",
                   lambda: re.search(rb"40 120\r\n", terminal.run("stty size", rb"\d+ \d+\r\n").string[-200:]))
        terminal.run("seq 1 20000 | md5sum; echo do''ne",
                     hashlib.md5(b"".join(b"%d\n" % n for n in range(1, 20001))).hexdigest().encode() + rb"  -\r\ndone")
        terminal.send(b"exit 5\r")
        check(terminal.wait() in (0, 5, 255), "exit")


def encrypted_commands_work(world, aws):
    with Encryption(world):
        for document in ["AWS-StartInteractiveCommand", "AWS-StartNonInteractiveCommand"]:
            terminal = Terminal([aws, "ssm", "start-session", "--target", world.node, "--endpoint-url", world.url,
                                 "--document-name", document, "--parameters", "command=expr 40 + 2"], world.environment)
            terminal.expect(rb"This session is encrypted using AWS KMS\.(.|\n)*42")
            terminal.wait()


def encrypted_session_shows_nothing_on_the_wire(world):
    """Our plugin by itself, as the AWS CLI starts it, so that its connection can be led through a relay."""
    host, port = world.plain_url.removeprefix("http://").split(":")
    plain = boto3.client("ssm", endpoint_url=world.plain_url, region_name="us-east-1",
                         aws_access_key_id=world.environment["AWS_ACCESS_KEY_ID"],
                         aws_secret_access_key=world.environment["AWS_SECRET_ACCESS_KEY"])

    def talk():
        relay = Relay((host, int(port)))
        started = plain.start_session(Target=world.node)
        response = {"SessionId": started["SessionId"], "TokenValue": started["TokenValue"],
                    "StreamUrl": started["StreamUrl"].replace(world.plain_url.removeprefix("http://"),
                                                              f"127.0.0.1:{relay.port}")}
        terminal = Terminal([world.program("session-manager-plugin"), json.dumps(response), "us-east-1", "StartSession",
                             "", json.dumps({"Target": world.node}), world.plain_url], world.environment)
        terminal.expect(rb"[$#] ")
        terminal.run("echo ho''pe-$((40+2))", rb"hope-42\r\n")
        terminal.send(b"exit\r")
        terminal.wait()
        relay.close()
        typed = b"".join(relay.payloads("up"))
        check(typed and relay.payloads("down"), "messages passed")
        return b"ho''pe" in typed, any(b"hope-42" in payload for payload in relay.payloads("down"))

    check(talk() == (True, True), "without a key, all is there to be read")
    with Encryption(world):
        check(talk() == (False, False), "what was typed or put out shows on the wire")


def key_that_kms_does_not_know_ends_the_session_with_its_reason(world, aws):
    with Encryption(world, key="00000000-0000-0000-0000-000000000000"):
        terminal = Terminal([aws, "ssm", "start-session", "--target", world.node, "--endpoint-url", world.url],
                            world.environment)
        terminal.expect(rb"Encountered error while initiating handshake\. KMSEncryption failed on client (.|\n)*NotFoundException")
        terminal.wait()
    eventually("no session is left", lambda: not world.ssm.describe_sessions(State="Active")["Sessions"])


API_STORIES = [boto3_sees_the_node_and_its_sessions, boto3_gets_errors_in_awss_shapes, boto3_pages_through_activations,
               boto3_writes_reads_and_deletes_documents, boto3_lists_the_documents_of_amazon_and_its_own,
               encrypted_session_shows_nothing_on_the_wire]
CLI_STORIES = [cli_manages_documents, preferences_of_the_account_reach_the_shell, encrypted_shell_works, encrypted_commands_work,
               key_that_kms_does_not_know_ends_the_session_with_its_reason,
               idle_and_old_sessions_end_with_a_reason, cli_shell_works, cli_paste_of_a_megabyte_loses_nothing, cli_recording_replays_byte_for_byte,
               cli_leaves_with_tilde_dot, vim_in_tmux_draws_and_follows_the_size,
               killed_agent_ends_the_cli_within_ten_seconds]


def main():
    clients = {"AWS CLI v1 (PyPI)": os.path.join(os.path.dirname(sys.executable), "aws")}
    if os.path.exists("/usr/bin/aws"):
        clients["AWS CLI v2 (Debian)"] = "/usr/bin/aws"
    stories = [(story.__name__, story, ()) for story in API_STORIES]
    stories += [(f"{story.__name__}, {name}", story, (path,)) for name, path in clients.items() for story in CLI_STORIES]
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    world = World()
    passed, failed = 0, 0
    try:
        world.start()
        world.start_agent()
        for name, story, arguments in stories:
            if only not in name:
                continue
            began = time.monotonic()
            try:
                story(world, *arguments)
                passed += 1
                print(f"ok    {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception as error:  # a story may fail in any way; the others still run
                failed += 1
                print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
    finally:
        world.end()
        if failed or passed == 0:
            with open(world.path("log"), "rb") as log:
                sys.stdout.write(log.read()[-20000:].decode("utf-8", "replace"))
        shutil.rmtree(world.root, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or passed == 0 else 0)


if __name__ == "__main__":
    main()
