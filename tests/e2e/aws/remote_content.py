"""Scripts and documents that are somewhere else: aws:downloadContent and aws:runDocument through boto3 and the
AWS CLI, with moto's S3, a Git repository behind git http-backend, and a web server."""

import base64
import contextlib
import http.server
import json
import os
import signal
import subprocess
import threading
import uuid

import boto3

from checks import check, error_code, eventually
from run_commands import PENDING, is_alive, send, status_of

REMOTE = "AWS-RunRemoteScript"
HELLO = b"#!/bin/sh\necho \"hello $* from $(basename \"$(pwd)\")\"\n"
NAME, PASSWORD = "reader", "se cret:$x"


def run(world, document, source, info, ended=True, **parameters):
    """Sends one of the documents that take a source; returns the command's id, once it is over."""
    values = {"sourceType": [source], "sourceInfo": [json.dumps(info)], **{name: [value] for name, value in parameters.items()}}
    command = send(world, document=document, parameters=values)
    if ended:
        wait(world, command)
    return command


def wait(world, command):
    eventually("the command is over", lambda: status_of(world, command) not in PENDING)


def step(world, command, name):
    """What became of a step: status, output, error output."""
    found = world.ssm.get_command_invocation(CommandId=command, InstanceId=world.node, PluginName=name)
    return found["Status"], found["StandardOutputContent"], found["StandardErrorContent"]


def succeeds(world, command, output):
    """The command ran its script, which said this."""
    downloaded, ran = step(world, command, "downloadContent"), step(world, command, "runShellScript")
    check(status_of(world, command) == "Success", f"{downloaded} {ran}")
    check(downloaded[1].startswith("Content downloaded to /"), f"{downloaded}")
    check(ran == ("Success", output, ""), f"{ran}")


def fails(world, command, text):
    """The command failed since its content is not there, for this reason."""
    downloaded = step(world, command, "downloadContent")
    check(downloaded[0] == "Failed" and text in downloaded[2], f"{downloaded}")
    check(status_of(world, command) == "Failed", "the command failed")


def orchestration(world, command, *path):
    return os.path.join(world.path("agent"), world.node, "document/orchestration", command, *path)


@contextlib.contextmanager
def bucket(world, **objects):
    """A bucket with these objects; their names have two underscores for each slash."""
    s3 = boto3.client("s3", endpoint_url=world.aws_url, region_name="us-east-1", aws_access_key_id="any",
                      aws_secret_access_key="any")
    name = f"content-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name)
    for key, body in objects.items():
        s3.put_object(Bucket=name, Key=key.replace("__", "/") + ".sh", Body=body)
    yield name


def remote_script_comes_from_s3(world):
    with bucket(world, scripts__hello=HELLO, scripts__lib__other=b"echo other\n", scriptsandmore=b"") as name:
        for host in (f"https://s3.us-east-1.amazonaws.com/{name}", f"https://{name}.s3.amazonaws.com", f"{world.aws_url}/{name}"):
            command = run(world, REMOTE, "S3", {"path": f"{host}/scripts/hello.sh"}, commandLine="hello.sh one two")
            succeeds(world, command, "hello one two from downloads\n")
        command = run(world, REMOTE, "S3", {"path": f"https://s3.amazonaws.com/{name}/scripts/"},
                      commandLine="sh lib/other.sh && hello.sh", workingDirectory="work")
        succeeds(world, command, "other\nhello  from work\n")
        folder = orchestration(world, command, "downloads/work")
        modes = {path: os.stat(os.path.join(folder, path)).st_mode & 0o777 for path in (".", "lib", "lib/other.sh", "hello.sh")}
        check(set(modes.values()) == {0o700}, f"{modes}")
        check(sorted(os.listdir(folder)) == ["hello.sh", "lib"], f"{os.listdir(folder)}")
        place = world.path("absolute/")
        command = run(world, REMOTE, "S3", {"path": f"https://s3.amazonaws.com/{name}/scripts/hello.sh"},
                      commandLine="./hello.sh", workingDirectory=place)
        succeeds(world, command, "hello  from absolute\n")
        check(os.listdir(place) == ["hello.sh"], f"{os.listdir(place)}")
        for path, text in [(f"https://s3.amazonaws.com/{name}/scripts/none.sh", "NoSuchKey"),
                           ("https://s3.amazonaws.com/no-such-bucket-anywhere/x", "NoSuchBucket"),
                           ("https://example.com/x", "invalid S3 path parameter")]:
            fails(world, run(world, REMOTE, "S3", {"path": path}, commandLine="true"), text)


