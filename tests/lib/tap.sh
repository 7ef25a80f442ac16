# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause

# tap_join: the TAP of several tests, one after the other, becomes one test's: one plan, numbers on.
tap_join()
{
	local line n=0

	# not by awk: mawk keeps what it reads until it has a block of it
	while IFS= read -r line; do
		[[ ! $line =~ ^1\.\.[0-9]+$ ]] || continue
		[[ ! $line =~ ^(not )?ok( [0-9]+)?(.*) ]] ||
			line="${BASH_REMATCH[1]}ok $((++n))${BASH_REMATCH[3]}"
		printf '%s\n' "$line"
	done
	echo "1..$n"
}
