"""A gateway with an agent, and the clients that a story starts."""

import contextlib
import json
import os
import re
import subprocess
import tempfile

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from checks import DEADLINE, check, eventually
from clients import Program, Terminal


class World:
    """A gateway with one registered, running agent."""

    # Where the gateway listens.
    ADDRESS = "127.0.0.1"
    gateway_options = ()

    def __init__(self, programs):
        self.programs = os.path.abspath(programs)
        self.root = tempfile.mkdtemp(prefix="ssm-aws-")
        self.processes = []
        self.clients = []
        self.log = open(os.path.join(self.root, "log"), "wb")
        self.moto = None

    def start(self):
        state = self.path("gateway")
        self.ca = self.prepare_certificate() or os.path.join(state, "ca.pem")
        self.start_gateway(f"{self.ADDRESS}:0", "127.0.0.1:0")
        self.moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.moto.start()
        self.aws_url = "http://%s:%d" % self.moto.get_host_and_port()
        created = subprocess.run([self.program("ssm-gateway"), "access", "create", "tester", "--json", "--state", state],
                                 check=True, capture_output=True)
        key = json.loads(created.stdout)
        self.environment = {
            "PATH": ":".join([self.programs, self.path("stand-ins"), os.environ["PATH"]]),
            "HOME": self.root,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_CA_BUNDLE": self.ca,
            "SSL_CERT_FILE": self.ca,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_KMS": self.aws_url,
        }
        self.ssm = self.boto3(key["AccessKeyId"], key["SecretAccessKey"])

    def prepare_certificate(self):
        """Makes a certificate for the gateway; returns its authority's, or nothing if the gateway makes its own."""

    def start_gateway(self, listen, plain_listen):
        self.gateway = self.spawn(["ssm-gateway", "serve", "--state", self.path("gateway"), "--listen", listen,
                                   "--plain-listen", plain_listen, *self.gateway_options], subprocess.PIPE)
        line = self.gateway.stdout.readline().decode()
        found = re.search(r"https://[0-9.:]+", line)
        check(found, f"the gateway said {line!r} instead of its address")
        self.url = found.group(0)
        self.plain_url = re.search(r"http://[0-9.:]+", self.gateway.stdout.readline().decode()).group(0)

    def kill_gateway(self):
        """Kills the gateway; returns what starts it again where it was."""
        self.gateway.kill()
        self.gateway.wait()
        addresses = [url.split("//")[1] for url in (self.url, self.plain_url)]
        return lambda: self.start_gateway(*addresses)

    def boto3(self, access_key, secret):
        return boto3.client("ssm", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=access_key,
                            aws_secret_access_key=secret, verify=self.ca,
                            config=Config(retries={"max_attempts": 1}))

    def start_agent(self):
        activation = self.ssm.create_activation(IamRole="any", DefaultInstanceName="story", RegistrationLimit=1)
        config = self.path("agent.json")
        with open(config, "w") as file:
            json.dump({"Ssm": {"Endpoint": self.url}, "Mgs": {"Endpoint": self.url}, "Mds": {"Endpoint": self.url},
                       "Identity": {"ConsumptionOrder": ["OnPrem"]}, "Kms": {"Endpoint": self.aws_url},
                       "S3": {"Endpoint": self.aws_url},
                       "SsmAgent": {"Session": {"DefaultUser": "self"},
                                    "Transcript": {"CloudWatch": {"Endpoint": self.aws_url}}}}, file)
        self.agent_arguments = ["--config", config, "--state-dir", self.path("agent"), "--log-dir", self.path("agent-log")]
        registered = subprocess.run(
            [self.program("ssm-agent"), "-register", "-code", activation["ActivationCode"], "-id",
             activation["ActivationId"], "-region", "us-east-1", "-y", *self.agent_arguments],
            env=self.environment, capture_output=True)
        check(registered.returncode == 0, f"registration failed: {registered.stderr.decode()}")
        self.node = re.search(r"mi-[0-9a-f]{17}", registered.stdout.decode()).group(0)
        self.start_agent_again()

    def start_agent_again(self):
        """Starts the agent once more as it is registered, after it ended."""
        self.agent = self.spawn(["ssm-agent", *self.agent_arguments])
        self.await_agent()

    def await_agent(self):
        eventually("the agent is connected",
                   lambda: self.ssm.get_connection_status(Target=self.node)["Status"] == "connected")

    @contextlib.contextmanager
    def transcript(self, **sinks):
        """Within the block, the agent runs with these settings of its records and their sinks beside its own."""
        with open(self.path("agent.json")) as file:
            before = file.read()
        config = json.loads(before)
        for sink, settings in sinks.items():
            transcript = config["SsmAgent"]["Transcript"]
            transcript[sink] = {**transcript.get(sink, {}), **settings} if isinstance(settings, dict) else settings
        try:
            self.restart_agent(json.dumps(config))
            yield
        finally:
            self.restart_agent(before)

    @contextlib.contextmanager
    def stand_in(self, name, text):
        """Within the block, a program of this name is on the path of the agent."""
        path = os.path.join(self.path("stand-ins"), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
        try:
            yield
        finally:
            os.remove(path)

    def restart_agent(self, config):
        self.agent.kill()
        self.agent.wait()
        with open(self.path("agent.json"), "w") as file:
            file.write(config)
        self.start_agent_again()

    def spawn(self, arguments, stdout=None):
        environment = getattr(self, "environment", {**os.environ, "HOME": self.root})
        process = subprocess.Popen([self.program(arguments[0]), *arguments[1:]], stdin=subprocess.DEVNULL,
                                   stdout=stdout or self.log, stderr=self.log, env=environment)
        self.processes.append(process)
        return process

    def path(self, name):
        return os.path.join(self.root, name)

    def program(self, name):
        return os.path.join(self.programs, name)

    def terminal(self, arguments, **size):
        """Starts a client on a terminal."""
        self.clients.append(Terminal(arguments, self.environment, **size))
        return self.clients[-1]

    def client(self, arguments, input=b""):
        """Starts a client without a terminal."""
        self.clients.append(Program(arguments, self.environment, input))
        return self.clients[-1]

    def run(self, arguments, input=b"", deadline=DEADLINE):
        """Runs a client without a terminal to its end; returns its exit status and what it wrote."""
        program = self.client(arguments, input)
        return program.wait(deadline), program.output(), program.errors()

    def session(self, aws, document=None, **parameters):
        """The arguments that start a session with the AWS CLI."""
        arguments = [aws, "ssm", "start-session", "--target", self.node, "--endpoint-url", self.url]
        if document:
            arguments += ["--document-name", document]
        if parameters:
            values = {name: [str(value)] for name, value in parameters.items()}
            arguments += ["--parameters", json.dumps(values)]
        return arguments

    def wait_until_all_sessions_are_over(self):
        eventually("no session is left", lambda: not self.ssm.describe_sessions(State="Active")["Sessions"])

    def end_sessions(self):
        """Ends what a failed story left, so that the next one does not find it."""
        for session in self.ssm.describe_sessions(State="Active")["Sessions"]:
            self.ssm.terminate_session(SessionId=session["SessionId"])

    def end_clients(self):
        while self.clients:
            self.clients.pop().end()

    def end(self):
        self.end_clients()
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        if self.moto:
            self.moto.stop()
        self.log.close()
