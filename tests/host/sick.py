"""A host in trouble: when a way in is needed most."""

import json
import os
import time

import steps
from checks import check, eventually
from environment import restart

# A session opens within this, or is refused.
SOON = 2.0
FOLDERS = ("/var/lib/amazon/ssm", "/var/log/amazon/ssm", "/tmp", "/home")


def session_opens_on_full_disks(world):
    with Small(world, "size=1m"):
        world.host.run("sh", "-c", f"for folder in {' '.join(FOLDERS)}; do cat /dev/zero > $folder/filler; done")
        check(not writes(world, "/var/lib/amazon/ssm"), "there is room left")
        works(world)
        # A command is not lost: it ends, with the reason.
        command = steps.send(world, ["echo x"])
        check(steps.final_status(world, command) == "Failed", "it ran, with nowhere to write")
        told = world.ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"][0]
        check("No space left on device" in json.dumps(told, default=str), f"no reason: {told}")
        disk = world.diagnosis("Disk space")
        check(disk["Status"] == "Failed" and disk["Hint"], f"{disk}")
        # So does an agent that starts on them.
        restart(world)
        world.wait_until_online()
        works(world)
    command = steps.send(world, ["echo x"])
    check(steps.final_status(world, command) == "Success", "commands do not go on when there is room again")


def session_opens_without_inodes(world):
    with Small(world, "size=4m,nr_inodes=200"):
        world.host.run("sh", "-c", f"for folder in {' '.join(FOLDERS)}; do "
                                   "n=0; while : > $folder/filler-$n; do n=$((n + 1)); done; done 2>/dev/null")
        check(not writes(world, "/var/lib/amazon/ssm"), "there are inodes left")
        works(world)
        restart(world)
        world.wait_until_online()
        works(world)


def session_opens_on_a_read_only_root(world):
    folders = ("/etc", "/usr", "/home", "/var/lib/amazon", "/var/log/amazon", "/tmp")
    stop(world)
    try:
        for folder in folders:
            world.host.do("mount", "--bind", folder, folder)
            world.host.do("mount", "-o", "remount,bind,ro", folder)
        for folder in folders:
            check(not writes(world, folder), f"{folder} can be written")
        restart(world)
        world.wait_until_online()
        works(world)
    finally:
        for folder in folders:
            world.host.run("umount", "--lazy", folder)
        restart(world)
        world.wait_until_online()


def session_whose_user_cannot_be_made_is_refused_with_the_reason(world):
    world.host.run("userdel", "--force", "--remove", "ssm-user")
    world.host.do("mount", "--bind", "/etc", "/etc")
    world.host.do("mount", "-o", "remount,bind,ro", "/etc")
    try:
        check(not writes(world, "/etc"), "/etc can be written")
        began = time.monotonic()
        shell = world.terminal(world.plugin())
        status = shell.wait()
        check(status != 0, "there was a session")
        check(b"ssm-user" in shell.seen and b"useradd" in shell.seen, f"no reason: {shell.seen}")
        check(time.monotonic() - began < SOON, "it took longer than 2 s")
    finally:
        world.host.do("umount", "--lazy", "/etc")
    works(world)


def session_opens_where_nothing_in_tmp_may_be_executed(world):
    world.host.do("mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", "/tmp")
    try:
        restart(world)
        world.wait_until_online()
        works(world)
        sent = world.ssm.send_command(InstanceIds=[world.node], DocumentName="AWS-RunShellScript",
                                      Parameters={"commands": ["echo by hand"]})["Command"]["CommandId"]
        eventually("the command ran", lambda: world.ssm.list_command_invocations(
            CommandId=sent)["CommandInvocations"][0]["Status"] == "Success")
    finally:
        world.host.run("umount", "/tmp")


def agent_needs_no_inotify(world):
    works(world)
    for process in world.host.do("pgrep", "-x", "ssm-agent|ssm-sessions").split():
        targets = world.host.do("sh", "-c", f"ls -l /proc/{process}/fd")
        check("inotify" not in targets, targets)


