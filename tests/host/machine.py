"""A Debian with a booted systemd, and a root without one."""

import os
import shutil
import signal
import subprocess

from checks import Failure, check, eventually

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
               "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
# How systemd-nspawn says that the container wants to be started again.
REBOOT = 133


class Root:
    """The files of a Debian, in a folder of their own."""

    def __init__(self, base, folder):
        self.folder = folder
        subprocess.run(["cp", "-a", "--reflink=auto", base, folder], check=True)

    def path(self, path):
        """Where the root's `path` lies for us."""
        return self.folder + path

    def exists(self, path):
        return os.path.lexists(self.path(path))

    def read(self, path):
        with open(self.path(path)) as file:
            return file.read()

    def write(self, path, text):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w") as file:
            file.write(text)

    def take(self, path):
        """Copies a file of ours to the root's /root; returns its path there."""
        shutil.copy(path, self.path("/root/"))
        return "/root/" + os.path.basename(path)

    def mode(self, path):
        return os.stat(self.path(path)).st_mode & 0o7777


class Machine(Root):
    """A root whose systemd runs, in a container with the network namespace of that name."""

    def __init__(self, base, folder, network, log):
        super().__init__(base, folder)
        self.write("/etc/hostname", "host\n")
        self.command = [
            "systemd-nspawn", "--quiet", "-D", folder, "--boot", "--register=no", "--keep-unit", "--link-journal=no",
            "--console=pipe", f"--network-namespace-path={network}"]
        self.log = log
        self.boot()

    def boot(self):
        self.nspawn = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        self.wait_until_up()

    def wait_until_up(self):
        self.leader = eventually("the container has a first process", self.find_leader)
        eventually("systemd is up", lambda: self.run("systemctl", "is-system-running").stdout.strip()
                   in ("running", "degraded"), deadline=60)

    def reboot(self):
        self.do("systemctl", "--no-block", "reboot")
        self.wait_for_reboot(60)

    def wait_for_reboot(self, deadline):
        """Waits until it goes down to come back, and boots it."""
        ended = self.nspawn.wait(deadline)
        check(ended == REBOOT, f"systemd-nspawn ended with {ended}")
        self.boot()

    def find_leader(self):
        if self.nspawn.poll() is not None:
            raise Failure(f"systemd-nspawn ended with {self.nspawn.returncode}")
        with open(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children") as children:
            # Its child is a process of its own, which changes into systemd.
            for child in children.read().split():
                with open(f"/proc/{child}/comm") as name:
                    if name.read().strip() == "systemd":
                        return int(child)
        return None

    def run(self, *arguments, check_status=False, environment=None, deadline=60):
        """Runs a program to its end."""
        ended = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--", *arguments], text=True,
            stdin=subprocess.DEVNULL, capture_output=True, env={**ENVIRONMENT, **(environment or {})}, timeout=deadline)
        if check_status:
            check(ended.returncode == 0, f"{' '.join(arguments)}: {ended.returncode} {ended.stdout}{ended.stderr}")
        return ended

    def do(self, *arguments, **options):
        """Runs a program that must succeed; returns what it wrote."""
        return self.run(*arguments, check_status=True, **options).stdout.strip()

    def unit(self, name, member):
        """What systemd says of a unit."""
        return self.do("systemctl", "show", "--value", "-p", member, name)

    def end(self):
        # What systemd takes for an order to power off.
        self.nspawn.send_signal(signal.SIGTERM)
        try:
            self.nspawn.wait(30)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()
