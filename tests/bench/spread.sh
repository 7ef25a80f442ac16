#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What it brings to spread local ESP over the CPUs, in a virtual machine with Debian's kernel $KERNEL
# (6.12) and $CPUS (2) CPUs. --json: the ratios alone.
cd "$(dirname "$(readlink -f "$0")")/../.." || exit
exec scripts/vm/vm-run -k "${KERNEL:-6.12}" -c "${CPUS:-2}" -t 600 build/tests/bench/spread "$@"
