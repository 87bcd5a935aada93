"""Checks the manifests in deploy/ against the schemas of their consumers. Run by .ci/manifests, in its environment."""

import ast
import configparser
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import chart
import importlib_resources
import jsonschema
import kubernetes_validate
import promql_parser
import yaml
from cloudcoil.models import prometheus_operator
from referencing import Registry, Resource

DEPLOY = Path("deploy")
# The oldest Kubernetes version that deploy/README.md supports, and the newest that has schemas.
VERSIONS = ["1.29", "1.37"]
# Types of the Python client that are not in the core group.
OTHER_GROUPS = {
    "K8sIoApiAppsV1DeploymentStrategy": "apps.v1.DeploymentStrategy",
    "V1ObjectMeta": "meta.v1.ObjectMeta",
}


def rendered(kubectl, folder):
    """Returns the documents that `kubectl apply -k` would send."""
    text = subprocess.run([kubectl, "kustomize", folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def manifests(kubectl):
    """Yields each folder that a user may apply, with its manifests, rendered if it has a kustomization."""
    for file in sorted(DEPLOY.rglob("kustomization.yaml")):
        if yaml.safe_load(file.read_text())["kind"] == "Kustomization":
            yield file.parent, rendered(kubectl, file.parent)
    for folder in sorted(folder for folder in (DEPLOY / "examples").iterdir() if folder.is_dir()):
        if not (folder / "kustomization.yaml").exists():
            files = sorted(folder.glob("*.yaml"))
            yield folder, [document for file in files for document in yaml.safe_load_all(file.read_text())]


def faults(document):
    """Returns the errors in a document, one string each."""
    group = document["apiVersion"].rpartition("/")[0]
    if group == "monitoring.coreos.com":
        return prometheus_operator_faults(document)
    if group == "serving.kserve.io":
        return list(kserve_faults(document, document["apiVersion"].rpartition("/")[2].capitalize() + document["kind"], ""))
    if "." not in group or group.endswith(".k8s.io"):
        return [fault for version in VERSIONS for fault in kubernetes_faults(document, version)]
    return [f"no schema for {group}"]


def kubernetes_faults(document, version):
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"


def prometheus_operator_faults(document):
    kind = getattr(prometheus_operator.v1, document["kind"])
    understood = kind.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    # The model drops unknown fields.
    return [] if understood == document else [f"unknown fields; only this was recognized: {json.dumps(understood)}"]


def kserve_types():
    """Returns the properties of each KServe class, with their types, by the name of the class."""
    package = Path(importlib.util.find_spec("kserve").submodule_search_locations[0])
    types = {}
    for file in (package / "models").glob("*.py"):
        for definition in ast.parse(file.read_text()).body:
            if isinstance(definition, ast.ClassDef):
                tables = {
                    statement.targets[0].id: ast.literal_eval(statement.value)
                    for statement in definition.body
                    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict)
                }
                if "openapi_types" in tables:
                    names = tables["attribute_map"]
                    types[definition.name.lower()] = {names[key]: kind for key, kind in tables["openapi_types"].items()}
    return types


def kserve_faults(value, kind, path):
    plain = {"str": str, "int": int, "bool": bool, "float": float}
    if kind in plain:
        if not isinstance(value, plain[kind]):
            yield f"{path}: {value!r} is not of type {kind}"
    elif kind.startswith("list["):
        for index, element in enumerate(value):
            yield from kserve_faults(element, kind[len("list[") : -1], f"{path}[{index}]")
    elif kind.startswith("dict(str, "):
        for key, element in value.items():
            yield from kserve_faults(element, kind[len("dict(str, ") : -1], f"{path}.{key}")
    elif properties := KSERVE.get(kind.lower()):
        for key, element in value.items():
            if key not in properties:
                yield f"{path}.{key}: {kind} has no such property"
            else:
                yield from kserve_faults(element, properties[key], f"{path}.{key}")
    else:
        yield from (f"{path}: {error.message}" for error in kubernetes_type(kind).iter_errors(value))


def kubernetes_type(kind):
    """Returns the schema of a Kubernetes type, given its name in the Python client, such as `V1Container`."""
    name = OTHER_GROUPS.get(kind, "core.v1." + kind.removeprefix("V1"))
    name = next(known for known in DEFINITIONS["$defs"] if known.endswith(name))
    registry = Resource.from_contents(DEFINITIONS) @ Registry()
    return jsonschema.Draft202012Validator({"$ref": f"{DEFINITIONS['$id']}#/$defs/{name}"}, registry=registry)


def definitions():
    schemas = importlib_resources.files("kubernetes_validate").joinpath("kubernetes-json-schema")
    return json.loads(schemas.joinpath(f"v{VERSIONS[-1]}.0-local-strict/_definitions.json").read_text())


def pods(document):
    """Yields the specification of the pods that a document makes, if any."""
    if document["kind"] == "Deployment":
        yield document["spec"]["template"]["spec"]
    elif document["kind"] == "ServingRuntime":
        yield document["spec"]


def unrestricted(document):
    """Yields what the restricted profile of Kubernetes would reject, and containers with a writable file system."""
    for pod in pods(document):
        for container in pod.get("initContainers", []) + pod["containers"]:
            # A container's settings override those of its pod.
            context = pod.get("securityContext", {}) | container.get("securityContext", {})
            required = {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            for key, value in required.items():
                if context.get(key) != value:
                    yield f"container {container['name']}: {key} is {context.get(key)}, not {value}"


def unknown_settings(document):
    """Yields the variables of a ConfigMap that are not settings, and numbers that lost their digits in a template."""
    if document["kind"] == "ConfigMap":
        for name, value in document.get("data", {}).items():
            if name.startswith("EMBEDD_") and name not in SETTINGS:
                yield f"{name} is not in docs/CONFIGURATION.md"
            if name.startswith("EMBEDD_") and re.search(r"\de[+-]?\d", value):
                yield f"{name}: {value}"


def settings():
    """Returns the variables of the settings."""
    names = set(re.findall(r"^\| `--[^`]+` \| `(EMBEDD_[A-Z_]+)`", CONFIGURATION, re.MULTILINE))
    assert len(names) > 40, "the table was found"
    return names


def report(place, documents):
    """Prints the faults of documents; returns whether there are any."""
    wrong = [
        (document, fault)
        for document in documents
        for fault in [*faults(document), *unrestricted(document), *unknown_settings(document)]
    ]
    for document, fault in wrong:
        print(f"{place}: {document['kind']} {document['metadata']['name']}: {fault}", file=sys.stderr)
    return bool(wrong) or not documents


def check_chart(folders):
    """Checks the Helm chart, given the documents of each folder; returns whether anything is wrong."""
    program = chart.helm()
    if program is None:
        print("NOT TESTED: the Helm chart (helm is available for Linux on x86-64 only, see .ci/helm.txt)")
        return False
    failed = False
    for finding in chart.lint(program):
        print(finding, file=sys.stderr)
        failed = True
    for name, arguments, folder in chart.releases():
        documents = chart.template(program, *arguments)
        failed = report(f"{chart.CHART} with {name}", documents) or failed
        found = list(chart.compared(documents, folders[Path(folder)])) if folder else []
        for difference in found:
            print(f"{chart.CHART} with {name}: {difference}", file=sys.stderr)
        failed = failed or bool(found)
        compared = f", compared with {folder}" if folder else ""
        print(f"{chart.CHART} with {name}: {len(documents)} manifests{compared}")
    for value in chart.accepted(program):
        print(value, file=sys.stderr)
        failed = True
    return failed


def service_faults(analyze):
    """Yields what is wrong with the unit of systemd, given the path of systemd-analyze."""
    file = DEPLOY / "systemd/embedd.service"
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(file)
    service = unit["Service"]
    if service["Environment"] != f"EMBEDD_HOME=/var/lib/{service['StateDirectory']}":
        yield "EMBEDD_HOME is not the state folder"
    defaults = re.findall(r"`EMBEDD_(?:SHUTDOWN_GRACE|DRAIN_TIMEOUT)` \| `[a-z_]+` \| `([0-9]+)s`", CONFIGURATION)
    assert len(defaults) == 2, "the defaults were found"
    if int(service["TimeoutStopSec"].removesuffix("s")) <= sum(map(int, defaults)):
        yield f"TimeoutStopSec is not more than the sum of {defaults}"
    if analyze is None:
        print("NOT TESTED: the unit with systemd-analyze, which is not installed (Debian: systemd)")
        return
    with tempfile.TemporaryDirectory() as folder:
        # The program need not be installed here.
        copy = Path(folder) / file.name
        copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", file.read_text(), flags=re.MULTILINE))
        # The exposure times ten, from 0 to 100.
        for command in [["verify"], ["security", "--offline=yes", "--threshold=15"]]:
            done = subprocess.run([analyze, *command, copy], capture_output=True, text=True)
            # Unknown values are warnings, which name the unit.
            if done.returncode != 0 or file.name in done.stderr:
                yield f"systemd-analyze {command[0]}: {done.stderr}{done.stdout[-200:]}"


def queries():
    """Yields each PromQL expression, with the name of its alert or panel."""
    folder = DEPLOY / "components/monitoring"
    for group in yaml.safe_load((folder / "alerts.yaml").read_text())["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((folder / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def main(kubectl):
    failed = False
    folders = dict(manifests(kubectl))
    for folder, documents in folders.items():
        failed = report(folder, documents) or failed
        print(f"{folder}: {len(documents)} manifests")
    failed = check_chart(folders) or failed
    for fault in service_faults(shutil.which("systemd-analyze")):
        print(f"deploy/systemd: {fault}", file=sys.stderr)
        failed = True
    count = 0
    for place, query in queries():
        count += 1
        try:
            promql_parser.parse(query)
        except ValueError as error:
            print(f"{place}: {error}: {query}", file=sys.stderr)
            failed = True
    print(f"{count} PromQL expressions")
    return failed or count == 0


KSERVE = kserve_types()
DEFINITIONS = definitions()
CONFIGURATION = Path("docs/CONFIGURATION.md").read_text()
SETTINGS = settings()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
