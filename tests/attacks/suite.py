"""The registry of attacks, and what an attack reports."""

import collections
import dataclasses
import typing

# Of the memory of the pod in deploy/base, what one kind of attack may take beside the model and the cache.
FAIR_MIB = 128


class Skip(Exception):
    """This machine or this server lacks what the attack needs."""


@dataclasses.dataclass(frozen=True)
class Attack:
    id: str
    expectation: str
    function: typing.Callable
    # How its server is started; `None` if it starts its own servers, or needs none.
    launch: dict | None
    # Whether the server must be new, because the attack may kill an unsound one or depends on its state.
    fresh: bool
    # Whether only the nightly run has the time for it.
    slow: bool


ATTACKS = []


def attack(id, expectation, *, fresh=False, slow=False, own_server=False, **launch):
    """Registers `function(server, report)`, or `function(launcher, report)` with `own_server`."""

    def register(function):
        ATTACKS.append(Attack(id, expectation, function, None if own_server else launch, fresh, slow))
        return function

    return register


class Report:
    """The findings of one attack."""

    def __init__(self):
        self.failures = []

    def check(self, ok, text):
        if not ok:
            self.failures.append(text)
        print("   ", "ok    " if ok else "FAILED", text, flush=True)
        return ok

    def note(self, text):
        print("   ", "note  ", text, flush=True)


# What a server may answer to too much.
REFUSED = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"}


def check_grown(report, memory, what, limit=FAIR_MIB):
    return report.check(memory.grown < limit, f"{what}: memory grew by {memory.grown:.0f} MiB")


def outcomes(codes):
    return ", ".join(f"{count} {code}" for code, count in collections.Counter(codes).most_common())
