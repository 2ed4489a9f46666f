"""Records of sessions in log groups of moto's CloudWatch Logs."""

import json
import os
import re
import uuid
from datetime import datetime, timezone

import boto3
import botocore.exceptions

from checks import check, eventually
from documents import session_document
from shells import session_of, start_cli_shell

CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00"


def records_are_streamed_with_the_fields_of_the_reference(world, aws):
    with Group(world, streaming=True) as group:
        terminal = start_cli_shell(world, aws)
        session = session_of(terminal)
        terminal.run("printf '\\033[31mred\\033[0m <&>\\ta\\377b\\n'", rb"red\x1b\[0m <&>\ta\xffb\r\n")
        line = "red <&> a\ufffdb"
        eventually("it is there while the session runs", lambda: line in group.lines(session))
        terminal.send(b"exit 3\r")
        terminal.wait()
        eventually("the rest is there", lambda: any(line.endswith(" exit 3") for line in group.lines(session)))
        events = group.events(session)
        described = world.ssm.describe_sessions(State="History", Filters=[{"key": "SessionId", "value": session}])
        owner = described["Sessions"][0]["Owner"]
        for event in events:
            record = json.loads(event["message"])
            check(list(record) == ["eventVersion", "eventTime", "awsRegion", "target", "userIdentity", "runAsUser",
                                   "sessionId", "sessionData"], f"{list(record)}")
            check(record["eventVersion"] == "1.0" and record["awsRegion"] == "us-east-1", f"{record}")
            check(record["target"] == {"id": world.node}, f"{record}")
            check(record["userIdentity"] == {"arn": owner}, f"{record} is not {owner}'s")
            check(record["sessionId"] == session and record["runAsUser"], f"{record}")
            time = datetime.fromtimestamp(event["timestamp"] // 1000, timezone.utc)
            check(record["eventTime"] == time.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{record} at {event['timestamp']}")
            check(not re.search(r"[<>&\x1b\t]", event["message"]), f"{event['message']!r}")
        check(group.streams() == [session], f"{group.streams()}")


def text_of_a_session_is_there_at_its_end(world, aws):
    with Group(world) as group:
        terminal = start_cli_shell(world, aws)
        session = session_of(terminal)
        terminal.run("printf '\\033[31mred\\033[0m\\n'", rb"red\x1b\[0m\r\n")
        check(group.streams() == [], "nothing is there before the end")
        terminal.send(b"exit 3\r")
        terminal.wait()
        events = eventually("the text is there", lambda: group.events(session))
        check(len(events) == 1, f"{len(events)} events")
        text = events[0]["message"]
        check(re.match(r'Script started on ' + CLOCK + r' \[COMMAND="[^\n]*" <not executed on terminal>\]\n', text),
              f"{text[:100]!r}")
        check(re.search(r'\n\nScript done on ' + CLOCK + r' \[COMMAND_EXIT_CODE="3"\]$', text), f"{text[-100:]!r}")
        check("\x1b[31mred\x1b[0m\r\n" in text, f"{text!r}")


def long_records_are_streamed_whole(world, aws):
    with Group(world, streaming=True) as group:
        terminal = start_cli_shell(world, aws)
        session = session_of(terminal)
        terminal.send(b"seq 300000; echo do''ne\r")
        terminal.expect(rb"done\r\n", deadline=120)
        terminal.send(b"exit\r")
        terminal.wait()
        eventually("the rest is there", lambda: any(line.endswith(" exit") for line in group.lines(session)), deadline=120)
        numbers = [int(line) for line in group.lines(session) if re.fullmatch(r"\d+", line)]
        check(numbers == list(range(1, 300001)), f"{len(numbers)} numbers")
        largest = max(len(event["message"].encode()) for event in group.events(session))
        check(largest < 256 << 10, f"an event of {largest} bytes")


def streamed_records_survive_the_death_of_the_agent_once(world, aws):
    with Group(world, streaming=True) as group:
        terminal = start_cli_shell(world, aws)
        session = session_of(terminal)
        terminal.send(b"seq 30000; echo do''ne\r")
        terminal.expect(rb"done\r\n", deadline=60)
        eventually("it is in the journal", lambda: b"done\r\n" in journal_of(world, session))
        world.agent.kill()
        world.agent.wait()
        before = len(group.events(session))
        terminal.wait()
        world.start_agent_again()
        eventually("the rest is there", lambda: "done" in group.lines(session), deadline=60)
        numbers = [int(line) for line in group.lines(session) if re.fullmatch(r"\d+", line)]
        check(numbers == list(range(1, 30001)), f"{len(numbers)} numbers, {before} events before the restart")


def unencrypted_group_refuses_the_session(world, aws):
    with Group(world, encrypted=True) as group:
        terminal = world.terminal(world.session(aws))
        terminal.expect(rb"encryption is not set up on the selected CloudWatch Logs log group")
        terminal.wait()
        check(group.streams() == [], f"{group.streams()}")
        group.logs.delete_log_group(logGroupName=group.name)
        group.logs.create_log_group(logGroupName=group.name, kmsKeyId="arn:aws:kms:us-east-1:1:key/any")
        terminal = start_cli_shell(world, aws)
        terminal.send(b"exit\r")
        terminal.wait()
        eventually("the text is there", lambda: group.events(session_of(terminal)))
    world.wait_until_all_sessions_are_over()


def missing_group_holds_up_no_session(world, aws):
    with Group(world, missing=True, streaming=True):
        terminal = start_cli_shell(world, aws)
        terminal.run("echo he''re", rb"here\r\n")
        terminal.send(b"exit\r")
        terminal.wait()


def missing_group_refuses_the_session_where_records_have_to_be(world, *clients):
    with world.transcript(CloudWatch={"LogGroup": "/no/such/group", "Policy": "fail-closed"}):
        for aws in clients:
            terminal = world.terminal(world.session(aws))
            terminal.expect(rb"has to be recorded by CloudWatch Logs(.|\n)*there is no log group /no/such/group")
            terminal.wait()


def journal_of(world, session):
    """What waits on disk for its way to the services."""
    found = b""
    for folder, _, files in os.walk(os.path.join(world.path("agent"), "spool")):
        for name in files:
            path = os.path.join(folder, name)
            if session in path:
                with open(path, "rb") as file:
                    found += file.read()
    return found


class Group:
    """Preferences that name a log group of its own, for as long as the block runs."""

    def __init__(self, world, streaming=False, encrypted=False, missing=False):
        self.ssm = world.ssm
        self.logs = boto3.client("logs", endpoint_url=world.aws_url, region_name="us-east-1", aws_access_key_id="any",
                                 aws_secret_access_key="any")
        self.name = f"/records/{uuid.uuid4()}"
        if not missing:
            self.logs.create_log_group(logGroupName=self.name)
        self.inputs = {"cloudWatchLogGroupName": self.name, "cloudWatchStreamingEnabled": streaming,
                       "cloudWatchEncryptionEnabled": encrypted}

    def __enter__(self):
        self.ssm.create_document(Name="SSM-SessionManagerRunShell", DocumentType="Session",
                                 Content=session_document(inputs=self.inputs))
        return self

    def __exit__(self, *_):
        self.ssm.delete_document(Name="SSM-SessionManagerRunShell")

    def streams(self):
        found = self.logs.describe_log_streams(logGroupName=self.name)["logStreams"]
        return [stream["logStreamName"] for stream in found]

    def events(self, session):
        """All events of the session's stream, none while there is no stream."""
        found, token = [], None
        while True:
            page = {"nextToken": token} if token else {}
            try:
                answer = self.logs.get_log_events(logGroupName=self.name, logStreamName=session, startFromHead=True, **page)
            except botocore.exceptions.ClientError as error:
                check(error.response["Error"]["Code"] == "ResourceNotFoundException", f"{error}")
                return []
            found += answer["events"]
            if answer["nextForwardToken"] == token:
                return found
            token = answer["nextForwardToken"]

    def lines(self, session):
        """The lines of all its records."""
        return [line for event in self.events(session) for line in json.loads(event["message"])["sessionData"]]
