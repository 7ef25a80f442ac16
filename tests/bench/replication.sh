#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A million SAs over two members; --json: one object, for programs.
exec "$(dirname "$0")/../../build/tests/bench/replication" "$@"
