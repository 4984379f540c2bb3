"""Part "tests": the project's own tests marked `gpu`, by name."""

import re
import subprocess
import sys

from benchmarks.gpu.part import ROOT, Figures, report

MARK = "pytest.mark.gpu"
OUTCOMES = {"PASSED": "passed", "FAILED": "failed", "ERROR": "failed", "SKIPPED": "skipped"}
LINE = re.compile(rf"(tests/\S+::.+?) ({'|'.join(OUTCOMES)})\b")


def measure() -> Figures:
    """The outcomes so far, after each test."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--color=no", "-p", "no:cacheprovider", *_paths()]
    pytest = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert pytest.stdout is not None
    names: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    yield from names.items()
    for line in pytest.stdout:
        print(line, end="", file=sys.stderr)
        if found := LINE.match(line):
            outcome = OUTCOMES[found[2]]
            names[outcome].append(found[1])
            yield outcome, names[outcome]
    yield "exit_code", pytest.wait()


def _paths() -> list[str]:
    """Where such tests are. The rest of the tests is not collected: it needs packages that a GPU machine may lack."""
    marked = [path for path in (ROOT / "tests").rglob("*.py") if MARK in path.read_text()]
    return sorted(str((path.parent if path.name == "conftest.py" else path).relative_to(ROOT)) for path in marked)


if __name__ == "__main__":
    report(measure())
