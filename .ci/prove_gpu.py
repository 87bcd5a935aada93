"""Checks deploy/prove-gpu.sh on the CPU. Run by .ci/prove-gpu."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 300
FLAGS = ["--device", "cpu", "--quick", "--no-pytorch", "--model", "sentence-transformers/all-MiniLM-L6-v2"]


def command(program, out, *flags):
    return ["deploy/prove-gpu.sh", "--embedd", program, "--out", out, *FLAGS, *flags]


def report(out):
    """Returns the results of each step, and the whole report."""
    found = json.loads((out / "proof.json").read_text())
    return {step["name"]: step["status"] for step in found["steps"]}, found


def check_results(program, out):
    done = subprocess.run(command(program, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    steps, found = report(out)
    assert steps.pop("pytorch") == "skipped", steps
    assert set(steps) == {"machine", "fetch", "convert", "validate", "bench", "serve"}, steps
    assert set(steps.values()) == {"passed"}, steps
    engines = {"fp32", "portable", "native"}
    assert set(found["accuracy"]) == engines and all(entry["passed"] for entry in found["accuracy"].values())
    assert {(entry["tokens"], entry["batch"], entry["engine"]) for entry in found["latency"]} == {
        (11, batch, engine) for batch in (1, 8) for engine in engines
    }
    loads = [load for server in found["servers"] for load in server["loads"]]
    assert len(loads) == 3 and all(set(load["codes"]) == {"OK"} and load["texts_per_s"] > 0 for load in loads), loads
    assert all(server["served"]["engine"] and server["memory_mib"]["VmHWM"] > 0 for server in found["servers"])
    text = (out / "proof.md").read_text()
    assert all(title in text for title in ("## Steps", "## Accuracy", "## Inference", "## Server")), text


def running(program, word):
    """Returns whether a process runs the program with this argument."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.readlink(folder / "exe") == program:
                if word.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    return True
        except OSError:
            continue  # it has ended, or belongs to someone else
    return False


def interrupt(program, out, word, number, *flags):
    """Ends the script while it runs a command of the program, which must end as well; returns the script's exit code."""
    # A copy, so that processes of others are not counted.
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(program, os.path.realpath(folder))
        script = subprocess.Popen(command(copy, out, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + SECONDS
        while not running(copy, word) and script.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert running(copy, word), f"the script ran {word}"
        script.send_signal(number)
        script.wait(60)
        until = time.monotonic() + 60
        while running(copy, word) and time.monotonic() < until:
            time.sleep(0.02)
        assert not running(copy, word), f"embedd {word} survived {number.name}"
    return script.returncode


def check_interruptions(program, bundle, folder):
    code = interrupt(program, folder / "term", "serve", signal.SIGTERM, "--bundle", bundle)
    steps, found = report(folder / "term")
    assert code == 1 and steps["bench"] == "passed" and steps["serve"] == "interrupted", steps
    assert len(found["latency"]) == 6, "earlier results are kept"
    interrupt(program, folder / "kill", "convert", signal.SIGKILL)
    steps, _ = report(folder / "kill")
    assert steps == {"machine": "passed", "fetch": "passed"}, steps


def check_without_gpu(program, out):
    """The script gives the reason before it downloads anything."""
    flags = ["--embedd", program, "--out", out]
    done = subprocess.run(["deploy/prove-gpu.sh", *flags], capture_output=True, text=True, timeout=60)
    steps, _ = report(out)
    assert done.returncode == 1 and steps == {"machine": "failed"} and "no NVIDIA GPU" in done.stderr, done


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        check_results(program, folder / "complete")
        print("prove-gpu.sh on the CPU: all steps pass, and the report is complete")
        check_interruptions(program, folder / "complete/bundle", folder)
        print("prove-gpu.sh, interrupted and killed: its commands end, and earlier results are kept")
        if not Path("/dev/nvidiactl").exists():
            check_without_gpu(program, folder / "no-gpu")
            print("prove-gpu.sh without a GPU: ends with the reason")


if __name__ == "__main__":
    main(os.path.realpath(sys.argv[1]))
