#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What the guard costs beside the ESP encryption of the same packet, in a virtual machine with
# Debian's kernel $KERNEL (6.12). --json: the ratios alone.
cd "$(dirname "$(readlink -f "$0")")/../.." || exit
exec scripts/vm/vm-run -k "${KERNEL:-6.12}" -t 600 build/tests/bench/guard "$@"
