"""Records of sessions in buckets of moto's S3."""

import hashlib
import re
import uuid

import boto3
import botocore.exceptions

from checks import check, eventually
from documents import session_document
from shells import session_of, start_cli_shell

CLOCK = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00"
FIRST = rb'^Script started on ' + CLOCK + rb' \[COMMAND="[^\n]*" <not executed on terminal>\]\n'
LAST = rb'\nScript done on ' + CLOCK + rb' \[COMMAND_EXIT_CODE="(\d+)"\]\n$'


def record_of_a_shell_is_at_the_key_with_the_headers_of_the_reference(world, aws):
    with Bucket(world, prefix="pre//fix/") as bucket:
        terminal = start_cli_shell(world, aws)
        session = session_of(terminal)
        terminal.run("printf '\\033[31mred\\033[0m\\377\\n'", rb"red\x1b\[0m\xff\r\n")
        terminal.send(b"exit 3\r")
        terminal.wait()
        key = f"pre/fix/{session}.log"
        text = eventually("the record is whole", lambda: bucket.whole(key))
        found = bucket.s3.get_object(Bucket=bucket.name, Key=key)
        check(found["ContentType"] == "text/plain" and found["ServerSideEncryption"] == "AES256", f"{found}")
        check(bucket.keys() == [key], f"{bucket.keys()}")
        # Moto's owner is also who stored it, so that their full control is all there is to see.
        grants = bucket.s3.get_object_acl(Bucket=bucket.name, Key=key)["Grants"]
        check([grant["Permission"] for grant in grants] == ["FULL_CONTROL"], f"{grants}")
        check(re.search(LAST, text).group(1) == b"3", f"{text[-100:]!r}")
        shown = re.sub(LAST, b"", re.sub(FIRST, b"", text))
        check(b"\x1b[31mred\x1b[0m\xff\r\r\n" in shown, f"{shown!r}")
        check(shown.replace(b"\r\r\n", b"\r\n") in terminal.seen, f"{shown!r} was not shown")


def record_is_in_the_bucket_while_the_session_runs(world, aws):
    with Bucket(world) as bucket:
        terminal = start_cli_shell(world, aws)
        key = session_of(terminal) + ".log"
        for word in [b"first", b"second"]:
            terminal.run(f"echo {word[:2].decode()}''{word[2:].decode()}", word)
            eventually("it is shown", lambda: word in (bucket.text(key) or b""))
        check(not bucket.whole(key), "the session is not over")
        terminal.send(b"exit\r")
        terminal.wait()
        eventually("the record is whole", lambda: bucket.whole(key))


def long_record_is_whole(world, aws):
    lines = b"".join(b"%d\n" % number for number in range(1, 1200001))
    with Bucket(world) as bucket:
        terminal = start_cli_shell(world, aws)
        key = session_of(terminal) + ".log"
        terminal.send(b"seq 1200000; echo do''ne\r")
        terminal.expect(rb"done\r\n", max(0, len(terminal.seen) - 10), deadline=120)
        terminal.send(b"exit\r")
        terminal.wait()
        text = eventually("the record is whole", lambda: bucket.whole(key), deadline=120)
        check(lines in text.replace(b"\r\r\n", b"\n"), f"{len(text)} bytes")
        check(not bucket.s3.list_multipart_uploads(Bucket=bucket.name).get("Uploads"), "an upload was left")


def record_survives_the_death_of_the_agent_once(world, aws):
    with Bucket(world) as bucket:
        terminal = start_cli_shell(world, aws)
        key = session_of(terminal) + ".log"
        terminal.send(b"seq 1200000; echo do''ne\r")
        terminal.expect(rb"done\r\n", deadline=120)
        terminal.run("echo la''st", rb"last\r\n")
        eventually("it is shown", lambda: b"last" in (bucket.text(key) or b""), deadline=60)
        world.agent.kill()
        world.agent.wait()
        check(b"last" in bucket.text(key), "what was there stays there")
        terminal.wait()
        world.start_agent_again()
        text = eventually("the record is whole",
                          lambda: (bucket.text(key) or b"").endswith(b"[<the agent stopped while the session ran>]\n")
                          and bucket.text(key))
        lines = b"".join(b"%d\n" % number for number in range(1, 1200001))
        plain = text.replace(b"\r\r\n", b"\n")
        found = plain.count(b"\n1199999\n"), plain.count(b"last\n")
        check(found == (1, 1), f"{found} instead of once each")
        check(lines in plain, f"{len(text)} bytes, {hashlib.sha256(text).hexdigest()}")
        check(len(re.findall(rb"Script started", text)) == 1, "one first line")


