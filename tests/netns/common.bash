# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# common.bash - clusters in network namespaces, for bats files to load.

setup_file()
{
	cd "$BATS_TEST_DIRNAME/../.." || return
}

setup()
{
	export TOPOLOGY_PREFIX=${TOPOLOGY_PREFIX:-espalier-cluster}
	source tests/lib/topology.sh
	PATH=$PWD/build:$PWD/build/tests:$PATH
}

teardown()
{
	local member

	for member in 0 1 2; do
		[ -f "$(member_state $member)/log" ] || continue
		echo "== member $member"
		tail -n 20 "$(member_state $member)/log"
	done
	topology_down
}

# Slow enough for a busy machine.
PACE=$'Heartbeat = 50ms\nDead = 4\n'

# start MEMBERS [CLUSTER-LINES [INTERFACE-LINES]]
start()
{
	local member

	topology_up "$1"
	for ((member = 0; member < $1; member++)); do
		member_start $member espalierd "$(member_config $member "$PACE${2:-}" "${3:-}")"
	done
}

ctl()
{
	local member=$1
	shift
	espalierctl --json --socket "$(member_state "$member")/control" "$@"
}

# field MEMBER COMMAND FILTER: one value
field()
{
	ctl "$1" "$2" 2>/dev/null | jq -r "$3"
}

reason() { field "$1" reasons ".[] | select(.reason == \"$2\") | .packets"; }

# active MEMBER...: these, and no others, are in the view that each of them follows.
active()
{
	local member wanted
	wanted=$(printf '%s\n' "$@" | paste -sd,)
	for member; do
		[ "$(field "$member" members '[.[] | select(.buckets > 0).member] | join(",")')" = "$wanted" ] ||
			return
	done
}

standby() { [ "$(field "$1" status .state)" = standby ]; }

# An SPI that MEMBER owns, as all see it.
spi_of()
{
	local spi
	for ((spi = 0x10000000; ; spi += 0x00100000)); do
		[ "$(ctl 1 owner $spi | jq .owner)" = "$1" ] && break
	done
	echo $spi
}
