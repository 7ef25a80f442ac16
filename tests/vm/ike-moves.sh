# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# ike-moves.sh - peers that move, and what else there is beside networks behind fixed addresses: as
# ike.sh, whose set-up it uses. Source it and call moves_test and finish.

# shellcheck source=tests/vm/ike.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/ike.sh"
# shellcheck source=tests/lib/nat.sh
. "$faults_here/../lib/nat.sh"

CLUSTER_WIRES="outer nat"
CLUSTER_PEERS="$PEER_OUTER $NAT_PEER $MOBILE_A $MOBILE_B"
VIRTUAL=10.3.0.1
IF_ID=7

TUNNELS=(nat two two-2)
tunnel_of[nat]="nat=yes there=10.2.0.32/27"
tunnel_of[mobile]="mobike=yes there=10.2.0.64/27"
tunnel_of[two]="there=10.2.0.96/27 second=10.2.0.128/27"
tunnel_of[virtual]="virtual=$VIRTUAL"
tunnel_of[interface]="if_id=$IF_ID there=10.4.0.0/24"
ping_of[nat]="client 10.2.0.37 $HOST"
ping_of[mobile]="client 10.2.0.69 $HOST"
ping_of[two]="client 10.2.0.101 $HOST"
ping_of[two-2]="client 10.2.0.133 $HOST"
ping_of[virtual]="peer $VIRTUAL $HOST"
ping_of[interface]="client 10.4.0.5 $HOST"

# shellcheck disable=SC2317 # called by set_up
set_up_more()
{
	local member

	nat_up && mobile_at $MOBILE_A || return
	for ((member = 0; member < MEMBERS; member++)); do
		topology_ip "m$member" <<-END || return
			link add name tunnels type xfrm if_id $IF_ID
			link set tunnels up
			route add 10.4.0.0/24 dev tunnels
			route add $VIRTUAL/32 via $PEER_OUTER
		END
	done
	ip_in peer route add 10.4.0.0/24 dev client
}

# What a member's kernel sends to: addresses, and ports of ESP in UDP.
places() # MEMBER
{
	ip_in "m$1" -oneline xfrm state | sed -nE 's/^src ([^ ]+) dst ([^ ]+) .*encap type espinudp sport ([0-9]+) dport ([0-9]+).*/\1:\3 \2:\4/p; t
		s/^src ([^ ]+) dst ([^ ]+) .*/\1 \2/p' | sort -u
}

# shellcheck disable=SC2317 # called by wait_until
all_send_to() # PATTERN...
{
	local member

	for member in "${living[@]}"; do
		grep -qE "$1" <(places "$member") || return
	done
}

living=(0 1)

# The box forgets the ports that it used.
nat_moves() # FIRST-PORT
{
	nat_ports "$1" || problem "the NAT box does not take other ports"
	wait_until 20 all_send_to ":${1%??}[0-9][0-9]\$" || problem "the SAs do not follow the peer to its new port"
	nap 1
}

test_nat_moves()
{
	pings_start "${TUNNELS[@]}"
	nat_moves 41000
	nat_moves 42000
	pings_stop
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	judge "the peer's NAT gives it another port, twice"
}

test_mobike()
{
	pings_start "${TUNNELS[@]}"
	mobile_at $MOBILE_B $MOBILE_A || problem "the peer cannot move"
	wait_until 20 all_send_to " $MOBILE_B\$" || problem "the SAs do not follow the peer"
	nap 1
	mobile_at $MOBILE_A $MOBILE_B || problem "the peer cannot move"
	wait_until 20 all_send_to " $MOBILE_A\$" || problem "the SAs do not follow the peer"
	nap 1
	pings_stop
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	judge "MOBIKE: to another address and back"
}

# The IKE SAs are at member 0: where the peer is now only the kernel notices.
test_moves_after_takeover()
{
	pings_start "${TUNNELS[@]}"
	member_off 0
	# shellcheck disable=SC2034 # by all_send_to
	living=(1)
	nap 1
	owns 1 4096
	holds 1 "${TUNNELS[@]}" || problem "not all SAs are on the other member"
	nat_moves 43000
	pings_stop
	expect "packets in the clear" "$(plain_packets)" 0
	judge "power-off of the active member, then another port: all tunnels go on"
}

# moves_test MEMBERS-DAEMON PEERS-DAEMON
moves_test()
{
	trap topology_down EXIT
	set_up "$@"
	test_establish
	test_rekey_child
	[ "$1" != strongswan ] || test_nat_moves
	[[ " ${TUNNELS[*]} " != *" mobile "* ]] || test_mobike
	renew_all ike_rekey_child peer "Child SAs rekeyed after that"
	test_moves_after_takeover
	wire_judge
}
