"""Shells of the AWS CLI on a terminal: typing, sizes, pastes, recordings, and how they end."""

import glob
import hashlib
import json
import os
import re
import subprocess
import time

from checks import check, eventually


def cli_shell_works(world, aws):
    terminal = start_cli_shell(world, aws, rows=31, cols=97)
    terminal.run("PS1='rdy> '", rb"rdy> $")
    terminal.answer("stty size", rb"31 97")
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
    world.start_agent_again()


def folder_that_cannot_be_made_refuses_the_session_where_files_have_to_be(world, *clients):
    with world.transcript(Directory="/dev/full/sessions", Policy="fail-closed"):
        for aws in clients:
            terminal = world.terminal(world.session(aws))
            terminal.expect(rb"has to be recorded in /dev/full/sessions, which does not take it")
            terminal.wait()


def start_cli_shell(world, aws, **size):
    before = set(recordings(world))
    terminal = world.terminal(world.session(aws), **size)
    terminal.expect(rb"[$#] ")
    terminal.before = before
    return terminal


def session_of(terminal):
    """The id of the session, as the plugin says it at its start."""
    return re.search(rb"SessionId: (\S+)", terminal.seen).group(1).decode()


def recordings(world):
    return glob.glob(os.path.join(world.root, "agent-log", "**", "*.log"), recursive=True) + \
        glob.glob(os.path.join(world.root, "agent", "**", "*.log"), recursive=True)


def recorded_since(world, before):
    new = eventually("the recording is there", lambda: [path for path in recordings(world) if path not in before])
    return new[0]
