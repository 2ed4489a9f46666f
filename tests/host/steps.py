"""The processes of commands on a host whose service manager has handed control groups over."""

import time

from checks import check, eventually

# What a script starts that keeps no mark, no process group and no session of it.
DAEMONS = "env -i setsid -f sleep 97531; env -i setsid sh -c 'setsid sleep 97532 & exit' & echo started"


def cancelled_and_late_commands_leave_nothing_behind(world):
    command = send(world, [DAEMONS, "sleep 600"])
    eventually("the daemons run", lambda: len(daemons(world)) == 2)
    check(len(groups(world)) == 1, f"the step has not one group: {groups(world)}")
    world.ssm.cancel_command(CommandId=command)
    check(final_status(world, command) == "Cancelled", "it was not cancelled")
    check(daemons(world) == [], "what was cancelled goes on")

    command = send(world, [DAEMONS, "sleep 600"], executionTimeout=["5"])
    eventually("the daemons run", lambda: len(daemons(world)) == 2)
    check(final_status(world, command) == "TimedOut", "it was in time")
    check(daemons(world) == [], "what was too late goes on")
    check(groups(world) == [], f"{groups(world)} are left")


def command_is_ended_whole_by_the_agent_that_comes_after_the_one_that_began_it(world):
    command = send(world, [DAEMONS, "sleep 600"])
    eventually("the daemons run", lambda: len(daemons(world)) == 2)
    before = world.agent_process()
    world.host.do("kill", "-KILL", str(before))
    eventually("another process runs", lambda: world.agent_process() not in (0, before))
    world.wait_until_online()
    check(len(daemons(world)) == 2, "the end of the agent ended a command")

    world.ssm.cancel_command(CommandId=command)

    check(final_status(world, command) == "Cancelled", "it was not cancelled")
    check(daemons(world) == [], "what was cancelled goes on")
    check(groups(world) == [], f"{groups(world)} are left")


def what_a_command_leaves_goes_on_beside_the_agent(world):
    command = send(world, [DAEMONS])
    check(final_status(world, command) == "Success", "it failed")
    time.sleep(1)
    check(len(daemons(world)) == 2, "what it left was ended with it")
    check(groups(world) == [], f"{groups(world)} are left")

    # It ends while there is no agent.
    command = send(world, ["sleep 3"])
    eventually("the step has a group", lambda: len(groups(world)) == 1)
    world.host.do("systemctl", "stop", "ssm-agent")
    time.sleep(4)
    world.host.do("systemctl", "start", "ssm-agent")
    check(final_status(world, command) == "Success", "it failed")
    check(groups(world) == [], f"{groups(world)} are left")
    check(len(daemons(world)) == 2, "a restart ended what a command left")
    world.host.do("pkill", "-KILL", "-f", "^sleep 9753")


def command_that_asks_for_a_reboot_goes_on_after_it_and_the_others_are_told(world):
    """The reference has the host reboot a minute later, so that whoever is logged in sees it coming."""
    cut_off = send(world, ["echo x >>/root/cut-off", "sleep 600"])
    eventually("it runs", lambda: world.host.exists("/root/cut-off"))
    asking = send(world, ["echo x >>/root/asked; [ -e /root/again ] || { touch /root/again; exit 194; }", "echo after"])
    eventually("the host is told to reboot",
               lambda: world.host.run("test", "-e", "/run/systemd/shutdown/scheduled").returncode == 0)
    waiting = send(world, ["echo x >>/root/waited"])

    world.host.wait_for_reboot(90)

    world.wait_until_online()
    check(final_status(world, asking) == "Success", "it did not go on")
    said = world.ssm.get_command_invocation(CommandId=asking, InstanceId=world.node)["StandardOutputContent"]
    check(said.endswith("after\n"), said)
    check(final_status(world, waiting) == "Success", "it was forgotten")
    check(final_status(world, cut_off) == "Failed", "nobody knows how it ended")
    said = world.ssm.get_command_invocation(CommandId=cut_off, InstanceId=world.node)["StandardErrorContent"]
    check("the host was restarted while it ran" in said, said)
    for name, times in (("cut-off", 1), ("asked", 2), ("waited", 1)):
        ran = world.host.read(f"/root/{name}").count("x")
        check(ran == times, f"{name} ran {ran} times")


def send(world, lines, **parameters):
    sent = world.ssm.send_command(InstanceIds=[world.node], DocumentName="AWS-RunShellScript",
                                  Parameters={"commands": lines, **parameters})
    return sent["Command"]["CommandId"]


def final_status(world, command):
    def ended():
        found = world.ssm.list_command_invocations(CommandId=command)["CommandInvocations"]
        return [it["Status"] for it in found if it["Status"] not in ("Pending", "InProgress", "Cancelling")]

    return eventually("the command is over", ended)[0]


def daemons(world):
    return world.host.run("pgrep", "-f", "^sleep 9753").stdout.split()


def groups(world):
    """The control groups of steps."""
    unit = world.host.unit("ssm-agent", "ControlGroup") or "/ssm-agent.service"
    return world.host.run("find", "/sys/fs/cgroup", "-path", f"*{unit}/step-*", "-type", "d").stdout.split()
