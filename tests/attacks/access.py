"""T: tokens and TLS."""

import collections
import dataclasses
import socket
import ssl
import threading
import time

from attacks import messages
from attacks.connections import peers
from attacks.messages import framed
from attacks.server import HealthWatch
from attacks.suite import attack
from attacks.wire import PREFACE, SETTINGS, Connection, frame

TOKEN = "the-token-of-a-tenant-0001"
METHODS = [
    messages.EMBED,
    messages.EMBED_STREAM,
    messages.COUNT_TOKENS,
    messages.GET_MODEL,
    messages.MODEL_INFER,
    messages.TOKENIZE,
    messages.TOKENIZE_STREAM,
    messages.DECODE,
    messages.TEI_EMBED,
    "/tei.v1.Info/Info",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ModelMetadata",
    messages.REFLECTION,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]


def ask(server, path, authorization=None, message=b"", times=1):
    """A call with `authorization` as it is."""
    with Connection(server.grpc) as connection:
        extra = [("authorization", authorization)] * times if authorization is not None else []
        stream = connection.open(path, token="", extra=extra)
        connection.upload(stream, framed(message))
        reply = connection.wait(stream, 5)
        if reply.code == "NONE" and connection.ended:
            reply.reset = -1
        return reply


@attack("T01", "Without a token, every method except health is UNAUTHENTICATED, whatever the message.", tokens=[TOKEN])
def no_token(server, report):
    for path in METHODS:
        for message in (b"", b"\xff" * 100):
            reply = ask(server, path, message=message)
            report.check(reply.code == "UNAUTHENTICATED" and not reply.data, f"{path}: {reply.code}")
    for path in [
        "/embedd.v1.EmbeddingService/../../grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Check/../../embedd.v1.EmbeddingService/Embed",
        "/grpc.health.v1.Health/Nothing",
        "//embedd.v1.EmbeddingService/Embed",
        "/EMBEDD.V1.EMBEDDINGSERVICE/EMBED",
    ]:
        reply = ask(server, path)
        report.check(
            reply.code in ("UNAUTHENTICATED", "UNIMPLEMENTED", "HTTP 400", "HTTP 404"), f"{path}: {reply.code}"
        )
    report.check(ask(server, messages.HEALTH).code == "OK", "health is open")


@attack("T02", "Headers that are almost a token are UNAUTHENTICATED.", tokens=[TOKEN])
def almost_tokens(server, report):
    cases = {
        "nothing": "",
        "the scheme": "Bearer",
        "the scheme and a space": "Bearer ",
        "no scheme": TOKEN,
        "Basic": "Basic " + TOKEN,
        "one character less": "Bearer " + TOKEN[:-1],
        "one character more": f"Bearer {TOKEN}x",
        "twice": f"Bearer {TOKEN},Bearer {TOKEN}",
        "a NUL": f"Bearer {TOKEN}\0",
        "upper case": f"Bearer {TOKEN.upper()}",
        "a comment": "Bearer #",
        "10 KB": "Bearer " + "a" * 10_000,
        "not UTF-8": b"Bearer \xff\xfe",
    }
    for name, value in cases.items():
        reply = ask(server, messages.GET_MODEL, value)
        refused = reply.code in ("UNAUTHENTICATED", "HTTP 400", "HTTP 431") or reply.reset is not None
        report.check(refused and not reply.data, f"{name}: {reply.code}")
    report.check(ask(server, messages.GET_MODEL, "Bearer " + TOKEN).code == "OK", "the token is accepted")


@attack("T03", "TLS: no plaintext, nothing before TLS 1.2, no other protocol than h2.", tls="server")
def tls(server, report):
    with server.grpc.connect(5) as plain:
        plain.sendall(PREFACE + frame(SETTINGS, 0, 0))
        plain.settimeout(15)
        try:
            answer = plain.recv(100)
        except OSError:
            answer = b""
    report.check(answer[:1] in (b"", b"\x15"), f"plaintext is answered by {answer[:10]!r}")
    for version in ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"):
        accepted = handshake(server, ["h2"], version)
        report.check(bool(accepted) == (version in ("TLSv1_2", "TLSv1_3")), f"{version}: {accepted}")
    for protocols in (["http/1.1"], ["spdy/3"], ["h2c"]):
        accepted = handshake(server, protocols)
        report.check(not accepted, f"ALPN {protocols}: {accepted}")


