"""The steps of the proof. Each adds its results to the report as soon as it has them."""

import csv
import ctypes
import io
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from processes import Failed, Server, attempt, run

ROOT = Path(__file__).resolve().parents[2]
GPU_FACTS = {
    "index": "index",
    "name": "name",
    "driver_version": "driver",
    "memory.total": "memory_mib",
    "compute_cap": "compute_capability",
    "clocks.max.sm": "max_clock_mhz",
    "power.limit": "power_limit_w",
}
# What `--engine auto` prefers.
ENGINES = ("fp16", "native", "portable", "fp32")
PYTORCH_UNAVAILABLE = 3
SERVER_FLAGS = [
    "--listen",
    "127.0.0.1:0",
    "--admin-listen",
    "off",
    "--http-listen",
    "off",
    "--shutdown-grace",
    "0s",
    "--log-format",
    "json",
    "--queue-requests",
    "4096",
    "--queue-total-texts",
    "16384",
]


class Skipped(Exception):
    """A step cannot run on this machine and is skipped; the message says why."""


class Proof:
    def __init__(self, options, plan, clock, report):
        self.options, self.plan, self.clock, self.report = options, plan, clock, report
        self.bundle = Path(options.bundle) if options.bundle else Path(options.out) / "bundle"
        self.model_folder = None

    def embedd(self, command, *arguments):
        # The CPU is the default device.
        device = [] if self.options.device == "cpu" else ["--device", self.options.device]
        return [self.options.embedd, command, *device, *arguments]

    def manifest(self):
        try:
            return json.loads((self.bundle / "manifest.json").read_text())
        except OSError as error:
            raise Failed(f"there is no bundle: {error}") from error

    def lengths(self, asked):
        """Returns the lengths up to the model's maximum, which replaces longer ones."""
        return sorted({min(length, self.manifest()["max_tokens"]) for length in asked})

    def machine(self):
        facts = {}
        if os.path.exists("/proc/cpuinfo"):
            lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
            facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        self.report["machine"] = {
            "cpu": facts.get("model name", platform.machine()),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_mib": memory,
            "system": platform.platform(),
        }
        self.report["versions"] = {
            "embedd": run([self.options.embedd, "--version"], self.clock.at_most(20)).split()[-1]
        }
        try:
            commit = run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], self.clock.at_most(20))
            self.report["versions"]["commit"] = commit.strip()
        except (OSError, Failed):
            pass  # not a clone
        if self.options.device != "cpu":
            self.report["gpus"] = self.gpus()

    def gpus(self):
        query = ["nvidia-smi", f"--query-gpu={','.join(GPU_FACTS)}", "--format=csv,noheader,nounits"]
        try:
            rows = list(csv.reader(io.StringIO(run(query, self.clock.at_most(20))), skipinitialspace=True))
            found = [dict(zip(GPU_FACTS.values(), row, strict=True)) for row in rows]
        except (OSError, Failed, ValueError) as error:
            # Containers may have the driver without its tools.
            count = devices_of_driver()
            if not count:
                raise Failed(f"no NVIDIA GPU: nvidia-smi failed ({error}), and so did libcuda.so.1") from error
            found = [{"name": f"unknown: nvidia-smi failed ({error})"}] * count
        if not found:
            raise Failed("nvidia-smi lists no GPU")
        return found

    def fetch(self):
        output = run(
            self.embedd("fetch", "--model", self.options.model), self.clock.at_most(self.plan["fetch_seconds"])
        )
        paths = dict(line.split(maxsplit=1) for line in output.splitlines() if line.startswith("model "))
        self.model_folder = paths.get("model")
        self.report["fetched"] = output.strip().splitlines()

    def convert(self):
        if self.options.bundle:
            raise Skipped("--bundle")
        flags = ["--model", self.options.model, "--output", self.bundle, "--no-report", "--force"]
        run(self.embedd("convert", *flags), self.clock.at_most(self.plan["convert_seconds"]))
        files = {file.name: file.stat().st_size for file in sorted(self.bundle.iterdir())}
        self.report["bundle"] = {"model": self.manifest()["name"], "files": files}

    def validate(self):
        engines = [name for name in ENGINES if name in self.manifest()["models"]]
        if self.options.device != "cpu":
            engines = [name for name in engines if name in ("fp16", "fp32")]
        wrong = []
        for engine in engines:
            command = self.embedd("validate", "--bundle", self.bundle, "--variant", engine, "--json")
            found = json.loads(run(command, self.clock.at_most(self.plan["validate_seconds"]), accepted=(0, 2)))
            self.report["accuracy"][engine] = found["summary"] | {"batch_agreement": found["batch_agreement"]}
            if not found["summary"]["passed"]:
                wrong.append(engine)
        if wrong:
            raise Failed(f"below the accuracy gate: {', '.join(wrong)}")

    def bench(self):
        problems = []
        for length in self.lengths(self.plan["lengths"]):
            batches = list(self.plan["batches"])
            # The largest batches may not fit into the memory of the GPU.
            while batches:
                flags = [
                    "--bundle",
                    self.bundle,
                    "--json",
                    "--lengths",
                    length,
                    "--batches",
                    ",".join(map(str, batches)),
                ]
                flags += ["--runs", self.plan["runs"]] if self.plan["runs"] else []
                limit = self.clock.at_most(self.plan["bench_seconds"])
                _, output, error = attempt(self.embedd("bench", *flags), limit)
                if error is None:
                    self.report["latency"] += [entry["measured"] for entry in json.loads(output)["latency"]]
                    break
                problems.append(f"{length} tokens, batches up to {batches.pop()}: {error}")
        if problems:
            raise Failed("; ".join(problems))

    def pytorch(self):
        if self.options.no_pytorch:
            raise Skipped("--no-pytorch")
        if self.model_folder is None:
            raise Failed("there is no model folder")
        command = [self.options.python or sys.executable, ROOT / "benches/pytorch_gpu.py", "--model", self.model_folder]
        command += ["--device", self.options.device, "--seconds", self.plan["pytorch_seconds_each"]]
        command += ["--lengths", ",".join(map(str, self.lengths(self.plan["lengths"])))]
        command += ["--batches", ",".join(map(str, self.plan["batches"]))]
        reference = self.bundle / "reference.safetensors"
        if self.options.device != "cpu" and reference.exists():
            command += ["--reference", reference]
        code, output, error = attempt(command, self.clock.at_most(self.plan["pytorch_seconds"]))
        if code == PYTORCH_UNAVAILABLE:
            raise Skipped(f"{error}; see --python and --install-pytorch")
        # The last line may be incomplete.
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{") and line.endswith("}")]
        self.report["pytorch"] = {
            "setup": next((line for line in lines if "torch" in line), None),
            "latency": [line for line in lines if "batch" in line],
            "accuracy": next((line["accuracy"] for line in lines if "accuracy" in line), None),
        }
        if error:
            raise Failed(error)

    def serve(self):
        problems = []
        for sessions, tokens in self.plan["servers"]:
            try:
                self.serve_with(sessions, tokens)
            except Failed as error:
                problems.append(f"sessions {sessions}, batch tokens {tokens}: {error}")
                if self.clock.left() < 1:
                    break
        if problems:
            raise Failed("; ".join(problems))

    def serve_with(self, sessions, tokens):
        flags = ["--bundle", self.bundle, "--sessions", sessions, "--batch-tokens", tokens, *SERVER_FLAGS]
        measured = {"sessions": sessions, "batch_tokens": tokens, "loads": []}
        loads = list(self.plan["loads"])
        if (sessions, tokens) == self.plan["servers"][0]:
            loads.append(self.plan["callers"])
        problems = []
        with Server(self.embedd("serve", *flags), self.clock.at_most(self.plan["start_seconds"])) as server:
            measured |= {"ready_seconds": round(server.ready_seconds, 2), "served": server.model}
            self.report["servers"].append(measured)
            for load in loads:
                try:
                    measured["loads"] += self.load(server, load)
                except Failed as error:
                    problems.append(str(error))
            measured["memory_mib"] = server.memory()
            if self.options.device != "cpu":
                measured["gpu_memory_mib"] = self.gpu_memory(server.process.pid)
        if problems:
            raise Failed(", ".join(problems))

    def load(self, server, load):
        """Returns the results of a load on a server, one for each number of callers."""
        length = self.lengths([load["tokens"]])[0]
        seconds, warm_up = self.plan["load_seconds"], self.plan["warm_up_seconds"]
        limit = (seconds + warm_up) * len(load["callers"]) + 35
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "load.json"
            command = [self.options.embedd, "load", "--server", server.address, "--json", file, "--encoding", "bytes"]
            command += ["--concurrency", ",".join(map(str, load["callers"])), "--tokens", length]
            command += ["--texts-per-request", load["texts"], "--duration", f"{seconds}s", "--warm-up", f"{warm_up}s"]
            run(command, self.clock.at_most(limit))
            found = json.loads(file.read_text())
        self.report["versions"]["onnxruntime"] = found["server"]["onnxruntime_version"]
        return [
            {
                "tokens": length,
                "callers": step["concurrency"],
                "texts_per_request": load["texts"],
                "texts_per_s": step["texts_per_s"],
                "tokens_per_s": step["tokens_per_s"],
                "p50_ms": step["latency"]["p50_ms"],
                "p95_ms": step["latency"]["p95_ms"],
                "codes": step["codes"],
                "infer_p50_ms": step["times"]["infer_p50_ms"],
                "queue_p50_ms": step["times"]["queue_p50_ms"],
                "client_cpu": step["client_cpu"],
            }
            for step in found["steps"]
        ]

    def gpu_memory(self, pid):
        """Returns the memory of a process on the GPUs, else, in containers that hide processes, all memory in use."""

        def query(what):
            output = run(["nvidia-smi", what, "--format=csv,noheader,nounits"], self.clock.at_most(20))
            return [row for row in csv.reader(io.StringIO(output), skipinitialspace=True) if row]

        try:
            own = [row[1] for row in query("--query-compute-apps=pid,used_memory") if row[0] == str(pid)]
            return {"process": own} if own else {"all processes": [row[0] for row in query("--query-gpu=memory.used")]}
        except (OSError, IndexError, Failed):
            return {}


def devices_of_driver():
    """Returns the number of GPUs, asking the driver itself."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
