"""Sessions encrypted with a key of moto's KMS."""

import hashlib
import json
import re

import boto3

from checks import check, eventually
from documents import session_document
from shells import start_cli_shell
from wire import Relay


def encrypted_shell_works(world, aws):
    with Encryption(world):
        terminal = start_cli_shell(world, aws, rows=31, cols=97)
        check(b"This session is encrypted using AWS KMS." in terminal.seen, "the person is told")
        terminal.answer("stty size", rb"31 97")
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
            terminal = world.terminal(world.session(aws, document, command="expr 40 + 2"))
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
        terminal = world.terminal([world.program("session-manager-plugin"), json.dumps(response), "us-east-1",
                                   "StartSession", "", json.dumps({"Target": world.node}), world.plain_url])
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
        terminal = world.terminal(world.session(aws))
        terminal.expect(rb"Encountered error while initiating handshake\. KMSEncryption failed on client (.|\n)*NotFoundException")
        terminal.wait()
    world.wait_until_all_sessions_are_over()


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
