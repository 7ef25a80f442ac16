#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The systemd unit, without a systemd that runs.

UNIT=scripts/espalierd.service

setup() { cd "$BATS_TEST_DIRNAME/../.." || return; }

@test "systemd-analyze security finds 3.5 at most" {
	command -v systemd-analyze >/dev/null || skip "no systemd-analyze"
	run systemd-analyze security --offline=true --threshold=35 $UNIT
	echo "$output"
	[ "$status" = 0 ]
}

@test "systemd-analyze verify finds nothing but that it is not installed" {
	command -v systemd-analyze >/dev/null || skip "no systemd-analyze"
	systemd-analyze verify --man=no $UNIT 2>&1 | grep -v 'espalierd is not executable: No such file' >"$BATS_TEST_TMPDIR/said" || true
	cat "$BATS_TEST_TMPDIR/said"
	[ ! -s "$BATS_TEST_TMPDIR/said" ]
}
