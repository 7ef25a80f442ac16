#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# The sync channel between members in network namespaces: members 0 and 1 by AF_XDP with the sync
# program, member 2 by a UDP socket, a stranger on the same link. The interfaces have four queues;
# what comes to one without an AF_XDP socket would show as received by the kernel's UDP. Needs root.

ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
END=$ROOT/build/tests/netns/channel_end
FRAMES=$ROOT/build/tests/netns/channel_frames
SYNC=$ROOT/build/bpf/sync.bpf.o
PREFIX=espalier-channel
ADDRESSES=(10.9.0.1 10.9.0.2 10.9.0.3)
STRANGER=3

setup()
{
	teardown
	ip netns add $PREFIX-link
	ip -n $PREFIX-link link add bridge type bridge
	ip -n $PREFIX-link link set bridge up
	for i in 0 1 2 $STRANGER; do
		ip netns add "$PREFIX-$i"
		ip -n "$PREFIX-$i" link add sync address "$(mac "$i")" \
			numrxqueues 4 numtxqueues 4 type veth \
			peer name "port$i" numrxqueues 4 numtxqueues 4 netns $PREFIX-link
		ip -n $PREFIX-link link set "port$i" master bridge up
		ip -n "$PREFIX-$i" addr add "10.9.0.$((i + 1))/24" dev sync
		ip -n "$PREFIX-$i" link set sync up
	done
}

teardown()
{
	local name pid

	for name in link 0 1 2 $STRANGER; do
		for pid in $(ip netns pids "$PREFIX-$name" 2>/dev/null); do
			kill -9 "$pid" 2>/dev/null || true
		done
		ip netns del "$PREFIX-$name" 2>/dev/null || true
	done
}

mac()
{
	echo "02:e5:00:00:00:0$1"
}

in_namespace()
{
	local name=$1

	shift
	nsenter --net=/run/netns/"$PREFIX-$name" "$@"
}

# member ID SECONDS: runs one in the background, 100 datagrams a second to each other member.
# What it says at the end is in $BATS_TEST_TMPDIR/ID.
member()
{
	local id=$1 seconds=$2 carrier=$SYNC

	[ "$id" = 2 ] && carrier=udp
	in_namespace "$id" "$END" "$id" sync "$seconds" "$carrier" 100 "${ADDRESSES[@]}" \
		>"$BATS_TEST_TMPDIR/$id" 2>&1 3>&- &
	pids[id]=$!
}

# said ID PATTERN: what the pattern's \(...\) matched.
said()
{
	sed -n "s/.*$2.*/\1/p" "$BATS_TEST_TMPDIR/$1"
}

# heard ID FROM LEAST: it got that many from there, all right, none twice.
heard()
{
	cat "$BATS_TEST_TMPDIR/$1"
	[ "$(said "$1" "from $2: received \([0-9]*\)")" -ge "$3" ]
	grep -q "from $2: .* doubled 0 wrong 0" "$BATS_TEST_TMPDIR/$1"
}

udp_received()
{
	in_namespace "$1" cat /proc/net/snmp | sed -n 's/^Udp: \([0-9][0-9]*\) .*/\1/p'
}

@test "members with AF_XDP and UDP sockets talk to each other" {
	for id in 0 1 2; do member $id 3; done
	wait "${pids[@]}"
	for id in 0 1 2; do
		for from in 0 1 2; do
			[ $id = $from ] || heard $id $from 200
		done
	done
	grep -q "carrier: AF_XDP (copy)" "$BATS_TEST_TMPDIR/0"
	grep -q "carrier: AF_XDP (copy)" "$BATS_TEST_TMPDIR/1"
	grep -q "carrier: UDP socket" "$BATS_TEST_TMPDIR/2"
	# But for a handshake's datagram that was sent once more, on a busy machine.
	[ "$(said 0 'rejected \([0-9]*\)')" -lt 10 ]
	# Past the kernel's UDP, but for what came before the AF_XDP socket was there.
	[ "$(udp_received 0)" -lt 20 ]
	[ "$(udp_received 1)" -lt 20 ]
	[ "$(udp_received 2)" -ge 400 ]
}

@test "a killed member comes back, whichever it is, and its AF_XDP queue with it" {
	for victim in 0 1 2; do
		for id in 0 1 2; do member $id 6; done
		sleep 1
		kill -9 "$(ip netns pids "$PREFIX-$victim")"
		wait "${pids[victim]}" || true # its port is free only when it has ended
		member $victim 4
		wait "${pids[@]}"
		for id in 0 1 2; do
			[ $id = $victim ] || heard $id $victim 250
			[ $id = $victim ] || heard $victim $id 200
		done
		[ $victim = 2 ] || grep -q "carrier: AF_XDP" "$BATS_TEST_TMPDIR/$victim"
	done
}

@test "a member that is back with another MAC address is found" {
	for id in 0 1 2; do member $id 5; done
	sleep 1
	ip -n $PREFIX-1 link set sync down
	ip -n $PREFIX-1 link set sync address 02:e5:00:00:00:77
	ip -n $PREFIX-1 link set sync up
	wait "${pids[@]}"
	heard 0 1 250
	heard 1 0 250
	heard 1 2 250
}

@test "a stranger's frames change nothing and are counted" {
	for id in 0 1 2; do member $id 5; done
	sleep 1
	for id in 0 2; do
		in_namespace $STRANGER "$FRAMES" sync "$(mac $id)" "${ADDRESSES[1]}" \
			"${ADDRESSES[id]}" 3000
	done
	wait "${pids[@]}"
	for id in 0 2; do
		[ "$(said $id 'foreign \([0-9]*\)')" -ge 50 ]
		[ "$(said $id 'rejected \([0-9]*\)')" -ge 500 ]
		[ "$(said $id 'handshakes \([0-9]*\)')" = 2 ]
		heard $id 1 250
		heard 1 $id 250
	done
}
