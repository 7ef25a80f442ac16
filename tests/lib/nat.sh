# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# nat.sh - two more ways from the peer to the cluster: behind a NAT box, and from either of two
# addresses, as a telephone between networks. Source it after topology.sh.
#
#	peer ──nat── router ──outer── members
#
# What the peer sends from NAT_PEER goes through the box; the cluster sees it come from NAT_OUTER.

NAT_OUTER=192.0.2.200
NAT_INNER=203.0.113.254
NAT_PEER=203.0.113.100
# shellcheck disable=SC2034 # for the caller
MOBILE_A=192.0.2.101
# shellcheck disable=SC2034 # likewise
MOBILE_B=192.0.2.102

# The second route is for strongSwan, which looks for its way in the main table alone.
nat_up()
{
	local p=$TOPOLOGY_PREFIX

	topology_namespaces router || return
	topology_ip switch <<-END || return
		link add name outer-nat type veth peer name outer netns $p-router
		link set outer-nat master outer up
	END
	topology_ip router <<-END || return
		link set lo up
		link add name nat type veth peer name nat netns $p-peer
		addr add $NAT_OUTER/24 dev outer
		addr add $NAT_INNER/24 dev nat
		link set outer up
		link set nat up
	END
	topology_ip peer <<-END || return
		addr add $NAT_PEER/24 dev nat
		link set nat up
		rule add from $NAT_PEER lookup 100
		route add default via $NAT_INNER table 100
		route add $CLUSTER_OUTER/32 via $NAT_INNER metric 100 src $NAT_PEER
	END
	topology_checksums router outer nat && topology_checksums peer nat && nat_ports 40000
}

# nat_ports FIRST: from now on the box uses other ports: it forgets what there was.
nat_ports()
{
	in_namespace router nft -f - <<-END || return
		table ip nat
		delete table ip nat
		table ip nat {
			chain postrouting {
				type nat hook postrouting priority srcnat
				oif outer ip protocol udp masquerade to :$1-$(($1 + 99))
			}
		}
	END
	# what goes out masqueraded lives as long as the link does
	ip_in router link set outer down && ip_in router link set outer up
}

# mobile_at ADDRESS [FROM]: the peer's way to the cluster is from that address; it had FROM, and has
# no more. Pluto asks for the default route.
mobile_at()
{
	topology_ip peer <<-END
		addr add $1/24 dev outer
		route replace $CLUSTER_OUTER/32 dev outer src $1
		route replace default via $CLUSTER_OUTER dev outer src $1
		${2:+addr del $2/24 dev outer}
	END
}
