#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What the members' IKE daemons are told, and what an earlier life has left pinned.

setup_file()
{
	cd "$BATS_TEST_DIRNAME/../.." || return
}

setup()
{
	export TOPOLOGY_PREFIX=${TOPOLOGY_PREFIX:-espalier-ike}
	source tests/lib/topology.sh
	PATH=$PWD/build:$PWD/build/tests:$PATH
}

teardown() { topology_down; }

# start CLUSTER-LINES: two members
start()
{
	local member

	topology_up 2
	for member in 0 1; do
		member_start $member espalierd \
			"$(member_config $member $'Heartbeat = 50ms\nDead = 4\n'"$1" "")"
	done
}

ctl()
{
	local member=$1
	shift
	espalierctl --socket "$(member_state "$member")/control" "$@"
}

shares()
{
	[ "$(ctl "$1" --json members | jq -c '[.[] | select(.buckets > 0).member]')" = '[0,1]' ]
}

@test "ike-config gives each member a range of SPIs of its own" {
	start 'Hash = prefix'
	wait_until 10 shares 0
	wait_until 10 shares 1
	[ "$(ctl 0 ike-config)" = "$(ctl 1 ike-config)" ]
	config=$(ctl 0 --json ike-config)
	[ "$(jq 'length' <<<"$config")" = 2 ]
	for member in 0 1; do
		read -r min max label mask < <(jq -r ".[$member] |
			[.spi_min, .spi_max, .spi_label, .spi_mask] | join(\" \")" <<<"$config")
		[ $((max - min)) = $((0xfffff)) ]
		[ $((min)) -ge $((0xc0000000)) ]
		[ "$label" = "${min}00000000" ]
		[ "$mask" = 0xfff0000000000000 ]
		for spi in "$min" $((min + 0x7ffff)) "$max"; do
			[ "$(ctl 0 --json owner "$spi" | jq .owner)" = $member ]
		done
		# As text: what strongswan.conf takes.
		ctl 0 ike-config | sed -n "/^# member $member\$/,/^}/p" | diff - <(
			printf '# member %s\ncharon {\n\tspi_min = %s\n\tspi_max = %s\n' $member "$min" "$max"
			printf '\tspi_label = %s\n\tspi_mask = %s\n}\n' "$label" "$mask"
		)
	done
	[ "$(ctl 0 --json status | jq .pins)" = 0 ]
	[ "$(ctl 0 --json owner 0xc0000000 | jq -c .pinned)" = '[]' ]
}

@test "ike-config says why it cannot" {
	start 'Hash = mix'
	wait_until 10 shares 0
	run ctl 0 ike-config
	[ "$status" = 1 ]
	[[ "$output" == *"with Hash = mix no range of SPIs is one member's"* ]]
}

pins_in_view() { bpftool -j map dump pinned "$1/view" | jq '.[0].formatted.value.pins'; }

@test "a pin of an earlier life that nobody speaks for is taken out" {
	start ''
	wait_until 10 shares 0
	pin=$(member_state 0)/bpf/espalier
	member_kill 0
	# ESP to 192.0.2.9 with SPI 0xc0000001, pinned to member 1; and the view says that there is one.
	bpftool map update pinned "$pin/pins" key hex c0 00 02 09 00 00 00 00 00 00 00 00 00 00 00 00 \
		c0 00 00 01 02 00 00 00 00 00 00 00 00 00 00 00 value hex 00 0c 02 00
	mapfile -t bytes < <(bpftool -j map lookup pinned "$pin/view" key hex 00 00 00 00 | jq -r '.value[]')
	bytes[4]=0x01
	# shellcheck disable=SC2068 # a byte each
	bpftool map update pinned "$pin/view" key hex 00 00 00 00 value hex ${bytes[@]#0x}
	[ "$(pins_in_view "$pin")" = 1 ]
	member_start 0 espalierd "$(member_state 0)/espalier.conf"
	wait_until 10 shares 0
	[ "$(pins_in_view "$pin")" = 0 ]
	[ "$(bpftool -j map dump pinned "$pin/pins" | jq length)" = 0 ]
}
