#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Packets through the members' links: to a member behind a router (IP-in-IP), by a router to all
# members (ECMP), and to whom neighbour discovery says that the cluster is.

load common

# Member 1 is on another link.
far_member()
{
	outer_address() { [ "$1" = 1 ] && echo 198.51.100.11 || echo "192.0.2.$((10 + $1))"; }
	outer_address6() { [ "$1" = 1 ] && echo 2001:db8:f::11 || echo "2001:db8:1::$((10 + $1))"; }
	topology_up 2
	topology_router 1
	for member in 0 1; do
		member_start $member espalierd "$(member_config $member "$PACE")"
	done
	wait_until 10 active 0 1
	spi=$(spi_of 1)
	wait_until 10 reaches_far
}

send() { in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" "$@"; }

# What the peer sends for member 1 comes there, by the ingress member and the router.
reaches_far()
{
	local before sent_on

	before=$(reason 1 local) sent_on=$(reason 0 tunnelled)
	send --count 10 >/dev/null
	[ $(($(reason 1 local) - before)) = 10 ] && [ $(($(reason 0 tunnelled) - sent_on)) = 10 ]
}

# capture NAMESPACE INTERFACE FILTER...: the first packet of it, in the background.
capture()
{
	start_in "$1" timeout 20 tcpdump -l -n -c 1 -i "$2" "${@:3}" >"$BATS_TEST_TMPDIR/capture" 2>/dev/null
	sleep 1
}

captured() { grep -q "$1" "$BATS_TEST_TMPDIR/capture"; }

# A packet that does not fit is answered from the cluster address, with what fits.
too_big()
{
	local before

	before=$(reason 0 too-big)
	capture peer outer 'icmp[icmpcode] == 4'
	in_member 0 ip link set outer mtu 1400
	for ((try = 0; try < 10; try++)); do # until the agent has seen it
		send --length 1372 --count 1 >/dev/null # 1400 bytes
		[ "$(reason 0 too-big)" = "$before" ] || break
		sleep 0.5
	done
	[ "$(reason 0 too-big)" -gt "$before" ]
	wait_until 5 captured "$CLUSTER_OUTER > $PEER_OUTER: ICMP $CLUSTER_OUTER unreachable - need to frag (mtu $1)"
	before=$(reason 1 local)
	send --length $(($1 - 28)) --count 5 >/dev/null
	[ $(($(reason 1 local) - before)) = 5 ]
}

@test "a member behind a router gets its packets in IP-in-IP, one hop at most" {
	TOPOLOGY_OWN=4 far_member
	capture router far "ip proto 4"
	reaches_far
	[ "$(field 0 members '.[1] | .outer_hop, .inner_hop' | xargs)" = "IPv4 link" ]
	wait_until 5 captured "192.0.2.10 > 198.51.100.11: .*$PEER_OUTER > $CLUSTER_OUTER: ESP"
	[ "$(reason 1 one-hop)" = 0 ]
	[ "$(reason 1 tunnelled)" = 0 ]
	too_big 1380
	# Who has lost the other keeps what it would have sent there.
	cut_sync 1
	wait_until 5 active 0
	wait_until 5 active 1
	before=$(reason 0 local)
	send --count 5
	[ $(($(reason 0 local) - before)) = 5 ]
}

@test "the same over IPv6, and what clear packets are in goes by the link that members share" {
	TOPOLOGY_IPV6=1 TOPOLOGY_OWN=6 far_member
	capture router far "ip6 proto 4"
	reaches_far
	wait_until 5 captured "2001:db8:1::10 > 2001:db8:f::11: .*$PEER_OUTER > $CLUSTER_OUTER: ESP"
	too_big 1360
}

@test "with ECMP every member is ingress, and each packet goes to its owner" {
	# The peer is the router; the clients are the IPsec gateways.
	start 3 'Ingress = all'
	wait_until 10 active 0 1 2
	in_peer sysctl -q -w net.ipv4.fib_multipath_hash_policy=0
	in_peer ip route add "$CLUSTER_OUTER/32" \
		nexthop via "$(outer_address 0)" nexthop via "$(outer_address 1)" nexthop via "$(outer_address 2)"
	for ((i = 10; i < 42; i++)); do
		in_client ip address add "10.2.0.$i/32" dev lo
	done
	for member in 0 1 2; do
		spi=$(spi_of $member)
		before=$(reason $member local) hops=$(reason $member one-hop)
		for ((i = 10; i < 42; i++)); do
			in_client espsend --from "10.2.0.$i" --to "$CLUSTER_OUTER" --spi "$spi" --count 5 >/dev/null
		done
		[ $(($(reason $member local) - before)) = 160 ]
		[ "$(reason $member one-hop)" = "$hops" ]
	done
	for member in 0 1 2; do # all of them got some for others
		[ "$(reason $member forwarded)" -gt 0 ]
	done
	# One dies, and the routers hear of it as they always do.
	member_kill 2
	wait_until 5 active 0 1
	in_peer ip route replace "$CLUSTER_OUTER/32" \
		nexthop via "$(outer_address 0)" nexthop via "$(outer_address 1)"
	owner=$(ctl 0 owner "$spi" | jq .owner)
	before=$(reason "$owner" local)
	for ((i = 10; i < 42; i++)); do
		in_client espsend --from "10.2.0.$i" --to "$CLUSTER_OUTER" --spi "$spi" --count 5 >/dev/null
	done
	[ $(($(reason "$owner" local) - before)) = 160 ]
}

# asks NAMESPACE ADDRESS INTERFACE MEMBER SIDE: neighbour discovery finds that member there.
asks()
{
	in_namespace "$1" ip -6 neighbour flush dev "$3"
	in_namespace "$1" ping -q -c 2 -W 2 "$2" >/dev/null || return
	[ "$(in_namespace "$1" ip -6 -json neighbour show "$2" | jq -r '.[0].lladdr')" = "$(member_mac "$4" "$5")" ]
}

# A switch that sends multicast only to those who have said that they listen (RFC 4541).
snooping_switch()
{
	local network

	for network in outer inner; do
		in_switch sysctl -q -w "net.ipv6.conf.$network.disable_ipv6=0"
		in_switch ip link set "$network" type bridge mcast_snooping 1 mcast_querier 1 \
			mcast_query_response_interval 100 mcast_startup_query_interval 100 \
			mcast_query_interval 100
	done
}

# Both members, on both sides, for the cluster addresses; and who they answer, for his own.
listening()
{
	local groups
	groups=$(in_switch bridge mdb show)
	[ "$(grep -c 'port [a-z]*[01] grp ff02::1:ff00:1 ' <<<"$groups")" = 4 ] &&
		grep -q 'port outer-peer grp ff02::1:ff00:100 ' <<<"$groups" &&
		grep -q 'port inner-host grp ff02::1:ff00:100 ' <<<"$groups"
}

@test "IPv6 is off on an interface: that solicitations may not come is said, and all else works" {
	TOPOLOGY_IPV6=1 topology_up 1
	in_member 0 sysctl -q -w net.ipv6.conf.outer.disable_ipv6=1
	in_member 0 ip link set outer mtu 1200 # below IPv6's least: the kernel lets go of it
	member_start 0 espalierd "$(TOPOLOGY_IPV6=1 member_config 0 "$PACE")"
	wait_until 10 active 0
	grep "may not reach the outer interface: .*disable_ipv6" "$(member_state 0)/log"
	[ "$(grep -c "may not reach" "$(member_state 0)/log")" = 1 ]
}

@test "neighbour discovery finds the ingress member, on both sides, and the next one after it" {
	TOPOLOGY_IPV6=1 topology_up 2
	snooping_switch
	for member in 0 1; do
		member_start $member espalierd "$(TOPOLOGY_IPV6=1 member_config $member "$PACE")"
	done
	wait_until 10 active 0 1
	wait_until 15 listening
	wait_until 5 asks peer "$CLUSTER_OUTER6" outer 0 outer
	wait_until 5 asks host "$CLUSTER_INNER6" inner 0 inner
	[ "$(reason 0 nd-answered)" -ge 2 ]
	[ "$(reason 1 nd-answered)" = 0 ]
	[ "$(reason 1 nd-left)" -ge 1 ]
	# Who wants the address for himself is told that it is taken.
	in_peer ip address add "$CLUSTER_OUTER6/64" dev outer
	taken() { in_peer ip -6 address show dev outer | grep -q "$CLUSTER_OUTER6.*dadfailed"; }
	wait_until 5 taken
	in_peer ip address del "$CLUSTER_OUTER6/64" dev outer
	member_kill 0
	wait_until 5 active 1
	wait_until 5 asks peer "$CLUSTER_OUTER6" outer 1 outer
	wait_until 5 asks host "$CLUSTER_INNER6" inner 1 inner
}
