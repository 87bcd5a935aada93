"""TLS with a certificate authority of the test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from servers import PATIENCE, Server

from embedd import Client, UnavailableError


def authority(folder: Path) -> None:
    """Creates an authority, and certificates of a server and a client."""
    name = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(folder, "req", "-x509", *key, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for each in ("server", "client"):
        openssl(folder, "req", *key, "-subj", f"/CN={each}", "-keyout", f"{each}.key", "-out", f"{each}.csr", *name)
        sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy"]
        openssl(folder, "x509", "-req", "-in", f"{each}.csr", "-out", f"{each}.pem", *sign)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=PATIENCE)


def test_both_sides_present_certificates(home: Path, tmp_path: Path) -> None:
    authority(tmp_path)
    pem = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    flags = ["--tls-certificate", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key")]
    with Server(home, "bert-mean", *flags, "--tls-client-ca", str(tmp_path / "ca.pem")) as server:
        address = f"https://{server.address}"
        identity = (pem["client.pem"], pem["client.key"])
        with Client(address, deadline=30, root_certificates=pem["ca.pem"], client_certificate=identity) as client:
            assert len(client.embed(["a", "b"])) == 2
            assert client.health()[0].status == "serving"
        unwanted = [
            Client(address, deadline=30, max_retries=0, root_certificates=pem["ca.pem"]),
            Client(address, deadline=30, max_retries=0),
            Client(server.address, deadline=30, max_retries=0),
        ]
        for client in unwanted:
            with client, pytest.raises(UnavailableError):
                client.embed(["a"])
