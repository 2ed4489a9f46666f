"""The agent's package, from an empty Debian to a shell, and through whatever package managers do."""

import os
import subprocess
import time

from checks import check, eventually
from host import CONFIGURATION

NAMES = ("ssm-agent", "amazon-ssm-agent")
# Files that make the node what it is.
REGISTRATION = ("/var/lib/amazon/ssm/registration", "/var/lib/amazon/ssm/Vault/Manifest")


def installation_asks_nothing_and_waits_for_a_registration(world):
    world.install(world.inside["ssm-agent"])

    for name in NAMES:
        check(world.host.do("systemctl", "is-enabled", name) in ("enabled", "alias"), f"{name} is not enabled")
    state = eventually("the agent has tried to start", lambda: world.host.unit("ssm-agent", "NRestarts") != "0"
                       and world.host.unit("ssm-agent", "ActiveState"))
    check(state != "failed", "systemd has given the agent up")
    journal = world.host.do("journalctl", "-u", "ssm-agent", "-o", "cat")
    check("ssm-agent register" in journal, f"the journal does not say what to do: {journal}")


def registered_agent_is_online_without_a_command(world):
    world.configure()

    world.register()

    world.wait_until_online()
    check(world.host.do("systemctl", "is-active", *NAMES).split() == ["active", "active"], "it is not active")


def template_becomes_a_configuration_as_the_readme_says(world):
    readme = os.path.join(os.path.dirname(__file__), "../../README.md")
    with open(readme) as file:
        steps = [line for line in file if "amazon-ssm-agent.json.template |" in line]
    check(len(steps) == 1, f"the README has {len(steps)} such steps")
    before = world.host.read(CONFIGURATION)

    world.host.do("sh", "-c", steps[0])

    check("is usable" in world.host.do("ssm-agent", "check-config"), "it is no configuration")
    check(world.host.read(CONFIGURATION) != before, "nothing was made")
    world.host.write(CONFIGURATION, before)


def files_of_the_agent_are_for_root_only(world):
    for folder in ("/var/lib/amazon/ssm", "/var/log/amazon/ssm", "/run/ssm-agent"):
        check(int(world.host.do("stat", "-c", "%a", folder)) == 700, f"others may look into {folder}")
    for file in REGISTRATION:
        check(world.host.mode(file) == 0o600, f"others may look into {file}")


def shell_is_of_ssm_user_with_sudo_and_nothing_of_the_agents(world):
    terminal = world.terminal(world.session(world.aws))
    terminal.expect(rb"[$#] ")
    terminal.answer("echo I am $(id -un)", rb"I am ssm-user")
    terminal.answer("echo or $(sudo id -un)", rb"or root")
    terminal.answer("echo score $(cat /proc/self/oom_score_adj)", rb"score 0")
    terminal.answer("echo mask $(umask)", rb"mask 0022")
    first = world.host.do("sh", "-c", "grep '^Max open files' /proc/1/limits").split()[3]
    files = terminal.answer("echo files $(ulimit -Sn)", rb"files (\d+)").group(1).decode()
    check(int(files) <= max(int(first), 1024), f"sessions may open {files} files, not {first}")
    terminal.send(b"exit\r")
    check(terminal.wait() == 0, "the client failed")


def killed_agent_is_online_again_within_seconds(world):
    before = world.agent_process()
    world.host.do("kill", "-KILL", str(before))
    began = time.monotonic()

    eventually("another process runs", lambda: world.agent_process() not in (0, before)
               and world.host.unit("ssm-agent", "ActiveState") == "active")

    check(time.monotonic() - began < 5, "it took longer than 5 s")
    world.wait_until_online()


def agent_that_hangs_is_started_again(world):
    folder = "/run/systemd/system/ssm-agent.service.d"
    world.host.do("sh", "-c", f"mkdir -p {folder} && printf '[Service]\\nWatchdogSec=4\\n' >{folder}/watchdog.conf"
                  " && systemctl daemon-reload && systemctl restart ssm-agent")
    try:
        world.wait_until_online()
        before = world.agent_process()
        time.sleep(6)
        check(world.agent_process() == before, "an agent that works was started again")
        world.host.do("kill", "-STOP", str(before))
        began = time.monotonic()

        eventually("another process runs", lambda: world.agent_process() not in (0, before)
                   and world.host.unit("ssm-agent", "ActiveState") == "active")

        check(time.monotonic() - began < 15, "it took longer than 15 s")
        check("Watchdog timeout" in world.host.do("journalctl", "-u", "ssm-agent", "-o", "cat"), "it was not the watchdog")
    finally:
        world.host.do("rm", "-r", folder)
        world.host.do("systemctl", "daemon-reload")
        world.host.do("systemctl", "restart", "ssm-agent")
    world.wait_until_online()


def agent_that_must_not_start_again_stays_down(world):
    # What it says when a reboot is under way.
    world.host.do("sh", "-c", "mkdir -p /run/systemd/system/ssm-agent.service.d && printf '[Service]\\nExecStart=\\n"
                  "ExecStart=/bin/sh -c \"systemd-notify --ready; exit 194\"\\nNotifyAccess=all\\n'"
                  " >/run/systemd/system/ssm-agent.service.d/reboot.conf && systemctl daemon-reload")
    try:
        world.host.run("systemctl", "restart", "ssm-agent")
        eventually("it has ended", lambda: world.host.unit("ssm-agent", "ActiveState") == "failed")
        time.sleep(3)
        check(world.host.unit("ssm-agent", "ActiveState") == "failed", "it was started again")
    finally:
        world.host.do("rm", "-r", "/run/systemd/system/ssm-agent.service.d")
        world.host.do("systemctl", "daemon-reload")
    world.host.do("systemctl", "restart", "ssm-agent")
    world.wait_until_online()


