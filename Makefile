# Everything runs in .venv, which the first target that needs it makes.
EXTRAS ?= cpu
BIN := .venv/bin
# Those that need neither arguments nor data nor a network, and a minute or two each.
BENCHES := meter_accuracy interval_coverage decision_time simulator_speed gateway_overhead deadman
# Tests start hundreds of processes; each would compile the modules of steppe and the tests again.
unexport PYTHONDONTWRITEBYTECODE

# run_tests(how, which): what fails beside other tests runs once more alone; both outputs stay, and it
# fails if it fails again. A fault that shows only under load is still to be mended.
define run_tests
$(BIN)/pytest -q $(1) $(2) || \
	{ echo "== once more, alone: the tests that failed"; $(BIN)/pytest -q --lf --lfnf none $(2); }
endef

.DEFAULT_GOAL := help
.PHONY: help demo demo-sites test check deploy-check release-check images-test docs docs-serve docs-versions changelog bench format clean static style deploy-tools install install-dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install ## install, then follow one compressed day of wind and sun
	$(BIN)/steppe demo

demo-sites: install ## install, then follow the same day at three sites that share wind and sun
	$(BIN)/steppe demo-sites

test: static deploy-tools ## install what is missing, then all the checks and all the tests
	$(call run_tests,-n 2)
	$(call run_tests,-n 2 --dist loadfile --no-loadscope-reorder --durations=15,-m "(cluster or slow) and not alone and not gpu")
	$(call run_tests,,-m alone)

check: static ## what must be green before a commit: format, lint, types, imports, docs, fast tests
	$(BIN)/pytest -q

deploy-check: install-dev deploy-tools ## check all of deploy/ (needs root; apt-get install prometheus systemd buildah mmdebstrap)
	$(BIN)/python -m deploy.check

release-check: install-dev ## build the files of a release into dist/ and check them (needs git and a package index)
	$(BIN)/python -m release.check

images-test: install-dev ## build the images on a Debian root, start and use them (needs root, buildah, mmdebstrap)
	$(BIN)/python -m deploy.check.built_images

docs: install-dev ## build the documentation into docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html

docs-serve: docs ## build the documentation and show it on http://127.0.0.1:8080
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory docs/_build/html 8080

docs-versions: install-dev ## build the documentation of every release and of this tree into docs/_build/versions
	$(BIN)/python docs/versions.py

changelog: install-dev ## show what the fragments in changes/ add to the changelog
	$(BIN)/towncrier build --draft --version "$(or $(VERSION),next)"

bench: install-dev ## benchmarks of a few minutes in all; others need data, a GPU or hours: see bench/
	@set -e; for name in $(BENCHES); do echo "== $$name"; $(BIN)/python "bench/$$name.py"; done

format: install-dev ## mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and every cache in this folder; records in runs/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

deploy-tools: install-dev # helm, for tests and checks that need no network then; without it they say so
	-@$(BIN)/python -m deploy.check.helm >/dev/null

static: install-dev # side by side: each needs one core
	@$(MAKE) --no-print-directory -j 2 --output-sync=target style docs

style: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: ## install only (EXTRAS=cuda for NVIDIA GPUs)
	@install/install.sh $(EXTRAS)

install-dev:
	@install/install.sh $(EXTRAS),deploy,dev,docs,kernels,release
