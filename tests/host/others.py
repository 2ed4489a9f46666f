"""The packages of gateway and client, and all of them as rpm."""

import os
import socket
import ssl
import subprocess

from checks import check, eventually
from host import LATER

STATE = "/var/lib/ssm-gateway"


def gateway_runs_as_its_own_user_under_its_hardening(world):
    for _ in range(2):
        world.install(world.inside["ssm-gateway"])
    check(world.host.unit("ssm-gateway", "ActiveState") == "inactive", "it was started before it was configured")

    world.host.write("/etc/default/ssm-gateway", "SSM_GATEWAY_LISTEN=0.0.0.0:8443\n")
    world.host.do("systemctl", "enable", "--now", "ssm-gateway")

    process = world.host.unit("ssm-gateway", "MainPID")
    check(world.host.do("stat", "-c", "%U", f"/proc/{process}") == "ssm-gateway", "it runs as somebody else")
    check(world.host.do("grep", "CapEff", f"/proc/{process}/status").split()[1].strip("0") == "", "it has capabilities")
    check(world.host.do("stat", "-c", "%U %a", STATE) == "ssm-gateway 700", "others may look into its folder")
    made = world.host.do("runuser", "-u", "ssm-gateway", "--", "ssm-gateway", "activation", "create")
    check(made, "no activation was made")
    check(answers(world), "nobody answers")


def gateway_is_upgraded_under_its_clients_and_leaves_its_data(world):
    before = world.host.unit("ssm-gateway", "MainPID")
    world.install(world.later["ssm-gateway"])
    check(world.host.unit("ssm-gateway", "MainPID") not in ("0", before), "the old process runs")
    eventually("the new version answers", lambda: answers(world))
    check(world.host.read("/etc/default/ssm-gateway") == "SSM_GATEWAY_LISTEN=0.0.0.0:8443\n", "the settings are gone")

    world.host.do("dpkg", "--purge", "ssm-gateway")
    check(world.host.unit("ssm-gateway", "LoadState") == "not-found", "the unit is still there")
    check(world.host.exists(f"{STATE}/ca.pem"), "the certificate authority is gone")

    world.install(world.inside["ssm-gateway"])
    world.host.do("dpkg", "--purge", "ssm-gateway")


def client_runs_from_its_package(world):
    world.install(world.inside["ssm-session-client"])

    check(world.host.do("session-manager-plugin", "--version"), "it does not say its version")
    world.host.do("dpkg", "--purge", "ssm-session-client")


def rpms_are_installed_upgraded_and_erased(world):
    root = world.rpm_root("rpm")
    for name in ("ssm-agent", "ssm-gateway", "ssm-session-client"):
        package = world.package(name, "rpm")
        wanted = files_of(package)
        check(wanted, f"{name} is empty")

        # The second time as an upgrade to the same version.
        for how in (["--install"], ["--upgrade", "--replacepkgs"]):
            said = rpm(root, *how, "--nodeps", package)
            check(not said, f"{name}: {said}")
            altered = rpm(root, "--verify", "--nodeps", name)
            check(not altered, f"{name}: {altered}")
        for path, (mode, owner) in wanted.items():
            check(root.exists(path), f"{name}: {path} is missing")
            check(owner == "root/root", f"{name}: {path} belongs to {owner}")
            check(not mode & 0o022, f"{name}: others may write {path}")
        if name == "ssm-gateway":
            check("ssm-gateway:" in root.read("/etc/passwd"), "the gateway has no user")

        root.write("/var/lib/amazon/ssm/registration", "{}")
        said = rpm(root, "--erase", name)
        check(not said, f"{name}: {said}")
        left = [path for path in wanted if root.exists(path)]
        check(not left, f"{name}: {left} are still there")
        check(root.exists("/var/lib/amazon/ssm/registration"), "the registration is gone")


def rpm_scripts_start_restart_and_stop_the_agent(world):
    world.host.do("dpkg", "--purge", "ssm-agent")
    package = world.host.take(world.package("ssm-agent", "rpm"))
    world.host.do("rpm", "--force-debian", "--install", "--nodeps", package)
    world.wait_until_online()
    check(world.host.do("systemctl", "is-enabled", "ssm-agent") == "enabled", "it is not enabled")

    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    shell.answer("number=40; sleep 1000 & echo job $!", rb"job \d+")
    for number, (option, which, version) in enumerate((("--replacepkgs", package, None),
                                                       ("--force", world.later_rpm(), LATER),
                                                       ("--oldpackage", package, None))):
        before = world.agent_process()
        world.host.do("rpm", "--force-debian", "--upgrade", option, "--nodeps", which)
        check(world.agent_process() not in (0, before), "the old process runs")
        world.wait_until_online()
        installed = world.host.do("rpm", "--force-debian", "--query", "--queryformat", "%{VERSION}", "ssm-agent")
        check((installed == LATER) == (version == LATER), f"version {installed} is there")
        shell.answer(f"kill -0 $! && echo sum $((number + {number}))", f"sum {40 + number}".encode())
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")
    world.wait_until_all_sessions_are_over()

    world.host.do("systemctl", "disable", "ssm-agent")
    world.host.do("rpm", "--force-debian", "--upgrade", "--replacepkgs", "--nodeps", package)
    check(world.host.run("systemctl", "is-enabled", "ssm-agent").stdout.strip() == "disabled", "it is enabled again")

    world.host.do("rpm", "--force-debian", "--erase", "--nodeps", "ssm-agent")
    check(world.host.unit("ssm-agent", "LoadState") == "not-found", "the unit is still there")
    check(world.host.run("pgrep", "-x", "ssm-agent").returncode == 1, "the agent still runs")
    world.install(world.inside["ssm-agent"])
    world.wait_until_online()


