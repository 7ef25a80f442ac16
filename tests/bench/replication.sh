#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A million SAs over two members, a million rekeys over three; --json: one object, for programs;
# --only churn: one part of it.
exec "$(dirname "$0")/../../build/tests/bench/replication" "$@"
