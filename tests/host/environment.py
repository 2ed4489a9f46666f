"""Hosts whose surroundings are not as they should be: names, clock, addresses, proxies."""

import json
import select
import socket
import threading
import time

from checks import DEADLINE, check, eventually
from host import CONFIGURATION

# Resolves where the host's /etc/hosts says so.
NAME = "gateway.test"
# The goal, from the moment when the cause is gone.
BACK_WITHIN = 30
OUTAGE = 45
DROP_IN = "/etc/systemd/system/ssm-agent.service.d/surroundings.conf"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def agent_is_back_soon_after_names_resolve_again(world):
    hosts = world.host.read("/etc/hosts") if world.host.exists("/etc/hosts") else ""
    # Nobody is there, so every question takes its time, as it does when a name server is down.
    world.host.write("/etc/resolv.conf", "nameserver 10.77.0.9\n")
    lead_to(world, f"https://{NAME}:{port(world)}")
    restart(world)
    time.sleep(OUTAGE)
    check(connection(world) != "connected", "the agent needs no names")

    world.host.write("/etc/hosts", f"{hosts}\n10.77.0.1 {NAME}\n")

    took = seconds_until_a_session_opens(world)
    print(f"    session {took:.1f} s after the name resolves")
    world.host.write("/etc/hosts", hosts)
    lead_home(world)


def agent_with_a_wrong_clock_works(world):
    for offset in ("-1d", "+1d"):
        world.host.write(DROP_IN, f"[Service]\nEnvironment=LD_PRELOAD={FAKETIME} FAKETIME={offset} FAKETIME_DONT_FAKE_MONOTONIC=1\n")
        restart(world)
        seconds_until_a_session_opens(world)
        agent = world.host.do("sh", "-c", f"tr '\\0' '\\n' </proc/{world.agent_process()}/environ")
        check(f"FAKETIME={offset}" in agent, "the clock is right")
        sent = world.ssm.send_command(InstanceIds=[world.node], DocumentName="AWS-RunShellScript",
                                      Parameters={"commands": ["echo by hand"]})["Command"]["CommandId"]
        eventually("the command ran", lambda: invocation(world, sent)["Status"] == "Success")
        said = world.host.do("journalctl", "-u", "ssm-agent", "-o", "cat", f"_PID={world.agent_process()}")
        check("this host's clock differs" in said, said)
        clock = world.diagnosis("Clock", LD_PRELOAD=FAKETIME, FAKETIME=offset)
        check(clock["Status"] == "Failed" and clock["Hint"], f"{clock}")
    lead_home(world)


def agent_is_back_soon_after_its_address_changed(world):
    shell = world.terminal(world.session(world.aws))
    shell.expect(rb"[$#] ")
    try:
        address(world, "del", "10.77.0.2/24")
        address(world, "add", "10.77.0.3/24")
        took = seconds_until_a_session_opens(world)
        began = time.monotonic()
        shell.run("echo same-$((40 + 2))", rb"same-42\r\n")
        print(f"    session {took:.1f} s after the change; the open one {time.monotonic() - began:.1f} s later")
    finally:
        address(world, "del", "10.77.0.3/24")
        address(world, "add", "10.77.0.2/24")
    shell.run("echo and-$((40 + 3))", rb"and-43\r\n")
    shell.send(b"exit\r")
    check(shell.wait() == 0, "the client failed")


def host_with_ipv6_alone_is_online(world):
    world.host.do("ip", "address", "add", "fd77::2/64", "dev", "link0", "nodad")
    with Relay(("fd77::1", port(world)), ("10.77.0.1", port(world))):
        lead_to(world, f"https://[fd77::1]:{port(world)}")
        stop(world)
        address(world, "del", "10.77.0.2/24")
        try:
            world.host.do("systemctl", "start", "--no-block", "ssm-agent")
            seconds_until_a_session_opens(world)
            stop(world)
        finally:
            address(world, "add", "10.77.0.2/24")
    lead_home(world)


def agent_behind_a_proxy_is_online(world):
    with Proxy("10.77.0.1", {NAME: "10.77.0.1"}) as proxy:
        lead_to(world, f"https://{NAME}:{port(world)}")
        world.host.write(DROP_IN, f"[Service]\nEnvironment=https_proxy=http://10.77.0.1:{proxy.port}\n")
        restart(world)
        seconds_until_a_session_opens(world)
        # Registration and health, the control channel, a data channel.
        check(len(proxy.asked) >= 3 and set(proxy.asked) == {f"{NAME}:{port(world)}"}, f"asked for {proxy.asked}")
        said = json.loads(world.host.do("ssm-cli", "get-diagnostics"))["DiagnosticsOutput"]
        check(all(one["Status"] != "Failed" for one in said), f"{said}")
    lead_home(world)


