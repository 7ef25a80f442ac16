# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# topology.sh - a cluster in network namespaces, for tests and the demo. Source it, set
# TOPOLOGY_PREFIX, call topology_up.
#
#	client ── peer ──outer──┬── m0 ──┬──inner── host
#	                        ├── m1 ──┤
#	                        └── m2 ──┘   (and a sync network between the members)
#
# Namespaces are PREFIX-m0 and so on, -peer, -client, -host, and -switch, which holds the three
# bridges. A member's interfaces are named outer, inner and sync; their ends in the switch outer0,
# inner0, sync0 for member 0. All members have the cluster addresses on lo. Clear traffic between
# client and host is routed through the peer and the cluster; SAs and policies are the caller's.
#
# TOPOLOGY_IPV6=1: everything has an IPv6 address beside its IPv4 address. TOPOLOGY_OWN=4 or 6: the
# configurations say where the members reach each other on the outer and the inner side.
#
# topology_router puts a router beside the peer: members whose outer address (outer_address) is of
# FAR_NET are behind it, on a link of their own.
#
# Whatever is started in a namespace ends with topology_down, which can always be called again.

TOPOLOGY_PREFIX=${TOPOLOGY_PREFIX:-espalier-test}
TOPOLOGY_PASS=${TOPOLOGY_PASS:-$(dirname "${BASH_SOURCE[0]}")/../../build/tests/pass.bpf.o}

CLUSTER_OUTER=192.0.2.1
CLUSTER_INNER=10.1.0.1
PEER_OUTER=192.0.2.100
PEER_CLIENT=10.2.0.1
CLIENT=10.2.0.2
CLIENT_NET=10.2.0.0/24
HOST=10.1.0.100
HOST_NET=10.1.0.0/24

CLUSTER_OUTER6=2001:db8:1::1
CLUSTER_INNER6=2001:db8:a::1
PEER_OUTER6=2001:db8:1::100
PEER_CLIENT6=2001:db8:b::1
CLIENT6=2001:db8:b::2
CLIENT_NET6=2001:db8:b::/64
HOST6=2001:db8:a::100
HOST_NET6=2001:db8:a::/64

ROUTER_NEAR=192.0.2.254
ROUTER_NEAR6=2001:db8:1::254
ROUTER_FAR=198.51.100.254
ROUTER_FAR6=2001:db8:f::254
FAR_NET=198.51.100.0/24
FAR_NET6=2001:db8:f::/64

TOPOLOGY_IPV6=${TOPOLOGY_IPV6:-}
TOPOLOGY_OWN=${TOPOLOGY_OWN:-}

# Files of the cluster (key) and of each member (m0/: log, pid, journal, bpf/, espalier.conf).
topology_state()
{
	echo "/run/$TOPOLOGY_PREFIX"
}

member_state()
{
	echo "/run/$TOPOLOGY_PREFIX/m$1"
}

outer_address() { echo "192.0.2.$((10 + $1))"; }
inner_address() { echo "10.1.0.$((10 + $1))"; }
outer_address6() { echo "2001:db8:1::$((10 + $1))"; }
inner_address6() { echo "2001:db8:a::$((10 + $1))"; }
sync_address() { echo "10.255.0.$((10 + $1))"; }

# The MAC address of a member's interface: the number of its network, of the member.
member_mac()
{
	local member=$1 network=$2

	case $network in
	outer) printf '02:e5:00:00:01:%02x\n' "$member" ;;
	inner) printf '02:e5:00:00:02:%02x\n' "$member" ;;
	sync) printf '02:e5:00:00:03:%02x\n' "$member" ;;
	esac
}

# Not "ip netns exec": that hides /sys/fs/bpf.
in_namespace()
{
	local name=$1
	shift
	nsenter --net="/run/netns/$TOPOLOGY_PREFIX-$name" "$@"
}

# ip_in NAMESPACE ARGUMENT...: ip goes there by itself.
ip_in() { ip -n "$TOPOLOGY_PREFIX-$1" "${@:2}"; }

# start_in NAMESPACE COMMAND...: in the background; $! is the command's process id. File descriptor 3
# is closed, since bats waits for everybody who has it.
start_in()
{
	local name=$1
	shift
	nsenter --net="/run/netns/$TOPOLOGY_PREFIX-$name" "$@" </dev/null 3>&- &
}

