"""Proves that embedd runs on this machine's NVIDIA GPU, and measures it beside PyTorch in float16 on the same GPU.

Steps: the GPU and its driver; fetch; convert; compare all reference texts with PyTorch's embeddings; time the engines
by length and batch; time PyTorch in the same way; serve with several sessions and token budgets, under load on
loopback.

Every step has a time limit, and the whole takes at most 8 minutes (4 with --quick or --device cpu). If a step fails,
the others still run. Results are written after each step: proof.json and proof.md in the folder of --out. On a slow
network, run `embedd fetch --device cuda` (1.6 GB) first. Exit codes: 0 no step failed; 1 a step failed; 64 invalid
usage.
"""

import argparse
import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path

import tables
from processes import Clock, Failed, run
from steps import ROOT, Proof, Skipped

TOTAL_SECONDS, QUICK_SECONDS = 450, 210
INSTALL_SECONDS = 900

FULL = {
    "lengths": (11, 128, 384),
    "batches": (1, 8, 64, 256, 1024),
    "runs": None,
    "fetch_seconds": 240,
    "convert_seconds": 150,
    "validate_seconds": 60,
    "bench_seconds": 110,
    "pytorch_seconds": 90,
    "pytorch_seconds_each": 2,
    "start_seconds": 60,
    "load_seconds": 3,
    "warm_up_seconds": 1,
    # Sessions and tokens per batch. The first ones are the defaults.
    "servers": [(2, 16384), (1, 16384), (3, 16384), *((s, t) for t in (4096, 65536) for s in (1, 2, 3))],
    "loads": [
        {"tokens": 11, "callers": (1,), "texts": 1},
        {"tokens": 11, "callers": (64,), "texts": 64},
        {"tokens": 128, "callers": (64,), "texts": 64},
    ],
    # Many callers with one text each, of the first server only.
    "callers": {"tokens": 11, "callers": (16, 64, 256), "texts": 1},
}
QUICK = FULL | {
    "lengths": (11, 128),
    "batches": (1, 64, 1024),
    "runs": 10,
    "pytorch_seconds_each": 1,
    "load_seconds": 2,
    "servers": [(2, 16384), (1, 4096)],
    "callers": {"tokens": 11, "callers": (64,), "texts": 1},
}
ON_CPU = FULL | {
    "lengths": (11, 128),
    "batches": (1, 8),
    "runs": 5,
    "pytorch_seconds_each": 0.5,
    "load_seconds": 1,
    "servers": [(1, 256), (1, 1024)],
    "callers": {"tokens": 11, "callers": (8,), "texts": 1},
    "loads": [{"tokens": 11, "callers": (1,), "texts": 1}, {"tokens": 128, "callers": (4,), "texts": 4}],
}
QUICK_ON_CPU = ON_CPU | {"lengths": (11,), "servers": [(1, 256)]}


class Interrupted(BaseException):
    """A signal, or the end of the time for all steps."""


def interrupt(number, _):
    raise Interrupted(signal.Signals(number).name)


def write(report, folder):
    """Replaces both files, so that readers never see incomplete ones."""
    for name, text in [("proof.json", json.dumps(report, indent=1) + "\n"), ("proof.md", tables.markdown(report))]:
        unfinished = folder / f".{name}"
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, folder / name)