def agent_goes_by_the_names_of_fips_and_dual_stack_endpoints(world):
    hosts = world.host.read("/etc/hosts") if world.host.exists("/etc/hosts") else ""
    configuration = json.loads(world.host.read(CONFIGURATION))
    with Relay(("10.77.0.1", 443), ("10.77.0.1", port(world))):
        for endpoints, mark, domain in (
                ({"UseFips": True}, "-fips", "amazonaws.com"),
                ({"UseDualStack": True}, "", "api.aws"),
                ({"UseFips": True, "UseDualStack": True}, "-fips", "api.aws")):
            # No other name leads anywhere.
            names = " ".join(f"{service}{mark}.us-east-1.{domain}" for service in ("ssm", "ssmmessages", "ec2messages"))
            world.host.write("/etc/hosts", f"{hosts}\n10.77.0.1 {names}\n")
            changed = {name: value for name, value in configuration.items() if name not in ("Ssm", "Mgs", "Mds")}
            changed["SsmAgent"] = {**configuration["SsmAgent"], "Endpoints": endpoints}
            world.host.write(CONFIGURATION, json.dumps(changed))
            restart(world)
            seconds_until_a_session_opens(world)
    world.host.write("/etc/hosts", hosts)
    world.host.write(CONFIGURATION, json.dumps(configuration))
    lead_home(world)


def port(world):
    return int(world.url.rpartition(":")[2])


def lead_to(world, url):
    """Changes where the agent finds the gateway."""
    configuration = json.loads(world.host.read(CONFIGURATION))
    for service in ("Ssm", "Mgs", "Mds"):
        configuration[service]["Endpoint"] = url
    world.host.write(CONFIGURATION, json.dumps(configuration))


def lead_home(world):
    """Surroundings as they should be."""
    lead_to(world, world.url)
    world.host.run("rm", "-f", DROP_IN)
    restart(world)
    world.wait_until_online()


def restart(world):
    world.host.do("systemctl", "daemon-reload")
    stop(world)
    world.host.do("systemctl", "start", "--no-block", "ssm-agent")


def stop(world):
    world.host.do("systemctl", "stop", "ssm-agent")
    eventually("the agent is away", lambda: connection(world) != "connected")


def connection(world):
    return world.ssm.get_connection_status(Target=world.node)["Status"]


def invocation(world, command):
    return world.ssm.list_command_invocations(CommandId=command)["CommandInvocations"][0]


def address(world, change, which):
    world.host.do("ip", "address", change, which, "dev", "link0")


def seconds_until_a_session_opens(world):
    """Opens a session as soon as one can be; how long that took."""
    began = time.monotonic()
    while True:
        took = time.monotonic() - began
        check(took < BACK_WITHIN, f"no session after {took:.0f} s")
        shell = world.terminal(world.session(world.aws))
        try:
            shell.expect(rb"[$#] ")
        except Exception:  # it may fail in any way until the agent is back
            time.sleep(0.2)
            continue
        took = time.monotonic() - began
        shell.send(b"exit\r")
        check(shell.wait() == 0, "the client failed")
        check(took < BACK_WITHIN, f"a session after {took:.0f} s only")
        return took


class Relay:
    """Passes connections on, byte for byte."""

    def __init__(self, listen, target):
        family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        self.listener = socket.create_server(listen, family=family)
        self.target = target
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.take, args=(connection,), daemon=True).start()

    def take(self, connection):
        with connection, socket.create_connection(self.target) as other:
            pass_on(connection, other)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


class Proxy(Relay):
    """An HTTP proxy that knows CONNECT and resolves names by a table."""

    def __init__(self, listen, names):
        super().__init__((listen, 0), None)
        self.names = names
        self.asked = []
        self.port = self.listener.getsockname()[1]

    def take(self, connection):
        with connection:
            connection.settimeout(DEADLINE)
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = connection.recv(4096)
                if not chunk:
                    return
                head += chunk
            method, target, _ = head.split(b"\r\n")[0].decode().split()
            self.asked.append(target)
            name, _, number = target.rpartition(":")
            if method != "CONNECT" or name not in self.names:
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            with socket.create_connection((self.names[name], int(number))) as other:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                connection.settimeout(None)
                pass_on(connection, other)


def pass_on(one, other):
    """Both ways, until one end is closed."""
    ways = {one: other, other: one}
    while True:
        for ready in select.select(ways, [], [])[0]:
            try:
                data = ready.recv(1 << 16)
                if not data:
                    return
                ways[ready].sendall(data)
            except OSError:
                return