def large_content_from_s3_is_whole(world):
    body = os.urandom(1 << 20) * 48
    with bucket(world, large=body) as name:
        command = run(world, REMOTE, "S3", {"path": f"https://s3.amazonaws.com/{name}/large.sh"}, commandLine="wc -c <large.sh")
        succeeds(world, command, f"{len(body)}\n")
        with open(orchestration(world, command, "downloads/large.sh"), "rb") as file:
            check(file.read() == body, "every byte")


class Server(http.server.ThreadingHTTPServer):
    """Serves files and, below /git/, repositories, to who has the password."""

    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.protected = False
        # Answers wait for it.
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.url = "http://127.0.0.1:%d" % self.server_address[1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.waiting.set()
        self.server.gate.wait(60)
        expected = "Basic " + base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
        if self.server.protected and self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="content"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/git/"):
            self.serve_repository()
        else:
            self.serve_file()

    do_POST = do_GET

    def serve_file(self):
        try:
            with open(os.path.join(self.server.root, self.path.lstrip("/")), "rb") as file:
                body, status = file.read(), 200
        except OSError:
            body, status = b"", 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve_repository(self):
        path, _, query = self.path.removeprefix("/git").partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        environment = {**os.environ, "GIT_PROJECT_ROOT": os.path.join(self.server.root, "git"), "GIT_HTTP_EXPORT_ALL": "1",
                       "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                       "CONTENT_TYPE": self.headers.get("Content-Type") or "", "CONTENT_LENGTH": str(length),
                       "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                       "GIT_PROTOCOL": self.headers.get("Git-Protocol") or ""}
        answer = subprocess.run(["git", "http-backend"], input=self.rfile.read(length), capture_output=True, env=environment)
        head, _, body = answer.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def web(world):
    """A server of files, and of the bare repository git/a.git: `hello.sh` on main, another one on `other`."""
    root = world.path(f"web-{uuid.uuid4()}")
    tree, bare = os.path.join(root, "tree"), os.path.join(root, "git/a.git")
    os.makedirs(tree)
    git(world, "init", "-q", "--bare", "-b", "main", bare)
    git(world, "init", "-q", "-b", "main", tree)
    write(os.path.join(tree, "hello.sh"), HELLO)
    first = commit(world, tree, bare, "main")
    write(os.path.join(tree, "hello.sh"), b"echo other\n")
    commit(world, tree, bare, "other")
    write(os.path.join(root, "hello.sh"), HELLO)
    server = Server(root)
    server.tree, server.bare, server.first = tree, bare, first
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def git(world, *arguments):
    environment = {**os.environ, "HOME": world.root, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], capture_output=True, env=environment)
    check(done.returncode == 0, f"{arguments}: {done.stderr}")
    return done.stdout.decode().strip()


def commit(world, tree, bare, branch):
    """Commits what is there and pushes it; returns the commit."""
    author = ["-c", "user.name=story", "-c", "user.email=story@localhost"]
    git(world, "-C", tree, "add", "-A")
    git(world, "-C", tree, *author, "commit", "-q", "-m", branch)
    git(world, "-C", tree, "push", "-q", bare, f"HEAD:refs/heads/{branch}")
    return git(world, "-C", tree, "rev-parse", "HEAD")


def remote_script_comes_from_git(world):
    with web(world) as server:
        server.protected = True
        info = {"repository": f"{server.url}/git/a.git", "username": NAME, "password": PASSWORD}
        for options, output in [({}, "hello x from downloads\n"), ({"getOptions": "branch:other"}, "other\n"),
                                ({"getOptions": f"commitID:{server.first}"}, "hello x from downloads\n")]:
            command = run(world, REMOTE, "Git", {**info, **options}, commandLine="hello.sh x")
            succeeds(world, command, output)
        kept = subprocess.run(["grep", "-rlF", PASSWORD, orchestration(world, command)], capture_output=True).stdout
        check(not kept, f"the password is in {kept}")
        check(sorted(os.listdir(orchestration(world, command, "downloads"))) == [".git", "hello.sh"], "the repository is there")
        fails(world, run(world, REMOTE, "Git", {**info, "password": "wrong"}, commandLine="true"), "Cannot clone repository")
        fails(world, run(world, REMOTE, "Git", {**info, "getOptions": "branch:none"}, commandLine="true"), "Cannot checkout: ")
        os.symlink("../../../../outside", os.path.join(server.tree, "link"))
        commit(world, server.tree, server.bare, "links")
        fails(world, run(world, REMOTE, "Git", {**info, "getOptions": "branch:links"}, commandLine="true"),
              "link is a symbolic link that leads out of the repository")
        gone = server.url
    refused = run(world, REMOTE, "Git", {"repository": f"{gone}/git/a.git"}, commandLine="true")
    fails(world, refused, f"Cannot clone repository {gone}/git/a.git: fatal: unable to access")


def remote_script_comes_over_http(world):
    with web(world) as server:
        info = {"url": f"{server.url}/hello.sh", "allowInsecureDownload": True}
        command = run(world, REMOTE, "HTTP", info, commandLine="sh download* y")
        succeeds(world, command, "hello y from downloads\n")
        server.protected = True
        known = {**info, "authMethod": "Basic", "username": NAME, "password": PASSWORD}
        succeeds(world, run(world, REMOTE, "HTTP", known, commandLine="sh download*"), "hello  from downloads\n")
        fails(world, run(world, REMOTE, "HTTP", info, commandLine="true"), "Failed to download file: Status: 401 Unauthorized")
        fails(world, run(world, REMOTE, "HTTP", {"url": info["url"]}, commandLine="true"), "insecure download is not allowed")
        world.ssm.put_parameter(Name="story-plain", Value=PASSWORD, Type="String")
        try:
            stored = {**known, "password": "{{ssm:story-plain}}"}
            succeeds(world, run(world, REMOTE, "HTTP", stored, commandLine="sh download*"), "hello  from downloads\n")
            secure = {**known, "password": "{{ssm-secure:story-plain}}"}
            fails(world, run(world, REMOTE, "HTTP", secure, commandLine="true"), "ssm-secure: refers to a parameter of type String")
        finally:
            world.ssm.delete_parameter(Name="story-plain")
        world.ssm.put_parameter(Name="story-secret", Value=PASSWORD, Type="SecureString")
        try:
            stored = {**known, "password": "{{ssm-secure:story-secret}}"}
            command = run(world, REMOTE, "HTTP", stored, commandLine="sh download*")
            succeeds(world, command, "hello  from downloads\n")
            kept = subprocess.run(["grep", "-rlF", PASSWORD, world.path("agent")], capture_output=True).stdout
            check(not kept, f"the password is in {kept}")
        finally:
            world.ssm.delete_parameter(Name="story-secret")
    fails(world, run(world, REMOTE, "HTTP", info, commandLine="true"), "Failed to download file: Cannot execute request")
    refused = error_code(world.ssm.send_command, InstanceIds=[world.node], DocumentName=REMOTE,
                         Parameters={"sourceType": ["FTP"], "sourceInfo": ["{}"], "commandLine": ["true"]})
    check(refused == "InvalidParameters", f"{refused}")


@contextlib.contextmanager
def documents(world, **contents):
    """Documents of type Command, named Story-…, for as long as the block runs."""
    for name, content in contents.items():
        kind = "YAML" if isinstance(content, str) else "JSON"
        text = content if kind == "YAML" else json.dumps(content)
        world.ssm.create_document(Name=f"Story-{name}", DocumentType="Command", DocumentFormat=kind, Content=text)
    try:
        yield
    finally:
        for name in contents:
            world.ssm.delete_document(Name=f"Story-{name}")


def inner(name, path, parameters=None, kind="SSMDocument"):
    inputs = {"documentType": kind, "documentPath": path, **({"documentParameters": parameters} if parameters else {})}
    return {"action": "aws:runDocument", "name": name, "inputs": inputs}


def script(name, *lines):
    return {"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": list(lines)}}


