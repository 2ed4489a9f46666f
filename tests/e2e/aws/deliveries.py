"""Commands by the other ways: polled for where there is no control channel, and left on the host."""

import contextlib
import json
import os
import signal
import subprocess
import time

from checks import check, eventually
from run_commands import result, send, status_of

# Where nobody listens.
NOWHERE = "https://127.0.0.1:9"


@contextlib.contextmanager
def polling(world):
    """Within the block the agent cannot reach the message gateway."""
    with open(world.path("agent.json")) as file:
        before = file.read()
    config = json.loads(before)
    config["Mgs"]["Endpoint"] = NOWHERE
    try:
        restart(world, json.dumps(config))
        yield
    finally:
        restart(world, before)
        world.await_agent()


def restart(world, config):
    world.agent.kill()
    world.agent.wait()
    eventually("the gateway noticed",
               lambda: world.ssm.get_connection_status(Target=world.node)["Status"] != "connected")
    with open(world.path("agent.json"), "w") as file:
        file.write(config)
    world.agent = world.spawn(["ssm-agent", *world.agent_arguments])


def commands_are_polled_for_where_the_message_gateway_cannot_be_reached(world):
    before = send(world, "echo before")
    check(result(world, before)["Status"] == "Success", "the usual way")
    with polling(world):
        check(world.ssm.get_connection_status(Target=world.node)["Status"] != "connected", "there is no channel")
        asked = [world.program("ssm-cli"), "status", "--state-dir", world.path("agent")]
        eventually("the status says so", lambda: "polled for at the message delivery service" in
                   subprocess.run(asked, capture_output=True, text=True).stdout)
        outputs = [result(world, send(world, f"echo {number}"))["StandardOutputContent"] for number in range(3)]
        check(outputs == ["0\n", "1\n", "2\n"], f"{outputs}")
        began = time.monotonic()
        failing = result(world, send(world, "echo oh >&2; exit 7"))
        check((failing["Status"], failing["ResponseCode"]) == ("Failed", 7), f"{failing}")
        check(time.monotonic() - began < 3, "a poll brings it at once")
        endless = send(world, "sleep 300")
        eventually("it runs", lambda: status_of(world, endless) == "InProgress")
        world.ssm.cancel_command(CommandId=endless)
        check(result(world, endless)["Status"] == "Cancelled", "it is cancelled by a poll")
        many = [send(world, f"echo {number}") for number in range(30)]
        outputs = [result(world, command)["StandardOutputContent"] for command in many]
        check(outputs == [f"{number}\n" for number in range(30)], f"{outputs}")
        node = world.ssm.describe_instance_information()["InstanceInformationList"]
        check(any(each["InstanceId"] == world.node and each["PingStatus"] == "Online" for each in node), f"{node}")


def polled_commands_survive_the_deaths_of_agent_and_gateway_once(world):
    proof = world.path("polled")
    with polling(world):
        command = send(world, f"echo x >> {proof}", "sleep 2", "echo after")
        eventually("it runs", lambda: os.path.exists(proof))
        world.agent.send_signal(signal.SIGKILL)
        world.agent.wait()
        start_again = world.kill_gateway()
        world.agent = world.spawn(["ssm-agent", *world.agent_arguments])
        time.sleep(2.5)
        start_again()
        found = result(world, command)
        check((found["Status"], found["StandardOutputContent"]) == ("Success", "after\n"), f"{found}")
    check(open(proof).read() == "x\n", "it ran once")


def commands_change_ways_and_run_once(world):
    """The channel comes back while commands that were polled for run and wait."""
    proof = world.path("changed")
    line = f"echo $SSM_COMMAND_ID >> {proof}; sleep 0.2"
    commands = []
    with polling(world):
        for _ in range(12):
            commands.append(send(world, line))
        eventually("some run", lambda: os.path.exists(proof))
    commands += [send(world, line) for _ in range(6)]
    for command in commands:
        check(result(world, command)["Status"] == "Success", command)
    ran = open(proof).read().split()
    check(sorted(ran) == sorted(commands), f"{len(ran)} runs of {len(commands)} commands")


def commands_are_left_on_the_host(world):
    document = {"schemaVersion": "2.2", "mainSteps": [
        {"action": "aws:runShellScript", "name": "one", "inputs": {"runCommand": ["echo here"]}}]}
    cli = [world.program("ssm-cli"), *world.agent_arguments]
    status, said, errors = world.run([*cli, "send-offline-command", "--content", json.dumps(document)])
    prefix = b"successfully submitted with command id: "
    check(status == 0 and said.startswith(prefix), f"{status} {said} {errors}")
    command = said[len(prefix):].decode().strip()

    def ask(*more):
        return world.run([*cli, "get-offline-command-invocation", "--command-id", command, *more])[1].decode()
    eventually("it is complete", lambda: ask().strip() == "Complete")
    report = json.loads(ask("--details").split("\n", 1)[1])
    check(report["runtimeStatus"]["one"]["standardOutput"] == "here\n", f"{report}")
    with open(os.path.join(world.path("agent"), "localcommands", "completed", command)) as file:
        check(json.load(file) == report, "the reference's place")
