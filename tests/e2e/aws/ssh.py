"""OpenSSH through raw streams of the AWS CLI, to a server of its own on the host."""

import os
import pwd
import shutil
import socket
import subprocess

from checks import check, eventually

SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")


def openssh_runs_commands(world, aws):
    with Host(world, aws) as host:
        status, output, errors = host.run("ssh", host.name, "cat; echo oops >&2; exit 7", input=b"typed\n\x00\xff")
        check((status, output) == (7, b"typed\n\x00\xff"), f"{status}, {output}, {errors}")
        check(b"oops\n" in errors, f"{errors}")


def openssh_copies_files(world, aws):
    data = os.urandom(4 << 20)
    with Host(world, aws) as host:
        with open(host.path("original"), "wb") as file:
            file.write(data)
        for program in ["scp", "sftp", "rsync"]:
            up, down = host.path(program + "-up"), host.path(program + "-down")
            host.copy(program, host.path("original"), f"{host.name}:{up}")
            host.copy(program, f"{host.name}:{up}", down)
            for copy in (up, down):
                with open(copy, "rb") as file:
                    check(file.read() == data, f"{copy} differs")


class Host:
    """A server behind the agent, and a configuration that leads to it, for as long as the block runs."""

    def __init__(self, world, aws):
        self.world = world
        self.folder = world.path("ssh")
        self.name = world.node
        os.mkdir(self.folder, 0o700)
        for key in ("host-key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(key)], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.serve()
        proxy = (f"{aws} ssm start-session --target %h --document-name AWS-StartSSHSession "
                 f"--parameters portNumber=%p --endpoint-url {world.url}")
        self.write("config", f"Host {self.name}\nPort {self.port}\nUser {pwd.getpwuid(os.geteuid()).pw_name}\n"
                             f"IdentityFile {self.path('key')}\nIdentitiesOnly yes\nBatchMode yes\n"
                             f"UserKnownHostsFile {self.path('known')}\nStrictHostKeyChecking accept-new\n"
                             f"LogLevel ERROR\nProxyCommand {proxy}\n")

    def serve(self):
        if os.geteuid() == 0:
            # Its unprivileged part lives there.
            os.makedirs("/run/sshd", exist_ok=True)
        self.write("sshd_config", f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.path('host-key')}\n"
                                  f"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
                                  f"AuthorizedKeysFile {self.path('key.pub')}\nSubsystem sftp internal-sftp\n")
        self.server = self.world.client([SSHD, "-D", "-e", "-f", self.path("sshd_config")])
        eventually(f"sshd listens: {self.server.errors()}", self.listens)

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure is None:
            self.world.wait_until_all_sessions_are_over()
        self.server.end()
        self.world.clients.remove(self.server)
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def run(self, program, *arguments, input=b""):
        config = ["-e", f"ssh -F {self.path('config')}"] if program == "rsync" else ["-F", self.path("config")]
        return self.world.run([program, *config, *arguments], input)

    def copy(self, program, source, target):
        """Copies a file; the host's name and a colon before a path mean that it is there."""
        if program == "sftp":
            there = self.name + ":"
            verb = "put" if target.startswith(there) else "get"
            self.write("batch", f"{verb} {source.removeprefix(there)} {target.removeprefix(there)}\n")
            arguments = ["-b", self.path("batch"), self.name]
        else:
            arguments = [source, target]
        status, output, errors = self.run(program, *arguments)
        check(status == 0, f"{program}: {status}, {output}, {errors}")