def document(*steps, **parameters):
    return {"schemaVersion": "2.2", "parameters": parameters, "mainSteps": list(steps)}


YAML = """---
schemaVersion: "2.2"
parameters:
  word: {type: String, allowedValues: [one, two], default: one}
mainSteps:
- action: aws:runShellScript
  name: say
  inputs:
    runCommand: ["echo {{ word }}"]
- action: aws:runDocument
  name: shell
  inputs:
    documentType: SSMDocument
    documentPath: AWS-RunShellScript
    documentParameters: '{"commands": ["echo deep; exit 4"]}'
"""


def documents_run_documents(world):
    """Three of them within each other, in JSON and YAML; a cycle ends, and rules of parameters hold."""
    outer = document(inner("first", "Story-Inner", {"word": "{{ word }}"}), script("last", "echo last"), word={"type": "String"})
    cycle = document(script("turn", "echo turn"), inner("again", "Story-Cycle"))
    with documents(world, Inner=YAML, Outer=outer, Cycle=cycle):
        command = send(world, document="Story-Outer", parameters={"word": ["two"]})
        wait(world, command)
        first = step(world, command, "first")
        check(first == ("Failed", "two\n\ndeep\n", "failed to run commands: exit status 4"), f"{first}")
        check(step(world, command, "last") == ("Success", "last\n", ""), "the next step ran")
        check(status_of(world, command) == "Failed", "a step failed")
        for path in ("first/say/_script.sh", "first/awsrunShellScript/say/stdout", "first/downloads/Story-Inner.json",
                     "first/shell/awsrunShellScript/0.awsrunShellScript/_script.sh", "awsrunDocument/first/stdout"):
            check(os.path.exists(orchestration(world, command, path)), f"{path} is missing")
        command = send(world, document="Story-Outer", parameters={"word": ["three"]})
        wait(world, command)
        refused = step(world, command, "first")
        check(refused[0] == "Failed" and "parameter value /three/ is not in the allowed list [one two]" in refused[2], f"{refused}")
        command = send(world, document="Story-Cycle")
        wait(world, command)
        turned = step(world, command, "again")
        check(turned[1] == "turn\n\nturn\n\nturn\n", f"{turned}")
        check(turned[2].endswith("Maximum depth permitted - 3 and current depth - 4"), f"{turned}")
        sent = run(world, "AWS-RunDocument", "SSMDocument", {"name": "Story-Inner:1"}, documentParameters='{"word": "two"}')
        ran = step(world, sent, "runDocument")
        check(ran == ("Failed", "two\n\ndeep\n", "failed to run commands: exit status 4"), f"{ran}")
        missing = run(world, "AWS-RunDocument", "SSMDocument", {"name": "Story-None"})
        fails(world, missing, "InvalidDocument")
        with bucket(world, doc=YAML.encode()) as name:
            sent = run(world, "AWS-RunDocument", "S3", {"path": f"https://s3.amazonaws.com/{name}/doc.sh"})
            check(step(world, sent, "runDocument")[1] == "one\n\ndeep\n", "a document from S3")


