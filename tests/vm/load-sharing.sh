# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# load-sharing.sh - three members, six Child SAs, two added on each member. Source it.
# shellcheck source=tests/vm/faults.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/faults.sh"

MEMBERS=3
PAIRS=6

set_up()
{
	local pair

	cluster_up $MEMBERS || give_up "the members did not become one cluster"
	for ((pair = 0; pair < PAIRS; pair++)); do
		pair_add $pair $((pair % MEMBERS)) "$([ $pair -lt 3 ] || echo esn)" ||
			give_up "a Child SA cannot be added"
	done
	wait_until 10 cluster_installed $MEMBERS || give_up "not all SAs are on all members"
	wire_start all || give_up "the wire cannot be read"
	verdict "three members are active, six Child SAs are in all their kernels"
}

test_status()
{
	local member status

	for ((member = 0; member < MEMBERS; member++)); do
		status=$(agent_ctl "$member" status)
		expect "member $member, outer XDP" "$(json_first outer "$status")" "dispatcher, native"
		expect "member $member, inner XDP" "$(json_first inner "$status")" "dispatcher, native"
		expect "member $member, counters" "$(json_first inbound_counters "$status")" fexit
		expect "member $member, carrier" "$(json_first carrier "$status")" "AF_XDP (copy)"
	done
	verdict "status: dispatcher, fexit, AF_XDP"
}

sent=() positions=() owners=()

# By pair: the peer's counter, the owner, and where that says that the SA has come to.
read_positions()
{
	local pair spi member states answers=()

	states=$(ip_in peer -oneline xfrm state list)
	for ((member = 0; member < MEMBERS; member++)); do
		answers[member]=$(agent_ctl "$member" sa)
	done
	for pair in "${pairs[@]}"; do
		spi=${pair_in[$pair]} owners[pair]=nobody sent[pair]=unread positions[pair]=unknown
		[[ ! ${states#*" spi $spi "} =~ \ oseq\ (0x[0-9a-f]+) ]] || sent[pair]=$((BASH_REMATCH[1]))
		json_into "owners[$pair]" owner "${answers[0]#*"\"spi\":\"$spi\""}" &&
			json_into "positions[$pair]" seq "${answers[owners[pair]]#*"\"spi\":\"$spi\""}"
	done
}

# shellcheck disable=SC2317 # called by wait_until
positions_agree()
{
	read_positions
	[ "${positions[*]}" = "${sent[*]}" ]
}

# Where the peer's counter stands is where its owner says that it has come to; of the last packets an
# agent that listens to events hears a moment later.
inbound_positions()
{
	local pair

	wait_until 5 positions_agree && return
	for pair in "${pairs[@]}"; do
		expect "SPI ${pair_in[$pair]}, inbound position at member ${owners[pair]}" \
			"${positions[pair]}" "${sent[pair]}"
	done
}

# No member says that more has come of an SA than its peer has sent.
positions_possible()
{
	local pair spi member states answer sent seq

	states=$(ip_in peer -oneline xfrm state list)
	for ((member = 0; member < MEMBERS; member++)); do
		answer=$(agent_ctl "$member" sa)
		for pair in "${pairs[@]}"; do
			spi=${pair_in[$pair]} seq=unknown
			[[ ${states#*" spi $spi "} =~ \ oseq\ (0x[0-9a-f]+) ]] && sent=$((BASH_REMATCH[1]))
			json_into seq seq "${answer#*"\"spi\":\"$spi\""}"
			if [[ ! $seq =~ ^[0-9]+$ ]] || ((seq > sent)); then
				problem "SPI $spi, inbound position at member $member: $seq, but $sent were sent"
			fi
		done
	done
}

# As fault, of an agent that starts anew: with the slots of its records.
restart()
{
	fault "$@"
	positions_possible
	inbound_positions
	[ ${#problems[@]} = 0 ] || show_cluster
	verdict "$1: inbound positions are those of the peer"
}

test_traffic()
{
	traffic_start
	traffic_stop
	inbound_positions
	verdict "traffic goes through all Child SAs, inbound positions are counted by fexit"
}

test_events()
{
	local conf
	conf=$(member_state 2)/espalier.conf

	member_stop 2 || problem "member 2 does not stop"
	sed -i 's/^\[Interface\]$/&\nCounters = events/' "$conf"
	agent_start 2
	wait_until 20 healed || problem "member 2 does not come back"
	expect "member 2, counters" "$(agent_field 2 inbound_counters status)" "XFRM async events"
	traffic_start
	traffic_stop
	inbound_positions
	sed -i '/^Counters = events$/d' "$conf"
	verdict "inbound positions are the same by XFRM async events"
}

# As an IKE daemon does: the new SAs first, then the old ones go, here and at the peer.
rekey() # PAIR
{
	local pair=$1 in=${pair_in[$1]} out=${pair_out[$1]} owner

	owner=$(owner_of 0 "$in")
	pair_add "$pair" "$owner" || problem "pair $pair cannot be rekeyed"
	pair_delete "$in" "$out" | topology_ip "m$owner" || problem "member $owner keeps the old SAs of pair $pair"
	pair_delete "$in" "$out" | topology_ip peer || problem "the peer keeps the old SAs of pair $pair"
}

test_rekey()
{
	local pair

	traffic_start
	for pair in 0 4; do
		rekey $pair
	done
	wait_until 10 cluster_installed $MEMBERS || problem "not all members have the new SAs alone"
	traffic_stop
	[ ${#problems[@]} = 0 ] || show_cluster
	verdict "new SAs and the end of old ones follow on all members"
}

# shellcheck disable=SC2317 # called by wait_until
may_own_all() { [ "$(agent_field "$1" barred status)" = 0 ]; }

test_lost_journal()
{
	local pair

	traffic_start
	member_off 1
	rm "$(member_state 1)"/journal*
	power_on 1 || problem "member 1 cannot be powered on"
	wait_until 20 healed || problem "member 1 did not get its buckets back"
	may_own_all 1 && problem "member 1 may own SAs that are older than its journal"
	nap 2
	for pair in "${pairs[@]}"; do
		rekey "$pair"
	done
	wait_until 20 may_own_all 1 || problem "member 1 may not own all SAs after a rekey"
	traffic_stop
	[ ${#problems[@]} = 0 ] || show_cluster
	verdict "journal lost: a member has its buckets, and others keep what it may not own; no number twice"
}

# Both sides hold themselves for the cluster.
# shellcheck disable=SC2317 # called by fault
is_split() { sees 0 2 dead; sees 1 2 dead; owns 2 4096; }

# The wire was read since set_up.
judge_wire()
{
	wire_stop all || problem "packets on the wire were missed"
	expect "numbers that came twice" "$(wire_duplicates all)" 0
	verdict "all of it on the same SAs: $(wire_packets all) ESP packets, no number twice"
}
