"""Run Command through boto3 and the AWS CLI: sent, delivered, run, reported, cancelled."""

import json
import os
import signal
import time
import uuid

import boto3

from checks import Failure, check, error_code, eventually
from command_table import TABLE
from command_table_more import MORE, STORED

SHELL = "AWS-RunShellScript"
PENDING = ("Pending", "InProgress", "Cancelling")


def send(world, *lines, document=SHELL, parameters=None, **arguments):
    """Sends a script to the node, or a document; returns the command's id."""
    if document == SHELL:
        parameters = {"commands": list(lines), **(parameters or {})}
    arguments.setdefault("InstanceIds", [world.node])
    sent = world.ssm.send_command(DocumentName=document, Parameters=parameters or {}, **arguments)
    return sent["Command"]["CommandId"]


def result(world, command, **arguments):
    """What became of a command once it is over."""
    def over():
        found = world.ssm.get_command_invocation(CommandId=command, InstanceId=world.node, **arguments)
        return found if found["Status"] not in PENDING else None
    return eventually("the command is over", over)


def status_of(world, command):
    return world.ssm.list_commands(CommandId=command)["Commands"][0]["Status"]


def boto3_runs_commands_and_gets_their_streams(world):
    command = send(world, "echo out", "echo err >&2", "exit 3", Comment="a story")
    found = result(world, command)
    check((found["Status"], found["StatusDetails"], found["ResponseCode"]) == ("Failed", "Failed", 3), f"{found}")
    check(found["StandardOutputContent"] == "out\n", f"{found}")
    check(found["StandardErrorContent"] == "err\nfailed to run commands: exit status 3", f"{found}")
    check(found["PluginName"] == "aws:runShellScript" and found["Comment"] == "a story", f"{found}")
    check(found["ExecutionElapsedTime"].startswith("PT"), f"{found}")
    listed = world.ssm.list_commands(CommandId=command)["Commands"][0]
    counts = [listed[name] for name in ("TargetCount", "CompletedCount", "ErrorCount", "DeliveryTimedOutCount")]
    check(listed["Status"] == "Failed" and counts == [1, 1, 1, 0], f"{listed}")
    check(listed["Parameters"]["commands"] == ["echo out", "echo err >&2", "exit 3"], f"{listed}")
    detailed = world.ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"][0]
    plugin = detailed["CommandPlugins"][0]
    check(plugin["Output"] == "out\n\n----------ERROR-------\nerr\nfailed to run commands: exit status 3", f"{plugin}")
    check((plugin["ResponseCode"], plugin["Status"]) == (3, "Failed"), f"{plugin}")
    check(detailed["InstanceName"] == "story", f"{detailed}")


