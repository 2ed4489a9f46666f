"""The programs of a person, with and without a terminal, each with a process group of its own."""

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time

from checks import DEADLINE, Failure


class Terminal:
    """A program on a terminal of its own, driven by what it prints."""

    def __init__(self, arguments, environment, rows=30, cols=100):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(arguments[0], arguments, environment)
        self.running = True
        self.resize(rows, cols)
        self.seen = b""

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def read(self, wait):
        ready, _, _ = select.select([self.fd], [], [], wait)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                return None
            raise
        self.seen += data
        return bool(data) or None

    def expect(self, pattern, start=0, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            found = re.search(pattern, self.seen[start:])
            if found:
                return found
            if self.read(0.2) is None:
                break
        raise Failure(f"{pattern!r} did not appear, but {self.seen[start:][-2000:]!r}")

    def send(self, data):
        """Writes while reading, as a person's terminal does."""
        while data:
            _, writable, _ = select.select([], [self.fd], [], 0.02)
            if writable:
                data = data[os.write(self.fd, data[:512]):]
            self.read(0)

    def run(self, command, pattern):
        start = len(self.seen)
        self.send(command.encode() + b"\r")
        return self.expect(pattern, start)

    def answer(self, command, line):
        """Like `run`, for a whole line. What is typed before the prompt is shown before it: the answer stands behind."""
        return self.run(command, rb"(?:[\r\n]|[$#] )" + line + rb"\r\n")

    def wait(self, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read(0):
                    pass
                self.running = False
                return os.waitstatus_to_exitcode(status)
        raise Failure(f"the program did not end, its last words: {self.seen[-500:]!r}")

    def end(self):
        """Ends the program if it still runs, and all that it started."""
        kill_group(self.pid)
        if self.running:
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Program:
    """A program without a terminal; its streams are files."""

    def __init__(self, arguments, environment, input=b""):
        self.files = [tempfile.TemporaryFile() for _ in range(3)]
        os.pwrite(self.files[0].fileno(), input, 0)
        stdin, stdout, stderr = self.files
        self.process = subprocess.Popen(arguments, stdin=stdin, stdout=stdout, stderr=stderr, env=environment,
                                        start_new_session=True)

    def output(self):
        return self.written(1)

    def errors(self):
        return self.written(2)

    def written(self, stream):
        # The program shares the position in the file, so it must stay where it is.
        file = self.files[stream].fileno()
        return os.pread(file, os.fstat(file).st_size, 0)

    def expect(self, pattern, stream=1, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.written(stream))
            if found:
                return found
            if ended:
                break
            time.sleep(0.02)
        raise Failure(f"{pattern!r} did not appear, but {self.words()}")

    def interrupt(self):
        """What `^C` does to a program in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self, deadline=DEADLINE):
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise Failure(f"the program did not end: {self.words()}") from None

    def words(self):
        return f"{self.output()[-500:]!r}, {self.errors()[-1500:]!r}"

    def end(self):
        """Ends the program if it still runs, and all that it started."""
        kill_group(self.process.pid)
        self.process.wait()
        for file in self.files:
            file.close()


def kill_group(leader):
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass
