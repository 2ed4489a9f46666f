"""Nodes, sessions and activations as boto3 sees them, and how long sessions last."""

import time

from checks import check, error_code, eventually
from documents import session_document


def boto3_sees_the_node_and_its_sessions(world):
    ssm = world.ssm
    nodes = ssm.describe_instance_information()["InstanceInformationList"]
    check([node["InstanceId"] for node in nodes] == [world.node], f"{nodes}")
    check(nodes[0]["PingStatus"] == "Online" and nodes[0]["PlatformType"] == "Linux", f"{nodes}")
    check(nodes[0]["ResourceType"] == "ManagedInstance", f"{nodes}")
    started = ssm.start_session(Target=world.node, Reason="a story")
    check(started["StreamUrl"].startswith("wss://") and started["TokenValue"], f"{started.keys()}")
    active = ssm.describe_sessions(State="Active")["Sessions"]
    check(started["SessionId"] in [session["SessionId"] for session in active], f"{active}")
    resumed = ssm.resume_session(SessionId=started["SessionId"])
    check(resumed["TokenValue"] and resumed["TokenValue"] != started["TokenValue"], "a fresh token")
    ssm.terminate_session(SessionId=started["SessionId"])
    ended = eventually("the session is in the history", lambda: [
        session for session in ssm.describe_sessions(State="History")["Sessions"]
        if session["SessionId"] == started["SessionId"]])
    check(ended[0]["Target"] == world.node and ended[0]["Reason"] == "a story", f"{ended}")


def boto3_gets_errors_in_awss_shapes(world):
    ssm = world.ssm
    check(error_code(ssm.start_session, Target="mi-00000000000000000") == "TargetNotConnected", "unknown target")
    check(error_code(ssm.start_session, Target=world.node, DocumentName="No-Such") == "InvalidDocument", "document")
    check(error_code(ssm.terminate_session, SessionId="nobody-0123456789abcdef0") in
          (None, "DoesNotExistException"), "unknown session")
    check(error_code(ssm.deregister_managed_instance, InstanceId="mi-00000000000000000") == "InvalidInstanceId", "node")
    check(error_code(ssm.delete_activation, ActivationId="00000000-0000-0000-0000-000000000000") in
          ("InvalidActivationId", "InvalidActivation"), "activation")
    wrong_secret = world.boto3(world.environment["AWS_ACCESS_KEY_ID"], "x" * 40)
    check(error_code(wrong_secret.describe_sessions, State="Active") in
          ("InvalidSignatureException", "SignatureDoesNotMatch"), "secret")
    unknown_key = world.boto3("AKIAAAAAAAAAAAAAAAAA", "x" * 40)
    check(error_code(unknown_key.describe_sessions, State="Active") == "UnrecognizedClientException", "key")


def boto3_pages_through_activations(world):
    ssm = world.ssm
    made = {ssm.create_activation(IamRole="r", Description=f"page {n}")["ActivationId"] for n in range(7)}
    pages = list(ssm.get_paginator("describe_activations").paginate(PaginationConfig={"PageSize": 2}))
    found = {activation["ActivationId"] for page in pages for activation in page["ActivationList"]}
    check(made <= found and len(pages) >= 4, f"{len(pages)} pages")
    for activation in made:
        ssm.delete_activation(ActivationId=activation)


def idle_and_old_sessions_end_with_a_reason(world, *clients):
    """With all clients at once, as it takes a minute."""
    ssm = world.ssm
    documents = {"Story-Idle": {"idleSessionTimeout": "1"}, "Story-Old": {"maxSessionDuration": "1"}}
    for name, inputs in documents.items():
        ssm.create_document(Name=name, DocumentType="Session", Content=session_document(inputs=inputs))
    try:
        began = time.monotonic()
        idle, old = ([world.terminal(world.session(aws, name)) for aws in clients] for name in documents)
        for terminal in idle + old:
            terminal.expect(rb"[$#] ")
        for terminal in idle:
            # Output alone keeps no terminal alive.
            terminal.send(b"while sleep 5; do echo busy; done\r")
        active = ssm.describe_sessions(State="Active")["Sessions"]
        check("1" in [session.get("MaxSessionDuration") for session in active], f"{active}")
        while time.monotonic() - began < 58:
            for terminal in old:
                terminal.send(b"true\r")
            for terminal in idle:
                terminal.read(0.5)
        for terminal in idle:
            terminal.expect(rb"Your session timed out due to inactivity and has been terminated\.", deadline=15)
        for terminal in old:
            terminal.expect(rb"Your session reached its maximum duration of 1 minute", deadline=15)
        took = time.monotonic() - began
        check(took < 70, f"{took:.0f} s")
        for terminal in idle + old:
            terminal.wait()
        ended = eventually("all are in the history", lambda: all_of(2 * len(clients), [
            session for session in ssm.describe_sessions(State="History")["Sessions"]
            if session["DocumentName"] in documents and session["Status"] == "Terminated"]))
        for session in ended:
            reason = "inactivity" if session["DocumentName"] == "Story-Idle" else "maximum duration"
            check(reason in session["Details"], f"{session}")
    finally:
        for name in documents:
            ssm.delete_document(Name=name)


def all_of(count, items):
    return items if len(items) == count else None
