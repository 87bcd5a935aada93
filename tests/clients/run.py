#!/usr/bin/env python3
"""Calls servers that it starts itself with the clients of other servers, as their users do.

    python tests/clients/run.py [--binary target/release/embedd] [--client NAME...] [--update-docs]
    python tests/clients/run.py --cost [--calls N]

Needs the environment of .ci/clients. A NAME is that of a client, or a part of it. The truth is what `embedd embed`
returns. Prints a table of the calls and their results, and compares its clients, versions and calls with the table in
docs/CLIENTS.md. `--update-docs` writes that table, and the lines to use each client, instead.

Exit code: 0 if every check passed, 1 if one failed or docs/CLIENTS.md is out of date, 2 if nothing ran.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
# The parent folder, so that this package's names do not hide those of the standard library and of clients.
sys.path[0] = os.path.dirname(HERE)
ROOT = os.path.dirname(sys.path[0])

from clients import cost, docs  # noqa: E402
from clients.server import TOKEN, Authority, Program, Servers, environment  # noqa: E402
from clients.suite import NotTested  # noqa: E402

# Each module runs in a process of its own, with a time limit, because some clients change their process (gevent) or
# start threads. The slowest come first.
MODULES = [
    "litellm_client",
    "chroma",
    "langchain",
    "llama_index_client",
    "openai_javascript",
    "openai_python",
    "hugging_face",
    "cohere_client",
    "triton_client",
    "grpcio_client",
    "curl",
    "grpcurl",
]
# The order of the documentation.
ORDER = [
    "openai_python",
    "openai_javascript",
    "langchain",
    "llama_index_client",
    "litellm_client",
    "hugging_face",
    "cohere_client",
    "chroma",
    "triton_client",
    "grpcio_client",
    "curl",
    "grpcurl",
]
# Instead of a call, if a process ended before it had made all its calls.
WHOLE_MODULE = "all"
PARALLEL = 2
MODULE_SECONDS = 180
SMALL_MODEL = os.path.join(ROOT, "tests", "fixtures", "models", "bert-mean")
# npm needs the user's settings.
NPM_MODULE = "openai_javascript"
# No package registry has these tools.
MISSING_TOOLS = ["ghz", "k6"]
# Clients that would otherwise call home, or wait for it.
QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "embedd"))
    parser.add_argument("--client", action="extend", nargs="+", default=[], metavar="NAME", help="only these clients")
    parser.add_argument("--update-docs", action="store_true", help="write the table and the lines to docs/CLIENTS.md")
    parser.add_argument("--cost", action="store_true", help="measure a cache hit through every protocol instead")
    parser.add_argument("--calls", type=int, default=2000, help="of --cost, for each protocol [default: 2000]")
    parser.add_argument("--bundle", help="of --cost [default: all-mpnet-base-v2 in the cache folder, or a small model]")
    # What this program calls itself with.
    parser.add_argument("--module", help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.binary = os.path.abspath(options.binary)
    if options.update_docs and options.client:
        parser.error("--update-docs needs the results of all clients")
    return options


def main():
    options = arguments()
    if options.module:
        return run_module(options)
    # The processes that this one has started end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="embedd-clients-") as folder:
        if options.cost:
            return cost.run(
                options.binary, options.bundle or cost.default_bundle() or convert(options, folder), options
            )
        return run_all(options, folder)


def convert(options, folder):
    bundle = os.path.join(folder, "bundle")
    Program(options.binary, bundle).convert(SMALL_MODEL)
    return bundle


def run_all(options, folder):
    started = time.monotonic()
    program = Program(options.binary, convert(options, folder))
    authority = Authority(folder)
    with program.start() as open_server, program.start(tokens=[TOKEN], authority=authority) as secured:
        results = run_modules(options, Servers(program, open_server, secured), authority, folder)
    rows = [row for module in ORDER for row in results.get(module, [])]
    if not rows:
        print("no such client")
        return 2
    print(docs.table(rows, with_results=True))
    failed = [row for row in rows if row["outcome"] == "FAILED"]
    for row in failed:
        print(f"FAILED: {row['client']}: {row['call']}: {row['detail']}")
    report_skips(rows, options)
    if options.update_docs and all(row["call"] != WHOLE_MODULE for row in rows):
        docs.update(rows)
    outdated = docs.differences(rows, bool(options.client))
    for line in outdated:
        print(f"docs/CLIENTS.md is out of date (run tests/clients/run.py --update-docs): {line}")
    outcomes = [row["outcome"] for row in rows]
    print(f"{time.monotonic() - started:.0f} s")
    print(f"{outcomes.count('ok')} passed, {len(failed)} failed, {outcomes.count('NOT TESTED')} skipped")
    return 1 if failed or outdated else 0


def run_modules(options, servers, authority, folder):
    """Runs the modules, a few at a time. Returns the rows of each."""
    waiting = [module for module in MODULES if may_have(module, options.client)]
    running = []
    results = {}
    try:
        while waiting or running:
            while waiting and len(running) < PARALLEL:
                running.append(Module(waiting.pop(0), options, servers, authority, folder))
            for module in [module for module in running if module.has_ended()]:
                running.remove(module)
                results[module.name] = module.rows()
            time.sleep(0.05)
    finally:
        for module in running:
            module.kill()
    return results


def may_have(module, names):
    """Whether a module has a client of these names; all have one of no name. Some take seconds to import."""
    with open(os.path.join(HERE, f"{module}.py"), encoding="utf-8") as file:
        text = file.read().lower()
    return not names or any(name.lower() in text for name in names)


class Module:
    """A process that runs the checks of one module."""

    def __init__(self, name, options, servers, authority, folder):
        self.name = name
        self.results = os.path.join(folder, f"{name}.json")
        self.output = os.path.join(folder, f"{name}.log")
        self.deadline = time.monotonic() + MODULE_SECONDS
        command = [sys.executable, os.path.abspath(__file__), "--module", name, "--results", self.results]
        for client in options.client:
            command += ["--client", client]
        home = os.path.join(folder, f"home-{name}")
        os.mkdir(home)
        variables = {**os.environ, "TMPDIR": home}
        if name != NPM_MODULE:
            # Clients neither find nor leave settings in the user's folders.
            variables = {
                **environment(),
                **QUIET,
                "HOME": home,
                "HF_HOME": home,
                "XDG_CACHE_HOME": home,
                "TMPDIR": home,
            }
        variables |= authority.variables()
        variables["CLIENT_TEST_SERVERS"] = servers.to_json()
        variables["CLIENT_TEST_TOOLS"] = os.path.join(cache_folder(), "tools")
        # Servers that a module starts need not fetch ONNX Runtime.
        variables["EMBEDD_HOME"] = cache_folder()
        options = {"stdin": subprocess.DEVNULL, "env": variables, "start_new_session": True}
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, **options)

    def has_ended(self):
        if self.process.poll() is None and time.monotonic() > self.deadline:
            self.kill()
        return self.process.poll() is not None

    def kill(self):
        """Ends the process and those that it has started, which are its process group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def rows(self):
        """The results; the rest of the module failed if the process ended early."""
        rows = []
        if os.path.exists(self.results):
            with open(self.results, encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
        if self.process.returncode != 0:
            with open(self.output, encoding="utf-8", errors="replace") as output:
                detail = f"the process ended with {self.process.returncode}: {output.read()[-2000:]}"
            row = {
                "client": self.name,
                "version": "",
                "call": WHOLE_MODULE,
                "expectation": "",
                "lines": "",
                "language": "",
            }
            rows.append({**row, "outcome": "FAILED", "detail": detail})
        return rows


def cache_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("EMBEDD_HOME") or os.path.join(cache, "embedd")


def run_module(options):
    """Runs the checks of one module in this process, and appends their results to a file."""
    servers = Servers.from_json(os.environ["CLIENT_TEST_SERVERS"])
    clients = importlib.import_module(f"clients.{options.module}").CLIENTS
    with open(options.results, "a", encoding="utf-8") as results:
        for client in clients:
            if options.client and not any(name.lower() in client.name.lower() for name in options.client):
                continue
            for check in client.checks:
                outcome, detail, seconds = run_check(check, servers)
                row = {"client": client.name, "version": client.version, "call": check.call, "outcome": outcome}
                row |= {"expectation": check.expectation, "detail": detail, "seconds": seconds}
                row |= {"lines": client.lines, "language": client.language}
                results.write(json.dumps(row) + "\n")
                results.flush()
    # Some clients leave threads behind.
    os._exit(0)


def run_check(check, servers):
    started = time.monotonic()
    try:
        check.function(servers)
        outcome = "ok", ""
    except NotTested as reason:
        outcome = "NOT TESTED", str(reason)
    except Exception as error:
        traceback.print_exc()
        outcome = "FAILED", f"{type(error).__name__}: {error}".replace("\n", " ")
    return *outcome, time.monotonic() - started


def report_skips(rows, options):
    reasons = [(row["detail"], f"{row['client']}: {row['call']}") for row in rows if row["outcome"] == "NOT TESTED"]
    if not options.client:
        reasons += [(f"{tool}: no package registry has it", tool) for tool in MISSING_TOOLS]
    for reason, check in reasons:
        print(f"NOT TESTED: {check}: {reason}")
    # For .ci/skips.
    if os.environ.get("TEST_SKIPS"):
        with open(os.environ["TEST_SKIPS"], "a", encoding="utf-8") as skips:
            skips.writelines(f"{reason}\tclients: {check}\n" for reason, check in reasons)


if __name__ == "__main__":
    sys.exit(main())
