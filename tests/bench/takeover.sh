#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# From the decision to the flip, with few SAs and with many.
exec "$(dirname "$0")/../../build/tests/bench/takeover"
