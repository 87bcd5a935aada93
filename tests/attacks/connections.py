"""C: connections, and what they keep from others."""

import contextlib
import socket
import threading
import time

from attacks import messages
from attacks.messages import framed
from attacks.server import HealthWatch, MemoryWatch
from attacks.suite import attack
from attacks.wire import PREFACE, SETTINGS, Connection, frame

MAX_CONNECTIONS = 900
HELLO = PREFACE + frame(SETTINGS, 0, 0)
CLIENT_HELLO_START = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def peers(count):
    """Addresses of that many peers. All of 127.0.0.0/8 is this machine, and probes come from 127.0.0.1."""
    return [f"127.0.7.{number + 1}" for number in range(count)]


@contextlib.contextmanager
def held(endpoint, count, sources, opening=b"", timeout=3):
    """Connections that send no more than their opening."""
    connections = []
    try:
        for number in range(count):
            try:
                connection = endpoint.connect(timeout, sources[number % len(sources)])
                connections.append(connection)
                if opening:
                    connection.sendall(opening)
            except OSError:
                pass
        yield connections
    finally:
        for connection in connections:
            connection.close()


def check_reachable(server, report, what):
    """A kubelet's probe, a caller, and Prometheus, from another address than the attackers."""
    probes = [server.probe() for _ in range(3)]
    report.check(None not in probes, f"{what}: probes of the health listener {shown(probes)}")
    on_service = [server.probe(server.grpc) for _ in range(3)]
    report.check(None not in on_service, f"{what}: probes of the service's listener {shown(on_service)}")
    _, code = server.embed(f"a caller, {time.time_ns()}", wait=15)
    report.check(code == "OK", f"{what}: a caller: {code}")


def shown(times):
    return ", ".join("missed" if took is None else f"{took:.2f} s" for took in times)


@attack("C01", "920 silent connections, of one peer or of many, leave room for probes and other callers.", fresh=True)
def silent_connections(server, report):
    for sources in (peers(1), peers(46)):
        with held(server.grpc, MAX_CONNECTIONS + 20, sources):
            time.sleep(0.5)
            check_reachable(server, report, f"{len(sources)} peers")
        time.sleep(0.5)
    server.check_well(report)


@attack(
    "C02", "920 idle HTTP/2 connections, of one peer or of many, leave room for probes and other callers.", fresh=True
)
def idle_connections(server, report):
    for sources in (peers(1), peers(46)):
        with held(server.grpc, MAX_CONNECTIONS + 20, sources, HELLO):
            time.sleep(0.5)
            check_reachable(server, report, f"{len(sources)} peers")
        time.sleep(0.5)
    server.check_well(report)


@attack("C03", "5,000 connections opened and closed leave no descriptor, no thread and less than 30 MiB behind.")
def churn(server, report):
    files = server.open_files()
    threads = server.threads()
    with MemoryWatch(server) as memory:
        for number in range(5000):
            try:
                with server.grpc.connect(3) as connection:
                    connection.sendall([PREFACE, CLIENT_HELLO_START, HELLO][number % 3])
            except OSError:
                pass
        time.sleep(3)
        report.check(server.open_files() - files < 20, f"descriptors before and after: {files}, {server.open_files()}")
        # Threads for blocking calls end after ten seconds without work.
        report.check(server.threads() - threads < 20, f"threads before and after: {threads}, {server.threads()}")
        report.check(memory.grown < 30, f"memory grew by {memory.grown:.0f} MiB")
    server.check_well(report)


@attack("C04", "980 silent connections to the HTTP port leave room for /healthz, /readyz and /metrics.", fresh=True)
def silent_http(server, report):
    for sources in (peers(1), peers(49)):
        with held(server.http, 980, sources):
            time.sleep(0.5)
            check_http(server, report, f"{len(sources)} peers")


def check_http(server, report, what):
    for path in ("/healthz", "/readyz", "/metrics"):
        try:
            answered = bool(server.get(path, timeout=5))
        except OSError as error:
            answered = False
            what = f"{what} ({error})"
        report.check(answered, f"{what}: {path}")


