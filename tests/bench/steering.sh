#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What steering and the guard cost for each packet. --json: the ratios alone.
exec "$(dirname "$0")/../../build/tests/bench/steering" "$@"