def what_a_person_deletes_before_they_kill_the_agent_stays_in_the_bucket(world, aws):
    with Bucket(world) as bucket:
        terminal = start_cli_shell(world, aws)
        key = session_of(terminal) + ".log"
        terminal.run("echo evi''dence", rb"evidence\r\n")
        eventually("it is shown", lambda: b"evidence" in (bucket.text(key) or b""))
        log, spool = world.path("agent-log"), world.path("agent/spool")
        # The agent is the parent of the shell.
        terminal.send(f"rm -rf {log} {spool}; rm -rf {spool}; kill -9 $PPID\r".encode())
        world.agent.wait()
        terminal.wait()
        check(b"evidence" in bucket.text(key), "what was there stays there")
        world.start_agent_again()
        check(b"evidence" in bucket.text(key), "the next run does not take it back")


def unencrypted_bucket_refuses_the_session(world, aws):
    with Bucket(world, encrypted=True) as bucket:
        bucket.s3.delete_bucket_encryption(Bucket=bucket.name)
        terminal = world.terminal(world.session(aws))
        terminal.expect(rb"encryption is not set up on the selected Amazon S3 bucket")
        terminal.wait()
        check(bucket.keys() == [], f"{bucket.keys()}")
        bucket.encrypt()
        terminal = start_cli_shell(world, aws)
        terminal.send(b"exit\r")
        terminal.wait()
        eventually("the record is there", bucket.keys)
    world.wait_until_all_sessions_are_over()


def missing_bucket_holds_up_no_session(world, aws):
    with Bucket(world, missing=True):
        terminal = start_cli_shell(world, aws)
        terminal.run("echo he''re", rb"here\r\n")
        terminal.send(b"exit\r")
        terminal.wait()


def missing_bucket_refuses_the_session_where_records_have_to_be(world, *clients):
    with world.transcript(S3={"Bucket": "no-such-bucket-here", "Policy": "fail-closed"}):
        for aws in clients:
            terminal = world.terminal(world.session(aws))
            terminal.expect(rb"has to be recorded by S3(.|\n)*the bucket no-such-bucket-here(.|\n)*NoSuchBucket")
            terminal.wait()


class Bucket:
    """Preferences that name a bucket of its own, for as long as the block runs."""

    def __init__(self, world, prefix="", encrypted=False, missing=False):
        self.ssm = world.ssm
        self.s3 = boto3.client("s3", endpoint_url=world.aws_url, region_name="us-east-1", aws_access_key_id="any",
                               aws_secret_access_key="any")
        self.name = f"records-{uuid.uuid4()}"
        if not missing:
            self.s3.create_bucket(Bucket=self.name)
            self.encrypt()
        self.inputs = {"s3BucketName": self.name, "s3KeyPrefix": prefix, "s3EncryptionEnabled": encrypted}

    def __enter__(self):
        self.ssm.create_document(Name="SSM-SessionManagerRunShell", DocumentType="Session",
                                 Content=session_document(inputs=self.inputs))
        return self

    def __exit__(self, *_):
        self.ssm.delete_document(Name="SSM-SessionManagerRunShell")

    def encrypt(self):
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        self.s3.put_bucket_encryption(Bucket=self.name, ServerSideEncryptionConfiguration={"Rules": [rule]})

    def keys(self):
        return [found["Key"] for found in self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def text(self, key):
        try:
            return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()
        except botocore.exceptions.ClientError:
            return None

    def whole(self, key):
        """The record, once its last line is there."""
        text = self.text(key)
        return text if text and re.search(FIRST, text) and re.search(LAST, text) else None
