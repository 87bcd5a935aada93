"""Starts servers, and asks them for the vectors that clients must get."""

import functools
import json
import os
import subprocess
import tempfile
import time

import numpy as np
import trustme

from clients.suite import MODEL, MODEL_NAME

START_SECONDS = 60
STOP_SECONDS = 30
CALL_SECONDS = 60
CONVERT_SECONDS = 300
TOKEN = "token-of-the-client-tests-0001"


class Program:
    """The program and the bundle that it serves."""

    def __init__(self, binary, bundle):
        self.binary = binary
        self.bundle = bundle

    def convert(self, model):
        """Converts a model to the bundle. Fetches ONNX Runtime if it is not in the cache folder."""
        command = [self.binary, "convert", "--model", model, "--output", self.bundle, "--no-report"]
        output = subprocess.run(command, env=environment(), capture_output=True, timeout=CONVERT_SECONDS)
        if output.returncode != 0:
            raise RuntimeError(f"embedd convert: {output.stderr.decode()}")

    def start(self, *flags, tokens=(), authority=None):
        return Server(self, flags, tokens, authority)


class Authority:
    """A certificate authority, and a certificate of it for this machine."""

    def __init__(self, folder):
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.ca, self.certificate, self.key = (os.path.join(folder, name) for name in ("ca.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(self.ca)
        certificate.cert_chain_pems[0].write_to_path(self.certificate)
        certificate.private_key_pem.write_to_path(self.key)

    def flags(self):
        return ["--tls-certificate", self.certificate, "--tls-key", self.key, "--http-tls"]

    def variables(self):
        """The variables by which clients trust it. Those that need more get the file themselves."""
        names = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
        return dict.fromkeys(names, self.ca)


class Address:
    """A running server: its addresses, and what its own command line returns for texts."""

    def __init__(self, program, grpc, http, token=None, ca=None):
        self.program = program
        self.grpc = grpc
        self.http = http
        self.token = token
        # The file of the authority that its certificate is from; without TLS, None.
        self.ca = ca

    @property
    def url(self):
        return f"{'https' if self.ca else 'http'}://{self.http}"

    def truth(self, texts, dimensions=None, normalize=True):
        """The float32 vectors of `embedd embed`, computed anew."""
        return _truth(self.program.binary, self.grpc, self.token, self.ca, tuple(texts), dimensions, normalize)


class Server(Address):
    """A server that this process has started. The system chooses its ports."""

    def __init__(self, program, flags, tokens, authority):
        self.folder = tempfile.TemporaryDirectory(prefix="embedd-clients-")
        command = [program.binary, "serve", "--bundle", program.bundle, "--log-format", "json", "--engine", "native"]
        command += ["--listen", "127.0.0.1:0", "--admin-listen", "off", "--http-listen", "127.0.0.1:0"]
        command += ["--model-name", f"{MODEL_NAME},{MODEL}", "--shutdown-grace", "0s"]
        if tokens:
            path = os.path.join(self.folder.name, "tokens")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
                file.writelines(f"{token}\n" for token in tokens)
            command += ["--token-file", path]
        if authority:
            command += authority.flags()
        log = os.path.join(self.folder.name, "log")
        with open(log, "wb") as file:
            self.process = subprocess.Popen([*command, *flags], stdout=file, stderr=file, env=environment())
        try:
            ports = self._ports(log)
        except BaseException:
            self.stop()
            raise
        # A quota may follow a token.
        token = tokens[0].split()[0] if tokens else None
        super().__init__(program, ports["gRPC"], ports["HTTP"], token, authority.ca if authority else None)

    def _ports(self, path):
        """The addresses, from the log lines before the one that reports a loaded model."""
        ports = {}
        text = ""
        deadline = time.monotonic() + START_SECONDS
        with open(path, encoding="utf-8", errors="replace") as log:
            while time.monotonic() < deadline:
                line = log.readline()
                if not line.endswith("\n"):
                    if self.process.poll() is not None:
                        break
                    log.seek(log.tell() - len(line.encode()))
                    time.sleep(0.02)
                    continue
                text += line
                entry = json.loads(line) if line.startswith("{") else {}
                if entry.get("message") == "listening":
                    ports[entry["server"]] = entry["address"]
                if entry.get("message") == "ready":
                    return ports
        raise RuntimeError(f"the server did not start: {text[-2000:]}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Servers:
    """The servers that all clients share, and the program for those that need one of their own.

    `secured` has TLS and a token."""

    def __init__(self, program, open_server, secured):
        self.program = program
        self.open = open_server
        self.secured = secured

    def to_json(self):
        servers = (self.open, self.secured)
        addresses = [[server.grpc, server.http, server.token, server.ca] for server in servers]
        return json.dumps([self.program.binary, self.program.bundle, *addresses])

    @classmethod
    def from_json(cls, text):
        binary, bundle, *addresses = json.loads(text)
        program = Program(binary, bundle)
        return cls(program, *(Address(program, *address) for address in addresses))


def environment():
    """Without proxies, and without the program's own settings except the cache folder."""
    unwanted = ("EMBEDD_", "ORT_")
    return {
        name: value
        for name, value in os.environ.items()
        if (name == "EMBEDD_HOME" or not name.startswith(unwanted)) and not name.upper().endswith("_PROXY")
    }


@functools.cache
def _truth(binary, address, token, ca, texts, dimensions, normalize):
    server = ["--server", f"https://{address}", "--ca", ca] if ca else ["--server", address]
    command = [binary, "embed", *server, "--output", "json", "--skip-cache"]
    command += ["--dimensions", str(dimensions)] if dimensions else []
    command += [] if normalize else ["--no-normalize"]
    lines = "".join(f"{text}\n" for text in texts).encode()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        if token:
            file.write(token + "\n")
            file.flush()
            command += ["--token-file", file.name]
        output = subprocess.run(command, input=lines, env=environment(), capture_output=True, timeout=CALL_SECONDS)
    if output.returncode != 0:
        raise RuntimeError(f"embedd embed: {output.stderr.decode()}")
    return np.array([item["embedding"] for item in json.loads(output.stdout)], np.float32)
