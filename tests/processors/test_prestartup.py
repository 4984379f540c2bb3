import logging
import os

from pipeline.processors.comfyui.prestartup import run_prestartup_scripts


def package(folder, name, script):
    (folder / name).mkdir(parents=True)
    (folder / name / "prestartup_script.py").write_text(script)


def test_every_package_prepares_itself_in_the_order_of_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SEEN", "")
    note = "import os\nos.environ['SEEN'] += os.path.basename(os.path.dirname(__file__)) + ' '\n"
    for name in ("b-node", "a-node", "off.disabled"):
        package(tmp_path, name, note)
    (tmp_path / "plain.py").write_text(note)
    (tmp_path / "without").mkdir()
    run_prestartup_scripts([tmp_path, tmp_path / "nowhere"])

    assert os.environ["SEEN"] == "a-node b-node "


def test_one_that_raises_is_said_and_the_others_go_on(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("SEEN", raising=False)
    package(tmp_path, "a-node", "raise RuntimeError('no licence')")
    package(tmp_path, "b-node", "import os\nos.environ['SEEN'] = 'b'\n")
    with caplog.at_level(logging.ERROR):
        run_prestartup_scripts([tmp_path])

    assert os.environ["SEEN"] == "b"
    assert "a-node/prestartup_script.py: RuntimeError: no licence" in caplog.text
