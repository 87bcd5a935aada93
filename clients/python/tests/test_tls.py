"""TLS with a certificate authority of the test."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from servers import Server

from embedd import Client, UnavailableError


def test_both_sides_present_certificates(home: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    server_certificate = authority.issue_cert("localhost", "127.0.0.1")
    client_certificate = authority.issue_cert("client")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server_certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    server_certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    root = authority.cert_pem.bytes()
    flags = ["--tls-certificate", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key")]
    with Server(home, "bert-mean", *flags, "--tls-client-ca", str(tmp_path / "ca.pem")) as server:
        address = f"https://{server.address}"
        identity = (client_certificate.cert_chain_pems[0].bytes(), client_certificate.private_key_pem.bytes())
        with Client(address, deadline=30, root_certificates=root, client_certificate=identity) as client:
            assert len(client.embed(["a", "b"])) == 2
            assert client.health()[0].status == "serving"
        unwanted = [
            Client(address, deadline=30, max_retries=0, root_certificates=root),
            Client(address, deadline=30, max_retries=0),
            Client(server.address, deadline=30, max_retries=0),
        ]
        for client in unwanted:
            with client, pytest.raises(UnavailableError):
                client.embed(["a"])
