# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# ike.sh - two members in hot standby whose SAs come from a real IKE daemon, through what happens to
# tunnels every day: each act with each kind of tunnel, while pings go through all of them. Source it
# and call ike_test and finish. Both members' daemons run: that of the active one is started before its
# espalierd, that of the standby after it.

# shellcheck source=tests/vm/faults.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/faults.sh"
# shellcheck source=tests/lib/ike.sh
. "$faults_here/../lib/ike.sh"

MEMBERS=2
TOPOLOGY_IPV6=1
CLUSTER_SETTINGS=$'Heartbeat = 100ms\nDead = 8\nMode = hot-standby\nHash = mix'
PING_MS=200
DPD=3

# The kinds of tunnels: each an IKE SA with one Child SA. What a test adds to TUNNELS it has, too.
TUNNELS=(gcm cbc certificates inner6 outer6 transport)
declare -A tunnel_of=(
	[gcm]="there=10.2.0.32/27 dpd_gateway=$DPD"
	[cbc]="suite=cbc esn=no there=10.2.0.64/27"
	[certificates]="auth=cert there=10.2.0.96/27 dpd_peer=$DPD"
	[inner6]="here=$HOST_NET6 there=2001:db8:b::100/120"
	[outer6]="outer=6 suite=cbc here=$HOST_NET6 there=2001:db8:b::200/120"
	[transport]="mode=transport suite=cbc"
	[ipcomp]="ipcomp=yes there=10.2.0.128/27"
)
# Where a ping goes through it: from, source, target; and more of its options.
declare -A ping_of=(
	[gcm]="client 10.2.0.37 $HOST"
	[cbc]="client 10.2.0.69 $HOST"
	[certificates]="client 10.2.0.101 $HOST"
	[inner6]="client 2001:db8:b::105 $HOST6"
	[outer6]="client 2001:db8:b::205 $HOST6"
	[transport]="peer $PEER_OUTER $CLUSTER_OUTER"
	[ipcomp]="client 10.2.0.133 $HOST -s 400 -p ff"
)
declare -A ping_pid=()

begin() # PLACE
{
	ike_start "$1" && return
	ike_show "$1" 30
	give_up "the IKE daemon of $1 does not start"
}

# set_up MEMBERS-DAEMON PEERS-DAEMON
set_up()
{
	local member place tunnel from source

	topology_up $MEMBERS || give_up "the namespaces cannot be made"
	for place in m0 m1; do
		ike_configure $place "$1" || give_up "an IKE daemon cannot be configured"
	done
	ike_configure peer "$2" || give_up "the peer's IKE daemon cannot be configured"
	for tunnel in "${TUNNELS[@]}"; do
		# shellcheck disable=SC2086 # several words
		ike_tunnel "$tunnel" m0 m1 ${tunnel_of[$tunnel]} || give_up "a connection cannot be written"
		read -r from source _ <<<"${ping_of[$tunnel]}"
		case $source in
		*.*) echo "addr add $source/24 dev peer" ;;
		*) echo "addr add $source/64 dev peer nodad" ;;
		esac >>"$(topology_state)/addresses-$from"
	done
	topology_ip client <"$(topology_state)/addresses-client"
	begin m0
	for ((member = 0; member < MEMBERS; member++)); do
		member_config $member "$CLUSTER_SETTINGS" >/dev/null
		agent_start $member
	done
	for place in m1 peer; do
		begin $place
	done
	wait_until 30 cluster_complete $MEMBERS || give_up "the members did not become one cluster"
	owns 0 4096
	wire_start all || give_up "the wire cannot be read"
	verdict "two members with $1, a peer with $2"
}

# Leaves in `sas` and `policies` how many these have: two SAs, with IPComp four; for tunnel mode three
# policies each, for transport mode two.
count_records() # TUNNEL...
{
	local tunnel

	sas=0 policies=0
	for tunnel; do
		[[ ${tunnel_of[$tunnel]} == *ipcomp=yes* ]] && sas=$((sas + 4)) || sas=$((sas + 2))
		[[ ${tunnel_of[$tunnel]} == *mode=transport* ]] && policies=$((policies + 2)) || policies=$((policies + 3))
	done
}