def session_without_free_process_ids_is_refused_and_the_next_one_opens(world):
    works(world)
    with Group(world, "pids") as group:
        used = int(group.read("pids.current"))
        group.write("pids.max", used)
        began = time.monotonic()
        shell = world.terminal(world.plugin())
        status = shell.wait()
        took = time.monotonic() - began
        check(status != 0, "there was a session")
        check(b"esource temporarily unavailable" in shell.seen, f"no reason: {shell.seen}")
        check(took < SOON, f"refused after {took:.1f} s")
        group.write("pids.max", used + 20)
        works(world)


def session_opens_with_64_mib_of_memory_left(world):
    works(world)
    with Group(world, "memory") as group:
        group.write("memory.limit_in_bytes", 64 << 20)
        works(world)
        check("oom_kill 0" in group.read("memory.oom_control"), "something was killed")


def stop(world):
    """Stops the agent, and what carries sessions."""
    world.host.run("systemctl", "stop", "ssm-agent")
    world.host.run("pkill", "-x", "ssm-sessions")
    eventually("nobody is there", lambda: not world.host.run("pgrep", "-x", "ssm-agent|ssm-sessions").stdout)


def writes(world, folder):
    """Whether something can be written there."""
    return world.host.run("sh", "-c", f"echo more > {folder}/more").returncode == 0


def works(world):
    """A session opens soon and is of use."""
    began = time.monotonic()
    shell = world.terminal(world.plugin())
    shell.expect(rb"[$#] ")
    took = time.monotonic() - began
    shell.answer("echo sum $((40 + 2))", rb"sum 42")
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")
    check(took < SOON, f"a session after {took:.1f} s")


class Small:
    """Small file systems with what is there, in the places where the agent writes."""

    def __init__(self, world, options):
        self.world = world
        self.options = options

    def __enter__(self):
        for folder in FOLDERS:
            copy = "/root/copy-of" + folder.replace("/", "-")
            self.world.host.do("sh", "-c", f"rm -rf {copy} && cp -a {folder} {copy} && rm -rf {copy}/sessions")
            self.world.host.do("mount", "-t", "tmpfs", "-o", self.options, "tmpfs", folder)
            self.world.host.do("sh", "-c", f"chmod --reference={copy} {folder} && cp -a {copy}/. {folder}/")
        restart(self.world)
        self.world.wait_until_online()

    def __exit__(self, *_):
        stop(self.world)
        for folder in FOLDERS:
            self.world.host.do("umount", folder)
        self.world.host.do("systemctl", "start", "ssm-agent")
        self.world.wait_until_online()


class Group:
    """A control group of the machine, version 1, with the agent's processes in it."""

    def __init__(self, world, controller):
        self.world = world
        self.path = f"/sys/fs/cgroup/{controller}/ssm-host-{os.getpid()}"

    def __enter__(self):
        check(os.path.isdir(os.path.dirname(self.path)), "this machine has no such control groups of version 1")
        os.mkdir(self.path)
        self.before = {}
        for process in self.processes():
            self.write("cgroup.procs", process)
        return self

    def __exit__(self, *_):
        parent = os.path.dirname(self.path)
        for process in self.read("cgroup.procs").split():
            with open(os.path.join(parent, "cgroup.procs"), "w") as file:
                file.write(process)
        os.rmdir(self.path)

    def processes(self):
        """The agent and what carries sessions, as the machine numbers them."""
        found = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{process}/comm") as name, open(f"/proc/{process}/root/etc/hostname") as host:
                    if name.read().strip() in ("ssm-agent", "ssm-sessions") and host.read().strip() == "host":
                        found.append(process)
            except OSError:
                # It has ended.
                continue
        check(found, "the agent does not run")
        return found

    def read(self, name):
        with open(os.path.join(self.path, name)) as file:
            return file.read()

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as file:
            file.write(str(value))
