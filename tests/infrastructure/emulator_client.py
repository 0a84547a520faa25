"""Makes, updates and deletes the stacks in an emulator of AWS. emulator.ts sets the environment.

A stack that is complete proves little, because an emulator may skip what it does not know. So EKS, RDS and EC2 say what
there is.
"""

import json
import os
import time

import boto3

env = os.environ
region = "eu-central-1"
session = boto3.Session(aws_access_key_id="111122223333", aws_secret_access_key="none", region_name=region)
cloudformation, eks, rds, ec2, s3, ssm = (
    session.client(name, endpoint_url=env["ENDPOINT"]) for name in ["cloudformation", "eks", "rds", "ec2", "s3", "ssm"]
)
stacks = ["keys", "network", "cluster", "data", "secrets", "registry", "dns", "buckets"]
name = "patients"

# The types of ours that ministack does not have. When it learns one, take it from here, and more is tested.
REFUSED = {
    "AWS::EC2::EIP",
    "AWS::EC2::FlowLog",
    "AWS::EC2::NatGateway",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EKS::AccessEntry",
    "AWS::EKS::Addon",
    "AWS::EKS::PodIdentityAssociation",
    "AWS::RDS::DBParameterGroup",
    "AWS::RDS::DBSubnetGroup",
    "AWS::SecretsManager::SecretTargetAttachment",
}
refused = REFUSED if env["IS_MINISTACK"] else set()
# Properties that are left out, so that what has them is deployed: they name what the emulator refuses, or it cannot read
# them (it takes the tags of a node group for a list, which CloudFormation has as an object).
LEFT_OUT = {"AWS::RDS::DBInstance": ["DBParameterGroupName", "DBSubnetGroupName"], "AWS::EKS::Nodegroup": ["Tags"]}


def named(value):
    """The ids of all resources, and the exports of other stacks, that a part of a template names."""
    if isinstance(value, list):
        return {each for item in value for each in named(item)}
    if not isinstance(value, dict):
        return set()
    if "Ref" in value:
        return {value["Ref"]}
    if "Fn::GetAtt" in value:
        return {value["Fn::GetAtt"][0]}
    if "Fn::ImportValue" in value:
        return {value["Fn::ImportValue"]}
    return {each for item in value.values() for each in named(item)}


# Exports of what was left out.
missing = set()


def supported(folder, stack):
    """The template without the refused types and without what names them."""
    with open(os.path.join(folder, f"{name}-{stack}.template.json"), encoding="utf-8") as file:
        template = json.load(file)
    if not refused:
        return template
    resources = template["Resources"]
    for resource in resources.values():
        for key in LEFT_OUT.get(resource["Type"], []):
            del resource["Properties"][key]
    gone = {key for key, resource in resources.items() if resource["Type"] in refused}
    while more := {key for key, each in resources.items() if key not in gone and (gone | missing) & named(each.get("Properties"))}:
        gone |= more
    template["Resources"] = {key: each for key, each in resources.items() if key not in gone}
    for resource in template["Resources"].values():
        before = resource.get("DependsOn", [])
        resource["DependsOn"] = [key for key in ([before] if isinstance(before, str) else before) if key not in gone]
    outputs = template.get("Outputs", {})
    template["Outputs"] = {key: each for key, each in outputs.items() if not gone & named(each["Value"])}
    missing.update(each["Export"]["Name"] for key, each in outputs.items() if key not in template["Outputs"] and "Export" in each)
    return template


def settle(stack, wanted):
    """Waits until the stack does nothing more; fails with the reasons of the emulator."""
    for _ in range(240):
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        if not found.endswith("IN_PROGRESS"):
            break
        time.sleep(0.25)
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    reasons = [each.get("ResourceStatusReason") for each in events if each["ResourceStatus"].endswith("FAILED")]
    assert found == wanted, f"{stack}: {found}: {reasons}"


def apply(change, folder, wanted):
    for stack in stacks:
        body = json.dumps(supported(folder, stack))
        change(StackName=f"{name}-{stack}", TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"])
        settle(f"{name}-{stack}", wanted)


def networks():
    return [vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"] if vpc["CidrBlock"] == "10.60.0.0/16"]


def instance():
    return rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]


# What `cdk bootstrap` leaves in an account.
ssm.put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="21", Type="String")

for kind in sorted(refused):
    alone = {"Resources": {"Alone": {"Type": kind, "Properties": {}}}}
    cloudformation.create_stack(StackName="alone", TemplateBody=json.dumps(alone))
    try:
        settle("alone", "CREATE_COMPLETE")
    except AssertionError as error:
        assert f"Unsupported resource type: {kind}" in str(error), f"{kind} is no longer refused by name: {error}"
    else:
        raise AssertionError(f"{kind} is no longer refused: take it from REFUSED")
    cloudformation.delete_stack(StackName="alone")
print(f"{len(refused)} types are refused by name, as the list has them")

apply(cloudformation.create_stack, env["CLINIC"], "CREATE_COMPLETE")
(network,) = networks()
subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [network]}])["Subnets"]
assert len(subnets) == 9 and not any(each["MapPublicIpOnLaunch"] for each in subnets), subnets
assert {each["AvailabilityZone"] for each in subnets} == {f"{region}{zone}" for zone in "abc"}, subnets
cluster = eks.describe_cluster(name=name)["cluster"]
assert (cluster["status"], cluster["version"]) == ("ACTIVE", "1.36"), cluster
(group,) = eks.list_nodegroups(clusterName=name)["nodegroups"]
nodes = eks.describe_nodegroup(clusterName=name, nodegroupName=group)["nodegroup"]
assert nodes["instanceTypes"] == ["m7g.large"], nodes
assert set(nodes["subnets"]) <= {each["SubnetId"] for each in subnets}, nodes
database = instance()
assert database["DBInstanceClass"] == "db.m7g.large" and database["Engine"] == "postgres", database
assert database["MultiAZ"] and database["StorageEncrypted"] and not database["PubliclyAccessible"], database
print("made: a network over three zones, a cluster with its nodes, a database in two zones that is encrypted and not public")

apply(cloudformation.update_stack, env["HOSPITAL"], "UPDATE_COMPLETE")
assert instance()["DBInstanceClass"] == "db.r7g.xlarge", instance()
print("updated: the database has the size of a hospital")

for stack in reversed(stacks):
    cloudformation.delete_stack(StackName=f"{name}-{stack}")
    time.sleep(0.5)
left = [each["StackName"] for each in cloudformation.describe_stacks()["Stacks"] if each["StackName"].startswith(name)]
assert left == [] or all("DELETE" in each for each in left), left
assert networks() == [] and eks.list_clusters()["clusters"] == [], (networks(), eks.list_clusters())
print("deleted: no network and no cluster is left")