in_peer() { in_namespace peer "$@"; }
in_client() { in_namespace client "$@"; }
in_host() { in_namespace host "$@"; }
in_switch() { in_namespace switch "$@"; }
in_router() { in_namespace router "$@"; }

in_member()
{
	LIBXDP_BPFFS=/run/$TOPOLOGY_PREFIX/m$1/bpf in_namespace "m$1" "${@:2}"
}

# ip commands from stdin.
topology_ip()
{
	ip_in "$1" -batch -
}

# Like sleep, which would be a process: that takes 50 ms of an emulated machine's CPU.
exec {nap_fd}<> <(:)
nap() { read -rt "$1" -u "$nap_fd" || true; }

# Runs a command until it succeeds, for so many seconds at most. Seldom, in the end: what it asks costs
# an emulated machine more than what it waits for.
wait_until()
{
	local seconds=$1 end naps=(0.05 0.05 0.1 0.2 0.3) asked=0
	shift
	end=$((SECONDS + seconds + 1))
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		nap "${naps[asked < 4 ? asked++ : 4]}"
	done
}

# The ip commands of these that are wanted: IPv6 addresses and routes.
ip6_commands() { [ -z "$TOPOLOGY_IPV6" ] || printf '%s\n' "$@"; }

# Namespaces that route; lo is the caller's to set up. No IPv6 unless it is wanted: its own traffic would
# only be noise. With arp_announce 2 and arp_ignore 1 the kernel speaks for the addresses of the interface
# alone, not for lo's.
topology_namespaces() # NAME...
{
	local name no_ipv6

	printf "netns add $TOPOLOGY_PREFIX-%s\n" "$@" | ip -batch - || return
	for name; do
		no_ipv6=1
		[ -z "$TOPOLOGY_IPV6" ] || [ "$name" = switch ] || no_ipv6=0
		in_namespace "$name" sysctl -q -w net.ipv6.conf.all.disable_ipv6=$no_ipv6 \
			net.ipv6.conf.default.disable_ipv6=$no_ipv6 net.ipv4.ip_forward=1 \
			net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.router_solicitations=0 \
			net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
			net.ipv4.conf.all.arp_announce=2 net.ipv4.conf.all.arp_ignore=1 || return
	done
}

# A checksum that is left for later is lost when XDP sends a frame on.
topology_checksums()
{
	local name=$1 interface
	shift
	for interface in "$@"; do
		in_namespace "$name" ethtool -K "$interface" tx off >/dev/null || return
	done
}

topology_outside()
{
	local p=$TOPOLOGY_PREFIX network

	topology_namespaces switch peer client host || return
	{
		echo "link set lo up"
		for network in outer inner sync; do
			echo "link add name $network type bridge mcast_snooping 0"
			echo "link set $network up"
		done
		echo "link add name outer-peer type veth peer name outer netns $p-peer"
		echo "link set outer-peer master outer up"
		echo "link add name inner-host type veth peer name inner netns $p-host"
		echo "link set inner-host master inner up"
	} | topology_ip switch || return
	topology_ip peer <<-END || return
		link set lo up
		link add name client type veth peer name peer netns $p-client
		addr add $PEER_OUTER/24 dev outer
		addr add $PEER_CLIENT/24 dev client
		link set outer up
		link set client up
		route add $HOST_NET via $CLUSTER_OUTER
		$(ip6_commands "addr add $PEER_OUTER6/64 dev outer nodad" \
			"addr add $PEER_CLIENT6/64 dev client nodad" "route add $HOST_NET6 via $CLUSTER_OUTER6")
	END
	topology_ip client <<-END || return
		link set lo up
		addr add $CLIENT/24 dev peer
		link set peer up
		route add default via $PEER_CLIENT
		$(ip6_commands "addr add $CLIENT6/64 dev peer nodad" "route add default via $PEER_CLIENT6")
	END
	topology_ip host <<-END || return
		link set lo up
		addr add $HOST/24 dev inner
		link set inner up
		route add default via $CLUSTER_INNER
		$(ip6_commands "addr add $HOST6/64 dev inner nodad" "route add default via $CLUSTER_INNER6")
	END
	topology_checksums peer outer client && topology_checksums client peer &&
		topology_checksums host inner
}

# A veth takes what its far end sends by XDP only when it has an XDP program itself.
topology_ports()
{
	local member=$1 network

	for network in outer inner sync; do
		echo "link add name $network$member type veth peer name $network" \
			"address $(member_mac "$member" $network) netns $TOPOLOGY_PREFIX-m$member"
		echo "link set $network$member master $network up"
		echo "link set dev $network$member xdpdrv object $TOPOLOGY_PASS section xdp"
	done | topology_ip switch
}

