#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# IKE SAs of two members whose IKE daemons are played by ikeplug, over the agents' real sockets: what
# is committed, taken over, handed over, and not brought back by who ran on without its agent.

load common

setup()
{
	export TOPOLOGY_PREFIX=${TOPOLOGY_PREFIX:-espalier-ike-link}
	source tests/lib/topology.sh
	PATH=$PWD/build:$PWD/build/tests:$PWD/build/tests/netns:$PATH
}

# plug MEMBER: its daemon; say to it, heard from it
plug()
{
	local state
	state=$(member_state "$1")
	rm -f "$state/say" "$state/heard"
	mkfifo "$state/say"
	start_plug "$1" "$state"
	exec {say_fd}<>"$state/say"
	declare -g "say_$1=$say_fd"
	say "$1" hello
}

start_plug()
{
	# the fifo is opened for both, so that nobody waits
	ikeplug "$2/ike" <>"$2/say" >"$2/heard" 2>&1 3>&- &
	declare -g "plug_$1=$!"
	disown
}

unplug()
{
	local pid=plug_$1
	kill -9 "${!pid}"
}

teardown()
{
	local pid
	for pid in "${plug_0:-}" "${plug_1:-}"; do
		[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
	done
	for member in 0 1; do
		[ -f "$(member_state $member)/heard" ] || continue
		echo "== daemon $member heard"
		tail -n 20 "$(member_state $member)/heard"
		echo "== agent $member"
		tail -n 20 "$(member_state $member)/log"
	done
	topology_down
}

say()
{
	local fd=say_$1
	echo "${*:2}" >&"${!fd}"
}

# heard MEMBER PATTERN: a whole line
heard() { grep -qxE "$2" "$(member_state "$1")/heard"; }
silence() { ! heard "$@"; }

# An IKE SPI of MEMBER's bucket.
own_spi()
{
	local bucket
	bucket=$(ctl 0 ike-config | jq -r ".[$1].bucket")
	printf "0x%xcafe00000000%x\n" "$bucket" $((1 + ${2:-0}))
}

ike() { ctl "$1" ike | jq -r ".[] | select(.responder_spi == \"$2\") | $3"; }
ike_is() { [ "$(ike "$1" "$2" "$3")" = "$4" ]; }

begin()
{
	start 2
	wait_until 15 active 0 1
	plug 0
	plug 1
	say 0 ready
	say 1 ready
	wait_until 5 heard 0 taken
	wait_until 5 heard 1 taken
	own=$(own_spi 0)
}

restart_agent()
{
	member_start "$1" espalierd "$(member_state "$1")/espalier.conf"
}

@test "a record is committed when the other member has it, and lives on there" {
	begin
	heard 0 'settings member 0 of 2 commit 50 away 200 .* secret 1'
	[ "$(stat -c %a "$(member_state 0)/ike")" = 600 ]
	say 0 record "$own" 1 1 500
	wait_until 5 heard 0 "committed $own 1 1"
	ike_is 1 "$own" .state standby
	ike_is 0 "$own" .state owned
	ike_is 1 "$own" .holder 0
	say 0 record "$own" 2 1 60000 # more than a datagram
	wait_until 5 heard 0 "committed $own 2 1"
	[ "$(field 0 status .ike.commits)" = 2 ]
	# powered off
	unplug 0
	member_off 0
	wait_until 5 heard 1 "give $own 2 3 60000 background"
	ike_is 1 "$own" .state owned
	say 1 record "$own" 3 3 500
	wait_until 5 heard 1 "committed $own 3 3" # alone
	say 1 need 0xabc0000000000001
	wait_until 5 heard 1 "none 0xabc0000000000001 0 0"
	# back: handed over without loss
	member_on 0
	rm -f "$(member_state 0)/ike"
	restart_agent 0
	wait_until 5 test -S "$(member_state 0)/ike"
	plug 0
	say 0 ready
	wait_until 20 heard 1 "release $own 3 3"
	ike_is 1 "$own" .state leaving
	say 1 record "$own" 4 3 400 # what was in flight
	say 1 released "$own" 4 3
	wait_until 5 heard 0 "give $own 4 5 400( background)?"
	wait_until 5 ike_is 1 "$own" .holder 0
}

# (With the SAs: tests/unit/test_ike.c, tests/vm/ike-charon.)
@test "not before the SAs that it names are there" {
	begin
	say 0 record "$own" 1 1 500 10000001 $CLUSTER_OUTER 20000001 $PEER_OUTER
	nap 0.5
	silence 0 "committed .*"
	[ "$(field 0 status .ike.overdue)" = 1 ]
	ike_is 0 "$own" .unsure true
	wait_until 5 ike_is 1 "$own" .unsure true
}

@test "an IKE SA that has ended does not come back from a daemon that ran on" {
	begin
	gone=$(own_spi 0 1)
	say 0 record "$own" 1 1 100
	say 0 record "$gone" 1 1 100
	wait_until 5 heard 0 "committed $gone 1 1"
	kill -9 "$(member_pid 0)" # the agent alone
	wait_until 5 heard 0 closed
	wait_until 5 heard 1 "give $gone 1 3 100 background"
	say 1 gone "$gone" 2 3
	wait_until 5 heard 1 "committed $gone 2 3"
	restart_agent 0
	wait_until 10 test -S "$(member_state 0)/ike"
	plug 0
	say 0 record "$own" 9 1 100
	say 0 record "$gone" 9 1 100
	say 0 ready
	wait_until 20 heard 0 "(drop|release) $gone .*"
	wait_until 20 heard 0 "(drop|release) $own .*"
	say 0 released "$own" 9 1
	say 0 released "$gone" 9 1
	wait_until 20 heard 1 "release $own .*"
	say 1 released "$own" 1 3
	wait_until 10 heard 0 "give $own 1 5 100 sync( background)?"
	wait_until 10 ike_is 0 "$gone" .state ""
	wait_until 10 ike_is 1 "$gone" .state ""
}

@test "the daemon alone starts again, and is given what it had" {
	begin
	say 0 record "$own" 1 1 100
	wait_until 5 heard 0 "committed $own 1 1"
	unplug 0
	wait_until 5 ike_is 0 "$own" .state standby
	plug 0
	say 0 ready
	wait_until 5 heard 0 "give $own 1 3 100 background"
	ike_is 1 "$own" .holder 0
	# what is no message ends the connection, and nothing else
	say 0 raw 0x5
	wait_until 5 heard 0 closed
	plug 0
	say 0 ready
	wait_until 5 heard 0 "give $own 1 5 100 background"
}

@test "who leaves hands over first" {
	begin
	say 0 record "$own" 1 1 100
	wait_until 5 heard 0 "committed $own 1 1"
	kill "$(member_pid 0)"
	wait_until 5 heard 0 "release $own 1 1"
	say 0 record "$own" 2 1 100
	say 0 released "$own" 2 1
	wait_until 5 heard 1 "give $own 2 3 100 background"
	wait_until 5 heard 0 closed
}
