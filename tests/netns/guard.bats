#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The guard stays where it is, or nothing leaves: it is taken off, passed by, its interface is
# removed, and another way out appears. On a kernel with TCX.

load common

first() { in_member 0 build/tests/netns/tcx first "$1"; }
guarded() { [ "$(first "$1")" = espalier_guard ]; }
count_guarded() { [ "$(field 0 status .guard)" = "$1 interfaces, tcx" ]; }
says() { grep -q "$1" "$(member_state 0)/log"; }
says_times() { [ "$(grep -c "$1" "$(member_state 0)/log")" = "$2" ]; }
xdp_id() { in_member 0 ip -json link show "$1" | jq -r '.[0].xdp.prog.id // 0'; }
has_xdp() { [ "$(xdp_id "$1")" != 0 ]; }
member_buckets() { [ "$(field "$1" status .buckets)" = "$2" ]; }

# All rules that keep cluster addresses from being routed.
rules() { in_member 0 ip rule list | grep -c prohibit; }
has_rules() { [ "$(rules)" = "$1" ]; }

@test "every interface is guarded, also one that comes later" {
	start 1
	wait_until 10 active 0
	for interface in outer inner sync; do
		guarded $interface
	done
	count_guarded 3
	in_member 0 ip link add second type bridge
	wait_until 2 guarded second
	wait_until 2 count_guarded 4
	in_member 0 ip link del second
	wait_until 2 count_guarded 3
	[ "$(first lo)" = "" ]
	# As long as no agent runs, what is guarded stays so; the next one guards what has come.
	member_kill 0
	in_member 0 ip link add second type bridge
	guarded outer
	member_start 0 espalierd "$(member_state 0)/espalier.conf"
	wait_until 10 active 0
	guarded second
	has_rules 0
}

@test "a program that gets before the guard is noticed, and the guard is first again" {
	start 1
	wait_until 10 active 0
	in_member 0 build/tests/netns/tcx before outer 1
	wait_until 2 guarded outer
	wait_until 2 says "outer: the guard had been taken off, or something had got before it"
	in_member 0 build/tests/netns/tcx before inner 3
	wait_until 3 guarded inner
	in_member 0 build/tests/netns/tcx take-off outer espalier_guard
	wait_until 2 guarded outer
	[ "$(grep -c "outer: the guard had been taken off" "$(member_state 0)/log")" = 2 ]
	active 0
}

@test "XDP that is taken off is put back" {
	start 2
	wait_until 10 active 0 1
	for interface in outer inner; do
		in_member 0 ip link set $interface xdp off
		wait_until 2 has_xdp $interface
		wait_until 2 says "$interface: the steering program had been taken off"
	done
	spi=$(spi_of 0)
	before=$(reason 0 local)
	in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" --count 10
	[ $(($(reason 0 local) - before)) = 10 ]
}

@test "the outer interface is removed and made again: guard, steering and all else are there" {
	start 2
	wait_until 10 active 0 1
	in_member 0 ip link del outer
	wait_until 5 active 1
	topology_ports 0 2>/dev/null || true # outer alone is missing
	topology_ip m0 <<-END
		addr add $(outer_address 0)/24 dev outer
		link set outer up
	END
	wait_until 10 active 0 1
	guarded outer
	has_xdp outer
	says "interface outer has gone"
	says "another interface has the name outer now"
	spi=$(spi_of 0)
	before=$(reason 0 local)
	wait_until 10 answers
	in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" --count 10
	[ $(($(reason 0 local) - before)) = 10 ]
}

answers() { in_peer arping -q -c 1 -w 1 -I outer "$CLUSTER_OUTER"; }

interfaces() { [ "$(field 0 status .interfaces)" = "$1" ]; }

@test "an interface that is renamed is guarded and steered on, until another one has its name" {
	start 1
	wait_until 10 active 0
	interfaces good
	in_member 0 ip link set outer name outer9
	wait_until 2 says "interface outer is called outer9 now"
	interfaces "outer is now called outer9"
	in_member 0 ip link set outer9 xdp off
	wait_until 2 has_xdp outer9
	in_member 0 build/tests/netns/tcx take-off outer9 espalier_guard
	wait_until 2 guarded outer9
	before=$(reason 0 local)
	in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi 0x10000000 --count 10
	[ $(($(reason 0 local) - before)) = 10 ]
	active 0
	in_member 0 ip link add outer type veth peer name outer-end
	wait_until 2 has_xdp outer
	[ "$(xdp_id outer9)" = 0 ]
	wait_until 2 says "another interface has the name outer now"
	interfaces good
	in_member 0 ip link del outer
	wait_until 2 interfaces "outer is not there"
	[ "$(field 0 status .state)" = link-down ]
	in_member 0 ip link set outer9 name outer
	wait_until 10 active 0
	wait_until 2 has_xdp outer
	interfaces good
}

@test "where the guard cannot be, nothing is emitted and the member owns nothing" {
	start 2
	wait_until 10 active 0 1
	in_member 0 ip link add second type bridge
	wait_until 2 guarded second
	in_member 0 build/tests/netns/tcx crowd-out second
	wait_until 5 member_buckets 1 4096
	wait_until 5 has_rules 1
	[[ $(field 0 status '.unguarded[0]') == "second: "* ]]
	[ "$(field 0 status .state)" = unguarded ]
	run in_member 0 ip route get "$PEER_OUTER" from "$CLUSTER_OUTER"
	[ "$status" != 0 ]
	in_member 0 ip route get "$PEER_OUTER"
	says_times "^espalierd: second: .*nothing is emitted" 1
	# Without the agent it stays so; the next one sees that it is as it was.
	member_kill 0
	has_rules 1
	member_start 0 espalierd "$(member_state 0)/espalier.conf"
	wait_until 5 says_times "^espalierd: second: .*nothing is emitted" 2
	has_rules 1
	in_member 0 build/tests/netns/tcx take-off second other
	wait_until 5 guarded second
	wait_until 10 active 0 1
	wait_until 5 has_rules 0
	says "second: the guard is back"
	in_member 0 ip route get "$PEER_OUTER" from "$CLUSTER_OUTER"
}

@test "after --detach nothing is left of it on any interface" {
	start 1
	wait_until 10 active 0
	in_member 0 ip link add second type bridge
	wait_until 2 guarded second
	member_stop 0
	in_member 0 espalierd --detach "$(member_state 0)/espalier.conf"
	for interface in outer inner sync second; do
		[ "$(first $interface)" = "" ]
	done
}
