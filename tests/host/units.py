"""What systemd says of our units, and what is in the packages."""

import re
import subprocess

from checks import check
from host import CONFIGURATION as CONFIGURATION_FILE
from others import files_of

UNITS = ("ssm-agent.service", "ssm-gateway.service")
# systemd's measure of what a service could do, from 0 to 10: the gateway serves, and nothing else. The agent's
# sessions inherit its sandbox, and their users administer the host.
GATEWAY_EXPOSURE = 1.5
FILES = {
    "ssm-agent": {
        "/usr/bin/ssm-agent": 0o755, "/usr/bin/ssm-cli": 0o755,
        "/usr/lib/systemd/system/ssm-agent.service": 0o644,
        "/usr/lib/systemd/system-preset/90-ssm-agent.preset": 0o644,
        "/etc/pam.d/ssm-agent": 0o644,
        "/usr/share/man/man8/ssm-agent.8.gz": 0o644, "/usr/share/man/man1/ssm-cli.1.gz": 0o644},
    "ssm-gateway": {
        "/usr/bin/ssm-gateway": 0o755,
        "/usr/lib/systemd/system/ssm-gateway.service": 0o644,
        "/usr/lib/systemd/system-preset/90-ssm-gateway.preset": 0o644,
        "/etc/default/ssm-gateway": 0o644,
        "/usr/share/man/man8/ssm-gateway.8.gz": 0o644},
    "ssm-session-client": {
        "/usr/bin/session-manager-plugin": 0o755, "/usr/share/man/man1/session-manager-plugin.1.gz": 0o644},
}
TEMPLATE = {"deb": "/usr/share/ssm-agent/amazon-ssm-agent.json.template",
            "rpm": "/etc/amazon/ssm/amazon-ssm-agent.json.template"}
CONFIGURATION = {"ssm-agent": ["/etc/pam.d/ssm-agent"], "ssm-gateway": ["/etc/default/ssm-gateway"],
                 "ssm-session-client": []}


def systemd_takes_the_units_and_says_how_exposed_they_are(world):
    world.install(world.inside["ssm-gateway"])
    verified = world.host.run("systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS))
    check(verified.returncode == 0 and not verified.stdout + verified.stderr, f"{verified}")

    exposure = {}
    for unit in UNITS:
        said = world.host.do("systemd-analyze", "security", "--no-pager", unit)
        exposure[unit] = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", said).group(1))
    print(f"    exposure: {exposure}")
    check(exposure["ssm-gateway.service"] <= GATEWAY_EXPOSURE, f"{exposure}")
    world.host.do("dpkg", "--purge", "ssm-gateway")


def presets_and_priorities_are_as_the_service_manager_wants_them(world):
    world.install(world.inside["ssm-gateway"])
    world.host.do("systemctl", "disable", "ssm-agent")
    world.host.do("systemctl", "preset", "ssm-agent", "ssm-gateway")
    enabled = [world.host.run("systemctl", "is-enabled", unit).stdout.strip() for unit in ("ssm-agent", "ssm-gateway")]
    check(enabled == ["enabled", "disabled"], f"{enabled}")
    world.host.do("dpkg", "--purge", "ssm-gateway")

    # A setting that nobody knows is a warning, that the agent starts is none.
    before = world.host.read(CONFIGURATION_FILE)
    world.host.write(CONFIGURATION_FILE, before.replace("{", '{"Nobody": 1, ', 1))
    world.host.do("systemctl", "restart", "ssm-agent")
    world.wait_until_online()
    process = f"_PID={world.agent_process()}"
    warnings = world.host.do("journalctl", "-u", "ssm-agent", "-o", "cat", "-p", "warning", process)
    everything = world.host.do("journalctl", "-u", "ssm-agent", "-o", "cat", process)
    check("Nobody" in warnings and "agent starts" not in warnings, f"warnings: {warnings}")
    check("agent starts" in everything, everything)
    world.host.write(CONFIGURATION_FILE, before)
    world.host.do("systemctl", "restart", "ssm-agent")
    world.wait_until_online()


def packages_hold_these_files_and_no_others(world):
    for name, files in FILES.items():
        for kind, listed in (("deb", files_of_deb), ("rpm", files_of)):
            wanted = {path: (mode, "root/root") for path, mode in files.items()}
            if name == "ssm-agent":
                wanted[TEMPLATE[kind]] = (0o644, "root/root")
            found = {path: about for path, about in listed(world.package(name, kind)).items()
                     if not path.startswith("/usr/share/doc/")}
            check(found == wanted, f"{name}.{kind}: {found}")
        marked = subprocess.run(["dpkg-deb", "--info", world.debs[name], "conffiles"], capture_output=True, text=True)
        check(marked.stdout.split() == CONFIGURATION[name], f"{name}: {marked.stdout}")


def files_of_deb(package):
    listed = subprocess.run(["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in listed.splitlines():
        mode, owner, _size, _day, _time, path = line.split(maxsplit=5)
        # The archive may hold the numbers alone.
        owner = "root/root" if owner == "0/0" else owner
        check(owner == "root/root" and mode[8] != "w" and mode[5] != "w", line)
        if not mode.startswith("d"):
            bits = sum(1 << (8 - place) for place, letter in enumerate(mode[1:]) if letter != "-")
            found[path.lstrip(".")] = (bits, owner)
    return found


def limits_of_the_agent_do_not_reach_what_it_starts(world):
    agent = world.agent_process()
    check(world.host.unit("ssm-agent", "OOMScoreAdjust") == "-900", "the unit does not protect it")
    protection = -900
    if world.host.run("sh", "-c", "echo -900 > /proc/self/oom_score_adj").returncode != 0:
        print("    this machine protects nobody from the OOM killer: scores are looked at, but all are 0")
        protection = 0
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    for process in (agent, int(world.host.do("pgrep", "-o", "-x", "ssm-sessions"))):
        score = int(world.host.do("cat", f"/proc/{process}/oom_score_adj"))
        check(score == protection, f"process {process} has score {score}")
        soft, hard = open_files(world, process)
        # Five hundred sessions take some thousands.
        check(soft == hard and soft > 10_000, f"process {process} may open {soft} of {hard} files")
    first = open_files(world, 1)[0]
    limits = shell.answer("echo limits $(ulimit -Sn) $(cat /proc/self/oom_score_adj)",
                          rb"limits (\S+) (\S+)")
    check(int(limits.group(1)) <= max(first, 1024), f"a session may open {limits.group(1)} files")
    check(limits.group(2) == b"0", f"a session has score {limits.group(2)}")
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")

    sent = world.ssm.send_command(InstanceIds=[world.node], DocumentName="AWS-RunShellScript", Parameters={
        "commands": ["echo $(ulimit -Sn) $(cat /proc/self/oom_score_adj) $(umask)"]})["Command"]["CommandId"]
    world.ssm.get_waiter("command_executed").wait(CommandId=sent, InstanceId=world.node,
                                                  WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    files, score, mask = world.ssm.get_command_invocation(
        CommandId=sent, InstanceId=world.node)["StandardOutputContent"].split()
    check(int(files) <= max(first, 1024) and score == "0", f"a script has {files} files and score {score}")
    check(mask == "0022", f"what a script makes is for root only: {mask}")


def open_files(world, process):
    line = world.host.do("grep", "^Max open files", f"/proc/{process}/limits").split()
    return int(line[3]), int(line[4])
