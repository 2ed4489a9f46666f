"""Port sessions of the AWS CLI: many connections, half-close, refusals, other hosts, Unix sockets."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from checks import DEADLINE, check

FORWARD = "AWS-StartPortForwardingSession"
REMOTE = "AWS-StartPortForwardingSessionToRemoteHost"
END = b"end"


def port_carries_many_connections_with_their_half_close(world, aws):
    with Server() as server, Tunnel(world, aws, FORWARD, portNumber=server.port) as tunnel:
        tunnel.echoes(os.urandom(4 << 20))
        with ThreadPoolExecutor(10) as people:
            list(people.map(tunnel.echoes, [os.urandom(300_000 + 1_000 * n) for n in range(10)]))
        tunnel.program.expect(rb"Connection accepted for session \[")


def refused_connection_is_told_and_the_session_stays(world, aws):
    # Bound, so that nobody else gets the port, but listening to nobody.
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    with closed, Tunnel(world, aws, FORWARD, portNumber=closed.getsockname()[1]) as tunnel:
        with tunnel.connect() as refused:
            try:
                check(refused.recv(1) == b"", "an end or a reset")
            except ConnectionResetError:
                pass
        tunnel.program.expect(rb"Connection to destination port failed", stream=2)
        closed.listen()
        closed.settimeout(DEADLINE)
        with tunnel.connect() as client, closed.accept()[0] as served:
            client.sendall(b"here")
            check(served.recv(4) == b"here", "the next connection passes")


def port_leads_to_a_host_by_name_and_address(world, aws):
    with Server() as server:
        for host in ["localhost", "127.0.0.1"]:
            with Tunnel(world, aws, REMOTE, host=host, portNumber=server.port) as tunnel:
                tunnel.echoes(os.urandom(100_000))


def forbidden_host_is_refused_with_a_reason(world, aws):
    status, _, errors = world.run(world.session(aws, REMOTE, host="169.254.169.254", portNumber=80))
    check(b"Forwarding to IP address 169.254.169.254 is forbidden." in errors, f"{errors}")
    check(status != 0, "the failure shows in the exit status")


def sockets_of_the_client_and_of_the_host_are_joined(world, aws):
    local = world.path("local.sock")
    with Server() as server, Tunnel(world, aws, FORWARD + "ToSocket", portNumber=server.port,
                                    localUnixSocket=local) as tunnel:
        check(tunnel.address == local, f"{tunnel.address}")
        tunnel.echoes(os.urandom(100_000))
    remote = world.path("remote.sock")
    with Server(remote), Tunnel(world, aws, "SSM-StartUnixSocketForwarding", socket=remote) as tunnel:
        tunnel.echoes(os.urandom(100_000))


class Tunnel:
    """A port session, for as long as the block runs."""

    def __init__(self, world, aws, document, **parameters):
        self.world = world
        self.program = world.client(world.session(aws, document, **parameters))
        opened = rb"(?:Port (\d+)|Unix socket (\S+)) opened for sessionId \S+\.\s+Waiting for connections\.\.\."
        port, path = self.program.expect(opened).groups()
        self.address = ("127.0.0.1", int(port)) if port else path.decode()

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure is None:
            self.program.interrupt()
            status = self.program.wait()
            check(status == 0, f"exit status {status} of a tunnel that was left with ^C")
            self.world.wait_until_all_sessions_are_over()

    def connect(self):
        return connect(self.address)

    def echoes(self, data):
        """What is sent comes back, and an end that only the end of `data` brings about."""
        with self.connect() as connection:
            writer = threading.Thread(target=send_all, args=(connection, data))
            writer.start()
            received = bytearray()
            while chunk := connection.recv(1 << 16):
                received += chunk
            writer.join()
        check(received == data + END, f"{len(data)} bytes were sent, {len(received)} other ones came")


class Server:
    """Sends back what it reads, and after its end a last word."""

    def __init__(self, path=None):
        self.path = path
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(16)
        else:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
            self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Closing alone does not wake who waits for a connection.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if self.path:
            os.unlink(self.path)

    def accept(self):
        try:
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()
        except OSError:
            pass


def serve(connection):
    with connection:
        try:
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.sendall(END)
        except OSError:
            pass


def connect(address):
    connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    connection.settimeout(DEADLINE)
    connection.connect(address)
    return connection


def send_all(connection, data):
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the reader tells what is missing
