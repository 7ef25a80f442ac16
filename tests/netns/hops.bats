#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# How packets get to other members and to the cluster: MAC addresses that change, routes, what a new
# ingress announces, addresses of our own.

load common

# hop MEMBER OTHER SIDE FIELD: as MEMBER's programs have it. Kinds: 0 none, 1 link, 2 IPv4, 3 IPv6.
hop()
{
	bpftool -j map lookup pinned "$(member_state "$1")/bpf/espalier/members" key "$2" 0 0 0 |
		jq -r "(.formatted.value // .value).$3.$4"
}

hop_is() { [ "$(hop "$1" "$2" "$3" kind)" = "$4" ]; }

hop_mac() { hop "$1" "$2" "$3" 'mac | join(" ")' | xargs printf '%02x:%02x:%02x:%02x:%02x:%02x\n'; }

hop_mac_is() { [ "$(hop_mac "$1" "$2" "$3")" = "$4" ]; }

# mac_of NAMESPACE INTERFACE
mac_of() { in_namespace "$1" ip -json link show "$2" | jq -r '.[0].address'; }

# neighbour NAMESPACE ADDRESS MAC: is it that there?
neighbour() { [ "$(in_namespace "$1" ip -json neighbour show "$2" | jq -r '.[0].lladdr')" = "$3" ]; }

# So that there is an entry to be corrected.
remember() { in_namespace "$1" ip neighbour replace "$2" lladdr "$3" dev "$4" nud stale; }

# Are the peer's packets for member 1 sent on there, and known there?
steered()
{
	local before sent_on

	before=$(reason 1 local) sent_on=$(reason 0 forwarded)
	in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" --count 10
	[ $(($(reason 1 local) - before)) = 10 ] && [ $(($(reason 0 forwarded) - sent_on)) = 10 ]
}

said() { [ "$(grep -c "$2" "$(member_state "$1")/log")" = "${3:-1}" ]; }

@test "a member's new MAC address is followed by the others and by its neighbours" {
	start 2
	wait_until 10 active 0 1
	spi=$(spi_of 1)
	in_peer ping -c 1 -W 1 "$CLUSTER_OUTER" || true
	steered
	in_member 1 ip link set outer address 02:e5:00:00:01:99
	wait_until 5 hop_mac_is 0 1 outer 02:e5:00:00:01:99
	wait_until 5 hop_is 0 1 outer 1
	steered
	# The ingress tells the link.
	in_member 0 ip link set outer address 02:e5:00:00:01:98
	wait_until 5 neighbour peer "$CLUSTER_OUTER" 02:e5:00:00:01:98
	wait_until 5 hop_is 0 1 outer 1
	wait_until 5 hop_is 1 0 outer 1
	steered
	active 0 1
}

@test "where addresses are configured, the kernel's neighbour table says how to get there" {
	TOPOLOGY_OWN=4 start 2
	wait_until 10 active 0 1
	wait_until 5 hop_is 0 1 outer 1
	hop_mac_is 0 1 outer "$(member_mac 1 outer)"
	in_member 0 ip neighbour replace "$(outer_address 1)" lladdr 02:00:00:00:00:77 dev outer nud permanent
	wait_until 2 hop_mac_is 0 1 outer 02:00:00:00:00:77
	in_member 0 ip neighbour del "$(outer_address 1)" dev outer
	wait_until 5 hop_mac_is 0 1 outer "$(member_mac 1 outer)"
	in_member 0 ip neighbour show "$(outer_address 1)" | grep managed
}

@test "a member behind a router is reached in IP-in-IP, as its route says" {
	TOPOLOGY_OWN=4 start 2
	wait_until 10 active 0 1
	wait_until 5 hop_is 0 1 outer 1
	wait_until 5 hop_is 0 1 inner 1
	in_member 0 ip route add "$(outer_address 1)" via "$PEER_OUTER" mtu 1400
	wait_until 5 hop_is 0 1 outer 2
	[ "$(hop 0 1 outer mtu)" = 1380 ]
	hop_mac_is 0 1 outer "$(mac_of peer outer)"
	hop_is 0 1 inner 1
	in_member 0 ip route replace "$(outer_address 1)" via "$PEER_OUTER"
	in_member 0 ip link set outer mtu 1450
	mtu_is() { [ "$(hop 0 1 outer mtu)" = "$1" ]; }
	wait_until 5 mtu_is 1430

	# No way: said once, and that there is one again.
	in_member 0 ip route replace "$(outer_address 1)" via 192.0.2.200
	wait_until 5 hop_is 0 1 outer 0
	wait_until 5 said 0 "router 192.0.2.200 to $(outer_address 1) does not answer on outer"
	in_member 0 ip route replace "$(outer_address 1)" dev inner
	wait_until 5 said 0 "leaves by another interface than outer"
	in_member 0 ip route replace unreachable "$(outer_address 1)"
	wait_until 5 said 0 "there is no route from $(outer_address 0) to $(outer_address 1)"
	hop_is 0 1 outer 0
	in_member 0 ip route del unreachable "$(outer_address 1)"
	wait_until 5 hop_is 0 1 outer 1
	wait_until 5 said 0 "can be reached on the outer side again"
	sleep 2
	said 0 "cannot be reached" 3
}