# The SAs of these tunnels, and no others, are in a member's kernel, as its agent says, and their
# policies. Pluto has more policies: of neighbour discovery, and traps after the end of a tunnel.
holds() # MEMBER TUNNEL...
{
	local status member=$1 sas policies
	shift

	count_records "$@"
	status=$(agent_ctl "$member" status) && [[ $status == *"\"sas\":$sas,"* ]] &&
		[ "$(json_first policies "$status")" -ge "$policies" ] && [[ $status == *'"missing":0'* ]]
}

# shellcheck disable=SC2317 # called by wait_until
all_hold()
{
	holds 0 "$@" && holds 1 "$@" &&
		[ "$(agent_field 0 policies status)" = "$(agent_field 1 policies status)" ]
}

# Not of those that the kernel makes itself for IPComp.
spis() { ip -n "$TOPOLOGY_PREFIX-m$1" xfrm state | grep -o 'proto \(esp\|comp\) spi 0x[0-9a-f]*'; }

# shellcheck disable=SC2317 # called by wait_until
renewed() # MEMBER SPIS-BEFORE
{
	! grep -qFxf - <<<"$2" <(spis "$1") && holds "$1" "${TUNNELS[@]}"
}

# shellcheck disable=SC2317 # called by wait_until
ike_renewed() # PLACE IKE-SAS-BEFORE
{
	local now

	now=$(ike_sas "$1")
	! grep -qFxf - <<<"$2" <(echo "$now") && [ "$(wc -l <<<"$now")" = ${#TUNNELS[@]} ]
}

# shellcheck disable=SC2317 # called by wait_until
dpd_answered() { [ "$(ike_dpd_answers "$1")" -gt "$2" ]; }

ping_file() { echo "$(topology_state)/ping-$1"; }

pings_start()
{
	local tunnel from source target more

	for tunnel; do
		read -r from source target more <<<"${ping_of[$tunnel]}"
		# shellcheck disable=SC2086 # several words
		start_in "$from" ping -n -i 0.$PING_MS -I "$source" $more "$target" >"$(ping_file "$tunnel")"
		ping_pid[$tunnel]=$!
	done
}

# Ends them, and judges.
pings_stop()
{
	local tunnel outage outages=

	kill -INT "${ping_pid[@]}"
	wait "${ping_pid[@]}"
	for tunnel in "${!ping_pid[@]}"; do
		outage=$(longest_outage "$(ping_file "$tunnel")" $PING_MS)
		outages+=" $tunnel $outage"
		[[ $outage != no && $outage -lt $OUTAGE_MAX_MS ]] || problem "$tunnel: an outage of $outage ms"
	done
	echo "# longest outages in ms:$outages"
	ping_pid=()
}

# judge NAME
judge()
{
	local place

	if [ ${#problems[@]} != 0 ]; then
		show_cluster
		for place in m0 m1 peer; do
			ike_show $place ${IKE_SHOW:-2000}
		done
	fi
	verdict "$1"
}

# each COMMAND PLACE: with all tunnels.
each()
{
	local tunnel

	for tunnel in "${TUNNELS[@]}"; do
		$1 "$2" "$tunnel" || problem "$1 $2 $tunnel failed"
	done
}

# Acts.

test_establish()
{
	each ike_initiate peer
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	judge "established by the peer: ${TUNNELS[*]}"
}

# Nothing else comes meanwhile. Each asks in a tunnel of its own, since a question shows life, too.
test_dpd()
{
	local place
	local -A before=()

	for place in m0 peer; do
		before[$place]=$(ike_dpd_answers $place)
	done
	for place in m0 peer; do
		wait_until 15 dpd_answered $place "${before[$place]}" || problem "$place got no answer"
	done
	judge "dead peer detection by either side is answered"
}

# All SAs are made anew, on both members, under traffic.
renew_all() # COMMAND PLACE NAME
{
	local before

	pings_start "${TUNNELS[@]}"
	before=$(spis 1)
	each "$1" "$2"
	wait_until 20 renewed 0 "$before" || problem "old SAs of $2, or not all, are on member 0"
	wait_until 20 renewed 1 "$before" || problem "old SAs of $2, or not all, are on member 1"
	pings_stop
	judge "$3 by $2"
}

test_rekey_child()
{
	renew_all ike_rekey_child m0 "Child SAs rekeyed"
	renew_all ike_rekey_child peer "Child SAs rekeyed"
}

test_rekey_ike()
{
	local place before

	for place in m0 peer; do
		before=$(ike_sas m0)
		each ike_rekey_ike $place
		wait_until 20 ike_renewed m0 "$before" || problem "not all IKE SAs are new"
		wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
		judge "IKE SAs rekeyed by $place"
	done
}

# The IKE SAs, and their Child SAs, are made anew before the old ones end.
test_reauthenticate()
{
	local place

	for place in m0 peer; do
		[ "${ike_daemon[$place]}" != strongswan ] ||
			renew_all ike_reauthenticate $place reauthenticated
	done
}

# For pluto this is the end of all that it knows.
test_reload()
{
	local before

	[ "${ike_daemon[m0]}" = strongswan ] || return
	before=$(spis 1)
	ike_load m0 || problem "the connections cannot be loaded again"
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	[ "$(spis 1)" = "$before" ] || problem "they are others"
	judge "connections loaded again: nothing changes"
}

# The other member takes over, and gives back what it took; the IKE SAs are where they were.
test_restart_agent()
{
	local before

	pings_start "${TUNNELS[@]}"
	before=$(spis 1)
	member_kill 0
	agent_start 0
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	wait_until 20 all_buckets_at 0 || problem "member 0 did not get its buckets back"
	each ike_rekey_child peer
	wait_until 20 renewed 1 "$before" || problem "old SAs, or not all, are on member 1"
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	pings_stop
	judge "espalierd killed and started again, then Child SAs rekeyed"
}

# It deletes all it has.
test_restart_daemon()
{
	ike_stop m0 || problem "the IKE daemon does not stop"
	wait_until 20 all_hold || problem "SAs are left"
	ike_start m0 || problem "the IKE daemon does not start"
	each ike_initiate m0
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	judge "the IKE daemon is stopped and started, and establishes all"
}

# Two end, the others stay; the member makes them again.
test_delete()
{
	ike_terminate m0 "${TUNNELS[0]}" || problem "the member cannot delete"
	ike_terminate peer "${TUNNELS[1]}" || problem "the peer cannot delete"
	wait_until 20 all_hold "${TUNNELS[@]:2}" || problem "the SAs that were deleted, or others, are not as they should be"
	ike_initiate m0 "${TUNNELS[0]}" || problem "it cannot be established by the member"
	ike_initiate m0 "${TUNNELS[1]}" || problem "it cannot be established by the member"
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	judge "deleted by the member and by the peer, established again by the member"
}

test_takeover()
{
	pings_start "${TUNNELS[@]}"
	nap 2
	member_off 0
	nap 2
	owns 1 4096
	holds 1 "${TUNNELS[@]}" || problem "not all SAs are on the other member"
	pings_stop
	judge "power-off of the active member: all tunnels go on"
}

# shellcheck disable=SC2317 # called by wait_until
put_back() # SAS POLICIES-OF-TUNNELS, in the kernel
{
	[ "$(spis 1 | wc -l)" = "$1" ] && [ "$(ip_in m1 xfrm policy | grep -c 'tmpl')" -ge "$2" ]
}

# As units of IKE daemons and scripts do. The daemon of that member has made none of them.
test_flush()
{
	local sas policies

	count_records "${TUNNELS[@]}"
	pings_start "${TUNNELS[@]}"
	cut_inner 0
	wait_until 10 all_buckets_at 1 || problem "member 1 has not taken over"
	ip_in m1 xfrm state flush
	ip_in m1 xfrm policy flush
	wait_until 20 put_back "$sas" "$policies" || problem "not all is put back"
	heal_inner 0
	wait_until 20 all_hold "${TUNNELS[@]}" || problem "not all SAs are on both members"
	pings_stop
	judge "flushed on a member that has taken over: all is put back"
}

# ike_test MEMBERS-DAEMON PEERS-DAEMON
ike_test()
{
	trap topology_down EXIT
	set_up "$@"
	test_establish
	test_dpd
	test_rekey_child
	test_rekey_ike
	test_reauthenticate
	test_reload
	test_delete
	test_restart_agent
	test_restart_daemon
	test_flush
	test_takeover
	wire_stop all || problem "packets on the wire were missed"
	expect "numbers that came twice" "$(wire_duplicates all)" 0
	verdict "$(wire_packets all) ESP packets in IPv4, no number twice"
}
