# The two commands of the README are `make demo` and `make test`; each makes the environment if it is not there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BENCH  ?= all
OUT    ?= out/penguins

export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint docs bench bench-imputation clean

demo: $(VENV)/.run
	@$(BIN)/probgen study penguins --target species --out $(OUT) --force

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(BENCH)

# R and mice come from the system's packages where apt may install them; miceforest 6.0.5 runs with lightgbm 4.5.0 only.
R_PACKAGES = r-base-core r-cran-mice r-cran-mass r-cran-amelia r-cran-ranger

bench-imputation: $(VENV)/.test $(VENV)-miceforest/.ready
	@if ! Rscript -e 'for (p in c("mice", "MASS", "Amelia", "ranger")) loadNamespace(p)' >/dev/null 2>&1; then \
		{ test "$$(id -u)" = 0 && apt-get install -y --no-install-recommends $(R_PACKAGES); } \
		|| echo "Missing: apt-get install $(R_PACKAGES). What is not there is left out."; fi
	MICEFOREST_PYTHON=$(VENV)-miceforest/bin/python $(BIN)/python -m benchmarks imputation

$(VENV)-miceforest/.ready:
	@$(PYTHON) -m venv $(VENV)-miceforest
	@{ $(VENV)-miceforest/bin/python -m pip install --quiet --disable-pip-version-check miceforest==6.0.5 lightgbm==4.5.0 \
		&& touch $@; } || echo "miceforest 6.0.5 with lightgbm 4.5.0 could not be installed; it is left out"

clean:
	rm -rf $(VENV) $(VENV)-miceforest out docs/_build docs/models

# torch comes first and pinned: an unconstrained installation can fetch several gigabytes of CUDA libraries.
$(VENV)/.torch: constraints.txt
	@echo "making the environment in $(VENV): a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@echo "installing torch"
	@$(PIP) torch
	@touch $@

$(VENV)/.run: pyproject.toml $(VENV)/.torch
	@echo "installing probgen"
	@$(PIP) -e .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.torch
	@echo "installing probgen and what its tests need"
	@$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	@echo "installing probgen and what its development needs"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.run $(VENV)/.test
