"""Who a host is: registered, copied, forgotten."""

from checks import check, eventually

MACHINE_ID = "/etc/machine-id"
FINGERPRINT = "/var/lib/amazon/ssm/Vault/Store/InstanceFingerprint"
OTHER_ID = "0123456789abcdef0123456789abcdef"
# Three looks at the hardware, five seconds apart, come first.
PATIENCE = 60


def copy_of_a_registered_host_is_told_what_it_is(world):
    kept = {file: world.host.do("cat", file) for file in (MACHINE_ID, FINGERPRINT)}
    world.host.do("systemctl", "stop", "ssm-agent")
    put(world, MACHINE_ID, OTHER_ID)
    try:
        # A host whose hardware is not compared stays who it is.
        world.host.do("ssm-agent", "-fingerprint", "-similarityThreshold", "-1")
        world.host.do("systemctl", "start", "ssm-agent")
        world.wait_until_online()
        world.host.do("systemctl", "stop", "ssm-agent")

        said = world.host.do("ssm-agent", "-fingerprint", "-similarityThreshold", "40")
        check(said == "Fingerprint SimilarityThreshold set to 40", said)
        world.host.do("systemctl", "start", "--no-block", "ssm-agent")
        told = f"this host is not the one that was registered as {world.node}: it is a copy of that one"
        # The journal is in the folder of the id that systemd was started with.
        eventually("the journal tells it", lambda: told in world.host.do(
            "journalctl", "--merge", "-u", "ssm-agent", "-o", "cat", "-n", "50"), PATIENCE)
        diagnostics = world.host.do("ssm-cli", "get-diagnostics")
        check("this host is a copy of the one that was registered" in diagnostics, diagnostics)
        check(world.ssm.get_connection_status(Target=world.node)["Status"] != "connected", "the copy is online")
    finally:
        world.host.run("systemctl", "stop", "ssm-agent")
        for file, text in kept.items():
            put(world, file, text)
        world.host.do("systemctl", "start", "ssm-agent")
    world.wait_until_online()


def put(world, file, text):
    """From within: systemd may have mounted its own over it."""
    world.host.do("sh", "-c", 'printf "%s\\n" "$1" > "$0"', file, text)


def threshold_that_means_nothing_is_refused(world):
    for wrong in ("0", "101", "-2", "many"):
        said = world.host.run("ssm-agent", "-fingerprint", "-similarityThreshold", wrong)
        check(said.returncode != 0, f"{wrong} was taken")


def host_forgets_who_it_is_and_is_registered_again(world):
    first = world.node
    refused = world.host.run("ssm-agent", "register", "--id", "01234567-89ab-4cde-8f01-23456789abcd", "--region", "us-east-1",
                             environment={"SSM_ACTIVATION_CODE": "none"})
    check(refused.returncode == 1 and "give -y" in refused.stderr, f"it was not asked: {refused}")
    world.wait_until_online()
    refused = world.host.run("ssm-agent", "deregister")
    check(refused.returncode == 1 and "give -y" in refused.stderr, f"it was not asked: {refused}")

    said = world.host.run("ssm-agent", "deregister", "-y", check_status=True)
    check(first in said.stdout, said.stdout)
    check("deregister-managed-instance" in said.stderr, said.stderr)
    check(not world.host.exists("/var/lib/amazon/ssm/registration"), "the note of the registration is there")
    check("not registered" in world.host.do("ssm-agent", "deregister", "-y"), "it is still registered")
    world.host.do("systemctl", "--no-block", "restart", "ssm-agent")
    eventually("the old node is away",
               lambda: world.ssm.get_connection_status(Target=first)["Status"] != "connected")
    eventually("the journal says what to do", lambda: "ssm-agent register" in world.host.do(
        "journalctl", "-u", "ssm-agent", "-o", "cat", "-n", "20"))
    check(world.host.unit("ssm-agent", "ActiveState") != "failed", "systemd has given the agent up")

    world.register("--disable-similarity-check")
    check(world.node != first, "it is the same node")
    world.wait_until_online()
    check('"similarityThreshold":-1' in world.host.read(FINGERPRINT), world.host.read(FINGERPRINT))

    second = world.node
    # Also where the variable of another registration is left.
    said = world.host.do("ssm-agent", "-register", "-clear", environment={"SSM_ACTIVATION_CODE": "left"})
    check(said == "Registration information has been removed from the instance.", said)
    world.register()
    check(world.node not in (first, second), "it is the same node")
    world.host.do("systemctl", "restart", "ssm-agent")
    world.wait_until_online()
    for gone in (first, second):
        world.ssm.deregister_managed_instance(InstanceId=gone)