@attack("C05", "Callers of OpenAI's API that keep 930 connections leave room for probes.", fresh=True)
def idle_http(server, report):
    request = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    with held(server.http, 930, peers(31), request):
        time.sleep(1)
        check_http(server, report, "kept alive")
    server.check_well(report)


@attack(
    "C06",
    "A server out of file descriptors survives: few log lines, little CPU, and new connections afterwards.",
    fresh=True,
    max_files=128,
)
def out_of_descriptors(server, report):
    before = server.log_lines()
    spent = server.cpu_seconds()
    with held(server.grpc, 160, peers(20), HELLO, 0.2), held(server.http, 20, peers(20), timeout=0.2):
        time.sleep(3)
        spent = server.cpu_seconds() - spent
    report.check(spent < 2, f"{spent:.2f} s of CPU in 3 s without descriptors")
    lines = server.log_lines() - before
    report.check(lines < 50, f"{lines} log lines")
    time.sleep(1)
    server.check_well(report)


@attack("C07", "A peer whose connections are all busy does not shut out other peers.", fresh=True)
def busy_peer(server, report):
    connections = []
    try:
        for _ in range(MAX_CONNECTIONS + 20):
            try:
                connection = Connection(server.grpc, source=peers(1)[0], timeout=3)
                # A call that is never finished, so that the connection is not idle.
                stream = connection.open(messages.EMBED)
                connection.send(frame(0, 0, stream, framed(messages.embed(["half"]), length=100)))
                connections.append(connection)
            except OSError:
                break
        time.sleep(0.5)
        check_reachable(server, report, f"{len(connections)} busy connections of one peer")
    finally:
        for connection in connections:
            connection.close()


@attack("C08", "900 TLS handshakes that stop half way leave room for a caller.", fresh=True, tls="server")
def half_handshakes(server, report):
    for sources in (peers(1), peers(46)):
        with held(server.grpc, MAX_CONNECTIONS + 20, sources, CLIENT_HELLO_START):
            time.sleep(0.5)
            check_reachable(server, report, f"{len(sources)} peers")


@attack(
    "C09",
    "Clients that watch health on many streams, without a token, take little memory and keep nobody out.",
    fresh=True,
)
def health_watchers(server, report):
    connections = []
    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        for source in peers(40):
            try:
                connection = Connection(server.health, source=source, timeout=3)
                connections.append(connection)
                for _ in range(100):
                    connection.upload(connection.open(messages.WATCH), framed(b""), timeout=2)
            except OSError:
                pass
        time.sleep(1)
        report.check(
            memory.grown < 64,
            f"{len(connections)} connections of up to 100 watchers: memory grew by {memory.grown:.0f} MiB",
        )
        health.check(report)
    for connection in connections:
        connection.close()
    server.check_well(report)


@attack("C10", "A flood of new connections (20 threads that never pause) does not delay probes.", fresh=True)
def connection_flood(server, report):
    end = threading.Event()
    opened = [0] * 20

    def knock(number):
        while not end.is_set():
            try:
                with server.grpc.connect(3, peers(20)[number]) as connection:
                    connection.sendall(HELLO)
                    opened[number] += 1
            except OSError:
                pass

    threads = [threading.Thread(target=knock, args=(number,), daemon=True) for number in range(20)]
    with HealthWatch(server) as health:
        for thread in threads:
            thread.start()
        time.sleep(6)
        end.set()
        health.check(report)
    for thread in threads:
        thread.join()
    report.note(f"{sum(opened)} connections")
    server.check_well(report)


@attack(
    "C11", "An HTTP client that never finishes its headers, one byte at a time, is disconnected within 60 s.", slow=True
)
def slow_headers(server, report):
    started = time.monotonic()
    with server.http.connect(5) as connection:
        ended = False
        for byte in b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-slow: " + b"a" * 200:
            try:
                connection.sendall(bytes([byte]))
                connection.settimeout(1)
                connection.recv(1000)
                ended = True
            except socket.timeout:
                pass
            except OSError:
                ended = True
            if ended or time.monotonic() - started > 60:
                break
    report.check(ended, f"ended: {ended}, after {time.monotonic() - started:.0f} s")
