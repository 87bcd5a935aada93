"""Checks the server's web page in Chromium: check.py SERVER CHROMIUM [--images FOLDER] [--seconds N]

Starts servers with a small model, and fails if the page does not work, if anything is wider than the window, if the
console shows an error, or if pages of other origins cannot call a server that allows them, or can call another one.
Load runs for N seconds before screenshots are written to FOLDER.
"""

import argparse
import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from browser import PATIENCE, Browser

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/fixtures/models/bert-mean"
TOKEN = "a-token-for-the-check"
WIDTHS = (1280, 768, 360)
CTRL = 2


def cache_folder() -> str:
    return os.environ.get("EMBEDD_HOME") or os.path.expanduser("~/.cache/embedd")


class Server:
    """A server with a small model. Use it as a context manager, which ends it."""

    def __init__(self, program: str, home: str, model: str, *flags: str) -> None:
        arguments = ["serve", "--model", model, "--home", home, "--listen", "127.0.0.1:0", "--admin-listen", "off"]
        arguments += ["--http-listen", "127.0.0.1:0", "--shutdown-grace", "0s", "--log-format", "json", *flags]
        # The cache folder of the tests may have the library already.
        libraries = sorted(pathlib.Path(cache_folder(), "onnxruntime").glob("*/libonnxruntime.so.*"))
        arguments += ["--onnxruntime", str(libraries[-1])] if libraries else []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDD_")}
        self.process = subprocess.Popen([program, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
        self.port = None
        for line in self.process.stderr:
            entry = json.loads(line) if line.startswith("{") else {"message": line.strip()}
            if entry["message"] == "listening" and entry["server"] == "HTTP":
                self.port = int(entry["address"].rsplit(":", 1)[1])
            if entry["message"] == "ready":
                break
        else:
            sys.exit("the server did not start")
        # Nobody needs the rest of the log, but the pipe must not fill up.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def call(self, connection: http.client.HTTPConnection, path: str, body) -> int:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status

    def load(self, seconds: float) -> None:
        """Some calls per second: mostly new texts, some repeated, a few errors."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            number += 1
            wave = 1 + (number // 60) % 4
            texts = [f"text {number} {index} " + "word " * (number % 17) for index in range(wave * 4)]
            self.call(connection, "/embed", {"inputs": texts + ["repeated"] * 3})
            if number % 50 == 0:
                self.call(connection, "/embed", {"inputs": []})
            time.sleep(0.03)


def examples_work(server: Server, browser: Browser) -> None:
    """Every example of the description is answered."""
    commands = browser.evaluate("[...document.querySelectorAll('pre.call')].map((pre) => pre.textContent)")
    assert len(commands) > 15, commands
    for command in commands:
        url, body = re.fullmatch(r"curl (\S+)(?: -H '[^']*' \\\n    -d '([^']*)')?", command).groups()
        assert url.startswith(server.url), command
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        path = "/" + url.removeprefix(server.url).replace("MODEL", MODEL.name)
        connection.request("POST" if body else "GET", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, f"{command}: {answer.status} {answer.read()}"


def fits(browser: Browser, what: str) -> None:
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            browser.emulate(width, scheme)
            found = browser.evaluate("document.documentElement.scrollWidth")
            assert found <= width, f"{what} is {found} px wide in a window of {width} px"


def no_errors(browser: Browser, what: str) -> None:
    assert not browser.errors, f"{what}: the console shows {browser.errors}"


def check_page(server: Server, browser: Browser) -> None:
    browser.emulate(1280, "light")
    browser.open(server.url)
    browser.until("document.getElementById('phase').textContent === 'ready'")
    browser.until("document.querySelectorAll('#charts svg').length === 12")
    # By keyboard alone.
    browser.evaluate("document.getElementById('text-0').focus()")
    browser.press("Enter", 13, CTRL)
    browser.until("!document.getElementById('results').hidden")
    assert browser.evaluate("document.querySelectorAll('#matrix tbody td').length") == 4
    diagonal = browser.evaluate("document.querySelector('#matrix tbody td').textContent")
    assert diagonal == "1.000", diagonal
    tokens = browser.evaluate("document.querySelectorAll('#tokens .token').length")
    assert tokens > 4, tokens
    browser.evaluate("document.querySelector('#call-tabs [aria-selected=true]').focus()")
    calls = []
    for _ in range(3):
        calls.append(browser.evaluate("document.getElementById('call-panel').innerText"))
        browser.press("ArrowRight", 39)
    assert [call.split()[0] for call in calls] == ["curl", "grpcurl", "from"], calls
    assert all("127.0.0.1:" in call for call in calls), calls

    browser.open(server.url + "#demo")
    browser.until("document.querySelectorAll('#tokens .cut').length > 0")
    browser.until("document.querySelectorAll('#tokens .special').length === 8")
    fits(browser, "the page")
    check_errors(browser)
    no_errors(browser, "the page")

    browser.emulate(1280, "light")
    browser.open(server.url + "docs")
    browser.until("document.querySelectorAll('.copy').length > 15")
    examples_work(server, browser)
    fits(browser, "the description")
    no_errors(browser, "the description")


def check_errors(browser: Browser) -> None:
    """Errors of the server are explained."""
    for status, error, expected in (
        (429, {"error": "the queue is full"}, "overloaded: the queue is full. Try again in 2 s"),
        (503, {"error": {"message": "the model is being loaded"}}, "not available: the model is being loaded"),
        (403, {"error": {"message": "foreign"}}, "localhost"),
        (422, {"error": "inputs is wrong"}, "422: inputs is wrong"),
    ):
        answer = f"new Response({json.dumps(json.dumps(error))}, {{status: {status}, headers: {{'retry-after': '2'}}}})"
        browser.evaluate(f"window.fetch = async () => {answer}, document.getElementById('try').requestSubmit()")
        browser.until(f"document.getElementById('try-problem').textContent.includes({json.dumps(expected)})")
        assert browser.evaluate("document.getElementById('results').hidden"), "results of another call"


def check_token(server: Server, browser: Browser) -> None:
    browser.open(server.url)
    browser.until("!document.getElementById('token-form').hidden")
    for token, place, expected in (("wrong", "problem", "does not accept this token"), (TOKEN, "phase", "ready")):
        browser.evaluate(
            f"document.getElementById('token').value = '{token}', document.getElementById('token-form').requestSubmit()"
        )
        browser.until(f"document.getElementById('{place}').textContent.includes('{expected}')")
    browser.until("document.getElementById('token-form').hidden")
    assert not browser.evaluate("document.documentElement.outerHTML").count(TOKEN), "the page shows the token"
    assert "$TOKEN" in browser.evaluate("document.getElementById('call-panel').innerText")
    browser.evaluate("document.getElementById('try').requestSubmit()")
    browser.until("!document.getElementById('results').hidden")
    # The browser itself reports the calls without a valid token.
    errors = [error for error in browser.errors if "401" not in error]
    assert not errors, errors
    browser.errors.clear()


def check_without_tei(server: Server, browser: Browser) -> None:
    browser.open(server.url)
    browser.until("document.getElementById('try-status').textContent.includes('--tei=false')")
    browser.evaluate("document.getElementById('try').requestSubmit()")
    browser.until("document.getElementById('tokens').textContent.includes('--tei')")
    assert browser.evaluate("document.querySelectorAll('#matrix tbody td').length") == 4
    no_errors(browser, "the page without text-embeddings-inference")


def check_end(browser: Browser) -> None:
    """The page of a server that has ended says so."""
    browser.until("document.getElementById('problem').textContent.includes('cannot be reached')")
    browser.errors.clear()


class Elsewhere:
    """A page of another origin. Use it as a context manager, which ends its server."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!doctype html><link rel=icon href=data:,><title>elsewhere</title>")

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Elsewhere":
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


def called_from(page: Elsewhere, browser: Browser, server: Server):
    """What a page gets from the server: the embedding, the error of a wrong token, and a header; or a TypeError."""
    browser.open(page.origin + "/")
    found = browser.evaluate(
        f"""(async () => {{
            const call = (token) => fetch("{server.url}v1/embeddings", {{
                method: "POST",
                headers: {{"content-type": "application/json", "authorization": `Bearer ${{token}}`}},
                body: JSON.stringify({{"input": "from another page"}}),
            }});
            try {{
                const [right, wrong] = [await call("{TOKEN}"), await call("wrong")];
                const vector = (await right.json()).data[0].embedding;
                return [vector.length, (await wrong.json()).error.code, right.headers.has("x-request-id")];
            }} catch (error) {{
                return error.name;
            }}
        }})()"""
    )
    # The browser itself reports the call with a wrong token, and all calls that are not allowed.
    browser.errors.clear()
    return found


def images(server: Server, browser: Browser, folder: pathlib.Path, seconds: float) -> None:
    server.load(seconds)
    for name, width, scheme in (("light", 1120, "light"), ("dark", 1120, "dark"), ("phone", 360, "light")):
        browser.emulate(width, scheme)
        browser.open(server.url + "#demo")
        browser.until("document.querySelectorAll('#tokens .cut').length > 0")
        path = folder / f"page-{name}.png"
        browser.screenshot(str(path))
        print(f"{path}: {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("chromium")
    parser.add_argument("--images", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--home", help="the cache folder of the servers; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embedd-page-") as home, Browser(arguments.chromium) as browser:
        tokens = pathlib.Path(home, "tokens")
        tokens.write_text(TOKEN + "\n", encoding="utf-8")

        def start(*flags: str) -> Server:
            return Server(arguments.server, arguments.home or home, arguments.model, *flags)

        if arguments.images:
            with start() as server:
                images(server, browser, arguments.images, arguments.seconds)
            return
        with start() as server:
            check_page(server, browser)
            browser.open(server.url)
        check_end(browser)
        with start("--token-file", str(tokens)) as server:
            check_token(server, browser)
        with start("--tei=false") as server:
            check_without_tei(server, browser)
        with Elsewhere() as page, Elsewhere() as other:
            with start("--token-file", str(tokens), "--cors-origin", page.origin) as server:
                found = called_from(page, browser, server)
                assert found == [32, "invalid_api_key", True], found
                found = called_from(other, browser, server)
                assert found == "TypeError", found
            with start("--token-file", str(tokens)) as server:
                found = called_from(page, browser, server)
                assert found == "TypeError", found
    print("the page works in Chromium, and pages of other origins call the server only if they may")


if __name__ == "__main__":
    signal.alarm(10 * PATIENCE)
    main()
