"""Inventory through boto3: gathered by a command, listed by entry and by node."""

import json
import os
import socket

from checks import check, error_code
from run_commands import result, send

DOCUMENT = "Story-Inventory"
STEP = "aws:softwareInventory"


def boto3_gathers_and_lists_inventory(world):
    custom = world.path("custom-inventory")
    os.makedirs(custom, exist_ok=True)
    racks = [{"Slot": str(number), "Rack": "B12"} for number in range(60)]
    with open(os.path.join(custom, "racks.json"), "w") as file:
        json.dump({"SchemaVersion": "1.0", "TypeName": "Custom:Racks", "Content": racks}, file)
    content = {"schemaVersion": "2.2", "mainSteps": [{"action": STEP, "name": "gather", "inputs": {
        "networkConfig": "Enabled", "instanceDetailedInformation": "Enabled", "customInventory": "Enabled",
        "customInventoryDirectory": custom, "files": json.dumps([{"Path": custom, "Pattern": ["*.json"]}])}}]}
    world.ssm.create_document(Name=DOCUMENT, DocumentType="Command", Content=json.dumps(content))
    try:
        # The second time, what the gateway has is sent as a hash.
        for _ in range(2):
            found = result(world, send(world, document=DOCUMENT))
            check(found["Status"] == "Success", f"{found}")
            check("uploaded to SSM" in found["StandardOutputContent"], f"{found}")
    finally:
        world.ssm.delete_document(Name=DOCUMENT)

    entries, token = [], {}
    while True:
        page = world.ssm.list_inventory_entries(InstanceId=world.node, TypeName="Custom:Racks", MaxResults=50, **token)
        entries += page["Entries"]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    check(sorted(entries, key=lambda entry: int(entry["Slot"])) == racks, f"{entries}")
    files = world.ssm.list_inventory_entries(InstanceId=world.node, TypeName="AWS:File")
    check([entry["Name"] for entry in files["Entries"]] == ["racks.json"], f"{files}")
    slot = world.ssm.list_inventory_entries(InstanceId=world.node, TypeName="Custom:Racks",
                                            Filters=[{"Key": "Slot", "Values": ["7"], "Type": "Equal"}])
    check(slot["Entries"] == [racks[7]], f"{slot}")

    wanted = [{"TypeName": "AWS:InstanceDetailedInformation"}, {"TypeName": "AWS:InstanceInformation"}]
    chosen = [{"Key": "AWS:InstanceInformation.InstanceId", "Values": [world.node]}]
    entity = world.ssm.get_inventory(Filters=chosen, ResultAttributes=wanted)["Entities"][0]
    check(entity["Id"] == world.node, f"{entity}")
    kernel = entity["Data"]["AWS:InstanceDetailedInformation"]["Content"][0]["KernelVersion"]
    check(kernel == os.uname().release, f"{kernel}")
    name = entity["Data"]["AWS:InstanceInformation"]["Content"][0]["ComputerName"]
    check(name.split(".")[0] == socket.gethostname().split(".")[0], f"{name}")
    stranger = error_code(world.ssm.list_inventory_entries, InstanceId="mi-fffffffffffffffff", TypeName="AWS:File")
    check(stranger == "InvalidInstanceId", f"{stranger}")


def associations_are_asked_to_be_applied(world):
    content = {"schemaVersion": "2.2", "mainSteps": [
        {"action": "aws:refreshAssociation", "name": "refresh", "inputs": {"associationIds": []}}]}
    world.ssm.create_document(Name=DOCUMENT, DocumentType="Command", Content=json.dumps(content))
    try:
        found = result(world, send(world, document=DOCUMENT))
    finally:
        world.ssm.delete_document(Name=DOCUMENT)
    check(found["Status"] == "Success", f"{found}")
    text = "All associations have been requested to execute immediately"
    check(found["StandardOutputContent"].strip() == text, f"{found}")
