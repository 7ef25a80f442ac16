#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# A clone: a machine with the id, key and journal of member 1, beside it.

load common

CLONE=2 # the machine

# clone_up: what member 1 has on its disk, and its address; not yet on the sync link.
clone_up()
{
	member_on $CLONE
	in_switch ip link set sync$CLONE nomaster
	in_member $CLONE ip address flush dev sync
	in_member $CLONE ip address add "$(sync_address 1)/24" dev sync
	cp "$(member_state 1)/journal" "$(member_state $CLONE)/journal"
	sed "s|/m1/|/m$CLONE/|" "$(member_state 1)/espalier.conf" >"$(member_state $CLONE)/espalier.conf"
}

clone_meets() { in_switch ip link set sync$CLONE master sync; }

clone_start() { member_start $CLONE espalierd "$(member_state $CLONE)/espalier.conf"; }

clone_refused()
{
	run in_member $CLONE timeout 10 espalierd "$(member_state $CLONE)/espalier.conf"
	echo "status $status: $output"
	[ "$status" = 1 ]
	[ "${#lines[@]}" = 1 ]
	[[ $output == "espalierd: another machine, at MAC address $1 of the sync link, runs as member 1 of cluster "* ]]
	[ ! -e "$(member_state $CLONE)/bpf/espalier" ]
}

state() { [ "$(field "$1" status .state)" = "$2" ]; }

# It owns nothing, and says why.
doubled()
{
	state "$1" doubled && [ "$(field "$1" status '.doubled | join(",")')" = 1 ] &&
		[ "$(field "$1" members '.[1].buckets')" = 0 ]
}

none_doubled()
{
	local member

	for member; do
		[ "$(field "$member" status '.doubled | length')" = 0 ] || return
		! grep -q -e "is there twice" -e "our id" "$(member_state "$member")/log" || return
	done
}

# frames record|replay FILE: of the question whether there is a clone, on the sync link.
frames()
{
	in_switch python3 -c 'import json, socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
link.bind(("sync", 0x88b5))
what, name = sys.argv[1:]
if what == "record":
    open(name + ".ready", "w")
    json.dump([link.recv(2000).hex() for _ in range(16)], open(name, "w"))
else:
    for frame in json.load(open(name)):
        link.send(bytes.fromhex(frame))' "$@"
}

@test "a clone is refused at its start, whether or not its MAC address is the same" {
	start 2
	wait_until 10 active 0 1
	clone_up
	clone_meets
	epoch=$(field 0 status .epoch)
	clone_refused "$(member_mac 1 sync)"
	in_member $CLONE ip link set sync address "$(member_mac 1 sync)"
	clone_refused "$(member_mac 1 sync)"
	none_doubled 0 1
	[ "$(field 0 status .epoch)" = "$epoch" ]
}

@test "both machines of a doubled member own nothing, and say so; who is left begins anew" {
	start 2
	wait_until 10 active 0 1
	clone_up
	clone_start
	wait_until 10 state $CLONE active
	clone_meets
	wait_until 10 doubled 1
	wait_until 10 doubled $CLONE
	wait_until 5 active 0
	[ "$(field 0 status '.doubled | join(",")')" = 1 ]
	[ "$(field 0 members '.[1].state')" = doubled ]
	[ "$(field 0 status .buckets)" = 4096 ]
	for machine in 1 $CLONE; do
		grep -q "another machine, .*, has our id and key" "$(member_state "$machine")/log"
		[ ! -e "$(member_state "$machine")/journal" ]
		[ -e "$(member_state "$machine")/journal.old" ]
	done
	grep -q "member 1 is there twice" "$(member_state 0)/log"
	member_off $CLONE # it would answer ARP
	wait_until 60 active 0 1
	grep -q "no other machine has had our id for 10 s" "$(member_state 1)/log"
	grep -q "a new journal is begun" "$(member_state 1)/log"
	[ "$(field 0 status '.doubled | length')" = 0 ]
}

@test "a restart is no clone, nor are frames that come again" {
	start 2
	wait_until 10 active 0 1
	frames record "$(topology_state)/frames" 3>&- &
	recorder=$!
	wait_until 5 test -e "$(topology_state)/frames.ready"
	for _ in 1 2 3; do
		member_kill 1
		wait_until 5 active 0
		member_start 1 espalierd "$(member_state 1)/espalier.conf"
		wait_until 10 active 0 1
	done
	wait $recorder
	for _ in 1 2 3 4 5; do
		frames replay "$(topology_state)/frames"
	done
	none_doubled 0 1
	active 0 1
}
