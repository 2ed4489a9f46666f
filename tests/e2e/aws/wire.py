"""A TCP relay that keeps what passes, and reads the stream messages in it.

It stands between a client and the gateway's listener without TLS. What the client sends is masked by
the WebSocket protocol, so frames are taken apart before anything is looked for in them.
"""

import socket
import threading

OUTPUT = 1
TYPE_OFFSET = 112
PAYLOAD_OFFSET = 120


class Relay:
    """Relays connections to `address`, and remembers both directions."""

    def __init__(self, address):
        self.address = address
        self.lock = threading.Lock()
        self.up = []
        self.down = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.address)
            for source, sink, kept in [(near, far, self.up), (far, near, self.down)]:
                with self.lock:
                    kept.append(bytearray())
                threading.Thread(target=self.pass_on, args=(source, sink, kept[-1]), daemon=True).start()

    def pass_on(self, source, sink, kept):
        try:
            while data := source.recv(65536):
                with self.lock:
                    kept += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()

    def payloads(self, direction):
        """The payloads of all output messages of a direction, `up` or `down`."""
        with self.lock:
            streams = [bytes(stream) for stream in getattr(self, direction)]
        return [message[PAYLOAD_OFFSET:] for stream in streams for message in messages(stream)
                if len(message) >= PAYLOAD_OFFSET
                and int.from_bytes(message[TYPE_OFFSET:TYPE_OFFSET + 4], "big") == OUTPUT
                and message[4:36].strip() in (b"input_stream_data", b"output_stream_data")]


def messages(stream):
    """The binary messages of one direction of a WebSocket connection; none of ours are fragmented."""
    _, _, rest = stream.partition(b"\r\n\r\n")
    while len(rest) >= 2:
        opcode, masked, length = rest[0] & 0x0F, rest[1] & 0x80, rest[1] & 0x7F
        at = 2
        if length == 126:
            length, at = int.from_bytes(rest[2:4], "big"), 4
        elif length == 127:
            length, at = int.from_bytes(rest[2:10], "big"), 10
        mask = rest[at:at + 4] if masked else bytes(4)
        at += 4 if masked else 0
        payload = rest[at:at + length]
        if len(payload) < length:
            return
        if opcode == 2:
            yield bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        rest = rest[at + length:]
