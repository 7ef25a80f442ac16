#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Clusters in network namespaces, with ESP-shaped packets: what needs no SA in the kernel.

load common

more_foreign() { [ "$(field 0 status .sync.foreign)" -gt "$1" ]; }

# The MAC address that the peer has for the cluster.
peer_sees()
{
	in_peer ip -json neighbour show "$CLUSTER_OUTER" | jq -r '.[0].lladdr'
}

peer_sees_member() { [ "$(peer_sees)" = "$(member_mac "$1" outer)" ]; }

@test "three members share the buckets, over AF_XDP" {
	start 3
	wait_until 10 active 0 1 2
	for member in 0 1 2; do
		[[ $(field $member status .sync.carrier) == AF_XDP* ]]
		[ "$(field $member status .sync.rejected)" = 0 ]
		buckets=$(field $member status .buckets)
		[ "$buckets" -gt 1200 ]
		[ "$buckets" -lt 1500 ]
	done
	[ "$(field 0 status .datapath.nested_esp)" = fexit ] ||
		[ "$(grep -c 'ESP inside ESP is not guarded' "$(member_state 0)/log")" = 1 ]
	for spi in 0 0x7fffffff 0xffffffff; do
		[ "$(ctl 0 owner $spi)" = "$(ctl 1 owner $spi)" ]
		[ "$(ctl 0 owner $spi)" = "$(ctl 2 owner $spi)" ]
	done
}

@test "one member owns everything in hot standby, the next takes over" {
	start 2 'Mode = hot-standby'
	wait_until 10 active 0
	wait_until 10 standby 1
	member_kill 0
	wait_until 5 active 1
	[ "$(field 1 status .buckets)" = 4096 ]
	[ "$(field 1 status .takeovers)" -ge 1 ]
}

@test "each packet goes to the owner of its SPI's bucket, by one hop at most" {
	start 3
	wait_until 10 active 0 1 2
	for member in 0 1 2; do
		spi=$(spi_of $member)
		before=$(reason $member local) sent_on=$(reason 0 forwarded) hop=$(reason $member one-hop)
		in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" --count 100
		[ $(($(reason $member local) - before)) = 100 ]
		[ $(($(reason 0 forwarded) - sent_on)) = $((member == 0 ? 0 : 100)) ]
		[ "$(reason $member one-hop)" = "$hop" ]
	done
}

@test "only the ingress member answers ARP, and the next one announces itself" {
	start 3
	wait_until 10 active 0 1 2
	run in_peer arping -q -c 2 -I outer "$CLUSTER_OUTER"
	[ "$status" = 0 ]
	run in_peer arping -c 3 -I outer "$CLUSTER_OUTER"
	[ "$(grep -o '\[.*\]' <<<"$output" | sort -u)" = "[$(member_mac 0 outer | tr a-f A-F)]" ]
	run in_host arping -c 3 -I inner "$CLUSTER_INNER"
	[ "$(grep -o '\[.*\]' <<<"$output" | sort -u)" = "[$(member_mac 0 inner | tr a-f A-F)]" ]
	in_peer ping -c 1 -W 1 "$CLUSTER_OUTER" || true # so that the peer has an entry to be corrected
	wait_until 2 peer_sees_member 0
	member_kill 0
	wait_until 5 peer_sees_member 1
	run in_peer arping -c 2 -I outer "$CLUSTER_OUTER"
	[ "$(grep -o '\[.*\]' <<<"$output" | sort -u)" = "[$(member_mac 1 outer | tr a-f A-F)]" ]
}

@test "a dead member's packets go to the others, and come back when it is back" {
	start 3
	wait_until 10 active 0 1 2
	spi=$(spi_of 0)
	member_off 0
	wait_until 5 active 1 2
	owner=$(ctl 1 owner "$spi" | jq .owner)
	before=$(reason "$owner" local)
	in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" --count 50
	[ $(($(reason "$owner" local) - before)) = 50 ]
	member_on 0
	member_start 0 espalierd "$(member_state 0)/espalier.conf"
	wait_until 10 active 0 1 2
	[ "$(ctl 1 owner "$spi" | jq .owner)" = 0 ]
}

@test "without its agent a member steers by what it has, drops what it would send on, and is silent in ARP" {
	start 3
	wait_until 10 active 0 1 2
	spi=$(spi_of 2)
	member_kill 1
	wait_until 5 active 0 2
	# What reaches it all the same (the peer's neighbour entry points there) it drops: not its own.
	in_peer ip neighbour replace "$CLUSTER_OUTER" lladdr "$(member_mac 1 outer)" dev outer
	in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" --count 10
	member_start 1 espalierd "$(member_state 1)/espalier.conf"
	wait_until 10 active 0 1 2
	[ "$(reason 1 no-next-hop)" -ge 10 ]
}

@test "a frozen member is taken for dead, and catches up when it wakes" {
	start 3
	wait_until 10 active 0 1 2
	member_freeze 2
	wait_until 5 active 0 1
	sleep 1
	member_thaw 2
	wait_until 10 active 0 1 2
	[ "$(field 2 status .slept)" -ge 1 ]
}

@test "a member that is told to stop hands over at once" {
	start 2
	wait_until 10 active 0 1
	member_stop 0
	wait_until 5 active 1
	grep -q leaving "$(member_state 0)/log"
}

