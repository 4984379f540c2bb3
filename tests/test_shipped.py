from pathlib import Path

import pytest

from pipeline.shipped import find_topology, shipped_names
from pipeline.topology_file import TopologyFileError, load_topology

ROOT = Path(__file__).resolve().parents[1]


def test_every_topology_of_the_tree_is_shipped_by_its_name():
    assert shipped_names() == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    assert find_topology(Path("demo")).read_text() == (ROOT / "configs/demo.yaml").read_text()


def test_a_file_comes_before_a_shipped_topology(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("name: mine\n")
    assert find_topology(Path("demo")).resolve() == tmp_path / "demo"


@pytest.mark.parametrize("asked", ["demo.yaml", "configs/demo", "../configs/demo", "", "no-such-name"])
def test_what_is_no_shipped_name_stays_what_it_is(tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    assert find_topology(Path(asked)) == Path(asked)


def test_a_name_that_is_not_shipped_is_answered_with_those_that_are():
    with pytest.raises(TopologyFileError, match=r"^dmeo: No such file .*; give a file, or one of api, .*demo"):
        load_topology(find_topology(Path("dmeo")))
