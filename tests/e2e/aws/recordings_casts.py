"""Casts: played by a program that nobody here wrote, and beside the text in a bucket."""

import hashlib
import json
import os
import subprocess
import sys

from checks import check, eventually
from recordings_s3 import Bucket
from shells import recorded_since, session_of, start_cli_shell

ASCIINEMA = os.path.join(os.path.dirname(sys.executable), "asciinema")


def recording_of_vim_replays_byte_for_byte(world, aws):
    poem = world.path("vim-poem")
    with open(poem, "w") as file:
        file.writelines(f"line {n} of the poem, \u00e4\u00f6\u00fc \u20ac\n" for n in range(1, 200))
    terminal = start_cli_shell(world, aws, rows=31, cols=97)
    terminal.run(f"vi -u NONE {poem}", rb"line 20 of")
    terminal.resize(40, 120)
    drawn = len(terminal.seen)
    terminal.send(b"/line 150\r")
    terminal.expect(rb"of the poem", drawn)
    terminal.send(b"ddGoend\x1b:syntax on\r")
    left = len(terminal.seen)
    terminal.send(b":q!\r")
    terminal.expect(rb"1049l(.|\n)*[$#] $", left)
    check_replay(world, terminal)


def recording_of_top_replays_byte_for_byte(world, aws):
    terminal = start_cli_shell(world, aws, rows=31, cols=97)
    left = len(terminal.seen)
    # With colours, and with whole command lines from the second key on.
    terminal.send(b"top -d 0.3 -n 8; echo top is ov''er\r")
    terminal.expect(rb"load average(.|\n)*PID(.|\n)*COMMAND", left)
    terminal.send(b"z")
    terminal.send(b"c")
    terminal.expect(rb"top is over\r\n(.|\n)*[$#] $", left, deadline=60)
    check_replay(world, terminal)


def check_replay(world, terminal):
    """Leaves the shell; its recording is what the terminal was sent, by the word of asciinema and of the gateway."""
    terminal.send(b"exit\r")
    terminal.wait()
    log = recorded_since(world, terminal.before)
    cast = log[: -len(".log")] + ".cast"
    verified = [world.program("ssm-cli"), "verify-recording", cast]
    eventually("the recording is whole", lambda: subprocess.run(verified, capture_output=True).returncode == 0)
    with open(log, "rb") as file:
        shown = file.read()
    check(shown in terminal.seen, f"{len(shown)} bytes were not shown as they are")
    # Without a terminal of its own: it would change that one's modes.
    played = subprocess.run([ASCIINEMA, "cat", cast], capture_output=True, stdin=subprocess.DEVNULL,
                            env={**world.environment, "PYTHONUTF8": "1"}, start_new_session=True)
    check(played.returncode == 0, f"asciinema: {played.stderr!r}")
    check(played.stdout == shown, f"asciinema played {len(played.stdout)} bytes instead of {len(shown)}")
    player = world.terminal([ASCIINEMA, "play", "--speed", "1000", "--idle-time-limit", "0.01", cast])
    check(player.wait() == 0, f"{player.seen[-500:]!r}")
    with open(cast) as file:
        lines = [json.loads(line) for line in file]
    sizes = [event[2] for event in lines[1:] if event[1] == "r"]
    check("97x31" in sizes or (lines[0]["width"], lines[0]["height"]) == (97, 31), f"{lines[0]}, {sizes}")


def cast_is_beside_the_text_in_the_bucket(world, *clients):
    bucket = Bucket(world)
    with world.transcript(S3={"Bucket": bucket.name, "KeyPrefix": "casts", "Cast": True}):
        for aws in clients:
            terminal = start_cli_shell(world, aws)
            key = f"casts/{session_of(terminal)}"
            terminal.run("printf '\\033[31mred\\033[0m\\n'", rb"red\x1b\[0m\r\n")
            eventually("it is there while the session runs", lambda: b"red" in (bucket.text(key + ".cast") or b""))
            terminal.send(b"exit 3\r")
            terminal.wait()
            log = recorded_since(world, terminal.before)
            with open(log[: -len(".log")] + ".cast", "rb") as file:
                cast = file.read()
            eventually("the cast is the file on the host", lambda: bucket.text(key + ".cast") == cast)
            eventually("the text is there too", lambda: bucket.whole(key + ".log"))
            found = bucket.s3.get_object(Bucket=bucket.name, Key=key + ".cast")
            check(found["ContentType"] == "application/x-asciicast", f"{found}")
            check(found["ServerSideEncryption"] == "AES256", f"{found}")


def long_cast_is_whole_after_the_death_of_the_agent(world, *clients):
    bucket = Bucket(world)
    lines = "".join(f"{number}\r\n" for number in range(1, 1200001))
    with world.transcript(S3={"Bucket": bucket.name, "Cast": True}):
        terminal = start_cli_shell(world, next(iter(clients)))
        key = session_of(terminal) + ".cast"
        terminal.send(b"seq 1200000; echo do''ne\r")
        terminal.expect(rb"done\r\n", deadline=120)
        terminal.run("echo la''st", rb"last\r\n")
        eventually("it is there", lambda: b"last" in (bucket.text(key) or b""), deadline=60)
        world.agent.kill()
        world.agent.wait()
        terminal.wait()
        world.start_agent_again()
        eventually("its end is there", lambda: b"the agent stopped" in (bucket.text(key) or b""), deadline=60)
        events = [json.loads(line) for line in bucket.text(key).splitlines()[1:]]
        shown = "".join(event[2] for event in events if event[1] == "o")
        check(lines in shown, f"{len(shown)} characters, {hashlib.sha256(shown.encode()).hexdigest()}")
        check(shown.count("\n1199999\r\n") == 1 and shown.count("last\r\n") == 1, "once each")
