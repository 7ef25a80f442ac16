# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# faults.sh - what the cluster tests have in common: TAP, and a fault under traffic with its verdict.
# Source it; it sources topology.sh and cluster.sh.
#
# Heartbeats are slow, and many may be missed, since an emulated machine may stand still for a while
# when this one has other work to do. Blocks are small, so that many are entered.

# shellcheck disable=SC2034 # for topology.sh and cluster.sh
{
	TOPOLOGY_PREFIX=espalier-vm
	CLUSTER_SETTINGS=$'Heartbeat = 100ms\nDead = 8\nBlockBits = 8'
	CLUSTER_INTERVAL_US=40000
}
faults_here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=tests/lib/topology.sh
. "$faults_here/../lib/topology.sh"
# shellcheck source=tests/lib/cluster.sh
. "$faults_here/../lib/cluster.sh"

FAULT_SECONDS=4
OUTAGE_MAX_MS=2500 # shorter than a fault lasts: traffic goes on in spite of it

tests=0 failed_tests=0 problems=()

problem() { problems+=("$*"); }

# expect WHAT ACTUAL EXPECTED
expect()
{
	[ "$2" = "$3" ] || problem "$1: '$2', expected '$3'"
}

# verdict NAME: of the problems since the last one.
verdict()
{
	tests=$((tests + 1))
	if [ ${#problems[@]} = 0 ]; then
		echo "ok $tests - $1"
		return
	fi
	failed_tests=$((failed_tests + 1))
	echo "not ok $tests - $1"
	printf '#   %s\n' "${problems[@]}"
	problems=()
}

show_cluster()
{
	local member

	for ((member = 0; member < ${MEMBERS:?}; member++)); do
		"$CLUSTER_BUILD/espalierctl" --socket "$(member_state "$member")/control" members
		"$CLUSTER_BUILD/espalierctl" --socket "$(member_state "$member")/control" sa
		tail -n 12 "$(member_state "$member")/log"
	done 2>&1 | sed 's/^/# /'
}

# The end of a test program.
finish()
{
	topology_down
	echo "1..$tests"
	[ $failed_tests = 0 ]
	exit
}

give_up()
{
	problem "$1"
	show_cluster
	verdict "a cluster can be set up"
	finish
}

# streams_judge up|down [PAIR...]: leaves in streams_lost how many packets did not arrive.
streams_judge()
{
	local sent received duplicates silent unended gap

	read -r sent received duplicates silent unended gap < <(streams_report "$@")
	echo "# $1: $sent sent, $received received, longest outage $gap ms"
	# shellcheck disable=SC2034 # for the caller
	streams_lost=$((sent - received))
	expect "$1: streams of which nothing arrived" "$silent" 0
	expect "$1: streams that had not come back at the end" "$unended" 0
	expect "$1: packets that arrived twice" "$duplicates" 0
	[ "${gap%.*}" -lt $OUTAGE_MAX_MS ] || problem "$1: an outage of $gap ms"
}

# longest_outage FILE INTERVAL: the milliseconds without an answer, to the end; the file is ping's output.
longest_outage()
{
	local line number last=0 longest=0 sent=

	while read -r line; do
		if [[ $line =~ 'bytes from'.*icmp_seq=([0-9]+) ]]; then
			number=${BASH_REMATCH[1]}
		elif [[ $line =~ ^([0-9]+)' packets transmitted' ]]; then
			number=${BASH_REMATCH[1]} sent=$number
		else
			continue
		fi
		((number - last <= longest)) || longest=$((number - last))
		last=$number
	done <"$1"
	[ -n "$sent" ] && echo $(((longest - 1) * $2)) || echo no
}

# Each member sends something of its own through three pairs: whoever holds itself for the owner of
# an SA has something to emit. The guard stops what the others send.
own_senders=()

own_start()
{
	local member pair from

	start_stream client receive --bind 0.0.0.0:7001 --json /dev/null
	own_senders=($!)
	disown # no message when a member takes them with it
	for ((member = 0; member < ${MEMBERS:?}; member++)); do
		from=$(inner_address "$member")
		for pair in 0 1 2; do
			start_stream "m$member" send --from "$from" \
				--to "$(pair_client $pair):7001" --interval-us 100000 --json /dev/null
			own_senders+=($!)
			disown
		done
	done
}

own_stop()
{
	kill -TERM "${own_senders[@]}" 2>/dev/null
	wait_until 5 none_runs "${own_senders[@]}" || problem "a member's own sender does not end"
}

traffic_start()
{
	wire_start fault || problem "the wire cannot be read"
	streams_start
	own_start
	nap 2
}

traffic_stop()
{
	nap 2
	own_stop
	streams_stop
	wire_stop fault || problem "packets on the wire were missed"
	expect "numbers that came twice on the wire" "$(wire_duplicates fault)" 0
	streams_judge up
	streams_judge down
}

healed()
{
	cluster_complete "$MEMBERS" && cluster_installed "$MEMBERS"
}

# fault NAME BREAK HEAL CHECK: commands; under traffic through all pairs. CHECK while it is broken.
# shellcheck disable=SC2086 # commands are several words
fault()
{
	traffic_start
	$2 || problem "'$2' failed"
	nap $FAULT_SECONDS
	$4
	$3 || problem "'$3' failed"
	wait_until 20 healed || problem "the cluster did not heal"
	traffic_stop
	[ ${#problems[@]} = 0 ] || show_cluster
	verdict "$1: traffic goes on both ways, no number twice"
}

power_on() { member_on "$1" && agent_start "$1"; }

all_buckets_at() { [ "$(agent_field "$1" buckets status)" = 4096 ]; } # MEMBER

# sees MEMBER OTHER STATE
sees()
{
	expect "member $2 as member $1 sees it" \
		"$(agent_field_of "$1" state "\"member\":$2," members)" "$3"
}

# owns MEMBER BUCKETS, by its own view
owns() { expect "buckets of member $1" "$(agent_field "$1" buckets status)" "$2"; }
