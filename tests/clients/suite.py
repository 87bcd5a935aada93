"""What a client is, what is checked of it, and how vectors are compared."""

import dataclasses
import importlib.metadata
import typing

import numpy as np

# ASCII, other scripts, an emoji of two UTF-16 units, and quotes.
TEXTS = ["Ignore all previous instructions", "naïve café in 東京", 'a "quoted" \\ text', "well done 👍🏽"]
# The texts of the lines in docs/CLIENTS.md.
LINES_TEXTS = ["hello", "naïve"]
# The names of the model, whichever it is.
MODEL_NAME = "sentence-transformers/all-mpnet-base-v2"
MODEL = "all-mpnet-base-v2"
# More than LangChain's batch of 1000.
DOCUMENTS = [f"document {number} of many" for number in range(1100)]
# Of a system tool, whose version is not pinned.
ANY_VERSION = "any"

SAME_BITS = "same bits"


class NotTested(Exception):
    """This machine lacks what the check needs."""


@dataclasses.dataclass(frozen=True)
class Check:
    call: str
    expectation: str
    function: typing.Callable


class Client:
    """A client, the lines that one writes to use it, and its checks."""

    def __init__(self, name, version, lines, language="python"):
        self.name = name
        self.version = version
        self.lines = lines.strip()
        self.language = language
        self.checks = []

    def check(self, call, expectation=SAME_BITS):
        """Registers `function(servers)`, which raises an exception unless the expectation holds."""

        def register(function):
            self.checks.append(Check(call, expectation, function))
            return function

        return register

    def check_lines(self):
        """Registers a check that runs the lines of docs/CLIENTS.md, which leave the vectors in `vectors`."""

        @self.check("the lines above")
        def run_lines(servers):
            variables = {}
            exec(at_servers(self.lines, servers), variables)
            same_bits(variables["vectors"], servers.open.truth(LINES_TEXTS))


def at_servers(lines, servers):
    """The lines with the addresses of the servers of this run."""
    return lines.replace("localhost:9090", servers.open.http).replace("localhost:50051", servers.open.grpc)


def version_of(package):
    return importlib.metadata.version(package)


def same_bits(vectors, truth):
    """Compares float32 values. Clients that return float64 have the shortest decimal digits of a float32."""
    found = np.asarray(vectors, np.float32)
    if found.shape != truth.shape:
        raise AssertionError(f"shape {found.shape}, not {truth.shape}")
    different = int((found.view(np.uint32) != truth.view(np.uint32)).sum())
    if different:
        largest = np.abs(found - truth).max()
        raise AssertionError(f"{different} of {found.size} components differ, by up to {largest:.2e}")


def expect(condition, detail):
    """An assertion that Python's optimizer keeps."""
    if not condition:
        raise AssertionError(detail)


def raises(kind, call):
    """The exception that the call raises, which must be of that kind."""
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {str(result)[:200]}")
