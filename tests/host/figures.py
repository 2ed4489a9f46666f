"""Figures of an agent under systemd, which say as much about the machine that they are measured on.

    tests/host/run figures
"""

import concurrent.futures
import json
import re
import statistics
import subprocess
import threading
import time

import survival
from checks import check, eventually
from clients import Terminal

IDLE = 60
# The goals: wake-ups per second of an idle agent, and the longest wait for an echo, in seconds.
WAKE_UPS = 1.0
GAP, GAP_AFTER_KILL = 0.15, 1.0
RESTARTS = 50
UPGRADES = 50
SOAK = 10_000
AT_ONCE = 8


def figures_of_an_idle_agent(world):
    time.sleep(10)
    processes = agents(world)
    check(len(processes) == 1, f"{processes}")
    before, began = [usage(world, one) for one in processes], time.monotonic()
    time.sleep(IDLE)
    after, took = [usage(world, one) for one in processes], time.monotonic() - began
    for one, old, new in zip(processes, before, after):
        print(f"    agent: {memory(world, one)}, {descriptors(world, one)} descriptors, {new[2]} threads, "
              f"{(new[0] - old[0]) * 3600 / took:.1f} CPU s/h, {(new[1] - old[1]) / took:.2f} wake-ups/s")
        check((new[1] - old[1]) / took <= WAKE_UPS, "an idle agent wakes up more often than once a second")


def figures_of_a_start(world):
    waits = []
    for _ in range(20):
        world.host.do("systemctl", "stop", "ssm-agent")
        eventually("the agent is away", lambda: connection(world) != "connected")
        began = time.monotonic()
        world.host.do("systemctl", "start", "ssm-agent")
        while connection(world) != "connected":
            time.sleep(0.002)
        waits.append(time.monotonic() - began)
    print(f"    systemctl start to online: {spread(waits)}")
    world.host.reboot()
    world.wait_until_online()
    began = int(world.host.do("systemctl", "show", "--value", "-p", "UserspaceTimestampMonotonic"))
    online = int(world.host.unit("ssm-agent", "ActiveEnterTimestampMonotonic"))
    print(f"    first process of the host to online: {(online - began) / 1000:.0f} ms")


def figures_of_gaps(world):
    """How long a shell that is typed into all the time waits for an echo at most."""
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    quiet = [survival.longest_echo(shell, Nothing()) for _ in range(5)]
    print(f"    longest echo in 1.5 s of nothing: {spread(quiet)}")
    packages = [world.later["ssm-agent"], world.inside["ssm-agent"]]
    for what, happen, times, goal in (
            ("restart", lambda _: world.host.do("systemctl", "restart", "ssm-agent"), RESTARTS, GAP),
            ("kill -9", lambda _: world.host.do("kill", "-KILL", str(world.agent_process())), RESTARTS, GAP_AFTER_KILL),
            ("upgrade and rollback", lambda number: world.install(packages[number % 2]), UPGRADES, GAP)):
        gaps = []
        for number in range(times):
            before = world.agent_process()
            gaps.append(survival.longest_echo(shell, started(happen, number)))
            eventually("another process runs", lambda: world.agent_process() not in (0, before))
            world.wait_until_online()
        print(f"    longest echo around {times} times {what}: {spread(gaps)}")
        check(p99(gaps) <= goal, f"more than {goal} s for an echo around a {what}")
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")


def figures_of_a_soak(world):
    """Many sessions, one after the other and some at once: what grows."""
    world.host.do("systemctl", "restart", "ssm-agent")
    world.wait_until_online()
    began = time.monotonic()
    rows = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        done = 0
        for until in (100, 1000, SOAK // 2, SOAK):
            for code in pool.map(lambda number: a_session(world, number), range(until - done)):
                check(code == 7, f"exit status {code}")
            done = until
            world.wait_until_all_sessions_are_over()
            time.sleep(3)
            rows.append((done, state(world)))
            print(f"    after {done} sessions: {rows[-1][1]}")
    print(f"    {SOAK / (time.monotonic() - began):.0f} sessions/s from {AT_ONCE} callers")
    first, last = (numbers(row) for _, row in (rows[1], rows[-1]))
    for name in first:
        # Rings and caches may still fill, what leaks for each session would be thousands.
        check(last[name] <= first[name] * 1.25 + 4, f"{name} grew from {first[name]} to {last[name]}")


def a_session(world, number):
    """Every tenth is a shell on a terminal, the others are commands."""
    if number % 10 == 0:
        shell = Terminal(world.plugin(), world.environment)
        try:
            shell.expect(rb"[$#] ")
            shell.send(b"exit 7\r")
            return shell.wait()
        finally:
            shell.end()
    request = {"Target": world.node, "DocumentName": "AWS-StartNonInteractiveCommand", "Parameters": {"command": ["sh -c 'exit 7'"]}}
    response = world.ssm.start_session(**request)
    response.pop("ResponseMetadata")
    arguments = [json.dumps(response), "us-east-1", "StartSession", "", json.dumps(request), world.url]
    ended = subprocess.run([world.program("session-manager-plugin"), *arguments], env=world.environment,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return ended.returncode


def state(world):
    """What agent and keeper take, and what lies about."""
    processes = agents(world)
    parts = [f"{memory(world, one)} {descriptors(world, one)} descriptors" for one in processes]
    files = world.host.do("sh", "-c", "find /var/lib/amazon /run/ssm-agent /tmp -xdev | wc -l")
    left = world.host.do("sh", "-c", "ls /proc | grep -c '^[0-9]'")
    groups = len(survival.groups(world, world.host.unit("ssm-agent", "ControlGroup")))
    return f"{'; '.join(parts)}; {files} files, {left} processes, {groups} groups"


def numbers(row):
    """The numbers in a row by what follows them."""
    found = {}
    for number, name in re.findall(r"(\d+) (KiB PSS|descriptors|files|processes|groups)", row):
        found[name] = found.get(name, 0) + int(number)
    return found


def agents(world):
    """Agent and keepers."""
    return world.host.do("pgrep", "-x", "ssm-agent|ssm-sessions").split()


def usage(world, process):
    """CPU seconds so far, wake-ups so far, threads."""
    stat = world.host.do("cat", f"/proc/{process}/stat").rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12])
    said = world.host.do("sh", "-c", f"grep -h ctxt_switches /proc/{process}/task/*/status")
    switches = [int(line.split()[1]) for line in said.splitlines() if line.startswith("voluntary")]
    return ticks / 100, sum(switches), len(switches)


def memory(world, process):
    said = world.host.do("cat", f"/proc/{process}/smaps_rollup")
    of = {name: int(number) for name, number in re.findall(r"(\w+):\s+(\d+) kB", said)}
    return f"{of['Rss']} KiB RSS, {of['Pss']} KiB PSS"


def descriptors(world, process):
    return len(world.host.do("ls", f"/proc/{process}/fd").split())


def connection(world):
    return world.ssm.get_connection_status(Target=world.node)["Status"]


def p99(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def spread(seconds):
    ordered = sorted(second * 1000 for second in seconds)
    return f"p50 {statistics.median(ordered):.1f} ms, p99 {p99(ordered):.1f} ms, longest {ordered[-1]:.1f} ms"


def started(happen, number):
    thread = threading.Thread(target=happen, args=(number,))
    thread.start()
    return thread


class Nothing:
    """What happens when nothing does."""

    @staticmethod
    def is_alive():
        return False

    @staticmethod
    def join():
        pass