def same_package_again_keeps_node_and_configuration(world):
    world.host.write("/etc/amazon/ssm/kept", "mine\n")
    files = {file: world.host.read(file) for file in (*REGISTRATION, "/etc/amazon/ssm/amazon-ssm-agent.json")}

    for _ in range(2):
        world.install(world.inside["ssm-agent"])

    world.wait_until_online()
    check(files == {file: world.host.read(file) for file in files}, "a file has changed")
    check(world.host.exists("/etc/amazon/ssm/kept"), "a file of the administrator is gone")


def upgrade_runs_the_new_version_and_rollback_the_old_one(world):
    first = world.host.do("dpkg-query", "-f", "${Version}", "-W", "ssm-agent")
    for package, version in ((world.later["ssm-agent"], "999.0.0"), (world.inside["ssm-agent"], first)):
        before = world.agent_process()
        world.install(package)
        check(world.host.do("dpkg-query", "-f", "${Version}", "-W", "ssm-agent") == version, "another version is there")
        check(world.agent_process() not in (0, before), "the old process runs")
        world.wait_until_online()


def disabled_agent_stays_disabled_when_upgraded(world):
    world.host.do("systemctl", "disable", "--now", "ssm-agent")
    world.install(world.later["ssm-agent"])

    check(world.host.run("systemctl", "is-enabled", "ssm-agent").stdout.strip() == "disabled", "it is enabled")
    check(world.agent_process() == 0, "it runs")

    world.install(world.inside["ssm-agent"])
    world.host.do("systemctl", "enable", "--now", "ssm-agent")
    world.wait_until_online()


def agent_comes_back_with_the_same_id_after_removal_and_purge(world):
    for how in ("--remove", "--purge"):
        world.host.do("dpkg", how, "ssm-agent")
        check(world.host.unit("ssm-agent", "LoadState") == "not-found", "the unit is still there")
        for left in ("/usr/bin/ssm-agent", "/usr/share/ssm-agent", "/etc/systemd/system/amazon-ssm-agent.service",
                     "/etc/systemd/system/multi-user.target.wants/ssm-agent.service"):
            check(not world.host.exists(left), f"{left} is still there")
        check(all(world.host.exists(file) for file in REGISTRATION), "the registration is gone")
        check(world.host.run("pgrep", "-x", "ssm-agent").returncode == 1, "the agent still runs")

        world.install(world.inside["ssm-agent"])
        world.wait_until_online()


def reference_is_replaced_with_its_node_and_can_come_back(world):
    world.host.do("dpkg", "--purge", "ssm-agent")
    reference = world.host.take(stand_in(world))
    world.install(reference)
    eventually("the stand-in runs", lambda: world.host.unit("amazon-ssm-agent", "ActiveState") == "active")

    world.install(world.inside["ssm-agent"])
    world.wait_until_online()
    check(world.host.run("pgrep", "-f", "reference-stand-in").returncode == 1, "the stand-in still runs")
    check(world.host.unit("amazon-ssm-agent", "MainPID") == world.host.unit("ssm-agent", "MainPID"), "no alias")

    world.host.do("dpkg", "--remove", "ssm-agent")
    world.install(reference)
    eventually("the stand-in runs again", lambda: world.host.unit("amazon-ssm-agent", "ActiveState") == "active")
    check(world.host.unit("amazon-ssm-agent", "FragmentPath").endswith("/amazon-ssm-agent.service"), "another unit")

    world.install(world.inside["ssm-agent"])
    world.wait_until_online()


def stand_in(world):
    """A package with the names of the reference's, its unit, and what its scripts do (host.md)."""
    folder = world.path("reference")
    scripts = {
        "postinst": "systemctl daemon-reload\nsystemctl enable --now amazon-ssm-agent\n",
        "prerm": "systemctl stop amazon-ssm-agent\nsystemctl disable amazon-ssm-agent\nsystemctl daemon-reload\n",
    }
    files = {
        "DEBIAN/control": "Package: amazon-ssm-agent\nVersion: 3.3.987.0-1\nArchitecture: all\n"
                          "Maintainer: nobody <nobody@localhost>\nDescription: stand-in\n",
        "lib/systemd/system/amazon-ssm-agent.service":
            "[Service]\nExecStart=/bin/bash -c 'exec -a reference-stand-in sleep infinity'\n"
            "[Install]\nWantedBy=multi-user.target\n",
        "etc/amazon/ssm/amazon-ssm-agent.json.template": "{}\n",
        "DEBIAN/conffiles": "/etc/amazon/ssm/amazon-ssm-agent.json.template\n",
        **{f"DEBIAN/{name}": f"#!/bin/sh\nset -e\n{text}" for name, text in scripts.items()},
    }
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
    for name in scripts:
        os.chmod(os.path.join(folder, "DEBIAN", name), 0o755)
    deb = world.path("amazon-ssm-agent.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", folder, deb], check=True, capture_output=True)
    return deb