# Whether a member shares a link with the peer, by its outer address.
beside_peer() { [[ $(outer_address "$1") == "${PEER_OUTER%.*}".* ]]; }

# Powers a member on. Its files are kept from the last time, as on a disk.
member_on()
{
	local member=$1 state

	state=$(member_state "$member")
	mkdir -p "$state/bpf" || return
	mount -t bpf bpf "$state/bpf" || return
	topology_namespaces "m$member" && topology_ports "$member" || return
	{
		echo "link set lo up"
		echo "addr add $CLUSTER_OUTER/32 dev lo"
		echo "addr add $CLUSTER_INNER/32 dev lo"
		echo "addr add $(outer_address "$member")/24 dev outer"
		echo "addr add $(inner_address "$member")/24 dev inner"
		echo "addr add $(sync_address "$member")/24 dev sync"
		echo "link set outer up"
		echo "link set inner up"
		echo "link set sync up"
		ip6_commands "addr add $CLUSTER_OUTER6/128 dev lo nodad" \
			"addr add $CLUSTER_INNER6/128 dev lo nodad" \
			"addr add $(outer_address6 "$member")/64 dev outer nodad" \
			"addr add $(inner_address6 "$member")/64 dev inner nodad"
		if beside_peer "$member"; then
			echo "route add $CLIENT_NET via $PEER_OUTER"
			ip6_commands "route add $CLIENT_NET6 via $PEER_OUTER6"
		fi
	} | topology_ip "m$member" || return
	topology_checksums "m$member" outer inner sync
}

# Powers a member off: its links first, so that nothing of it is seen any more; the sync link first
# of all, since it must not have the time to say that the others are down. The rest a second later,
# since taking a namespace down keeps a small machine busy, and would be measured too.
member_off()
{
	local member=$1 network

	for network in sync outer inner; do
		echo "link set $network$member down"
	done | topology_ip switch
	nap 1
	topology_kill "m$member"
	topology_unlink "m$member"
	topology_remove "m$member"
	umount -l "$(member_state "$member")/bpf"
	rm -f "$(member_state "$member")/pid"
}

# Kills what runs in a namespace.
topology_kill() # NAME
{
	local process

	for process in /proc/[0-9]*; do
		[[ ! $process/ns/net -ef /run/netns/$TOPOLOGY_PREFIX-$1 ]] ||
			kill -KILL "${process#/proc/}" 2>/dev/null || true
	done
}

# Deletes a namespace's links: it lives on for a while when it is removed, and their far ends with it.
topology_unlink() # NAME
{
	local interface

	while IFS=' :@' read -r _ interface _; do
		echo "link del $interface"
	done < <(ip_in "$1" -oneline link show type veth) | topology_ip "$1"
}

topology_remove() # NAME...
{
	printf "netns del $TOPOLOGY_PREFIX-%s\n" "$@" | ip -batch -
}

# topology_router MEMBER...: these members, which topology_up has made, go behind a router.
topology_router()
{
	local member p=$TOPOLOGY_PREFIX

	topology_namespaces router || return
	topology_ip switch <<-END || return
		link add name far type bridge mcast_snooping 0
		link set far up
		link add name near-router type veth peer name near netns $p-router
		link set near-router master outer up
		link add name far-router type veth peer name far netns $p-router
		link set far-router master far up
	END
	topology_ip router <<-END || return
		link set lo up
		addr add $ROUTER_NEAR/24 dev near
		addr add $ROUTER_FAR/24 dev far
		link set near up
		link set far up
		route add $CLUSTER_OUTER/32 dev near
		$(ip6_commands "addr add $ROUTER_NEAR6/64 dev near nodad" "addr add $ROUTER_FAR6/64 dev far nodad")
	END
	topology_checksums router near far || return
	for member; do
		ip_in switch link set "outer$member" master far || return
		topology_ip "m$member" <<-END || return
			route add default via $ROUTER_FAR
			$(ip6_commands "route add default via $ROUTER_FAR6")
		END
	done
	for ((member = 0; member < $(<"$(topology_state)/members"); member++)); do
		[[ " $* " != *" $member "* ]] || continue
		topology_ip "m$member" <<-END || return
			route add $FAR_NET via $ROUTER_NEAR
			$(ip6_commands "route add $FAR_NET6 via $ROUTER_NEAR6")
		END
	done
}

