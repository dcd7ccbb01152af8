# Every target installs what is missing, does what is not current, and nothing else. The work is done by tools/.
#
#   PYTHON=python3.12 make setup    another interpreter for .venv (default: python3)
#   BENCH=cast make bench           one of the benchmarks (default: exchange cast onepass)
#   MATRIX="--only oldest" make matrix   (tools/matrix.py has the options)
#   JOBS=4 make test                more compile and lint jobs (default: the processors there are)

PYTHON ?= python3
BENCH ?= exchange cast onepass
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
export JOBS

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# Empty unless the user chose the interpreter: then a .venv of another one is made anew.
CHOSEN_PYTHON := $(if $(filter file,$(origin PYTHON)),,$(PYTHON))

.DEFAULT_GOAL := help
.PHONY: help setup build install demo test lint cpp asan tsan stress python package-test exhaustive exhaustive-share \
  matrix gpu-bundle gpu-test gpu-sanitize gpu-bench gpu-tune bench clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
	  printf '  make %-17s %s\n' "$$name" "$$text"; done

setup: ## system packages and .venv with everything needed here
	@tools/setup.sh "$(PYTHON)" "$(CHOSEN_PYTHON)"

build: setup ## the C++ library and its tests (build/dev)
	@tools/cmake_build.sh dev

install: setup ## the Python package into .venv
	@tools/install.sh

demo: install ## NumPy data in torch and back, explained and timed
	@$(VENV_PYTHON) -m halfway demo
	@echo && echo "The same digits in C++ with libtorch (examples/train_digits.cpp):"
	@$(VENV_PYTHON) tools/train_digits.py

test: setup ## everything: lint, C++, sanitizers, package, Python, a share of all casts
	@MAKE="$(MAKE)" $(VENV_PYTHON) tools/run_lanes.py lint cpp asan tsan package-test install python exhaustive-share

lint: setup ## formatting, static analysis, types
	@$(VENV_PYTHON) tools/lint.py

cpp: setup ## C++ tests
	@tools/cpp_tests.sh dev

asan: setup ## C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/cpp_tests.sh asan

tsan: setup ## C++ tests of what has threads under ThreadSanitizer
	@tools/cpp_tests.sh tsan

stress: setup ## 100000 seeded schedules of transfers on the simulated device, some under sanitizers
	@tools/stress.sh

python: build install ## Python tests against the installed package
	@tools/cmake_build.sh bench halfway_floor
	@tools/python_tests.sh

package-test: setup ## consumers of the C++ install: find_package, add_subdirectory, pkg-config
	@tools/package_test.sh

matrix: setup ## C++ and Python tests with the oldest supported and the newest torch; needs 5 GB and network
	@$(VENV_PYTHON) tools/matrix.py $(MATRIX)

exhaustive: install ## every cast test there is, with every instruction set: hours
	@tools/cmake_build.sh exhaustive halfway_exhaustive
	@$(VENV_PYTHON) tools/exhaustive.py build/exhaustive --junit build/exhaustive.xml

exhaustive-share: install ## a part of it that changes every day, in less than a minute (HALFWAY_SEED repeats one)
	@tools/cmake_build.sh dev halfway_exhaustive
	@$(VENV_PYTHON) tools/exhaustive.py build/dev --seconds 40 --junit build/exhaustive-share.xml

# The tests that need a GPU. On a machine with one nothing else is needed but the bundle, and no setup is done; without
# one the script says what it looked for and exits with 77 (which make reports as its error 77).
gpu-bundle: setup ## what needs a GPU, in one archive for any machine (build/gpu-bundle.tar.gz); needs nvcc
	@$(VENV_PYTHON) tools/gpu_bundle.py

gpu-test: ## the tests that need a GPU, on this machine, offline from that archive (made first where it is missing)
	@MAKE="$(MAKE)" $(PYTHON) tools/gpu_tests.py --archive build/gpu-bundle.tar.gz

gpu-sanitize: ## the C++ ones of them, shortened and but the exhaustive ones, under compute-sanitizer
	@MAKE="$(MAKE)" $(PYTHON) tools/gpu_tests.py --archive build/gpu-bundle.tar.gz --sanitize

gpu-bench: ## transfers against torch, CuPy and the copy engines; the result goes to bench/results/
	@MAKE="$(MAKE)" $(PYTHON) tools/gpu_tests.py --archive build/gpu-bundle.tar.gz --bench

gpu-tune: ## the experiments behind the numbers of kernels and transfer engine; the result goes to bench/results/
	@MAKE="$(MAKE)" $(PYTHON) tools/gpu_tests.py --archive build/gpu-bundle.tar.gz --tune

bench: install ## benchmarks; results go to bench/results/
	@tools/bench.sh $(BENCH)

clean: ## remove what was built
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

distclean: clean ## remove .venv too
	rm -rf $(VENV)