@test "members that cannot hear each other both go on, and become one cluster again" {
	start 2
	wait_until 10 active 0 1
	cut_sync 1
	wait_until 5 active 0
	wait_until 5 active 1
	# Both answer ARP. That the peer heard the wrong one last is mended by the next view.
	in_peer ip neighbour replace "$CLUSTER_OUTER" lladdr "$(member_mac 1 outer)" dev outer nud stale
	heal_sync 1
	wait_until 15 active 0 1
	wait_until 5 peer_sees_member 0
}

@test "a member whose outer link is down gives its buckets away" {
	start 3
	wait_until 10 active 0 1 2
	cut_outer 1
	wait_until 5 active 0 2
	[ "$(field 1 status .state)" = link-down ]
	heal_outer 1
	wait_until 10 active 0 1 2
}

# cannot_forward SENTENCE: what member 1 says, and that the others own all.
cannot_forward()
{
	wait_until 5 active 0 2
	[ "$(field 1 status .state)" = not-forwarding ]
	[[ $(field 1 status .forwarding) == $1* ]]
	grep -qF "espalierd: this member cannot forward and gives its buckets away: $1" "$(member_state 1)/log"
}

@test "a member that cannot forward gives its buckets away, until it can" {
	TOPOLOGY_IPV6=1 start 3
	wait_until 10 active 0 1 2
	[ "$(field 1 status .forwarding)" = good ]
	in_member 1 ip address del "$CLUSTER_OUTER/32" dev lo
	cannot_forward "$CLUSTER_OUTER is not on lo"
	in_member 1 ip address add "$CLUSTER_OUTER/32" dev lo
	wait_until 10 active 0 1 2
	in_member 1 ip address del "$CLUSTER_INNER6/128" dev lo
	cannot_forward "$CLUSTER_INNER6 is not on lo"
	in_member 1 ip address add "$CLUSTER_INNER6/128" dev lo
	wait_until 10 active 0 1 2
	in_member 1 sysctl -q -w net.ipv4.ip_forward=0
	cannot_forward "net.ipv4.conf.outer.forwarding is 0"
	in_member 1 sysctl -q -w net.ipv4.conf.outer.forwarding=1
	wait_until 5 grep -qF "net.ipv4.conf.inner.forwarding is 0" "$(member_state 1)/log"
	in_member 1 sysctl -q -w net.ipv4.conf.inner.forwarding=1
	wait_until 10 active 0 1 2
	in_member 1 sysctl -q -w net.ipv6.conf.all.forwarding=0
	cannot_forward "net.ipv6.conf.all.forwarding is 0"
	in_member 1 sysctl -q -w net.ipv6.conf.all.forwarding=1
	wait_until 10 active 0 1 2
}

@test "AF_XDP and UDP members make one cluster, status says which" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE" 'Transport = udp')"
	member_start 1 espalierd "$(member_config 1 "$PACE")"
	wait_until 10 active 0 1
	[[ $(field 0 status .sync.carrier) == UDP* ]]
	[[ $(field 1 status .sync.carrier) == AF_XDP* ]]
	[ "$(field 0 status .datapath.sync)" = none ]
}

@test "a member with another key, and a stranger, change nothing and are counted" {
	topology_up 3
	for member in 0 1; do
		member_start $member espalierd "$(member_config $member "$PACE")"
	done
	openssl rand -base64 32 >"$(topology_state)/wrong" && chmod 600 "$(topology_state)/wrong"
	config=$(member_config 2 "$PACE")
	sed -i "s|^PresharedKeyFile.*|PresharedKeyFile = $(topology_state)/wrong|" "$config"
	member_start 2 espalierd "$config"
	wait_until 10 active 0 1
	sleep 1
	active 0 1
	[ "$(field 0 status .sync.rejected)" -gt 0 ]
	[ "$(field 2 members '.[0].session')" = false ]
	before=$(field 0 status .sync.foreign)
	in_switch ip address add 10.255.0.99/24 dev sync
	in_switch bash -c "echo nonsense >/dev/udp/$(sync_address 0)/6311"
	wait_until 5 more_foreign "$before"
	active 0 1
}

# held_back MEMBER BY: it owns nothing as long as that other one serves.
held_back()
{
	[ "$(field "$1" status '"\(.state) \(.held_back_by) \(.buckets)"')" = "held-back $2 0" ]
}

@test "of members whose [Cluster] sections differ one serves, the other one waits; both say so" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE")"
	wait_until 10 active 0
	member_start 1 espalierd "$(member_config 1 "${PACE}BlockBits = 12")"
	wait_until 10 held_back 1 0
	[ "$(field 0 members '.[1].state')" = other-settings ]
	member_stop 0
	wait_until 10 active 1
}

@test "the pinned maps read well in bpftool" {
	start 2
	wait_until 10 active 0 1
	pin=$(member_state 0)/bpf/espalier
	for map in view members sas counters selectors reasons wake sync; do
		[ -e "$pin/$map" ]
	done
	bpftool -j map dump pinned "$pin/view" | jq -e '.[0].formatted.value.half[0].epoch' >/dev/null
	bpftool -j map dump pinned "$pin/reasons" | jq -e '.[0].formatted.values[0].value.LOCAL >= 0'
}

@test "two agents cannot share a journal" {
	start 2
	wait_until 10 active 0 1
	run in_member 0 timeout 5 espalierd "$(member_state 0)/espalier.conf"
	[ "$status" = 1 ]
	[ "${#lines[@]}" = 1 ]
	active 0 1
}