# topology_up MEMBERS
topology_up()
{
	local member state

	topology_down
	state=$(topology_state)
	(umask 077 && mkdir -p "$state" && openssl rand -base64 32 >"$state/key") || return
	topology_outside || return
	for ((member = 0; member < $1; member++)); do
		member_on "$member" || return
	done
	echo "$1" >"$state/members"
}

topology_down()
{
	local state file name names=()

	state=$(topology_state)
	for file in "/run/netns/$TOPOLOGY_PREFIX"-*; do
		name=${file#"/run/netns/$TOPOLOGY_PREFIX-"}
		[[ ! $name =~ ^(m[0-9]+|peer|client|host|switch|router)$ ]] || names+=("$name")
	done
	for name in "${names[@]}"; do
		topology_kill "$name"
	done
	for name in switch peer; do # all links have an end at one of these
		[ ! -e "/run/netns/$TOPOLOGY_PREFIX-$name" ] || topology_unlink "$name"
	done
	[ ${#names[@]} = 0 ] || topology_remove "${names[@]}"
	[ -d "$state" ] || return 0
	for file in "$state"/m*/bpf; do
		mountpoint -q "$file" && umount -l "$file"
	done
	rm -rf "$state"
}

# member_config MEMBER [CLUSTER-LINES [INTERFACE-LINES]]: writes the member's configuration and
# prints the file's name.
member_config()
{
	local member=$1 state other members

	state=$(member_state "$member")
	members=$(<"$(topology_state)/members")
	{
		printf '[Cluster]\nAddress = %s\nInnerAddress = %s\n' $CLUSTER_OUTER $CLUSTER_INNER
		[ -z "$TOPOLOGY_IPV6" ] ||
			printf 'Address = %s\nInnerAddress = %s\n' $CLUSTER_OUTER6 $CLUSTER_INNER6
		printf 'PresharedKeyFile = %s/key\n%s\n' "$(topology_state)" "${2:-}"
		printf '[Interface]\nId = %s\nOuter = outer\nInner = inner\nSync = sync\n' "$member"
		printf 'Journal = %s/journal\nPin = %s/bpf/espalier\nControl = %s/control\n%s\n' \
			"$state" "$state" "$state" "${3:-}"
		for ((other = 0; other < members; other++)); do
			printf '[Member]\nId = %s\nSync = %s\n' $other "$(sync_address $other)"
			case $TOPOLOGY_OWN in
			4) printf 'Outer = %s\nInner = %s\n' "$(outer_address $other)" "$(inner_address $other)" ;;
			6) printf 'Outer = %s\nInner = %s\n' "$(outer_address6 $other)" "$(inner_address6 $other)" ;;
			esac
		done
	} >"$state/espalier.conf" && echo "$state/espalier.conf"
}

# member_start MEMBER COMMAND...: the member's agent, in the background; what it says goes to its
# log.
member_start()
{
	local member=$1 state
	shift
	state=$(member_state "$member")
	LIBXDP_BPFFS=$state/bpf start_in "m$member" "$@" >>"$state/log" 2>&1
	echo $! >"$state/pid"
	disown # no message when it is killed
}

member_pid()
{
	local pid

	read -r pid <"/run/$TOPOLOGY_PREFIX/m$1/pid" && echo "$pid"
}

member_runs()
{
	local pid

	pid=$(member_pid "$1" 2>/dev/null) && kill -0 "$pid" 2>/dev/null
}

member_ended() { ! member_runs "$1"; }

member_signal()
{
	local pid

	pid=$(member_pid "$1") && kill "-$2" "$pid"
}

# Kills the agent without warning; the member's kernel goes on.
member_kill()
{
	member_signal "$1" KILL && wait_until 5 member_ended "$1"
}

# Ends the agent in order.
member_stop()
{
	member_signal "$1" TERM && wait_until 10 member_ended "$1"
}

member_freeze() { member_signal "$1" STOP; }
member_thaw() { member_signal "$1" CONT; }

# Cuts a member's cable at the switch, as its carrier shows, and mends it.
cut_outer() { ip_in switch link set "outer$1" down; }
cut_inner() { ip_in switch link set "inner$1" down; }
cut_sync() { ip_in switch link set "sync$1" down; }
heal_outer() { ip_in switch link set "outer$1" up; }
heal_inner() { ip_in switch link set "inner$1" up; }
heal_sync() { ip_in switch link set "sync$1" up; }