@test "the same over IPv6" {
	TOPOLOGY_IPV6=1 TOPOLOGY_OWN=6 start 2
	wait_until 10 active 0 1
	wait_until 5 hop_is 0 1 outer 1
	in_member 0 ip route add "$(outer_address6 1)" via "$PEER_OUTER6"
	wait_until 5 hop_is 0 1 outer 3
	[ "$(hop 0 1 outer mtu)" = 1460 ]
	hop_mac_is 0 1 outer "$(mac_of peer outer)"
}

@test "a new ingress announces the addresses of both families on both sides" {
	TOPOLOGY_IPV6=1 start 2
	wait_until 10 active 0 1
	remember peer "$CLUSTER_OUTER" "$(member_mac 0 outer)" outer
	remember peer "$CLUSTER_OUTER6" "$(member_mac 0 outer)" outer
	remember host "$CLUSTER_INNER" "$(member_mac 0 inner)" inner
	remember host "$CLUSTER_INNER6" "$(member_mac 0 inner)" inner
	start_in peer timeout 20 tcpdump -l -n -e -vv -c 5 -i outer \
		"icmp6 and ip6[40] == 136 and dst ff02::1" >"$BATS_TEST_TMPDIR/capture" 2>/dev/null
	sleep 1
	member_kill 0
	wait_until 5 neighbour peer "$CLUSTER_OUTER" "$(member_mac 1 outer)"
	wait_until 5 neighbour peer "$CLUSTER_OUTER6" "$(member_mac 1 outer)"
	wait_until 5 neighbour host "$CLUSTER_INNER" "$(member_mac 1 inner)"
	wait_until 5 neighbour host "$CLUSTER_INNER6" "$(member_mac 1 inner)"
	# A neighbour that has lost them all so far hears the next one.
	remember peer "$CLUSTER_OUTER" "$(member_mac 0 outer)" outer
	wait_until 2 neighbour peer "$CLUSTER_OUTER" "$(member_mac 1 outer)"
	announced_often() { [ "$(grep -c "tgt is $CLUSTER_OUTER6, Flags \[router, override\]" "$BATS_TEST_TMPDIR/capture")" = 5 ]; }
	wait_until 5 announced_often
	grep -q "$(member_mac 1 outer) > 33:33:00:00:00:01.*hlim 255.*$CLUSTER_OUTER6 > ff02::1: \[icmp6 sum ok\]" "$BATS_TEST_TMPDIR/capture"
}

@test "where all members are ingress, nobody answers or announces the outer addresses" {
	start 2 'Ingress = all'
	wait_until 10 active 0 1
	[ "$(field 0 status .datapath.outer_ingress)" = all ]
	run in_peer arping -c 2 -w 2 -I outer "$CLUSTER_OUTER"
	[ "$status" = 1 ]
	[[ $output == *"Received 0 response"* ]]
	in_host arping -q -c 1 -w 2 -I inner "$CLUSTER_INNER"
	remember peer "$CLUSTER_OUTER" "$(member_mac 0 outer)" outer
	remember host "$CLUSTER_INNER" "$(member_mac 0 inner)" inner
	member_kill 0
	wait_until 5 neighbour host "$CLUSTER_INNER" "$(member_mac 1 inner)"
	neighbour peer "$CLUSTER_OUTER" "$(member_mac 0 outer)"
}

# The flow of an own address in MEMBER's table: bucket 4096.
here()
{
	bpftool map lookup pinned "$(member_state "$1")/bpf/espalier/selectors" \
		key hex 60 00 00 00 00 00 00 00 02 00 00 00 "${@:2}" 00 00 00 00 00 00 00 00 00 00 00 00 |
		grep -q 4096
}
not_here() { ! here "$@"; }

@test "addresses of our own are kept from being steered as they come and go, also while no agent runs" {
	start 1
	wait_until 10 active 0
	here 0 0a 01 00 0a # 10.1.0.10
	not_here 0 0a 63 00 01
	in_member 0 ip addr add 10.99.0.1/32 dev lo
	wait_until 5 here 0 0a 63 00 01
	in_member 0 ip addr add 10.99.0.2/32 dev lo
	in_member 0 ip addr del 10.99.0.1/32 dev lo
	wait_until 5 not_here 0 0a 63 00 01
	here 0 0a 63 00 02
	member_kill 0
	in_member 0 ip addr del 10.99.0.2/32 dev lo
	in_member 0 ip addr add 10.99.0.3/32 dev lo
	here 0 0a 63 00 02
	# a policy's selector, whose end nobody saw: 10.98.0.0/16
	stale=(50 00 00 00 00 00 00 00 02 00 00 00 0a 62 00 00 00 00 00 00 00 00 00 00 00 00 00 00)
	bpftool map update pinned "$(member_state 0)/bpf/espalier/selectors" key hex "${stale[@]}" value hex 07 00 00 00
	member_start 0 espalierd "$(member_state 0)/espalier.conf"
	wait_until 10 here 0 0a 63 00 03
	wait_until 5 not_here 0 0a 63 00 02
	here 0 0a 01 00 0a
	run bpftool map dump pinned "$(member_state 0)/bpf/espalier/selectors"
	[[ ${output//[$' \n']/} != *'"bucket":7,'* ]]
	[[ ${output//[$' \n']/} == *'"bucket":4096,'* ]]
}

@test "local ESP is spread over as many CPUs as there are" {
	start 1 '' 'Cpus = all'
	wait_until 10 active 0
	[ "$(field 0 status .datapath.spread_cpus)" = "$(nproc --all)" ]
	[ -e "$(member_state 0)/bpf/espalier/cpus" ]
}