def handshake(server, protocols, version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    try:
        if version:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
        with context.wrap_socket(server.grpc.connect(5)) as connection:
            return connection.selected_alpn_protocol() or connection.version() if not version else connection.version()
    except (OSError, ValueError):
        return None


@attack(
    "T04", "Mutual TLS: without a certificate, or with one of another authority, no call is answered.", tls="mutual"
)
def mutual_tls(server, report):
    certificates = server.launcher.certificates()
    for name in (None, "stranger"):
        stranger = dataclasses.replace(server.grpc, tls=certificates.client(name))
        try:
            with Connection(stranger) as connection:
                code = connection.call(messages.EMBED, messages.embed(["a"]), wait=5).code
        except OSError as error:
            code = type(error).__name__
        report.check(code not in ("OK", "UNAUTHENTICATED"), f"{name or 'no certificate'}: {code}")
    report.check(server.call(messages.GET_MODEL).code == "OK", "the right certificate is accepted")


@attack("T05", "A flood of TLS handshakes does not keep health or others out.", tls="server", fresh=True)
def handshakes(server, report):
    end = threading.Event()
    counts = collections.Counter()

    def knock(source):
        context = ssl.create_default_context(cafile=server.launcher.certificates().path("ca.pem"))
        context.set_alpn_protocols(["h2"])
        while not end.is_set():
            try:
                with context.wrap_socket(server.grpc.connect(5, source), server_hostname="localhost"):
                    counts["complete"] += 1
            except OSError:
                counts["refused"] += 1

    threads = [threading.Thread(target=knock, args=(source,), daemon=True) for source in peers(30)]
    for thread in threads:
        thread.start()
    with HealthWatch(server) as health:
        time.sleep(3)
        codes = [server.embed(f"beside handshakes, {number} {time.time_ns()}", wait=20)[1] for number in range(3)]
        end.set()
        health.check(report)
    for thread in threads:
        thread.join(10)
    report.check(codes == ["OK"] * 3, f"another caller: {codes}; handshakes: {dict(counts)}")
    server.check_well(report)


@attack(
    "T06", "A token that is removed from the file is refused within 30 s, also on open connections.", own_server=True
)
def revoked(launcher, report):
    with launcher.start(tokens=[TOKEN, "another-token-0002"]) as server, Connection(server.grpc) as connection:
        report.check(connection.call(messages.GET_MODEL).code == "OK", "the token is accepted")
        server.write_tokens(["another-token-0002"])
        started = time.monotonic()
        code = "OK"
        while code == "OK" and time.monotonic() - started < 30:
            code = connection.call(messages.GET_MODEL).code
            time.sleep(0.5)
        report.check(code == "UNAUTHENTICATED", f"{code} after {time.monotonic() - started:.0f} s")


@attack("T07", "A TLS handshake of one byte every half second is ended within 30 s.", tls="server")
def slow_handshake(server, report):
    started = time.monotonic()
    ended = False
    with server.grpc.connect(5) as connection:
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60):
            try:
                connection.sendall(bytes([byte]))
                connection.settimeout(0.5)
                connection.recv(10)
                ended = True
            except socket.timeout:
                continue
            except OSError:
                ended = True
            break
    report.check(ended and time.monotonic() - started < 30, f"ended: {ended}, after {time.monotonic() - started:.0f} s")


@attack("T08", "Neither tokens nor texts are in the log at the finest level.", own_server=True)
def secrets_in_logs(launcher, report):
    with launcher.start(tokens=[TOKEN], flags=["--log-level", "trace"]) as server:
        server.embed("a text that must stay secret")
        ask(server, messages.GET_MODEL, "Bearer a-wrong-token-that-is-a-secret")
        ask(server, messages.EMBED, "Bearer " + TOKEN, messages.embed(["another secret text"] * 300))
        ask(server, messages.EMBED, "Bearer " + TOKEN, messages.embed(["another secret text"])[:-3] + b"\xff\xff\xff")
        log = server.log()
        for secret in (TOKEN, "a-wrong-token-that-is-a-secret", "must stay secret", "another secret"):
            report.check(secret not in log, f"`{secret}` is not among {len(log)} characters")