def boto3_waits_for_a_command(world):
    command = send(world, "sleep 0.3; echo done")
    waiter = world.ssm.get_waiter("command_executed")
    waiter.wait(CommandId=command, InstanceId=world.node, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    check(result(world, command)["StandardOutputContent"] == "done\n", "its output")


def parameters_reach_the_script_as_they_are(world):
    nasty = ["single ' double \" back ` dollar $HOME $(id) $$", "new\nline", "{{ workingDirectory }}", "tab\t\\n", "\u00e4\u20ac"]
    for text in nasty:
        # The shell reads what a heredoc with a quoted end has in it as it is.
        command = send(world, "cat <<'NOBODY WRITES THIS'\n" + text + "\nNOBODY WRITES THIS")
        found = result(world, command)
        check(found["StandardOutputContent"] == text + "\n", f"{text!r}: {found}")
    command = send(world, "pwd", parameters={"workingDirectory": ["/tmp"]})
    check(result(world, command)["StandardOutputContent"] == "/tmp\n", "the working directory")


def documents_of_ones_own_run_step_by_step(world):
    ssm = world.ssm
    content = {
        "schemaVersion": "2.2",
        "parameters": {"word": {"type": "String", "allowedPattern": "^[a-z]+$", "default": "default"}},
        "mainSteps": [
            {"action": "aws:runShellScript", "name": "first", "inputs": {"runCommand": ["echo {{ word }}; exit 1"]}},
            {"action": "aws:runShellScript", "name": "windows", "inputs": {"runCommand": ["never"]},
             "precondition": {"StringEquals": ["platformType", "Windows"]}},
            {"action": "aws:runShellScript", "name": "last", "inputs": {"runCommand": ["echo last"]}},
        ]}
    ssm.create_document(Name="Story-Steps", DocumentType="Command", Content=json.dumps(content))
    try:
        command = send(world, document="Story-Steps", parameters={"word": ["hello"]})
        eventually("the command is over", lambda: status_of(world, command) not in PENDING)
        check(status_of(world, command) == "Failed", "a step failed")
        check(error_code(ssm.get_command_invocation, CommandId=command, InstanceId=world.node) == "InvalidPluginName",
              "there are several steps")
        for name, status, output in [("first", "Failed", "hello\n"), ("windows", "Success", ""),
                                     ("last", "Success", "last\n")]:
            found = ssm.get_command_invocation(CommandId=command, InstanceId=world.node, PluginName=name)
            check((found["Status"], found["StandardOutputContent"]) == (status, output), f"{found}")
        for parameters, code in [({"word": ["two words"]}, "InvalidParameters"), ({"other": ["x"]}, "InvalidParameters")]:
            refused = error_code(ssm.send_command, InstanceIds=[world.node], DocumentName="Story-Steps",
                                 Parameters=parameters)
            check(refused == code, f"{parameters}: {refused}")
    finally:
        ssm.delete_document(Name="Story-Steps")


def documents_end_as_the_table_says(world):
    for name, value, kind in STORED:
        world.ssm.put_parameter(Name=name, Value=value, Type=kind)
    try:
        wrong = [text for entry in TABLE + MORE for text in differences(world, *entry)]
    finally:
        world.ssm.delete_parameters(Names=[name for name, _, _ in STORED])
    check(not wrong, "\n".join(wrong))


def differences(world, name, content, parameters, status, steps, _reference=None):
    """Runs a document of the table; returns where it ends otherwise."""
    ssm = world.ssm
    ssm.create_document(Name="Story-Table", DocumentType="Command", Content=json.dumps(content))
    try:
        command = send(world, document="Story-Table", parameters=parameters)
        eventually("the command is over", lambda: status_of(world, command) not in PENDING)
        invocation = ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"][0]
        plugins = {plugin["Name"]: plugin for plugin in invocation["CommandPlugins"]}
        seen = [("status", status, invocation["Status"])]
        for step, (wanted, code, out, err, *short) in steps.items():
            plugin = plugins.get(step)
            if not plugin:
                raise Failure(f"{name}: step {step} was not reported")
            streams = ssm.get_command_invocation(CommandId=command, InstanceId=world.node, PluginName=step)
            got = "Skipped" if plugin["StatusDetails"] == "Skipped" else plugin["Status"]
            seen += [(f"{step} status", wanted, got), (f"{step} code", code, plugin["ResponseCode"]),
                     (f"{step} output", out, streams["StandardOutputContent"]),
                     (f"{step} errors", err if callable(err) else err[:8000], streams["StandardErrorContent"])]
            if short:
                seen.append((f"{step} short output", short[0], plugin["Output"]))
    finally:
        ssm.delete_document(Name="Story-Table")
    return [f"{name}: {what} is {got!r:.200} and not {wanted!r:.200}" for what, wanted, got in seen
            if not (wanted(got) if callable(wanted) else got == wanted)]


def refused_commands_have_awss_error_codes(world):
    ssm = world.ssm
    base = {"InstanceIds": [world.node], "DocumentName": SHELL, "Parameters": {"commands": ["true"]}}
    for changes, code in [
            ({"DocumentName": "No-Such-Document"}, "InvalidDocument"),
            ({"DocumentName": "AWS-StartSSHSession", "Parameters": {}}, "InvalidDocument"),
            ({"DocumentVersion": "7"}, "InvalidDocumentVersion"),
            ({"Parameters": {}}, "InvalidParameters"),
            ({"Parameters": {"commands": ["true"], "executionTimeout": ["soon"]}}, "InvalidParameters"),
            ({"InstanceIds": ["mi-00000000000000000"]}, "InvalidInstanceId"),
            ({"InstanceIds": [world.node, world.node]}, "DuplicateInstanceId"),
            ({"DocumentHash": "0" * 64}, "InvalidDocument"),
            ({"Targets": [{"Key": "tag:a", "Values": ["b"]}]}, "ValidationException"),
            ({"OutputS3BucketName": "bkt", "OutputS3KeyPrefix": "a/../b"}, "InvalidOutputFolder")]:
        refused = error_code(ssm.send_command, **{**base, **changes})
        check(refused == code, f"{changes}: {refused}")
    unknown = "01234567-89ab-4cde-8f01-23456789abcd"
    check(error_code(ssm.get_command_invocation, CommandId=unknown, InstanceId=world.node) == "InvocationDoesNotExist",
          "no such command")
    check(error_code(ssm.cancel_command, CommandId=unknown) == "InvalidCommandId", "nothing to cancel")


def commands_go_to_nodes_by_tag(world):
    ssm = world.ssm
    node = {"ResourceType": "ManagedInstance", "ResourceId": world.node}
    ssm.add_tags_to_resource(**node, Tags=[{"Key": "role", "Value": "web"}, {"Key": "team", "Value": "a"}])
    try:
        tags = {tag["Key"]: tag["Value"] for tag in ssm.list_tags_for_resource(**node)["TagList"]}
        check(tags["role"] == "web", f"{tags}")
        for key, value, count in [("tag:role", "web", 1), ("tag:role", "db", 0), ("tag-key", "team", 1)]:
            sent = ssm.send_command(Targets=[{"Key": key, "Values": [value]}], DocumentName=SHELL,
                                    Parameters={"commands": ["true"]}, MaxConcurrency="50%", MaxErrors="1")["Command"]
            check(sent["TargetCount"] == count, f"{key} {value}: {sent}")
            if count:
                check(result(world, sent["CommandId"])["Status"] == "Success", f"{key}")
            else:
                check(ssm.list_commands(CommandId=sent["CommandId"])["Commands"][0]["StatusDetails"] == "NoInstancesInTag",
                      "nobody has the tag")
    finally:
        ssm.remove_tags_from_resource(**node, TagKeys=["role", "team"])
    check("role" not in {tag["Key"] for tag in ssm.list_tags_for_resource(**node)["TagList"]}, "the tag is gone")


def cancelled_command_ends_with_everything_it_started(world):
    proof = world.path("cancelled.pid")
    command = send(world, "setsid sleep 300 & echo $! > " + proof, "sleep 300")
    eventually("it runs", lambda: os.path.exists(proof) and open(proof).read().strip())
    world.ssm.cancel_command(CommandId=command)
    found = result(world, command)
    check(found["Status"] == "Cancelled", f"{found}")
    check(status_of(world, command) == "Cancelled", "the command")
    pid = int(open(proof).read())
    eventually("what it started is gone", lambda: not is_alive(pid))


def late_command_is_timed_out(world):
    command = send(world, "echo began", "sleep 300", parameters={"executionTimeout": ["5"]})
    found = result(world, command)
    check((found["Status"], found["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut"), f"{found}")
    check(found["StandardOutputContent"] == "began\n" and found["ResponseCode"] == 137, f"{found}")


def commands_survive_the_death_of_the_agent_once(world):
    """The agent is killed while a script runs; the next one reports it."""
    proof = world.path("survivor")
    command = send(world, f"echo x >> {proof}", "sleep 3", "echo after")
    eventually("it runs", lambda: os.path.exists(proof))
    world.agent.send_signal(signal.SIGKILL)
    world.agent.wait()
    waiting = send(world, "echo later")
    check(world.ssm.get_command_invocation(CommandId=waiting, InstanceId=world.node)["Status"] == "Pending", "nobody is there")
    world.start_agent_again()
    found = result(world, command)
    check((found["Status"], found["StandardOutputContent"]) == ("Success", "after\n"), f"{found}")
    check(open(proof).read() == "x\n", "it ran once")
    check(result(world, waiting)["StandardOutputContent"] == "later\n", "it was delivered later")


def long_output_is_cut_in_the_reply_and_whole_on_disk(world):
    began = time.monotonic()
    command = send(world, "head -c 10000000 /dev/zero | tr '\\0' x")
    found = result(world, command)
    took = time.monotonic() - began
    text = found["StandardOutputContent"]
    check(len(text) == 24000 and text.endswith("x--output truncated--"), f"{len(text)} {text[-40:]}")
    check(took < 10, f"it took {took} s")
    path = os.path.join(world.path("agent"), world.node, "document/orchestration", command, "awsrunShellScript",
                        "0.awsrunShellScript/stdout")
    check(os.path.getsize(path) == 10_000_000, "the whole output")


def parameters_are_kept_and_reach_scripts(world):
    ssm = world.ssm
    for name, value, kind in [("/story/word", "it's $HOME", "String"), ("/story/list", "a,b", "StringList"),
                              ("/story/deep/down", "x", "String"), ("plain", "1", "String")]:
        check(ssm.put_parameter(Name=name, Value=value, Type=kind)["Version"] == 1, name)
    try:
        check(error_code(ssm.put_parameter, Name="plain", Value="2", Type="String") == "ParameterAlreadyExists", "no overwrite")
        check(ssm.put_parameter(Name="plain", Value="2", Overwrite=True)["Version"] == 2, "the second version")
        check(ssm.get_parameter(Name="plain:1")["Parameter"]["Value"] == "1", "the first version")
        check(error_code(ssm.get_parameter, Name="other") == "ParameterNotFound", "no such parameter")
        check(error_code(ssm.put_parameter, Name="odd", Value="x", Type="String", AllowedPattern="^[0-9]$")
              == "ParameterPatternMismatchException", "the pattern")
        for recursive, names in [(False, ["/story/list", "/story/word"]),
                                 (True, ["/story/deep/down", "/story/list", "/story/word"])]:
            pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/story", Recursive=recursive,
                                                                         PaginationConfig={"PageSize": 2})
            check([found["Name"] for page in pages for found in page["Parameters"]] == names, f"{recursive}")
        listed = ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Option": "BeginsWith", "Values": ["/story"]}])
        check(len(listed["Parameters"]) == 3, f"{listed}")
        got = ssm.get_parameters(Names=["plain", "nobody"])
        check([found["Value"] for found in got["Parameters"]] == ["2"] and got["InvalidParameters"] == ["nobody"], f"{got}")
        command = send(world, "cat <<'END'", "{{ssm:/story/word}} {{ ssm:plain:1 }}", "END")
        check(result(world, command)["StandardOutputContent"] == "it's $HOME 1\n", "the values are put in")
        refused = result(world, send(world, "echo {{ssm:nobody}}"))
        check(refused["Status"] == "Failed" and "nobody" in refused["StandardErrorContent"], f"{refused}")
    finally:
        ssm.delete_parameters(Names=["/story/word", "/story/list", "/story/deep/down", "plain"])
    check(error_code(ssm.delete_parameter, Name="plain") == "ParameterNotFound", "it is gone")


def secure_strings_are_shown_to_who_asks_for_decryption_and_never_to_scripts(world):
    ssm = world.ssm
    secret, name = "s3cr3t of the story", "/secure/one"
    check(error_code(ssm.put_parameter, Name=name, Value="x", Type="SecureString", KeyId="alias/mine") == "InvalidKeyId",
          "there is one key")
    check(ssm.put_parameter(Name=name, Value=secret, Type="SecureString", KeyId="alias/aws/ssm")["Version"] == 1, name)
    try:
        check(error_code(ssm.put_parameter, Name=name, Value="x", Type="String", Overwrite=True) == "HierarchyTypeMismatch",
              "its type stays")
        kept = ssm.get_parameter(Name=name)["Parameter"]
        check(kept["Type"] == "SecureString" and secret not in kept["Value"], f"{kept}")
        check(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == secret, "one")
        check(ssm.get_parameters(Names=[name], WithDecryption=True)["Parameters"][0]["Value"] == secret, "several")
        check(ssm.get_parameters_by_path(Path="/secure", WithDecryption=True)["Parameters"][0]["Value"] == secret, "by path")
        check(ssm.describe_parameters(ParameterFilters=[{"Key": "KeyId", "Values": ["alias/aws/ssm"]}])["Parameters"][0]["KeyId"]
              == "alias/aws/ssm", "its key")
        for file in ("gateway.db", "gateway.db-wal"):
            path = os.path.join(world.path("gateway"), file)
            check(not os.path.exists(path) or secret.encode() not in open(path, "rb").read(), f"it is in {file}")
        refused = result(world, send(world, "echo {{ssm:%s}}" % name))
        check(refused["Status"] == "Failed"
              and f"Parameters [{name}] of type SecureString are not supported" in refused["StandardErrorContent"], f"{refused}")
        start_again = world.kill_gateway()
        start_again()
        check(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == secret, "after a restart")
        eventually("the agent is back", lambda: ssm.get_connection_status(Target=world.node)["Status"] == "connected")
    finally:
        ssm.delete_parameter(Name=name)


def commands_survive_the_death_of_the_gateway(world):
    """It is killed while scripts run and one waits; its successor knows of all of them."""
    running = [send(world, f"sleep 1; echo {number}") for number in range(5)]
    waiting = send(world, "echo waited")
    eventually("they run", lambda: status_of(world, running[0]) == "InProgress")
    start_again = world.kill_gateway()
    time.sleep(1.5)
    start_again()
    eventually("the agent is back", lambda: world.ssm.get_connection_status(Target=world.node)["Status"] == "connected")
    outputs = [result(world, command)["StandardOutputContent"] for command in [*running, waiting]]
    check(outputs == ["0\n", "1\n", "2\n", "3\n", "4\n", "waited\n"], f"{outputs}")


def output_goes_to_s3_and_cloudwatch_logs(world):
    def client(service):
        return boto3.client(service, endpoint_url=world.aws_url, region_name="us-east-1", aws_access_key_id="any",
                            aws_secret_access_key="any")
    s3, logs = client("s3"), client("logs")
    bucket, group = f"output-{uuid.uuid4()}", f"/output/{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    arguments = {"OutputS3BucketName": bucket, "OutputS3KeyPrefix": "pre/fix", "OutputS3Region": "us-east-1",
                 "CloudWatchOutputConfig": {"CloudWatchLogGroupName": group, "CloudWatchOutputEnabled": True}}
    command = send(world, "seq 3000000; echo oh >&2", **arguments)
    found = result(world, command)
    check(found["Status"] == "Success", f"{found}")
    whole = b"".join(b"%d\n" % number for number in range(1, 3000001))
    place = f"pre/fix/{command}/{world.node}/awsrunShellScript/0.awsrunShellScript"
    stored = s3.get_object(Bucket=bucket, Key=f"{place}/stdout")
    check(stored["Body"].read() == whole and stored["ContentType"] == "text/plain", "23 MB, in several parts")
    check(s3.get_object(Bucket=bucket, Key=f"{place}/stderr")["Body"].read() == b"oh\n", "the error output")
    check(found["StandardOutputUrl"] == f"https://s3.us-east-1.amazonaws.com/{bucket}/{place}/stdout", f"{found}")
    listed = world.ssm.list_command_invocations(CommandId=command)["CommandInvocations"][0]
    check(listed["StandardErrorUrl"] == f"https://s3.us-east-1.amazonaws.com/{bucket}/{place}/stderr"
          and not listed["CommandPlugins"], f"{listed}")
    stream, token, text = f"{command}/{world.node}/aws-runShellScript/stdout", None, b""
    while True:
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True,
                                   **({"nextToken": token} if token else {}))
        text += b"".join(event["message"].encode() + b"\n" for event in page["events"])
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    check(text == whole, f"{len(text)} bytes of {len(whole)}")
    silent = send(world, "true", **arguments)
    check(result(world, silent)["Status"] == "Success", "it prints nothing")
    check(all(silent not in found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]), "nothing is stored")
    arguments["OutputS3BucketName"] = "no-such-bucket-anywhere"
    lost = result(world, send(world, "echo all the same", **arguments))
    check((lost["Status"], lost["StandardOutputContent"]) == ("Success", "all the same\n"), f"{lost}")


