# Every target does its own set-up: a fresh clone needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
PEER_VENV := .venv-pytrickle
PEER_STAMP := $(PEER_VENV)/.installed

.PHONY: demo test lint bench chaos setup clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev]'
	touch $@

# pytrickle pins an old av, so it lives in an environment of its own; only the interoperability tests use it.
$(PEER_STAMP): constraints.txt
	$(PYTHON) -m venv $(PEER_VENV)
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt) \
		pytrickle==0.1.6 --only-binary av
	touch $@

demo: $(STAMP)
	$(PY) examples/demo.py

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint $(PEER_STAMP)
	$(PY) -m pytest -m "not chaos" -n 2

$(BENCH_STAMP): $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev,bench]'
	touch $@

bench: $(BENCH_STAMP) $(PEER_STAMP)
	$(PY) -m benchmarks.chain
	mkdir -p out
	$(PY) -m benchmarks.handoff --plot out/handoff.svg
	$(PY) -m benchmarks.trickle
	$(PY) -m benchmarks.recovery

chaos: $(STAMP)
	$(PY) -m pytest -m chaos -s

clean:
	rm -rf $(VENV) $(PEER_VENV) build out *.egg-info
