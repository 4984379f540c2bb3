"""The alerting rules and the dashboard speak of metrics that exist, by labels that they have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.api.metrics import METRICS

ROOT = Path(__file__).resolve().parents[1]
ALERTS = ROOT / "configs/monitoring/alerts.yaml"
DASHBOARD = ROOT / "configs/monitoring/grafana-dashboard.json"

ADDED_BY_PROMETHEUS = {"job", "instance"}
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
WINDOW = re.compile(r"\[[^\]]*\]")
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
NAME = re.compile(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()")
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def exposed() -> dict[str, set[str]]:
    """Every series' name, with its labels."""
    series: dict[str, set[str]] = {"up": set()}
    for metric in METRICS:
        labels = set(metric.labels)
        if metric.kind != "histogram":
            series[metric.name] = labels
            continue
        series |= {
            f"{metric.name}_bucket": labels | {"le"},
            f"{metric.name}_sum": labels,
            f"{metric.name}_count": labels,
        }
    return series


def names(expression: str) -> set[str]:
    """The metrics that a PromQL expression selects: what is left without strings, windows, labels and functions."""
    bare = WINDOW.sub("", STRING.sub('""', expression))
    bare = GROUPING.sub("", re.sub(r"\{[^}]*\}", "", bare))
    return {name for name in NAME.findall(bare) if name not in WORDS}


def labels(expression: str) -> set[str]:
    """The labels that it matches on, or groups by."""
    bare = STRING.sub('""', expression)
    matched = (label for _, inside in SELECTOR.findall(bare) for label in re.findall(r"(\w+)\s*(?:=|!)", inside))
    return {*matched, *(label for inside in GROUPING.findall(bare) for label in re.findall(r"\w+", inside))}


def alert_expressions() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], re.sub(r"label_values\((.*), (\w+)\)", r"sum by (\2) (\1)", variable["definition"])


EXPRESSIONS = [*alert_expressions(), *dashboard_expressions()]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_an_expression_selects_what_exists(title: str, expression: str) -> None:
    series = exposed()
    selected = names(expression)
    assert selected, "an expression that selects nothing"
    assert selected <= set(series), f"{title}: no such metric"
    has = ADDED_BY_PROMETHEUS.union(*(series[name] for name in selected))
    assert labels(expression) <= has, f"{title}: no such label"


def test_the_reading_of_expressions_finds_what_is_wrong() -> None:
    expression = 'sum by (le, stage) (rate(no_such_bucket{job="up", state!="x"}[5m])) / up > 0 and vector(1)'
    assert names(expression) == {"no_such_bucket", "up"}
    assert labels(expression) == {"le", "stage", "job", "state"}


def test_every_metric_of_the_work_is_on_the_dashboard() -> None:
    shown = set().union(*(names(expression) for _, expression in dashboard_expressions()))
    untold = {
        name for name in exposed() if name.startswith("livepipe_") and not name.endswith(("_sum", "_count"))
    } - shown
    assert untold == {
        "livepipe_uptime_seconds",
        "livepipe_paused",
        "livepipe_frames_in_flight",
        "livepipe_stage_info",
        "livepipe_stage_up",
        "livepipe_stage_spares",
        "livepipe_stage_passing_through",
        "livepipe_stage_units_in_total",
        "livepipe_stage_units_out_total",
        "livepipe_stream_state",
        "livepipe_stream_frames_decoded_total",
        "livepipe_stream_frames_dropped_total",
        "livepipe_stream_frames_in_flight",
        "livepipe_stream_first_input_seconds",
        "livepipe_stream_end_to_end_latency_seconds_bucket",
        "livepipe_gpu_info",
    }


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "what_to_do"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_alerts_fire_when_they_should_and_else_do_not() -> None:
    cases = ROOT / "tests/monitoring/alerts.test.yaml"
    tested = subprocess.run(["promtool", "test", "rules", str(cases)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
