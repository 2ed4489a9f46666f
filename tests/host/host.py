"""A gateway with the clients of a person on one side of a link, a host with our packages on the other."""

import glob
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../e2e/aws"))

import certificates
import world
from checks import check, eventually
from machine import Machine, Root

CONFIGURATION = "/etc/amazon/ssm/amazon-ssm-agent.json"
PACKAGES = ("ssm-agent", "ssm-gateway", "ssm-session-client")
# Later than any version of ours.
LATER = "999.0.0"


class HostWorld(world.World):
    """A gateway, and a host where nothing is installed yet."""

    ADDRESS = "10.77.0.1"

    def __init__(self, programs, packages, base, network):
        super().__init__(programs)
        self.packages = packages
        self.base = base
        self.network = network
        self.host = None

    def prepare_certificate(self):
        authority, certificate, key = (self.path(name) for name in ("authority.pem", "gateway.pem", "gateway.key"))
        names = ["gateway.test", "*.us-east-1.amazonaws.com", "*.us-east-1.api.aws", self.ADDRESS, "fd77::1"]
        certificates.make(authority, certificate, key, names)
        self.gateway_options = ("--tls-cert", certificate, "--tls-key", key)
        return authority

    def start_host(self):
        self.aws = os.path.join(os.path.dirname(sys.executable), "aws")
        self.host = Machine(self.base, self.path("host"), self.network, self.log)
        self.debs = {name: self.package(name, "deb") for name in PACKAGES}
        self.inside = {name: self.host.take(deb) for name, deb in self.debs.items()}
        self.later = {name: self.host.take(self.with_version(deb, LATER)) for name, deb in self.debs.items()}

    def package(self, name, kind):
        """The one package of that name and kind."""
        found = glob.glob(f"{self.packages}/{name}[-_][0-9]*.{kind}")
        check(len(found) == 1, f"{name}: {found}")
        return found[0]

    def later_rpm(self):
        """The agent's rpm with a later version; its path on the host."""
        found = glob.glob(f"{self.packages}/later/ssm-agent-{LATER}-*.rpm")
        check(len(found) == 1, f"{found}")
        return self.host.take(found[0])

    def with_version(self, deb, version):
        """The same package with another version."""
        folder = self.path("unpacked")
        subprocess.run(["dpkg-deb", "--raw-extract", deb, folder], check=True)
        control = os.path.join(folder, "DEBIAN/control")
        with open(control) as file:
            lines = [f"Version: {version}\n" if line.startswith("Version:") else line for line in file]
        with open(control, "w") as file:
            file.writelines(lines)
        changed = self.path(os.path.basename(deb).replace(".deb", "-later.deb"))
        subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", folder, changed], check=True,
                       capture_output=True)
        subprocess.run(["rm", "-r", folder], check=True)
        return changed

    def rpm_root(self, name):
        """A root for rpm, which finds no packages there and a shell for its scripts."""
        return Root(self.base, self.path(name))

    def install(self, *debs):
        """Installs packages as a script would; returns what it said."""
        return self.host.do("dpkg", "--install", *debs)

    def configure(self, **session):
        """Leads the host's agent to the gateway, with these settings of ours for sessions."""
        with open(self.ca) as file:
            self.host.write("/etc/amazon/ssm/gateway.pem", file.read())
        self.host.write(CONFIGURATION, json.dumps(
            {"Ssm": {"Endpoint": self.url}, "Mgs": {"Endpoint": self.url}, "Mds": {"Endpoint": self.url},
             "Identity": {"ConsumptionOrder": ["OnPrem"]},
             "SsmAgent": {"CaFile": "/etc/amazon/ssm/gateway.pem", "Session": session}}))

    def plugin(self):
        """The arguments of a client whose session has just been asked for: what the AWS CLI does, without its own start."""
        request = {"Target": self.node}
        response = self.ssm.start_session(**request)
        del response["ResponseMetadata"]
        return [self.program("session-manager-plugin"), json.dumps(response), "us-east-1", "StartSession", "",
                json.dumps(request), self.url]

    def status(self):
        """What the agent says of itself; nothing without one."""
        said = self.host.run("ssm-cli", "status", "--json")
        return json.loads(said.stdout) if said.stdout else {}

    def diagnosis(self, name, **environment):
        """What ssm-cli finds of one thing."""
        said = json.loads(self.host.do("ssm-cli", "get-diagnostics", environment=environment))["DiagnosticsOutput"]
        return next(each for each in said if each["Check"] == name)

    def register(self, *options):
        """Registers the host; returns its node id."""
        activation = self.ssm.create_activation(IamRole="any", DefaultInstanceName="host", RegistrationLimit=1)
        said = self.host.do("ssm-agent", "register", "--id", activation["ActivationId"], "--region", "us-east-1",
                            *options, environment={"SSM_ACTIVATION_CODE": activation["ActivationCode"]})
        self.node = re.search(r"mi-[0-9a-f]{17}", said).group(0)
        return self.node

    def wait_until_online(self):
        eventually("the agent is connected",
                   lambda: self.ssm.get_connection_status(Target=self.node)["Status"] == "connected")

    def agent_process(self):
        """The agent's process id on the host, 0 without one."""
        return int(self.host.unit("ssm-agent", "MainPID"))

    def end(self):
        super().end_clients()
        if self.host:
            self.host.end()
        super().end()
