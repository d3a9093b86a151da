# SPDX-License-Identifier: MulanPSL-2.0
# As root on Debian 12; each target installs what it needs by itself (tests/prepare).
#   make demo        the main job, end to end, on a real host in a folder; KEEP=1 leaves it up
#   make test        all tests but the longest: static, unit, scenario, then both lab hosts
#   make test-vllm   a real vLLM on both lab hosts; part of make test
#   make test-faults the longest: long faults, every kill, cut, fault and 200 starts; seven hours
#   make test-aarch64  the package for aarch64 under qemu: built, installed, used, its unit suite; an hour
#   make test-quick  the same without the lab hosts: ten minutes
#   make fuzz        each parser of what comes from outside, with atheris, for MINUTES (1) each; TARGET= for one
#   make bench       time and memory, beside a hand-written quadlet
#   make soak        half an hour of random faults under load on each host, and days in simulated time
#   make texts       manual pages, completion, docs/configuration.md: made of others and committed
#   make rpm         the package, in build/rpms; rpm-aarch64: for aarch64, on a machine that is x86_64
#   make lab         a bare lab host (FLAVOUR=modern|legacy); lab-shell enters it, lab-stop ends it (NAME=)
FLAVOUR ?= modern
MINUTES ?= 1
PYTHON = .venv/bin/python

.PHONY: demo soak test test-vllm test-faults test-aarch64 test-quick fuzz bench texts rpm rpm-aarch64 lab lab-shell lab-stop prepare prepare-lab

demo: prepare-lab
	$(PYTHON) -m tests.lab.demo $(if $(KEEP),--keep)

test: test-quick prepare-lab
	$(PYTHON) -m pytest -q -n 2 --dist loadfile -m "not long and not vllm" tests/lab
	$(PYTHON) -m pytest -q -m "vllm and not long" tests/lab

# Exit status 2, and a line that says so, where its wheels cannot be had.
test-vllm: prepare-lab
	$(PYTHON) -m tests.lab.vllm_env
	$(PYTHON) -m pytest -q -m vllm tests/lab

test-faults: prepare-lab
	$(PYTHON) -m pytest -q -m "long and not vllm" tests/lab
	for flavour in modern legacy; do for faults in kills awaits cuts unsynced writes garbage fault_table \
	    cycles npu_table start_table supply_cuts; do \
	    $(PYTHON) -m tests.lab.$$faults $$flavour || exit 1; done; done

test-aarch64: prepare-lab
	$(PYTHON) -m tests.lab.aarch64

test-quick: prepare
	$(PYTHON) -m pytest -q -n 2 --dist load tests/static tests/test_layers.py tests/unit tests/scenario

fuzz: prepare
	$(PYTHON) -m tests.fuzz $(TARGET) --minutes $(MINUTES)

bench: prepare-lab
	$(PYTHON) -m tests.lab.bench --write

soak: prepare-lab
	$(PYTHON) -m pytest -q tests/scenario/test_days.py --days 20
	for flavour in modern legacy; do $(PYTHON) -m tests.lab.soak $$flavour || exit 1; done

texts: prepare
	$(PYTHON) -m tests.texts

rpm: prepare-lab
	$(PYTHON) -m tests.lab.package build/rpms

rpm-aarch64: prepare-lab
	$(PYTHON) -m tests.lab.package build/rpms aarch64

lab: prepare-lab
	$(PYTHON) -m tests.lab up $(FLAVOUR)

lab-shell: prepare-lab
	$(PYTHON) -m tests.lab shell $(NAME)

lab-stop: prepare-lab
	$(PYTHON) -m tests.lab stop $(NAME)

prepare:
	tests/prepare

prepare-lab:
	tests/prepare --lab
