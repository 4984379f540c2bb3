"""What the program is run by: Dockerfile, compose files, Kubernetes manifests, the systemd unit. They are held against
each other and against what they run; where kubectl and kubernetes-validate, systemd-analyze and promtool are on the
machine, also against what those know."""

import configparser
import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import launcher
from docs import rest_reference
from pipeline.topology_file import load_topology
from pipeline.topology_sections import Limits

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes/base"
MANIFESTS = ["statefulset", "service", "poddisruptionbudget"]

LONGEST_STOP_S = 2 * Limits().drain
"""The stream may take as long to drain, and then the services."""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture
def pod() -> dict[str, Any]:
    return read(BASE / "statefulset.yaml")["spec"]["template"]["spec"]


def test_the_dockerfile_copies_only_what_the_build_is_given() -> None:
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == given
    assert all((ROOT / name).exists() for name in given)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_is_run_by_a_user_without_rights_and_stopped_by_draining(target: str) -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    (image,) = [stage for stage in stages if stage.splitlines()[0] == f"runtime AS {target}"]
    (runtime,) = [stage for stage in stages if stage.splitlines()[0].endswith(" AS runtime")]
    assert [line for line in image.splitlines() if line and not line.startswith("#")][-1] == "USER 10001:10001"
    assert "useradd --uid 10001" in runtime
    assert "\nSTOPSIGNAL SIGTERM\n" in runtime
    assert 'CMD ["livepipe", "health"]\n' in runtime


def test_compose_opens_its_ports_to_this_machine_alone() -> None:
    services = read(DEPLOY / "compose.yaml")["services"]
    ports = [port for service in services.values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_mounts_what_is_there() -> None:
    services = read(DEPLOY / "compose.yaml")["services"]
    mounts = [volume.split(":") for service in services.values() for volume in service["volumes"]]
    files = {source: target for source, target, *_ in mounts if source.startswith(".")}
    assert all((DEPLOY / source).exists() for source in files)
    assert files["../configs/monitoring"] in ("/etc/prometheus", "/var/lib/grafana/dashboards")


def test_compose_runs_a_topology_with_the_ports_that_it_publishes(capsys: pytest.CaptureFixture[str]) -> None:
    service = read(DEPLOY / "compose.yaml")["services"]["livepipe"]
    _, file, *overrides = service["command"]
    assert launcher.main(["check", str(ROOT / "configs" / Path(file).name), *overrides]) == 0
    topology = yaml.safe_load(capsys.readouterr().out)
    inside = {int(port.split(":")[-1]) for port in service["ports"]}
    assert inside == {topology["api"]["port"], topology["relay"]["port"]}
    assert topology["api"]["host"] == topology["relay"]["host"] == "0.0.0.0"


def test_prometheus_asks_the_node_that_compose_starts() -> None:
    services = read(DEPLOY / "compose.yaml")["services"]
    (job,) = read(ROOT / "configs/monitoring/prometheus.yaml")["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert any(mapping.endswith(f":{port}") for mapping in services[host]["ports"])
    source = read(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services


@pytest.mark.parametrize("name", ["compose", "systemd", "kubernetes"])
def test_a_stop_is_given_the_time_that_draining_may_take(name: str, pod: dict[str, Any]) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(ROOT / "configs/livepipe.service")
    seconds = {
        "compose": read(DEPLOY / "compose.yaml")["services"]["livepipe"]["stop_grace_period"].removesuffix("s"),
        "systemd": unit["Service"]["TimeoutStopSec"],
        "kubernetes": pod["terminationGracePeriodSeconds"],
    }
    assert int(seconds[name]) > LONGEST_STOP_S


def test_the_unit_runs_the_installed_command() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(ROOT / "configs/livepipe.service")
    command, verb, _ = unit["Service"]["ExecStart"].split()
    assert (Path(command).name, verb) == (launcher.COMMAND, "run")


@needs("systemd-analyze")
def test_systemd_knows_every_key_of_the_unit(tmp_path: Path) -> None:
    """It passes over one that it does not know, and only says so here. The program need not be installed."""
    text = (ROOT / "configs/livepipe.service").read_text()
    for name, unit in (("right", text), ("wrong", text.replace("WatchdogSec=", "WatchDogSec="))):
        (tmp_path / f"{name}.service").write_text(unit.replace("/opt/livepipe/bin/livepipe", "/bin/true"))
    said = {
        name: subprocess.run(
            ["systemd-analyze", "verify", "--man=no", tmp_path / f"{name}.service"], capture_output=True, text=True
        ).stderr
        for name in ("right", "wrong")
    }
    assert "right.service" not in said["right"]
    assert "'WatchDogSec'" in said["wrong"]


@needs("promtool")
def test_prometheus_takes_its_configuration() -> None:
    file = ROOT / "configs/monitoring/prometheus.yaml"
    subprocess.run(["promtool", "check", "config", file], capture_output=True, check=True)


def test_a_pod_may_do_nothing_that_it_need_not(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001  # the image's
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/run/livepipe", "/tmp", "/var/lib/livepipe"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_a_pod_is_not_killed_while_it_loads_and_gets_no_stream_before_it_has(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: get["path"] for kind, get in asked.items()} == {
        "startup": "/health",
        "liveness": "/health",
        "readiness": "/ready",
    }
    paths = rest_reference.openapi()["paths"]
    assert all(paths[get["path"]]["get"]["security"] == [] for get in asked.values())  # kubelets have no token
    assert {get["port"] for get in asked.values()} == {port["name"] for port in container["ports"]}


def test_the_pods_topology_is_right_and_its_secret_comes_from_the_secret(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    topology = load_topology(BASE / "topology.yaml")
    assert topology.api is not None
    assert (
        topology.api.port
        == container["ports"][0]["containerPort"]
        == read(BASE / "service.yaml")["spec"]["ports"][0]["port"]
    )
    assert [f"${{{variable['name']}}}" for variable in container["env"]] == list(topology.api.tokens)
    assert all("secretKeyRef" in variable["valueFrom"] for variable in container["env"])
    assert pod["terminationGracePeriodSeconds"] > 2 * topology.limits.drain


def test_the_gpu_overlay_changes_a_container_that_is_there(pod: dict[str, Any]) -> None:
    overlay = read(DEPLOY / "kubernetes/gpu/gpu.yaml")
    base = read(BASE / "statefulset.yaml")
    assert (overlay["kind"], overlay["metadata"]["name"]) == (base["kind"], base["metadata"]["name"])
    (container,) = overlay["spec"]["template"]["spec"]["containers"]
    assert container["name"] == pod["containers"][0]["name"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


@needs("kubectl")
@pytest.mark.parametrize("layer", ["base", "gpu"])
def test_kubernetes_takes_the_manifests(layer: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    made = subprocess.run(
        ["kubectl", "kustomize", DEPLOY / "kubernetes" / layer], capture_output=True, text=True, check=True
    )
    documents = {document["kind"]: document for document in yaml.safe_load_all(made.stdout)}
    assert documents.keys() == {"ConfigMap", "Service", "StatefulSet", "PodDisruptionBudget"}
    for document in documents.values():
        validate.validate(document, validate.latest_version(), strict=True)
    wrong = copy.deepcopy(documents["StatefulSet"])
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpget"] = {}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, validate.latest_version(), strict=True)
