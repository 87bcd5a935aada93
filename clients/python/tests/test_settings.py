"""Addresses, limits, generated files and the version."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
from servers import REPOSITORY

import embedd
from embedd import Client
from embedd._addresses import parse_addresses
from embedd._call import Deadline
from embedd._parts import MAX_REPLY_BYTES, PartLimits
from embedd._proto import embedding_pb2 as messages
from embedd.options import EmbedOptions

CLIENT = REPOSITORY / "clients" / "python"


def test_an_address_is_a_url_or_a_host_and_port_or_a_name_to_resolve() -> None:
    def read(server: str) -> tuple[str, bool, bool]:
        (address,) = parse_addresses(server)
        return address.host_port, address.secure, address.resolve_all

    assert read("localhost:50051") == ("localhost:50051", False, False)
    assert read("http://a:1/") == ("a:1", False, False)
    assert read("https://a") == ("a:443", True, False)
    assert read("dns:///a.b:2") == ("a.b:2", False, True)
    assert read("dns+https:///a:2") == ("a:2", True, True)
    assert read("[::1]:1") == ("[::1]:1", False, False)
    assert [str(each) for each in parse_addresses("a:1, https://b:2,dns:///c:3")] == ["a:1", "b:2", "c:3"]
    assert [str(each) for each in parse_addresses(["a:1", "b:2"])] == ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("localhost", "the port is missing"),
        ("ftp://a:1", "unknown scheme"),
        ("dns://1.1.1.1/a:1", "a name server"),
        ("dns:///a", "the port is missing"),
        ("a:1/path", "unexpected path"),
        ("https://a:1/?q", "unexpected path"),
        ("https://user@a:1", "unexpected path"),
        ("", "``"),
        ("a:1,", "``"),
        ("a b:1", "a b:1"),
        ("a:99999999", "a:99999999"),
        ("a:x", "a:x"),
    ],
)
def test_errors_name_the_invalid_address_and_the_valid_forms(server: str, reason: str) -> None:
    with pytest.raises(ValueError, match="host:port") as caught:
        Client(server)
    assert reason in str(caught.value)


def test_settings_are_checked_by_the_constructor() -> None:
    with pytest.raises(ValueError, match="no server address"):
        Client([])
    with pytest.raises(ValueError, match="begin its address with `https://`"):
        Client("a:1", root_certificates=b"-----BEGIN CERTIFICATE-----")
    with pytest.raises(ValueError, match="max_retries"):
        Client("a:1", max_retries=-1)
    with pytest.raises(ValueError, match="seconds from now"):
        Client("a:1", deadline=math.nan)


def test_infinity_is_no_deadline() -> None:
    assert Deadline(math.inf).remaining() is None
    assert Deadline(None).remaining() is None
    assert Deadline(0).remaining() == 0
    assert not Deadline(1).allows(2)


def split(texts: list[str], max_texts: int | None, message_bytes: int | None) -> list[tuple[int, int]]:
    limits = PartLimits(max_texts or sys.maxsize, message_bytes, 768)
    return [(part.first, len(part.texts)) for part in limits.split(texts)]


def test_texts_are_split_by_count_and_by_size() -> None:
    assert split(["a"] * 5, 2, 1000) == [(0, 2), (2, 2), (4, 1)]
    assert split(["1234"] * 3, 100, 8) == [(0, 1), (1, 1), (2, 1)]
    assert split(["1234"] * 3, 100, 12) == [(0, 2), (2, 1)]
    assert split(["1", "much too long a text", "3"], 100, 12) == [(0, 1), (1, 1), (2, 1)]
    assert split(["é" * 2] * 3, 100, 12) == [(0, 2), (2, 1)], "by bytes, not by characters"
    assert split(["a"] * 1000, None, None) == [(0, 1000)]
    assert split([], 2, 1000) == []


def test_no_part_exceeds_the_maximum_size_of_a_message() -> None:
    texts = ["x" * length for length in range(400)]
    options = EmbedOptions(True, 2**32 - 1, "x" * 128, "reject", True)
    for part in PartLimits(1000, 1000 - 256, 768).split(texts):
        assert options.request(part.texts).ByteSize() <= 1000


def test_parts_are_so_small_that_their_replies_are_accepted(client: Client) -> None:
    model = client.model()
    reply = messages.EmbedResponse(embeddings=[messages.Embedding(packed=bytes(4 * 768), token_count=2**32 - 1)])
    size = reply.embeddings[0].ByteSize() + 8
    limits = PartLimits.of(model)
    assert limits.texts == model.limits.max_texts
    assert PartLimits.of(replaced(model, 768, 1_000_000)).texts * size < MAX_REPLY_BYTES


def replaced(model: embedd.Model, dimension: int, max_texts: int) -> embedd.Model:
    """The model with another dimension and limit."""
    limits = dataclasses.replace(model.limits, max_texts=max_texts)
    return dataclasses.replace(model, dimension=dimension, limits=limits)


def test_the_generated_files_are_those_of_the_proto_files(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; import generate; generate.generate(Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, check=True, cwd=CLIENT / "scripts", timeout=120)
    committed = CLIENT / "src" / "embedd" / "_proto"
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    stored = {path.name: path.read_text() for path in committed.iterdir() if path.is_file()}
    assert fresh == stored, "run clients/python/scripts/generate.py"


def test_the_version_is_that_of_the_server() -> None:
    manifest = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())
    assert manifest["workspace"]["package"]["version"] == embedd.__version__


def test_the_license_is_that_of_the_repository() -> None:
    assert (CLIENT / "LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
