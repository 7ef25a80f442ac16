#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# An administrator hands buckets over: drain, undrain, failover, SIGTERM. Of what the peer sends
# meanwhile each packet comes to a member that takes it, and once.

load common

send() { in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$spi" "$@"; }

# The switch learns where all are; until then it sends frames for one to all, who count them.
learn()
{
	send --count 5 >/dev/null
	sleep 0.5
}

# came: what the peer has sent and a member has passed up to its kernel, on all members.
came()
{
	local sum=0 member n

	for member in $(seq 0 $((MEMBERS - 1))); do
		n=$(reason "$member" local) && [ -n "$n" ] || return
		sum=$((sum + n))
	done
	echo $sum
}

# During COMMAND... the peer sends; all of it comes, once.
none_lost()
{
	local before sender

	before=$(came)
	send --count 3000 --interval-us 500 >"$BATS_TEST_TMPDIR/sent" &
	sender=$!
	sleep 0.3
	"$@"
	wait $sender
	echo "sent $(<"$BATS_TEST_TMPDIR/sent"), came $(($(came) - before))"
	[ $(($(came) - before)) = "$(<"$BATS_TEST_TMPDIR/sent")" ]
}

order() { espalierctl --socket "$(member_state "$1")/control" "${@:2}"; }
restart()
{
	member_stop "$1"
	member_start "$1" espalierd "$(member_config "$1" "$PACE")"
	wait_until 20 ctl "$1" status >/dev/null
}

# Member 0 and this one have each other's records.
synced() { [ "$(field 0 members ".[$1].synced") $(field "$1" members '.[0].synced')" = "true true" ]; }

state() { field "$1" members ".[$2].state"; }

is_state() { [ "$(state "$1" "$2")" = "$3" ]; }

refused()
{
	run order "$@"
	[ "$status" = 1 ]
	echo "$output"
}

@test "load sharing: drain and undrain lose nothing, and a drained member stays drained" {
	MEMBERS=3
	start 3
	wait_until 20 active 0 1 2
	spi=$(spi_of 1),$(spi_of 2)
	learn
	none_lost order 0 drain 1
	wait_until 5 active 0 2
	[ "$(state 0 1)" = drained ]
	[ "$(state 1 1)" = drained ]
	# An order is kept over the lives of its agent.
	restart 1
	wait_until 20 synced 1
	active 0 2
	[ "$(state 1 1)" = drained ]
	none_lost order 2 undrain 1
	wait_until 5 active 0 1 2
	# The ingress member and publisher, too.
	none_lost order 2 drain 0
	wait_until 5 active 1 2
	none_lost order 0 undrain 0
	wait_until 5 active 0 1 2
}

@test "who cannot hand over says why, and nothing is changed" {
	MEMBERS=3
	start 3
	wait_until 20 active 0 1 2
	refused 0 drain 7 | grep -q "there is no member 7"
	refused 0 drain x | grep -q "which member? Its Id"
	refused 0 failover | grep -q "no member is the active one: use drain"
	order 0 drain 1
	order 0 drain 2
	refused 1 drain 0 | grep -q "nobody else could own what member 0 owns: member 1 is drained; member 2 is drained"
	refused 0 drain 0 | grep -q "member 1 is drained; member 2 is drained"
	wait_until 5 active 0
	member_kill 2
	wait_until 5 is_state 0 2 dead
	refused 0 undrain 2 | grep -q "member 2 is not there"
	[ ! -e "$(member_state 0)/journal.order" ]
}

@test "hot standby: failover there and back loses nothing; the standby still takes over" {
	MEMBERS=2
	start 2 $'Mode = hot-standby\n'
	wait_until 20 active 0
	wait_until 20 active_at 1 0
	spi=0x10000000
	learn
	none_lost order 1 failover
	wait_until 5 active_at 0 1
	none_lost order 1 failover
	wait_until 5 active_at 1 0
	order 0 failover
	member_kill 1
	wait_until 5 active_at 0 0
}

# active_at ASKED MEMBER: it owns all, says the one that is asked
active_at()
{
	[ "$(field "$1" members '[.[] | select(.buckets > 0).member] | join(",")')" = "$2" ]
}

@test "SIGTERM hands over without loss; a death in a drain leaves the buckets with who lives" {
	MEMBERS=3
	start 3
	wait_until 20 active 0 1 2
	spi=$(spi_of 1),$(spi_of 2)
	learn
	none_lost restart 1
	wait_until 20 active 0 1 2
	none_lost restart 0
	wait_until 20 active 0 1 2
	order 0 --no-wait drain 1
	member_kill 2
	wait_until 5 active_at 0 0
	[ "$(state 0 1)" = drained ]
}
