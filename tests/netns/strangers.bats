#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Members that are there and do not agree: each says so, by name and in what they differ; who serves
# goes on, who is started beside it owns nothing until that one has gone.

load common

nobody_disagrees() { ! grep -q agree "$(member_state 0)/log" "$(member_state 1)/log"; }

# held_back MEMBER BY
held_back()
{
	[ "$(field "$1" status '"\(.state) \(.held_back_by) \(.buckets)"')" = "held-back $2 0" ]
}

# says MEMBER OTHER WHAT: of the other one, once
says()
{
	local line
	line="espalierd: member $2 at $(sync_address "$2") does not agree with us, nothing is copied between us; make the same on both: $3"

	grep -qF "$line" "$(member_state "$1")/log" &&
		[ "$(grep -c "does not agree" "$(member_state "$1")/log")" = 1 ] &&
		[ "$(field "$1" members ".[$2] | \"\(.state) \(.differs)\"")" = "${4:-disagrees} $3" ]
}

# disagree WHAT [STATE]: member 1 is started, and stays out; both name what differs.
disagree()
{
	member_start 1 espalierd "$config"
	wait_until 10 held_back 1 0
	wait_until 10 says 0 1 "$@"
	wait_until 10 says 1 0 "$@"
	grep -q "this member owns nothing as long as that one does" "$(member_state 1)/log"
	active 0
	espalierctl --socket "$(member_state 0)/control" members | grep -qF "differs in: $1"
	member_stop 1
	: >"$(member_state 0)/log"
	: >"$(member_state 1)/log"
}

@test "another key" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE")"
	wait_until 10 active 0
	openssl rand -base64 32 >"$(topology_state)/wrong" && chmod 600 "$(topology_state)/wrong"
	config=$(member_config 1 "$PACE")
	sed -i "s|^PresharedKeyFile.*|PresharedKeyFile = $(topology_state)/wrong|" "$config"
	disagree "PresharedKeyFile (or certificates)"
}

@test "another name" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE")"
	wait_until 10 active 0
	config=$(member_config 1 "${PACE}Name = other")
	disagree "Name"
}

@test "another port" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE")"
	wait_until 10 active 0
	config=$(member_config 1 "${PACE}SyncPort = 6312")
	disagree "SyncPort"
}

@test "other settings, then the right ones" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE")"
	wait_until 10 active 0
	config=$(member_config 1 "${PACE}BlockBits = 12"$'\n'"Mode = hot-standby")
	disagree "Mode, BlockBits" other-settings
	rm "$(member_state 1)/journal"*
	member_start 1 espalierd "$(member_config 1 "$PACE")"
	wait_until 10 active 0 1
	nobody_disagrees
}

@test "the one that serves goes, the one that waited takes over" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE")"
	wait_until 10 active 0
	member_start 1 espalierd "$(member_config 1 "${PACE}Name = other")"
	wait_until 10 held_back 1 0
	member_kill 0
	wait_until 10 active 1
}

@test "who is there but cannot be reached" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE")"
	wait_until 10 active 0
	# What it sends by UDP ends at the switch, broadcasts do not.
	in_member 1 ip neighbour replace "$(sync_address 0)" dev sync nud permanent \
		lladdr "$(in_switch ip -json link show sync | jq -r '.[0].address')"
	member_start 1 espalierd "$(member_config 1 "$PACE")"
	wait_until 20 grep -qF "member 0 at $(sync_address 0) is there, but no session with it comes about: is UDP port 6311" \
		"$(member_state 1)/log"
	held_back 1 0
	[ "$(field 0 members '.[1].state')" = no-session ]
	in_member 1 ip neighbour del "$(sync_address 0)" dev sync
	wait_until 20 active 0 1
}

@test "another cluster on the same sync network is none of ours" {
	topology_up 2
	for member in 0 1; do
		config=$(member_config $member "${PACE}Name = cluster$member")
		sed -i "/^\[Member\]/,\$d" "$config"
		printf '[Member]\nId = %s\nSync = %s\n' $member "$(sync_address $member)" >>"$config"
	done
	in_member 1 ip address add 192.0.2.2/32 dev lo
	sed -i "s/^Address = .*/Address = 192.0.2.2/" "$config"
	member_start 0 espalierd "$(member_state 0)/espalier.conf"
	wait_until 10 active 0
	member_start 1 espalierd "$config"
	wait_until 10 active 1
	[ "$(field 1 status .held_back_by)" = null ]
	nobody_disagrees
}
