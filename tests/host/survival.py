"""Live sessions while the agent is restarted, killed, upgraded and put back, and when the host goes down."""

import hashlib
import os
import re
import socket
import subprocess
import threading
import time

import ports
from checks import DEADLINE, check, eventually

# A shell that is typed into must not wait longer than this for its echo, whatever happens to the agent.
LONGEST_GAP = 1.0
TRANSFER = 224 << 20
# Serves a pattern over one connection, slowly enough to be in the middle of it all the time.
SERVER = f"""
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 7007, Listen => 1, ReuseAddr => 1) or die;
my $block = join('', map {{ pack('N', $_ * 2654435761 % 4294967296) }} 0..16383);
while (my $client = $listener->accept()) {{
    for my $number (1..{TRANSFER >> 16}) {{
        print $client $block;
        select(undef, undef, undef, 0.01);
    }}
    close $client;
}}
"""
BLOCK = b"".join((number * 2654435761 % (1 << 32)).to_bytes(4, "big") for number in range(16384))


def sessions_go_on_whatever_happens_to_the_agent(world):
    screen = world.terminal(world.session(world.aws))
    screen.expect(rb"[$#] ")
    screen.send(b"top -d 0.3\r")
    screen.expect(rb"load average")
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    shell.answer("number=40; sleep 1000 & echo job $!", rb"job \d+")
    # The newest comes first.
    typed, session = (each["SessionId"] for each in world.ssm.describe_sessions(State="Active")["Sessions"])
    ssh = Ssh(world)
    world.host.write("/root/server.pl", SERVER)
    world.host.do("systemd-run", "--unit=pattern", "perl", "/root/server.pl")
    gaps = []
    with ports.Tunnel(world, world.aws, ports.FORWARD, portNumber=7007) as tunnel:
        transfer = Transfer(tunnel)
        for number, (what, event) in enumerate(events(world)):
            before = world.agent_process()
            received = transfer.received
            happening = threading.Thread(target=event)
            happening.start()
            gap = longest_echo(shell, happening)
            eventually("another process runs", lambda: world.agent_process() not in (0, before))
            world.wait_until_online()
            gaps.append(f"{what} {gap * 1000:.0f} ms")
            check(gap < LONGEST_GAP, f"after {what} an echo took {gap:.2f} s")
            seen = len(screen.seen)
            screen.expect(rb"load average", seen)
            shell.answer(f"kill -0 $! && echo sum $((number + {number}))", f"sum {40 + number}".encode())
            ssh.echoes(f"line-{number}")
            eventually(f"the transfer goes on after {what}", lambda: transfer.received > received)
            check(not transfer.is_over(), f"the transfer was over before {what}")
        transfer.check()
        print(f"    longest echo: {', '.join(gaps)}")
        ssh.end()
        seen = len(screen.seen)
        screen.send(b"q")
        screen.expect(rb"\n[$#] |K[$#] ", seen)
        for terminal in (screen, shell):
            terminal.send(b"exit\r")
            check(terminal.wait() == 0, "the client failed")
    world.host.do("systemctl", "stop", "pattern")
    world.wait_until_all_sessions_are_over()

    check_records(world)
    cast = world.host.read(f"/var/log/amazon/ssm/sessions/{typed}.cast")
    for number in range(len(gaps)):
        check(f"sum {40 + number}" in cast, f"the record lacks the answer after {gaps[number]}")
    lines = world.host.read("/var/log/amazon/ssm/audit.log").splitlines()
    check(sum("session-ended" in line and session in line for line in lines) == 1, "its end is not told once")


def events(world):
    """What happens to the agent, each of it more than once in a row."""
    restart = "restart", lambda: world.host.do("systemctl", "restart", "ssm-agent")
    kill = "kill -9", lambda: world.host.do("kill", "-KILL", str(world.agent_process()))
    return [
        restart,
        kill,
        ("upgrade", lambda: world.install(world.later["ssm-agent"])),
        restart,
        kill,
        ("rollback", lambda: world.install(world.inside["ssm-agent"])),
        kill,
    ]