def commands_with_content_survive_the_death_of_the_agent_once(world):
    """It is killed while git clones, and while a script of a document in a document runs."""
    with web(world) as server:
        server.gate.clear()
        server.waiting.clear()
        info = {"repository": f"{server.url}/git/a.git"}
        command = run(world, REMOTE, "Git", info, ended=False, commandLine="hello.sh; echo ran >>" + world.path("remote-proof"))
        check(server.waiting.wait(30), "git asks")
        kill_agent(world)
        server.gate.set()
        world.start_agent_again()
        wait(world, command)
        succeeds(world, command, "hello  from downloads\n")
        check(read(world.path("remote-proof")) == "ran\n", "it ran once")
        check(not os.path.exists(orchestration(world, command, "downloadContent/git")), "no clone is left")
    proof, gate = world.path("nested-proof"), world.path("nested-gate")
    deep = document(script("a", f"echo a >>{proof}"),
                    script("b", f"echo b >>{proof}", f"while [ ! -e {gate} ]; do sleep 0.1; done", "echo done"))
    with documents(world, Deep=deep, Middle=document(inner("deep", "Story-Deep")),
                   Top=document(inner("middle", "Story-Middle"), script("c", f"echo c >>{proof}"))):
        command = send(world, document="Story-Top")
        for _ in range(2):
            eventually("it runs", lambda: read(proof) == "a\nb\n")
            kill_agent(world)
            world.start_agent_again()
        write(gate, b"")
        wait(world, command)
        check(step(world, command, "middle") == ("Success", "done\n", ""), f"{step(world, command, 'middle')}")
        check(read(proof) == "a\nb\nc\n", f"{read(proof)!r}: each step once")
        check(status_of(world, command) == "Success", "the command")