def rpm_of_the_reference_is_replaced_with_its_node_and_can_come_back(world):
    world.host.do("dpkg", "--purge", "ssm-agent")
    package, reference = world.host.take(world.package("ssm-agent", "rpm")), world.host.take(stand_in(world))
    rpm = ["rpm", "--force-debian", "--nodeps"]
    world.host.do(*rpm, "--install", reference)
    eventually("the stand-in runs", lambda: world.host.unit("amazon-ssm-agent", "ActiveState") == "active")

    world.host.do(*rpm, "--upgrade", package)
    world.wait_until_online()
    check(world.host.run("pgrep", "-f", "reference-stand-in").returncode == 1, "the stand-in still runs")
    check(world.host.run(*rpm[:2], "--query", "amazon-ssm-agent").returncode != 0, "its package is still there")
    check(world.host.do("systemctl", "is-enabled", "ssm-agent") == "enabled", "the agent is not enabled")

    world.host.do(*rpm, "--erase", "ssm-agent")
    world.host.do(*rpm, "--install", reference)
    eventually("the stand-in runs again", lambda: world.host.unit("amazon-ssm-agent", "ActiveState") == "active")
    world.host.do(*rpm, "--erase", "amazon-ssm-agent")
    world.install(world.inside["ssm-agent"])
    world.wait_until_online()


def stand_in(world):
    """An rpm with the names of the reference's, its unit, and what its scripts do (host.md)."""
    folder = world.path("reference-rpm")
    os.makedirs(folder)
    spec = os.path.join(folder, "reference.spec")
    with open(spec, "w") as file:
        file.write("""
Name: amazon-ssm-agent
Version: 3.3.987.0
Release: 1
Summary: stand-in
License: none
BuildArch: noarch
%description
stand-in
%install
mkdir -p %{buildroot}/etc/systemd/system
cat >%{buildroot}/etc/systemd/system/amazon-ssm-agent.service <<'END'
[Service]
ExecStart=/bin/bash -c 'exec -a reference-stand-in sleep infinity'
[Install]
WantedBy=multi-user.target
END
%files
/etc/systemd/system/amazon-ssm-agent.service
%preun
if [ $1 -eq 0 ]; then
    systemctl stop amazon-ssm-agent
    systemctl disable amazon-ssm-agent
    systemctl daemon-reload
fi
%posttrans
systemctl enable amazon-ssm-agent
systemctl start amazon-ssm-agent
systemctl daemon-reload
""")
    subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {folder}", spec], check=True, capture_output=True)
    return os.path.join(folder, "RPMS/noarch/amazon-ssm-agent-3.3.987.0-1.noarch.rpm")


def rpm_of_the_gateway_starts_restarts_and_stops_it(world):
    package = world.host.take(world.package("ssm-gateway", "rpm"))
    rpm = ["rpm", "--force-debian", "--nodeps"]
    world.host.do(*rpm, "--install", package)
    check(world.host.unit("ssm-gateway", "ActiveState") == "inactive", "it was started before it was configured")
    world.host.write("/etc/default/ssm-gateway", "SSM_GATEWAY_LISTEN=0.0.0.0:8443\n")
    world.host.do("systemctl", "enable", "--now", "ssm-gateway")
    before = world.host.unit("ssm-gateway", "MainPID")
    eventually("it answers", lambda: answers(world))

    world.host.do(*rpm, "--upgrade", "--replacepkgs", package)
    check(world.host.unit("ssm-gateway", "MainPID") not in ("0", before), "the old process runs")
    eventually("the new one answers", lambda: answers(world))
    check(world.host.read("/etc/default/ssm-gateway") == "SSM_GATEWAY_LISTEN=0.0.0.0:8443\n", "the settings are gone")

    world.host.do(*rpm, "--erase", "ssm-gateway")
    check(world.host.unit("ssm-gateway", "LoadState") == "not-found", "the unit is still there")
    check(world.host.run("pgrep", "-x", "ssm-gateway").returncode == 1, "it still runs")
    check(world.host.exists(f"{STATE}/ca.pem"), "the certificate authority is gone")


def rpms_take_the_place_of_the_references(world):
    for name, other in (("ssm-agent", "amazon-ssm-agent"), ("ssm-session-client", "session-manager-plugin")):
        package = world.package(name, "rpm")
        for relation in ("--provides", "--conflicts"):
            said = subprocess.run(["rpm", "--query", relation, "--package", package], check=True, text=True,
                                  capture_output=True).stdout
            check(other in said, f"{name}: {other} is not in its {relation}")


def rpm(root, *arguments):
    """What rpm and the scripts of the package say."""
    ended = subprocess.run(["rpm", "--force-debian", "--root", root.folder, *arguments], text=True, capture_output=True)
    said = ended.stdout + ended.stderr
    return said if said or ended.returncode == 0 else f"exit status {ended.returncode}"


def files_of(package):
    """Mode and owner of every file of a package."""
    lines = subprocess.run(
        ["rpm", "--query", "--package", "--queryformat", "[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME}/%{FILEGROUPNAME}\n]",
         package], check=True, text=True, capture_output=True).stdout.splitlines()
    split = [line.split(" ") for line in lines]
    return {path: (int(mode, 8) & 0o7777, owner) for path, mode, owner in split}


def answers(world):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.load_verify_locations(cadata=world.host.read(f"{STATE}/ca.pem"))
    try:
        with socket.create_connection(("10.77.0.2", 8443), timeout=5) as raw, context.wrap_socket(raw) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
            return tls.recv(16).startswith(b"HTTP/1.1 ")
    except OSError:
        return False
