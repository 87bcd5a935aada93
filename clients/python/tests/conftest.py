"""Servers that tests share, and the report of skipped tests."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from servers import PROGRAM, Server

from embedd import Client

#: A test that hangs fails after this time, with the stacks of its threads, so that its servers are ended.
MAX_SECONDS = 150
#: Every limit that tests exceed.
MAX_TEXTS = 8
MAX_MESSAGE_BYTES = 4096


def pytest_configure(config: pytest.Config) -> None:
    if not PROGRAM.is_file():
        raise pytest.UsageError(f"{PROGRAM} is missing: build it (cargo build --release), or set EMBEDD_BIN")


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    def fail(number: int, frame: FrameType | None) -> NoReturn:
        faulthandler.dump_traceback()
        raise AssertionError(f"the test took more than {MAX_SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.alarm(MAX_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Reports skipped tests like those in Rust: loudly, and in the file that TEST_SKIPS names."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):  # type: ignore[attr-defined]
        reason = report.longrepr[2].removeprefix("Skipped: ")  # type: ignore[attr-defined]
        print(f"NOT TESTED: {reason}: {item.nodeid}")  # noqa: T201
        if path := os.environ.get("TEST_SKIPS"):
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{reason}\t{item.nodeid}\n")
    return report


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder of all servers, which keeps converted models."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[Server]:
    """A server with small limits."""
    flags = ["--max-texts", str(MAX_TEXTS), "--max-message-bytes", str(MAX_MESSAGE_BYTES), "--max-text-bytes", "2048"]
    with Server(home, "bert-mean", *flags) as server:
        yield server


@pytest.fixture(scope="session")
def prompt_server(home: Path) -> Iterator[Server]:
    """A server whose model has the prompts `query`, `document` and `tag`, the last of which is the default."""
    with Server(home, "bert-default-prompt") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, deadline=60) as client:
        yield client