def agent_is_upgraded_from_within_a_session_and_by_a_command(world):
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    before = world.agent_process()
    shell.answer(f"sudo dpkg --install {world.later['ssm-agent']} >/dev/null; echo end''ed $?", rb"ended 0")
    check(world.agent_process() not in (0, before), "the old process runs")
    world.wait_until_online()
    shell.answer("echo sum $((40 + 2))", rb"sum 42")

    before = world.agent_process()
    sent = world.ssm.send_command(InstanceIds=[world.node], DocumentName="AWS-RunShellScript", Parameters={
        "commands": [f"dpkg --install {world.inside['ssm-agent']}", "echo installed"]})["Command"]["CommandId"]
    world.ssm.get_waiter("command_executed").wait(CommandId=sent, InstanceId=world.node,
                                                  WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    said = world.ssm.get_command_invocation(CommandId=sent, InstanceId=world.node)["StandardOutputContent"]
    check(said.endswith("installed\n") and "Setting up ssm-agent" in said, said)
    check(world.agent_process() not in (0, before), "the old process runs")
    shell.answer("echo sum $((40 + 3))", rb"sum 43")
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")
    world.wait_until_all_sessions_are_over()


def daemons_of_a_session_end_with_it_unless_they_may_stay(world):
    leave_daemons(world)
    eventually("the daemons are gone", lambda: daemons(world) == [])
    unit = world.host.unit("ssm-agent", "ControlGroup")
    check(unit.endswith("/ssm-agent.service"), unit)
    check(groups(world, unit) == [], f"{groups(world, unit)} are left")

    before = world.status()
    world.configure(KeepDetached=True)
    world.host.do("systemctl", "reload", "ssm-agent")
    eventually("the configuration is read again", lambda: world.status().get("started") not in (None, before["started"]))
    world.wait_until_online()
    check(world.agent_process() == before["pid"], "another process")
    leave_daemons(world)
    time.sleep(1)
    check(len(daemons(world)) == 3, f"{daemons(world)} stayed")
    world.host.do("pkill", "-KILL", "-f", "sleep 8642")

    world.host.write("/etc/amazon/ssm/amazon-ssm-agent.json", "{")
    world.host.do("systemctl", "reload", "ssm-agent")
    time.sleep(1)
    check(world.status()["pid"] == before["pid"], "the agent did not survive a wrong configuration")
    said = world.host.do("journalctl", "-u", "ssm-agent", "-o", "cat", "-n", "20")
    check("not reloaded" in said, said)
    world.configure()
    world.host.do("systemctl", "reload", "ssm-agent")
    world.wait_until_online()


def leave_daemons(world):
    """A session that leaves processes behind, each more detached than the one before."""
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    shell.run("setsid sleep 86421 </dev/null >/dev/null 2>&1 & echo $?", rb"0\r\n")
    shell.run("(setsid setsid nohup sleep 86422 </dev/null >/dev/null 2>&1 &); echo $?", rb"0\r\n")
    # As root, and in a session of its own.
    shell.run("sudo setsid -f sleep 86423 </dev/null >/dev/null 2>&1; echo $?", rb"0\r\n")
    eventually("the daemons run", lambda: len(daemons(world)) == 3)
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")
    world.wait_until_all_sessions_are_over()


def daemons(world):
    return world.host.run("pgrep", "-f", "^sleep 8642").stdout.split()


def groups(world, unit):
    """The groups of sessions."""
    found = world.host.run("find", "/sys/fs/cgroup", "-path", f"*{unit}/session-*")
    return found.stdout.split()


def stopped_agent_leaves_a_way_in(world):
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")

    shell.answer("sudo systemctl stop ssm-agent; echo stop''ped", rb"stopped")
    check(world.agent_process() == 0, "the agent runs")
    time.sleep(12)
    shell.answer("sudo systemctl start ssm-agent; echo start''ed", rb"started")

    world.wait_until_online()
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")
    world.wait_until_all_sessions_are_over()


def host_that_goes_down_ends_its_sessions_with_the_reason(world):
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")

    world.host.reboot()

    check(shell.wait() != 0, "the client took it for a good end")
    check(b"the host is shutting down" in shell.seen, f"no reason: {shell.seen[-300:]}")
    world.wait_until_online()
    world.wait_until_all_sessions_are_over()
    again = world.terminal(world.session(world.aws))
    again.expect(rb"[$#] ")
    again.send(b"exit\r")
    check(again.wait() == 0, "the client failed")


def longest_echo(shell, happening):
    """Types until it has happened and a little longer; how long an echo took at most."""
    longest, number = 0.0, 0
    end = None
    while end is None or time.monotonic() < end:
        if end is None and not happening.is_alive():
            end = time.monotonic() + 1.5
        number += 1
        began = time.monotonic()
        shell.run(f"echo e-{number}-$((1 + 1))", f"e-{number}-2\r\n".encode())
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.01)
    happening.join()
    return longest