def cli_sends_waits_and_reads(world, aws):
    """What people type."""
    def call(*arguments, ok=True):
        status, output, errors = world.run([aws, "ssm", *arguments, "--endpoint-url", world.url, "--output", "json"])
        check((status == 0) == ok, f"{arguments}: {status} {errors}")
        return json.loads(output) if output.strip() else errors.decode()
    sent = call("send-command", "--instance-ids", world.node, "--document-name", SHELL, "--parameters",
                json.dumps({"commands": ["echo it is \"quoted\"", "id -u"]}), "--comment", "from the CLI")
    command = sent["Command"]["CommandId"]
    call("wait", "command-executed", "--command-id", command, "--instance-id", world.node)
    found = call("get-command-invocation", "--command-id", command, "--instance-id", world.node)
    check(found["Status"] == "Success" and found["StandardOutputContent"].startswith("it is quoted\n"), f"{found}")
    listed = call("list-command-invocations", "--command-id", command, "--details")["CommandInvocations"]
    check(listed[0]["CommandPlugins"][0]["Name"] == "aws:runShellScript", f"{listed}")
    commands = call("list-commands", "--filters", "key=Status,value=Success", "--max-items", "1")["Commands"]
    check(commands[0]["Status"] == "Success", f"{commands}")
    failing = call("send-command", "--instance-ids", world.node, "--document-name", SHELL, "--parameters",
                   '{"commands":["exit 7"]}')["Command"]["CommandId"]
    refused = call("wait", "command-executed", "--command-id", failing, "--instance-id", world.node, ok=False)
    check("Failed" in refused or "failure" in refused, refused)
    endless = call("send-command", "--instance-ids", world.node, "--document-name", SHELL, "--parameters",
                   '{"commands":["sleep 300"]}')["Command"]["CommandId"]
    call("cancel-command", "--command-id", endless)
    check(result(world, endless)["Status"] == "Cancelled", "it is cancelled")
    refused = call("send-command", "--instance-ids", world.node, "--document-name", SHELL, "--parameters",
                   '{"nonsense":["x"]}', ok=False)
    check("(InvalidParameters)" in refused and "nonsense" in refused, refused)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
