import os
from pathlib import Path

import pytest

from pipeline.usable_cores import usable_cores

ALL = len(os.sched_getaffinity(0))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Says that this process is in the group pods/one."""
    (tmp_path / "cgroups/pods/one").mkdir(parents=True)
    file = tmp_path / "own"
    file.write_text("0::/pods/one\n")
    return file


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({}, ALL),
        ({"pods/one": "max 100000"}, ALL),
        ({"pods/one": "50000 100000"}, 0.5),
        ({"pods": "25000 100000", "pods/one": "max 100000"}, 0.25),
        ({"pods": "75000 100000", "pods/one": "50000 100000"}, 0.5),
        ({"pods/one": "1000000000 100000"}, ALL),
        ({"pods/one": "nonsense"}, ALL),
    ],
)
def test_a_quota_of_any_group_above_counts(own: Path, quotas: dict[str, str], cores: float) -> None:
    root = own.parent / "cgroups"
    for group, text in quotas.items():
        (root / group / "cpu.max").write_text(f"{text}\n")
    assert usable_cores(root, own) == cores


def test_without_control_groups_it_is_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "nothing") == ALL