def check_records(world):
    """Every cast on the host is whole."""
    folder = "/var/log/amazon/ssm/sessions"
    casts = [name for name in world.host.do("ls", folder).split() if name.endswith(".cast")]
    check(len(casts) >= 2, f"{casts}")
    for cast in casts:
        said = world.host.do("ssm-agent", "verify-recording", f"{folder}/{cast}")
        check("intact" in said, f"{cast}: {said}")


class Transfer:
    """Reads what the host serves, in a thread of its own."""

    def __init__(self, tunnel):
        self.connection = tunnel.connect()
        self.connection.settimeout(DEADLINE)
        self.received = 0
        self.digest = hashlib.sha256()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        eventually("the first bytes are there", lambda: self.received)

    def read(self):
        with self.connection:
            try:
                while data := self.connection.recv(1 << 16):
                    self.digest.update(data)
                    self.received += len(data)
            except (socket.timeout, OSError):
                # What came is compared.
                pass

    def is_over(self):
        return self.received >= TRANSFER

    def check(self):
        self.thread.join(120)
        wanted = hashlib.sha256()
        for _ in range(TRANSFER >> 16):
            wanted.update(BLOCK)
        check(self.received == TRANSFER, f"{self.received} of {TRANSFER} bytes came")
        check(self.digest.digest() == wanted.digest(), "other bytes came")


class Ssh:
    """A shell loop on the host, by OpenSSH through a session."""

    def __init__(self, world):
        key = world.path("ssh-key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with open(key + ".pub") as public:
            world.host.write("/root/.ssh/authorized_keys", public.read())
        for path, mode in (("/root/.ssh", 0o700), ("/root/.ssh/authorized_keys", 0o600)):
            os.chmod(world.host.path(path), mode)
        proxy = " ".join([world.aws, "ssm", "start-session", "--target", "%h", "--document-name",
                          "AWS-StartSSHSession", "--parameters", "portNumber=%p", "--endpoint-url", world.url])
        options = {"ProxyCommand": proxy, "IdentityFile": key, "IdentitiesOnly": "yes", "BatchMode": "yes",
                   "UserKnownHostsFile": world.path("known"), "StrictHostKeyChecking": "accept-new"}
        arguments = [f"-o{name}={value}" for name, value in options.items()]
        self.process = subprocess.Popen(
            ["ssh", *arguments, f"root@{world.node}", "while read line; do echo got-$line; done"], env=world.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.echoes("first")

    def echoes(self, line):
        self.process.stdin.write(line + "\n")
        answer = []
        reading = threading.Thread(target=lambda: answer.append(self.process.stdout.readline()), daemon=True)
        reading.start()
        reading.join(DEADLINE)
        check(answer == [f"got-{line}\n"], f"{line!r} gave {answer}")

    def end(self):
        self.process.stdin.close()
        check(self.process.wait(DEADLINE) == 0, "ssh failed")