def cancelled_command_ends_the_documents_within_it(world):
    proof = world.path("nested.pid")
    with documents(world, Long=document(script("long", f"setsid sleep 300 & echo $! >{proof}", "sleep 300")),
                   Around=document(inner("within", "Story-Long"), script("after", "echo never"))):
        command = send(world, document="Story-Around")
        eventually("it runs", lambda: read(proof).endswith("\n"))
        world.ssm.cancel_command(CommandId=command)
        wait(world, command)
        check(status_of(world, command) == "Cancelled", "it is cancelled")
        check(step(world, command, "within")[0] == step(world, command, "after")[0] == "Cancelled", "and so are its steps")
        pid = int(read(proof))
        eventually("what it started is gone", lambda: not is_alive(pid))


def kill_agent(world):
    world.agent.send_signal(signal.SIGKILL)
    world.agent.wait()


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def cli_runs_remote_scripts_and_documents(world, aws):
    """What people type."""
    def call(*arguments):
        status, output, errors = world.run([aws, "ssm", *arguments, "--endpoint-url", world.url, "--output", "json"])
        check(status == 0, f"{arguments}: {status} {errors}")
        return json.loads(output)
    with bucket(world, hello=HELLO) as name:
        path = json.dumps({"path": f"https://{name}.s3.us-east-1.amazonaws.com/hello.sh"})
        parameters = {"sourceType": ["S3"], "sourceInfo": [path], "commandLine": ["hello.sh 'a b'"]}
        sent = call("send-command", "--instance-ids", world.node, "--document-name", REMOTE, "--parameters", json.dumps(parameters))
        command = sent["Command"]["CommandId"]
        wait(world, command)
        found = call("get-command-invocation", "--command-id", command, "--instance-id", world.node, "--plugin-name", "runShellScript")
        check(found["StandardOutputContent"] == "hello a b from downloads\n", f"{found}")
    parameters = {"sourceType": ["SSMDocument"], "sourceInfo": ['{"name":"AWS-RunShellScript"}'],
                  "documentParameters": ['{"commands":["echo from a document"]}']}
    sent = call("send-command", "--instance-ids", world.node, "--document-name", "AWS-RunDocument", "--parameters", json.dumps(parameters))
    wait(world, sent["Command"]["CommandId"])
    listed = call("list-command-invocations", "--command-id", sent["Command"]["CommandId"], "--details")["CommandInvocations"][0]
    outputs = {plugin["Name"]: plugin["Output"] for plugin in listed["CommandPlugins"]}
    check(outputs["runDocument"] == "from a document\n", f"{outputs}")
