# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause

# tap_join: the TAP of several tests, one after the other, becomes one test's: one plan, numbers on.
tap_join()
{
	awk '/^1\.\.[0-9]+$/ { next }
		/^(not )?ok/ { sub(/ok( [0-9]+)?/, "ok " ++n) }
		{ print; fflush() }
		END { print "1.." n }'
}