def step(report, name, action):
    """Runs a step and records its result; returns whether the next steps make sense."""
    entry = {"name": name, "status": "interrupted", "seconds": 0.0}
    report["steps"].append(entry)
    print(f"== {name}", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        action()
        entry["status"] = "passed"
    except Skipped as error:
        entry |= {"status": "skipped", "message": str(error)}
    except (Failed, OSError, LookupError, TypeError, ValueError) as error:
        message = str(error) if isinstance(error, (Failed, OSError)) else f"unexpected output: {error!r}"
        entry |= {"status": "failed", "message": message}
    except Interrupted as error:
        entry["message"] = str(error)
        raise
    finally:
        entry["seconds"] = round(time.monotonic() - started, 1)
    if "message" in entry:
        print(f"{entry['status']}: {entry['message']}", file=sys.stderr, flush=True)
    return entry["status"] != "failed"


def prove(proof, report, folder):
    """Runs the steps; writes the report after each, and after a signal."""
    needed = {"machine", "convert"}
    try:
        for name in ("machine", "fetch", "convert", "validate", "bench", "pytorch", "serve"):
            passed = step(report, name, getattr(proof, name))
            report["compared"] = tables.compared(report)
            write(report, folder)
            if not passed and name in needed:
                return
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
    finally:
        signal.alarm(0)
        report["compared"] = tables.compared(report)
        write(report, folder)


def install_pytorch(folder):
    """Returns the Python of a virtual environment with PyTorch, which is created once."""
    python, complete = folder / "bin/python", folder / "complete"
    if not complete.exists():
        print(
            f"installing PyTorch in {folder}, for at most {INSTALL_SECONDS // 60} minutes", file=sys.stderr, flush=True
        )
        run([os.environ.get("EMBEDD_PYTHON", sys.executable), "-m", "venv", "--clear", folder], 120)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        run([*pip, "--requirement", ROOT / "benches/pytorch_gpu.txt"], INSTALL_SECONDS)
        complete.touch()  # last: an interrupted installation starts over
    return python


def arguments():
    parser = argparse.ArgumentParser(
        prog="deploy/prove-gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedd", type=Path, default=ROOT / "target/release/embedd", help="the program")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu: fewer lengths, and PyTorch in float32")
    parser.add_argument("--model", default="sentence-transformers/all-mpnet-base-v2")
    parser.add_argument("--bundle", type=Path, help="a bundle of the model, instead of converting it")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "target/gpu-proof", help="folder for the results and the bundle"
    )
    parser.add_argument("--quick", action="store_true", help="fewer lengths, batches and servers")
    parser.add_argument("--python", type=Path, help="a Python that has PyTorch (benches/pytorch_gpu.txt)")
    parser.add_argument(
        "--install-pytorch",
        action="store_true",
        help="install PyTorch first, in target/pytorch-gpu: several GB, and up to 15 minutes more",
    )
    parser.add_argument("--no-pytorch", action="store_true", help="do not measure PyTorch")
    parser.error = lambda message: parser.exit(64, f"error: {message}; see --help\n")
    found = parser.parse_args()
    found.embedd = found.embedd.resolve()
    if not os.access(found.embedd, os.X_OK) or found.embedd.is_dir():
        parser.error(f"{found.embedd} is not a program: run `cargo build --release`, or use --embedd")
    if found.device not in ("cpu", "cuda") and not (found.device.startswith("cuda:") and found.device[5:].isdigit()):
        parser.error(f"{found.device} is not cuda, cuda:N or cpu")
    return found


def main():
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, interrupt)
    options.out.mkdir(parents=True, exist_ok=True)
    on_cpu = options.device == "cpu"
    plan = {(False, False): FULL, (False, True): QUICK, (True, False): ON_CPU, (True, True): QUICK_ON_CPU}
    seconds = QUICK_SECONDS if on_cpu or options.quick else TOTAL_SECONDS
    report = {
        "schema": 1,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": options.device,
        "model": options.model,
        "quick": options.quick,
        "steps": [],
        "accuracy": {},
        "latency": [],
        "servers": [],
    }
    try:
        if options.install_pytorch:
            options.python = install_pytorch(ROOT / "target/pytorch-gpu")
    except (Failed, OSError) as error:
        report["steps"].append({"name": "install PyTorch", "status": "failed", "seconds": 0.0, "message": str(error)})
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return 1
    # The steps have time limits; the alarm is for a step that exceeds its own. Ending a server may take 20 s more.
    signal.alarm(seconds + 5)
    prove(Proof(options, plan[on_cpu, options.quick], Clock(seconds), report), report, options.out)
    print((options.out / "proof.md").read_text(encoding="utf-8"))
    print(f"{options.out / 'proof.json'}\n{options.out / 'proof.md'}", file=sys.stderr)
    return 0 if all(step["status"] in ("passed", "skipped") for step in report["steps"]) else 1


if __name__ == "__main__":
    sys.exit(main())
