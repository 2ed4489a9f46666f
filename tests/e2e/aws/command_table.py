"""Documents with what becomes of them, the same for our agent and for the reference's, which was run
under our gateway with this table, over the control channel and by polling. `command_table_more` goes on with
it, and has where the two differ.

Of each step: status, exit code, standard output, standard error. A function stands for a value that is
not the same each time.
"""

FAILED = "failed to run commands: exit status "


def step(name, *lines, action="aws:runShellScript", **more):
    inputs = {"runCommand": list(lines), **more.pop("inputs", {})}
    return {"action": action, "name": name, "inputs": inputs, **more}


def document(*steps, schema="2.2", **parameters):
    return {"schemaVersion": schema, "parameters": parameters, "mainSteps": list(steps)}


def skipped(name, action="aws:runShellScript"):
    return ("Skipped", 0, "", "", f"Plugin with name {action} and id {name} skipped due to prior step with an exit condition")


def stop(code, word):
    return f"\nStep exited with code {code}. Therefore, marking step as {word}. Further document steps will be skipped."


ON_FAILURE = "\nStep was found to have onFailure property. Further document steps will be skipped."
WINDOWS = {"StringEquals": ["platformType", "Windows"]}
LINUX = {"StringEquals": ["platformType", "Linux"]}

# Name, document, parameters, status of the document, and of each step: status, code, standard output,
# standard error and, where it is not made of these, the short output.
TABLE = [
    ("success", document(step("alpha", "echo hi")), {}, "Success", {"alpha": ("Success", 0, "hi\n", "")}),
    ("failure", document(step("alpha", "echo oh >&2", "exit 3")), {}, "Failed",
     {"alpha": ("Failed", 3, "", "oh\n" + FAILED + "3")}),
    ("unknown program", document(step("alpha", "no-such-program 2>/dev/null")), {}, "Failed",
     {"alpha": ("Failed", 127, "", FAILED + "127")}),
    ("failure does not stop", document(step("alpha", "exit 1"), step("bravo", "echo b")), {}, "Failed",
     {"alpha": ("Failed", 1, "", FAILED + "1"), "bravo": ("Success", 0, "b\n", "")}),
    ("exit 168", document(step("alpha", "echo x", "exit 168"), step("bravo", "echo b")), {}, "Success",
     {"alpha": ("Success", 168, "x\n" + stop(168, "succeeded"), ""), "bravo": skipped("bravo")}),
    ("exit 169", document(step("alpha", "echo x", "exit 169"), step("bravo", "echo b")), {}, "Failed",
     {"alpha": ("Failed", 169, "x\n" + stop(169, "Failed"), FAILED + "169" + stop(169, "Failed")), "bravo": skipped("bravo")}),
    ("exit 137", document(step("alpha", "exit 137")), {}, "TimedOut", {"alpha": ("TimedOut", 137, "", "")}),
    ("onFailure exit", document(step("alpha", "exit 1", inputs={"onFailure": "exit"}), step("bravo", "echo b")), {}, "Failed",
     {"alpha": ("Failed", 1, ON_FAILURE, FAILED + "1" + ON_FAILURE), "bravo": skipped("bravo")}),
    ("onFailure successAndExit",
     document(step("alpha", "exit 1", inputs={"onFailure": "successAndExit"}), step("bravo", "echo b")), {}, "Success",
     {"alpha": ("Success", 168, ON_FAILURE, FAILED + "1" + ON_FAILURE), "bravo": skipped("bravo")}),
    ("onSuccess exit", document(step("alpha", "true", inputs={"onSuccess": "exit"}), step("bravo", "echo b"),
                                step("charlie", "echo c", inputs={"finallyStep": True})), {}, "Success",
     {"alpha": ("Success", 0, "", ""), "bravo": skipped("bravo"), "charlie": ("Success", 0, "c\n", "")}),
    ("precondition not met", document(step("alpha", "echo a", precondition=WINDOWS), step("bravo", "echo b", precondition=LINUX)),
     {}, "Success",
     {"alpha": ("Skipped", 0, "", "", "Step execution skipped due to unsatisfied preconditions: "
            "'\"StringEquals\": [platformType, Windows]'. Step name: alpha"), "bravo": ("Success", 0, "b\n", "")}),
    ("precondition by parameter",
     document(step("alpha", "echo a", precondition={"StringEquals": ["{{ p }}", "yes"]}),
              step("bravo", "echo b", precondition={"StringEquals": ["no", "{{ p }}"]}), p={"type": "String"}),
     {"p": ["yes"]}, "Success",
     {"alpha": ("Success", 0, "a\n", ""),
      "bravo": ("Skipped", 0, "", "", "Step execution skipped due to unsatisfied preconditions: "
            "'\"StringEquals\": [no, {{ p }}]'. Step name: bravo")}),
    ("unknown operator", document(step("alpha", "echo a", precondition={"StringLike": ["a", "b"]})), {}, "Failed",
     {"alpha": ("Failed", 1, "", "", "Unrecognized precondition(s): 'unrecognized operator: \"StringLike\"', "
            "please update agent to latest version. Step name: alpha")}),
    ("precondition in an older schema", document(step("alpha", "echo a", precondition=LINUX), schema="2.0"), {}, "Failed",
     {"alpha": ("Failed", 1, "", "", "Precondition is not supported for document schema version prior to 2.2. Step name: alpha")}),
    ("unknown plugin", document(step("alpha", action="aws:novelty")), {}, "Failed",
     {"alpha": ("Failed", 1, "", "", "Plugin with name aws:novelty is not supported by this version of ssm agent, "
            "please update to latest version. Step name: alpha")}),
    ("plugin of another system", document(step("alpha", action="aws:psModule"), step("bravo", "echo b")), {}, "Success",
     {"alpha": ("Skipped", 0, "", "", "Step execution skipped due to unsupported plugin: aws:psModule. Step name: alpha"),
      "bravo": ("Success", 0, "b\n", "")}),
    ("list where text is", document(step("alpha", "l={{ list }}"), list={"type": "StringList"}), {"list": ["x", "y z"]}, "Success",
     {"alpha": ("Success", 0, "", "")}),
    ("missing folder", document(step("alpha", "pwd", inputs={"workingDirectory": "/no/such"})), {}, "Failed",
     {"alpha": ("Failed", 1, "", "failed to run commands: fork/exec /usr/bin/sh: no such file or directory")}),
    ("environment", document(step("alpha", "echo $MINE $SSM_COMMAND_ID | cut -c1-6",
                                  inputs={"environment": {"MINE": "mine:", "SSM_COMMAND_ID": "forged"}})), {}, "Success",
     {"alpha": ("Success", 0, lambda text: text.startswith("mine:") and "f" != text[6:7], "")}),
    ("time-out", document(step("alpha", "echo x", "sleep 60", inputs={"timeoutSeconds": 5}), step("bravo", "echo b")), {}, "TimedOut",
     {"alpha": ("TimedOut", 137, "x\n", ""), "bravo": ("Success", 0, "b\n", "")}),
    ("long streams", document(step("alpha", "head -c 30000 /dev/zero | tr '\\0' x; head -c 30000 /dev/zero | tr '\\0' y >&2")),
     {}, "Success",
     {"alpha": ("Success", 0, "x" * 23980 + "--output truncated--", "y" * 23980 + "--output truncated--",
            "x" * 1215 + "\n---Output truncated---" + "\n----------ERROR-------\n" + "y" * 1215
            + "\n---Error truncated----")}),
    ("inputs of a wrong type", document(step("alpha", inputs={"runCommand": "ls"})), {}, "Failed",
     {"alpha": ("Failed", 1, "", lambda text: text.startswith("Invalid format in plugin properties"))}),
    ("schema 1.2", {"schemaVersion": "1.2", "parameters": {"c": {"type": "StringList"}}, "runtimeConfig": {
        "aws:runShellScript": {"properties": [{"id": "0.aws:runShellScript", "runCommand": "{{ c }}"},
                                              {"id": "1.aws:runShellScript", "runCommand": ["echo two", "exit 4"]}]}}},
     {"c": ["echo one"]}, "Failed",
     {"aws:runShellScript": ("Failed", 4, "one\n\ntwo\n", FAILED + "4")}),
]
