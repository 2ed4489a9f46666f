"""What stories check, and how long they wait for it."""

import time

import botocore.exceptions

DEADLINE = 30.0


class Failure(Exception):
    """A story did not go as it should."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def eventually(what, attempt, deadline=DEADLINE):
    """Calls `attempt` until it returns something true."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        result = attempt()
        if result:
            return result
        time.sleep(0.05)
    raise Failure(f"not within {deadline} s: {what}")


def error_code(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return None
