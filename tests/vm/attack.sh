# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# attack.sh - what is done to a machine while it emits, and the takeover after it. Two members, of
# which the first does all the work; one Child SA, and more if a test adds them. Source it; it
# sources faults.sh.
# shellcheck disable=SC2317 # much is called by patiently

# shellcheck source=tests/vm/faults.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/faults.sh"

MEMBERS=2
# shellcheck disable=SC2034 # for cluster.sh
{
	CLUSTER_SETTINGS=$'Heartbeat = 100ms\nDead = 8\nBlockBits = 8\nMode = hot-standby\nHash = mix'
	CLUSTER_INTERVAL_US=5000 # a block of 2^8 numbers is used up in a bit more than a second
}
OUTAGE_MAX_MS=60000 # how long it takes is no matter here

# What is waited for comes at once, but for a machine that stands still.
patiently() { wait_until 60 "$@"; }

# set_up COMMAND...: which is run when the members are one cluster.
set_up()
{
	cluster_up $MEMBERS || give_up "the members did not become one cluster"
	"$@" || give_up "'$*' failed"
	pair_add 0 0 || give_up "a Child SA cannot be added"
	patiently cluster_installed $MEMBERS || give_up "not all SAs are on both members"
	patiently all_buckets_at 0 || problem "member 0 does not own all"
	wire_start all || give_up "the wire cannot be read"
	verdict "the first of two members owns all, a Child SA is in both kernels"
}

complete() { [ "$(agent_field "$1" missing status)" = 0 ]; }
settled() { cluster_complete "$MEMBERS" && all_buckets_at 0 && complete 0 && complete 1; }
says() { grep -q "$2" "/run/$TOPOLOGY_PREFIX/m$1/log"; } # MEMBER SENTENCE

# What goes through pair 0: much from the host, and something from each member of its own, whoever
# owns the SA.
begin()
{
	local member

	wire_start fault || problem "the wire cannot be read"
	rm -rf "$(topology_state)/streams"
	mkdir "$(topology_state)/streams"
	stream_senders=() stream_receivers=()
	stream_start 0 down
	own_senders=()
	for member in 0 1; do
		own_sender "$member"
	done
}

own_sender() # MEMBER
{
	start_stream "m$1" send --from "$(inner_address "$1")" \
		--to "$(pair_client 0):7001" --interval-us 100000 --json /dev/null
	own_senders+=($!)
	disown # no message when a member takes them with it
}

# end N: as many numbers have come twice.
end()
{
	own_stop
	streams_stop
	wire_stop fault || problem "packets on the wire were missed"
	expect "numbers that came twice on the wire" "$(wire_duplicates fault)" "$1"
	streams_judge down 0
}

came() # N
{
	local took

	read -r took _ < <(peer_counts) && [ "$took" -ge "$1" ]
}

# Traffic comes to the peer, from now on.
goes_on()
{
	local took

	read -r took _ < <(peer_counts)
	patiently came $((took + 200)) || problem "the peer gets nothing"
}

# The owner dies, its successor emits in its place.
power_off()
{
	member_off 0
	patiently all_buckets_at 1 || problem "member 1 has not taken over"
	goes_on
}

# No traffic: what an agent's start does to the kernel's code is hard on an emulated CPU.
power_back_on()
{
	power_on 0 || problem "member 0 cannot be powered on"
	patiently settled || problem "the cluster did not heal"
}

# The owner's inner link is cut: its successor emits in its place, and then it again.
hand_over()
{
	cut_inner 0
	patiently all_buckets_at 1 || problem "member 1 has not taken over"
	goes_on
	heal_inner 0
	patiently all_buckets_at 0 || problem "member 0 did not get its buckets back"
}

conclude() # NAME
{
	[ ${#problems[@]} = 0 ] || show_cluster
	verdict "$1"
}

# attack NAME COMMAND...
attack()
{
	local name=$1
	shift

	member_runs 0 || power_back_on
	begin
	goes_on
	"$@"
	power_off
	end 0
	conclude "$name, then power-off: traffic goes on, no number twice"
}

# The highest block that member 0 has entered of the outbound SA.
highest_block()
{
	agent_field_of 0 0 "\"spi\":\"${pair_out[0]}\"" sa
}

# As an IKE daemon does: the new SAs first, then the old ones go. Not at the peer, which counts.
rekey() # PAIR
{
	local pair=$1 in=${pair_in[$1]} out=${pair_out[$1]} owner

	owner=$(owner_of 1 "$in")
	pair_add "$pair" "$owner" || problem "pair $pair cannot be rekeyed"
	pair_delete "$in" "$out" | topology_ip "m$owner" ||
		problem "member $owner keeps the old SAs of pair $pair"
}

# key_of DESTINATION SPI: as member 0's kernel has it.
key_of()
{
	ip_in m0 xfrm state get dst "$1" proto esp spi "$2" | grep -o '0x[0-9a-f]\{40\}'
}

# The states of a pair once more, with the same keys.
same_states() # PAIR
{
	local in out

	in=$(key_of "$CLUSTER_OUTER" "${pair_in[$1]}") out=$(key_of "$PEER_OUTER" "${pair_out[$1]}")
	pair_states $((100 + $1)) "${pair_in[$1]}" "${pair_out[$1]}" "${in#0x}:${out#0x}" "replay-window 32"
}

shut() # MEMBER SPI WHY...: for one of these reasons
{
	local answer why

	agent_ask "$1" sa && [[ $answer == *"\"spi\":\"$2\""* ]] || return
	answer=${answer#*"\"spi\":\"$2\""}
	json_into why barred "$answer" && [ "$why" = true ] && json_into why barred_why "$answer" &&
		[[ " ${*:3} " == *" $why "* ]]
}

# What the peer's kernel has got for its SAs: packets that it took, packets whose number it had had.
peer_counts()
{
	local line ours=1 limits=0 took=0 again=0

	while IFS= read -r line; do
		case $line in
		src\ *)
			[[ $line =~ ' dst '([^ ]+) && " $CLUSTER_PEERS " == *" ${BASH_REMATCH[1]} "* ]]
			ours=$?
			;;
		*'lifetime config'*) limits=1 ;;
		*'lifetime current'*) limits=0 ;;
		*'(packets)'*)
			[[ $ours$limits != 00 || ! $line =~ ', '([0-9]+)'(packets)' ]] ||
				took=$((took + BASH_REMATCH[1]))
			;;
		*replay-window*)
			[[ $ours != 0 || ! $line =~ 'replay-window '.*' replay '([0-9]+)' failed' ]] ||
				again=$((again + BASH_REMATCH[1]))
			;;
		esac
	done < <(ip_in peer -s xfrm state list)
	echo "$took $again"
}

# judge_all N: as many numbers have come twice since set_up. The reader of the wire must have seen
# what the peer's kernel counted: no SA is deleted there.
judge_all()
{
	local read took again

	wire_stop all || problem "packets on the wire were missed"
	read=$(wire_packets all)
	read -r took again < <(peer_counts)
	echo "# $read ESP packets were read on the wire, the peer took $took, $again came again"
	[ "$took" -gt 0 ] || problem "the peer took nothing"
	[ "$read" -ge "$took" ] || problem "not all was read on the wire"
	expect "numbers that came twice" "$(wire_duplicates all)" "$1"
	[ "$1" -gt 0 ] || expect "packets that came twice, as the peer counts" "$again" 0
	verdict "all of it, on the wire and as the peer counts: $1 numbers twice"
}
