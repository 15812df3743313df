# make demo: four daemons on this machine train one model.  ARGS="-n 7 --rounds 3" changes that.
# make soak: many simulated worlds on all cores, and what came of them.  SEEDS=10000 SCENARIO=seven changes that.
# make crowd: a hundred whole nodes, a tenth of which stops in each of 20 rounds.  ARGS="SEED NODES ROUNDS" changes that.
# make fuzz SECONDS=600: every reader of strangers' bytes under a fuzzer that follows coverage, in so much time in all
#           (each takes some seconds more to start).
# make bench-kernels: aggregation beside Flower and ByzFL, which it installs in .venv-bench.  ARGS="--k 10 --json"
# make blas: the kernels under each of OpenBLAS' and numpy's codes that this CPU can run, which must give the same bytes.
# make test: every test.  make check: format, lint, types, the dependency rule and all but the slow tests.

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# A process for each core. What starts processes or waits for clocks comes after, alone; 5 is pytest's "no such tests".
SIDE_BY_SIDE := -n logical --dist worksteal -m "not alone"
ARGS ?=
SEEDS ?= 1000
SCENARIO ?= seven
SECONDS ?= 60

.PHONY: blas demo test check soak crowd fuzz docs venv bench-kernels

demo: .venv/.installed-demo
	@$(BIN)/primep2p demo $(ARGS)

test: .venv/.installed-dev
	$(PYTEST) $(SIDE_BY_SIDE) $(ARGS) || [ $$? = 5 ]
	$(PYTEST) -m alone $(ARGS) || [ $$? = 5 ]

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q $(SIDE_BY_SIDE) $(ARGS) || [ $$? = 5 ]
	$(PYTEST) -q -m "alone and not loopback" $(ARGS) || [ $$? = 5 ]

soak: .venv/.installed-dev
	$(BIN)/python -m tests.sim $(SCENARIO) --soak $(SEEDS)

crowd: .venv/.installed-dev
	@$(BIN)/python -m tests.nodes $(ARGS)

fuzz: .venv/.installed-fuzz
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

blas: .venv/.installed-dev
	@$(BIN)/python -m tests.kernels.machines

bench-kernels: .venv-bench/.installed
	@.venv-bench/bin/python benches/kernels.py --against flwr,byzfl $(ARGS)

docs: .venv/.installed-dev
	$(BIN)/python -m primep2p.cli.docs

venv: .venv/.installed-dev

.venv/.installed-%: pyproject.toml
	@.ci/venv $*

.venv-bench/.installed: pyproject.toml .venv/.installed-dev
	@.ci/venv-bench
