"""The report as Markdown."""

from steps import ENGINES


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def number(value, digits=None):
    if value is None:
        return ""
    if digits is None:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def listed(values):
    return ", ".join(
        f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in values.items()
    )


def compared(report):
    """Returns a row for each length and batch size: embedd's engines, PyTorch, and the ratio of texts per second."""
    pytorch = {(entry["tokens"], entry["batch"]): entry for entry in (report.get("pytorch") or {}).get("latency", [])}
    ours = {}
    for entry in report["latency"]:
        ours.setdefault((entry["tokens"], entry["batch"]), {})[entry["engine"]] = entry["p50_ms"], entry["p95_ms"]
    rows = []
    for tokens, batch in sorted(ours.keys() | pytorch.keys()):
        theirs = pytorch.get((tokens, batch), {}).get("p50_ms")
        row = {"tokens": tokens, "batch": batch, "engines": {}, "pytorch_p50_ms": theirs}
        if theirs:
            row["pytorch_texts_per_s"] = batch * 1e3 / theirs
        for engine, (p50, p95) in ours.get((tokens, batch), {}).items():
            row["engines"][engine] = {
                "p50_ms": p50,
                "p95_ms": p95,
                "texts_per_s": batch * 1e3 / p50,
                "tokens_per_s": batch * tokens * 1e3 / p50,
                "ratio_to_pytorch": theirs and theirs / p50,
            }
        rows.append(row)
    return rows


def markdown(report):
    device = report["device"]
    lines = [f"# embedd on {'the CPU' if device == 'cpu' else 'a GPU'}: {report['model']}", ""]
    facts = [("started", report["started"]), ("device", device)]
    facts += (
        [("CPU", "{cpu}, {cpus} CPUs, {memory_mib} MiB".format(**report["machine"]))] if "machine" in report else []
    )
    facts += [
        (f"GPU {gpu.get('index', '')}", listed({k: v for k, v in gpu.items() if k != "index"}))
        for gpu in report.get("gpus", [])
    ]
    facts += [("versions", listed(report.get("versions", {})))]
    setup = (report.get("pytorch") or {}).get("setup")
    facts += [("PyTorch", listed({k: v for k, v in setup.items() if v is not None}))] if setup else []
    lines += table(["", ""], facts)

    lines += ["", "## Steps", ""]
    lines += table(
        ["step", "result", "seconds", ""],
        [
            (step["name"], step["status"], number(step["seconds"], 1), step.get("message", "").replace("|", "\\|"))
            for step in report["steps"]
        ],
    )
    return "\n".join(lines + accuracy(report) + inference(report) + serving(report)) + "\n"


def accuracy(report):
    found = dict(report["accuracy"])
    pytorch = (report.get("pytorch") or {}).get("accuracy")
    if pytorch:
        found[f"PyTorch {report['pytorch']['setup']['dtype']}"] = pytorch
    if not found:
        return []
    lines = [
        "",
        "## Accuracy",
        "",
        "Cosines to PyTorch in float32 over the reference texts. Batch agreement: the minimum "
        "cosine between a text alone and the same text in a padded batch.",
        "",
    ]
    return lines + table(
        ["engine", "texts", "min cosine", "mean", "batch agreement"],
        [
            (
                name,
                entry["texts"],
                f"{entry['min_cosine']:.6f}",
                f"{entry['mean_cosine']:.6f}",
                f"{entry['batch_agreement']:.7f}",
            )
            for name, entry in found.items()
        ],
    )


def inference(report):
    rows = compared(report)
    if not rows:
        return []
    engines = [name for name in ENGINES if any(name in row["engines"] for row in rows)]
    header = ["tokens", "batch"]
    for name in engines:
        header += [f"{name}: P50 ms", "P95 ms", "texts/s", "tokens/s"]
    header += ["PyTorch: P50 ms", "texts/s"] + [f"{name} / PyTorch" for name in engines]
    found = []
    for row in rows:
        cells = [row["tokens"], row["batch"]]
        for name in engines:
            entry = row["engines"].get(name, {})
            cells += [number(entry.get(key)) for key in ("p50_ms", "p95_ms", "texts_per_s", "tokens_per_s")]
        cells += [number(row["pytorch_p50_ms"]), number(row.get("pytorch_texts_per_s"))]
        cells += [number(row["engines"].get(name, {}).get("ratio_to_pytorch"), 2) for name in engines]
        found.append(cells)
    lines = [
        "",
        "## Inference",
        "",
        "From token ids to embeddings, batches without padding. Texts and tokens per second are "
        "those of the P50, and so is the ratio to PyTorch: above 1, embedd is faster.",
        "",
    ]
    return lines + table(header, found)


def serving(report):
    rows = []
    for server in report["servers"]:
        for load in server["loads"]:
            failed = sum(count for code, count in load["codes"].items() if code != "OK")
            rows.append(
                (
                    server["sessions"],
                    server["batch_tokens"],
                    load["tokens"],
                    load["callers"],
                    load["texts_per_request"],
                    number(load["texts_per_s"]),
                    number(load["tokens_per_s"]),
                    number(load["p50_ms"]),
                    number(load["p95_ms"]),
                    number(load["infer_p50_ms"]),
                    failed,
                    f"{load['client_cpu']:.2f}",
                )
            )
    if not rows:
        return []
    lines = ["", "## Server", "", "embedd load on the same machine. Times are those of requests.", ""]
    lines += table(
        [
            "sessions",
            "batch tokens",
            "tokens",
            "callers",
            "texts per request",
            "texts/s",
            "tokens/s",
            "P50 ms",
            "P95 ms",
            "inference P50 ms",
            "failed",
            "CPU of the client",
        ],
        rows,
    )
    lines += [""] + table(
        ["sessions", "batch tokens", "served", "ready after s", "memory MiB", "memory of the GPU MiB"],
        [
            (
                server["sessions"],
                server["batch_tokens"],
                " on ".join(server["served"][key] for key in ("engine", "device") if key in server["served"]),
                server["ready_seconds"],
                *(listed(server.get(key, {})) for key in ("memory_mib", "gpu_memory_mib")),
            )
            for server in report["servers"]
        ],
    )
    return lines
