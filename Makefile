# make demo   compress the model that ships with the repository, in a virtual environment made for it
# make test   run the tests in the same environment
# make lint   check style
#
# PYTHON=... chooses the interpreter (3.11 or newer), VENV=... the folder of the environment.

PYTHON ?= $(or $(shell for python in python3.11 python3 python3.12 python3.13; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; \
	done),python3)
VENV ?= .venv
BIN := $(VENV)/bin
ORTRIM := $(BIN)/ortrim

DIGITS := models/digits
DEMO := demo

.DELETE_ON_ERROR:
.PHONY: demo test lint clean

demo: $(VENV)/.installed
	rm -rf $(DEMO) && mkdir $(DEMO)
	$(ORTRIM) compress $(DIGITS)/digits.onnx --data $(DIGITS)/digits_train.npz --latency 0.6x \
		--device cpu:threads=1 --episodes 60 -o $(DEMO)/slim.onnx --run-dir $(DEMO)/run
	cp $(DEMO)/run/report.html $(DEMO)/report.html
	@echo "On the 500 images that neither training nor compressing saw, before and after:"
	$(ORTRIM) evaluate $(DIGITS)/digits.onnx --data $(DIGITS)/digits_test.npz
	$(ORTRIM) evaluate $(DEMO)/slim.onnx --data $(DIGITS)/digits_test.npz
	$(ORTRIM) bench $(DIGITS)/digits.onnx $(DEMO)/slim.onnx --device cpu:threads=1
	@echo "The slim model is $(DEMO)/slim.onnx, the report $(DEMO)/report.html"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile  # some tests measure latencies: more at a time would disturb them

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) $(DEMO)

# An editable install: the environment follows the source, and is made again only when what it holds changes.
$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
