"""Commands of the AWS CLI, with and without a terminal, and starts that are refused."""

import os

from checks import check

INTERACTIVE = "AWS-StartInteractiveCommand"
NON_INTERACTIVE = "AWS-StartNonInteractiveCommand"


def interactive_command_has_a_terminal_and_an_exit_status(world, aws):
    command = "stty size; read line; echo got $line; exit 3"
    terminal = world.terminal(world.session(aws, INTERACTIVE, command=command), rows=31, cols=97)
    terminal.expect(rb"31 97\r\n")
    terminal.send(b"a word\r")
    terminal.expect(rb"got a word\r\n")
    check(terminal.wait() == 255 and exit_status_is(3, terminal.seen), f"{terminal.seen}")


def non_interactive_command_keeps_its_streams_apart(world, aws):
    command = "sh -c 'echo first; echo second >&2; exit 4'"
    for expected, complaint, parameters in [
            (b"first\nsecond\n", b"", {}),
            (b"first\n", b"\nsecond\n", {"separateOutputStream": "True"}),
            (b"out:first\n", b"\nerr:second\n", {"separateOutputStream": "True", "stdOutSeparatorPrefix": "out:",
                                                 "stdErrSeparatorPrefix": "err:"})]:
        status, output, errors = world.run(world.session(aws, NON_INTERACTIVE, command=command, **parameters))
        check(output == expected and complaint in errors, f"{output}, {errors}")
        check(status == 255 and exit_status_is(4, errors), f"{status}, {errors}")


def output_of_a_command_is_any_bytes(world, aws):
    data = os.urandom(1 << 20)
    with open(world.path("bytes"), "wb") as file:
        file.write(data)
    for separate in ["False", "True"]:
        status, output, errors = world.run(world.session(
            aws, NON_INTERACTIVE, command="cat " + world.path("bytes"), separateOutputStream=separate))
        check(output == data, f"{separate}: {len(output)} bytes came, {errors}")
        check(status == 0, f"{separate}: {status}, {errors}")


def refused_starts_have_awss_error_codes(world, aws):
    for document, parameters, code, word in [
            (INTERACTIVE, {}, "InvalidParameters", "command"),
            ("SSM-StartUnixSocketForwarding", {}, "InvalidParameters", "socket"),
            ("AWS-StartSSHSession", {"portNumber": "ssh"}, "InvalidParameters", "portNumber"),
            (NON_INTERACTIVE, {"command": "id", "separateOutputStream": "maybe"}, "InvalidParameters",
             "separateOutputStream"),
            ("AWS-StartPortForwardingSession", {"nonsense": "1"}, "InvalidParameters", "nonsense"),
            ("No-Such-Document", {}, "InvalidDocument", "No-Such-Document")]:
        status, output, errors = world.run(world.session(aws, document, **parameters))
        check(status in (254, 255) and output == b"", f"{status}, {output}")
        check(f"({code})".encode() in errors and word.encode() in errors, f"{errors}")


def exit_status_is(status, words):
    """The AWS CLI ends with 255 whatever the plugin ends with, but tells it."""
    return f"returned non-zero exit status {status}.".encode() in words
