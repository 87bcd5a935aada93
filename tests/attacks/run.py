#!/usr/bin/env python3
"""Attacks servers that it starts itself, and checks that they stay alive, bounded and fair.

    pip install hpack grpcio
    python tests/attacks/run.py [ID...] [--embedd target/release/embedd] [--bundle DIR]

IDs are those of `--list`, or their beginnings (`M`, `H0`). Without any, all attacks run except the slow ones; `--slow`
adds those. Each server runs in a memory cgroup as large as the pod of deploy/base. Where this user cannot make a
cgroup, peak memory is still read from the process and judged, and the run says so.

Exit code: 0 if every attack held, 1 if one did not, 2 if nothing ran.
"""

import argparse
import importlib
import os
import resource
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
# The parent folder, so that this package's names do not hide those of the standard library.
sys.path[0] = os.path.dirname(HERE)
ROOT = os.path.dirname(sys.path[0])

from attacks.cgroup import MemoryCgroup  # noqa: E402
from attacks.server import Launcher  # noqa: E402
from attacks.suite import ATTACKS, Report, Skip  # noqa: E402

KINDS = [
    "http2",
    "connections",
    "memory",
    "unread",
    "unfinished",
    "cpu",
    "calls",
    "cache_and_fairness",
    "http_port",
    "access",
    "admin",
    "files",
    "everything",
]
# Where `.ci/integration` leaves the bundle that it converts.
BUNDLES = [os.path.join(ROOT, "target", "tmp", "Mpnet"), os.path.join(ROOT, "target", "attacks", "bundle")]


# Most attacks take seconds. An unsound server, or a busy machine, must not hold up the others.
MAX_SECONDS = 150
MAX_SECONDS_SLOW = 900


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--list", action="store_true", help="list the attacks and what is expected of the server")
    parser.add_argument("--slow", action="store_true", help="also those that take minutes")
    parser.add_argument("--embedd", default=os.path.join(ROOT, "target", "release", "embedd"))
    parser.add_argument(
        "--bundle", help="a converted all-mpnet-base-v2 [default: that of .ci/integration, or a new one]"
    )
    parser.add_argument("--memory", type=int, default=640, metavar="MIB", help="of the cgroup; 0: none [default: 640]")
    parser.add_argument("--admin-token", help="the token of the admin service [default: one of the suite]")
    return parser.parse_args()


def main():
    options = arguments()
    for kind in KINDS:
        importlib.import_module(f"attacks.{kind}")
    chosen = [each for each in ATTACKS if wanted(each, options)]
    if options.list:
        for each in chosen if options.ids else ATTACKS:
            print(f"{each.id}  {each.expectation}{' [slow]' if each.slow else ''}")
        return 0
    # Each attack holds up to a thousand connections.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most) if most > 0 else 8192, most))
    signal.signal(signal.SIGALRM, out_of_time)
    launcher = Launcher(
        options.embedd, options.bundle or default_bundle(options.embedd), options.memory, options.admin_token
    )
    try:
        return summary(Run(launcher).attacks(chosen), options.memory)
    finally:
        launcher.close()


def wanted(each, options):
    if options.ids:
        return any(each.id.lower().startswith(id.lower()) for id in options.ids) and (
            not each.slow or options.slow or each.id in options.ids
        )
    return options.slow or not each.slow


def default_bundle(program):
    for bundle in BUNDLES:
        if os.path.exists(os.path.join(bundle, "manifest.json")):
            return bundle
    print("converting all-mpnet-base-v2", flush=True)
    subprocess.run([program, "convert", "--no-report", "--output", BUNDLES[-1]], check=True)
    return BUNDLES[-1]


class OutOfTime(BaseException):
    """Not an `Exception`, so that no attack catches it."""


def out_of_time(*_):
    raise OutOfTime


class Run:
    """Runs attacks one after the other. Those that want equal servers share one as long as it is sound."""

    def __init__(self, launcher):
        self.launcher = launcher
        self.server = None
        self.launch = None

    def attacks(self, chosen):
        try:
            return [self.attack(each) for each in chosen]
        finally:
            self.stop()

    def attack(self, each):
        print(f"\n{each.id}  {each.expectation}", flush=True)
        report = Report()
        started = time.monotonic()
        outcome = "held"
        detail = ""
        signal.alarm(MAX_SECONDS_SLOW if each.slow else MAX_SECONDS)
        try:
            if each.launch is None:
                self.stop()
                each.function(self.launcher, report)
            else:
                each.function(self.serve(each), report)
        except OutOfTime:
            report.check(False, f"not done after {time.monotonic() - started:.0f} s")
        except Skip as skip:
            outcome = "SKIPPED"
            detail = str(skip)
        except Exception as error:  # noqa: BLE001 - a bug of the attack, or a dead server
            if self.server and not self.server.alive:
                report.check(False, f"the server is dead: {self.server.death}")
            else:
                traceback.print_exc(file=sys.stdout)
                report.check(False, f"{type(error).__name__}: {error}")
        finally:
            signal.alarm(0)
        if report.failures:
            outcome = "FAILED"
            detail = report.failures[0]
        peak = self.peak()
        if each.launch is not None and (each.fresh or outcome == "FAILED" or not self.server or not self.server.alive):
            self.stop()
        seconds = time.monotonic() - started
        print(f"    {outcome} ({seconds:.1f} s)", flush=True)
        return each.id, outcome, seconds, peak, detail

    def serve(self, each):
        if self.server and (each.fresh or each.launch != self.launch or not self.server.alive):
            self.stop()
        if not self.server:
            self.server = self.launcher.start(**each.launch)
            self.launch = each.launch
        self.server.reset_peak()
        return self.server

    def peak(self):
        try:
            return self.server.memory_mib()[1]
        except (AttributeError, OSError, KeyError):
            return None

    def stop(self):
        if self.server:
            self.server.stop()
            self.server = None


def summary(rows, memory):
    print("\nid    outcome    time   peak memory")
    for id, outcome, seconds, peak, detail in rows:
        print(f"{id:5} {outcome:9}{seconds:5.0f} s  {f'{peak:5.0f} MiB' if peak else '        -'}  {detail[:150]}")
    outcomes = [outcome for _, outcome, *_ in rows]
    print(f"{outcomes.count('held')} held, {outcomes.count('FAILED')} failed, {outcomes.count('SKIPPED')} skipped")
    untested = [(f"attack {id}: {detail}", id) for id, outcome, _, _, detail in rows if outcome == "SKIPPED"]
    if not memory or not can_limit_memory():
        untested.append(
            ("attacks in a memory cgroup, which this user cannot make; peak memory was judged all the same", "all")
        )
    for reason, _ in untested:
        print(f"NOT TESTED: {reason}")
    # For .ci/skips.
    if os.environ.get("TEST_SKIPS"):
        with open(os.environ["TEST_SKIPS"], "a", encoding="utf-8") as skips:
            skips.writelines(f"{reason}\tattacks {id}\n" for reason, id in untested)
    if "FAILED" in outcomes:
        return 1
    return 0 if "held" in outcomes else 2


def can_limit_memory():
    group = MemoryCgroup.create(1 << 30)
    if group:
        group.remove()
    return group is not None


if __name__ == "__main__":
    sys.exit(main())
