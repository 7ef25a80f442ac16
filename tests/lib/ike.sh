# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# ike.sh - real IKE daemons, in the namespaces of members and of the peer, for tests in the virtual
# machine. Source it after cluster.sh.
#
#	ike_configure m0 strongswan
#	ike_configure peer libreswan
#	ike_tunnel NAME m0 suite=cbc esn=no
#	ike_start m0
#	ike_start peer
#	ike_initiate m0 NAME
#
# A place is m0 and so on, or peer. Each daemon has a mount namespace of its own, in which /run is
# /run/PREFIX/PLACE/daemon here: its configuration, sockets, and the file log; and /run/espalier the
# folder of the member's agent. The daemons are those
# that scripts/vm/vm-ike unpacks; they end with their network namespace.

IKE_ROOT=${IKE_ROOT:-$("$(dirname "${BASH_SOURCE[0]}")/../../scripts/vm/vm-ike")}
IKE_SECONDS=${IKE_SECONDS:-20} # for what two daemons agree on
IKE_PLUGIN=${IKE_PLUGIN:-} # one more, of the members' strongSwan

export STRONGSWAN_CONF=/run/strongswan.conf SWANCTL_DIR=/run/swanctl

declare -A ike_daemon=() ike_pid=()

ike_home() { echo "$(topology_state)/$1/daemon"; }

# ike_configure PLACE strongswan|libreswan: what it has of its own; no connections.
ike_configure()
{
	local home

	home=$(ike_home "$1")
	rm -rf "$home"
	mkdir -p "$home/espalier" && ike_certificates || return
	ike_daemon[$1]=$2
	"ike_configure_$2" "$home" "$([ "$1" = peer ] && echo peer || echo gateway)"
}

# An authority, and a certificate for each side.
ike_certificates()
{
	local folder side new=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -x509)

	folder=$(topology_state)/certificates
	[ ! -d "$folder" ] || return 0
	mkdir "$folder" || return
	openssl req "${new[@]}" -subj /CN=authority -keyout "$folder/authority.key" \
		-out "$folder/authority.pem" 2>/dev/null || return
	for side in gateway peer; do
		openssl req "${new[@]}" -subj "/CN=$side" -addext "subjectAltName=DNS:$side.example" \
			-addext basicConstraints=critical,CA:FALSE -CA "$folder/authority.pem" \
			-CAkey "$folder/authority.key" -keyout "$folder/$side.key" \
			-out "$folder/$side.pem" 2>/dev/null || return
	done
}

# ike_tunnel NAME PLACE... [VARIABLE=VALUE...]: a connection between the cluster and the peer, with
# one Child SA of that name. Its cluster's side is for these members, which are configured already,
# as the peer is. Variables:
#   outer         4 or 6
#   mode          tunnel or transport
#   here, there   the networks behind the cluster and behind the peer
#   suite         gcm, or cbc with HMAC-SHA-256
#   esn           yes or no
#   ipcomp        yes or no: compressed before it is encrypted
#   auth          psk or cert
#   dpd_gateway, dpd_peer  seconds of silence before that side asks whether the other one lives
ike_tunnel()
{
	local name=$1 members=() outer=4 mode=tunnel here=$HOST_NET there=$CLIENT_NET suite=gcm esn=yes ipcomp=no
	local auth=psk gateway=$CLUSTER_OUTER peer=$PEER_OUTER place
	# shellcheck disable=SC2034 # used by name
	local dpd_gateway=0 dpd_peer=0
	shift

	for place; do
		case $place in
		*=*) local "${place?}" ;;
		*) members+=("$place") ;;
		esac
	done
	[ $outer = 4 ] || gateway=$CLUSTER_OUTER6 peer=$PEER_OUTER6
	for place in "${members[@]}"; do
		"ike_connection_${ike_daemon[$place]}" "$(ike_home "$place")" gateway "$gateway" "$here" \
			peer "$peer" "$there" || return
	done
	"ike_connection_${ike_daemon[peer]}" "$(ike_home peer)" peer "$peer" "$there" gateway "$gateway" "$here"
}

# The identity of a side: of a certificate there is one.
ike_identity() { [ "$auth" = cert ] && echo "$1.example" || echo "$1.$name.example"; }

# Starts a daemon, with its connections. If it has run before, what it left does not show that it is
# ready now.
ike_start()
{
	local home

	home=$(ike_home "$1")
	rm -f "$home/charon.vici" "$home/pluto/pluto.ctl"
	[ ! -f "$home/log" ] || mv "$home/log" "$home/log.before" || return
	# where they look for themselves; a virtual machine forgets it
	mkdir -p /usr/lib/ipsec /usr/libexec/ipsec || return
	# shellcheck disable=SC2046 # several words
	start_in "$1" unshare --mount bash -c '
		mount --bind "$1/usr/lib/ipsec" /usr/lib/ipsec &&
			mount --bind "$1/usr/libexec/ipsec" /usr/libexec/ipsec &&
			mount --bind "${2%/*}" "$2/espalier" &&
			mount --rbind "$2" /run && shift 2 && exec "$@"' ike \
		"$IKE_ROOT" "$home" $("ike_command_${ike_daemon[$1]}") >>"$home/log" 2>&1
	ike_pid[$1]=$!
	disown # no message when it is killed
	"ike_ready_${ike_daemon[$1]}" "$1"
}

# ike_show PLACE LINES: the last ones of its log, as TAP has them.
ike_show() { tail -n "$2" "$(ike_home "$1")/log" 2>/dev/null | cut -c 1-160 | sed "s/^/# $1: /"; }

ike_ended() { ! kill -0 "${ike_pid[$1]}" 2>/dev/null; }

# ike_stop PLACE [SIGNAL]
ike_stop() { kill "-${2:-TERM}" "${ike_pid[$1]}" && wait_until 10 ike_ended "$1"; }

# ike_in PLACE COMMAND...: in the daemon's namespaces.
ike_in()
{
	local pid=${ike_pid[$1]}
	shift
	nsenter --target "$pid" --net --mount "$@"
}

# What a daemon is told: NAME is of the connection, and of its Child SA. What is agreed on with the
# other side has begun when these return, and is done only after ike_initiate.
ike_load() { "ike_load_${ike_daemon[$1]}" "$1"; }
ike_initiate() { "ike_initiate_${ike_daemon[$1]}" "$@"; }
ike_rekey_child() { "ike_rekey_child_${ike_daemon[$1]}" "$@"; }
ike_rekey_ike() { "ike_rekey_ike_${ike_daemon[$1]}" "$@"; }
ike_terminate() { "ike_terminate_${ike_daemon[$1]}" "$@"; }
# strongSwan only: the new IKE SA comes before the old one goes.
ike_reauthenticate() { ike_swanctl "$1" --rekey --reauth --ike "$2" >/dev/null; }

# ike_sas PLACE: "NAME NUMBER" of each IKE SA that is established; a new one has another number.
ike_sas() { "ike_sas_${ike_daemon[$1]}" "$1"; }

# How many answers to dead peer detection it has had.
ike_dpd_answers() { "ike_dpd_answers_${ike_daemon[$1]}" "$1"; }

# strongSwan.

ike_configure_strongswan()
{
	local home=$1 side=$2 certificates plugin=

	certificates=$(topology_state)/certificates
	# swanctl says a sentence about each that is missing
	[ "$side" != gateway ] || plugin=$IKE_PLUGIN
	mkdir -p "$home"/swanctl/{x509,x509ca,x509aa,x509ac,x509crl,x509ocsp,pubkey,private} \
		"$home"/swanctl/{rsa,ecdsa,bliss,pkcs8,pkcs12,conf.d} || return
	cp "$certificates/authority.pem" "$home/swanctl/x509ca/"
	cp "$certificates/$side.pem" "$home/swanctl/x509/"
	cp "$certificates/$side.key" "$home/swanctl/private/"
	echo "include conf.d/*.conf" >"$home/swanctl/swanctl.conf"
	cat >"$home/strongswan.conf" <<-END
		charon-systemd {
			load = random nonce openssl pem pkcs1 x509 pubkey constraints kdf kernel-netlink socket-default vici $plugin
			install_routes = no
			delete_rekeyed_delay = 1
			make_before_break = yes
			filelog {
				log {
					path = /run/log
					time_format = %H:%M:%S
					flush_line = yes
				}
			}
		}
		swanctl {
			load = pem pkcs1 x509 pubkey openssl random
		}
	END
}

# Uses the variables of ike_tunnel.
ike_connection_strongswan() # HOME SIDE ADDRESS NET SIDE ADDRESS NET
{
	local home=$1 esp local_ts=dynamic remote_ts=dynamic method=psk file='' dpd=dpd_$2

	case $suite in
	gcm) esp=aes128gcm16 ;;
	cbc) esp=aes128-sha256 ;;
	esac
	[ "$esn" = yes ] && esp+=-esn || esp+=-noesn
	[ "$mode" = transport ] || local_ts=$4 remote_ts=$7
	[ "$auth" != cert ] || method=pubkey file="certs = $2.pem"
	cat >"$home/swanctl/conf.d/$name.conf" <<-END
		connections {
			$name {
				version = 2
				local_addrs = $3
				remote_addrs = $6
				proposals = aes128gcm16-prfsha256-ecp256
				mobike = no
				rekey_time = 0
				dpd_delay = ${!dpd}
				local {
					auth = $method
					id = $(ike_identity "$2")
					$file
				}
				remote {
					auth = $method
					id = $(ike_identity "$5")
				}
				children {
					$name {
						mode = $mode
						ipcomp = $ipcomp
						local_ts = $local_ts
						remote_ts = $remote_ts
						esp_proposals = $esp
						rekey_time = 0
					}
				}
			}
		}
		secrets {
			ike-$name {
				id-1 = $(ike_identity "$2")
				id-2 = $(ike_identity "$5")
				secret = "the secret of $name"
			}
		}
	END
}

ike_command_strongswan() { echo "$IKE_ROOT/usr/sbin/charon-systemd"; }

ike_ready_strongswan() { wait_until 30 test -S "$(ike_home "$1")/charon.vici" && ike_load "$1"; }

ike_swanctl()
{
	local place=$1
	shift
	ike_in "$place" "$IKE_ROOT/usr/sbin/swanctl" "$@"
}

ike_load_strongswan() { ike_swanctl "$1" --load-all >/dev/null; }
ike_initiate_strongswan() { ike_swanctl "$1" --initiate --child "$2" --timeout "$IKE_SECONDS" >/dev/null; }
ike_rekey_child_strongswan() { ike_swanctl "$1" --rekey --child "$2" >/dev/null; }
ike_rekey_ike_strongswan() { ike_swanctl "$1" --rekey --ike "$2" >/dev/null; }
ike_terminate_strongswan() { ike_swanctl "$1" --terminate --ike "$2" --timeout "$IKE_SECONDS" >/dev/null; }
ike_sas_strongswan() { ike_swanctl "$1" --list-sas | sed -nE 's/^(\S+): #([0-9]+), ESTABLISHED.*/\1 \2/p' | sort; }
ike_dpd_answers_strongswan() { grep -c 'parsed INFORMATIONAL response [0-9]* \[ \]' "$(ike_home "$1")/log"; }

# libreswan.

ike_configure_libreswan()
{
	local home=$1 side=$2 certificates

	certificates=$(topology_state)/certificates
	mkdir -p "$home/pluto" "$home/nss" || return
	certutil -N -d "sql:$home/nss" --empty-password || return
	certutil -A -d "sql:$home/nss" -n authority -t CT,, -i "$certificates/authority.pem" || return
	openssl pkcs12 -export -in "$certificates/$side.pem" -inkey "$certificates/$side.key" \
		-name "$side" -passout pass: -out "$home/$side.p12" &&
		pk12util -i "$home/$side.p12" -d "sql:$home/nss" -W "" >/dev/null || return
	: >"$home/ipsec.secrets"
	printf 'config setup\n\tuniqueids=no\n' >"$home/ipsec.conf"
}

# Uses the variables of ike_tunnel.
ike_connection_libreswan() # HOME SIDE ADDRESS NET SIDE ADDRESS NET
{
	local home=$1 esp dpd=dpd_$2

	case $suite in
	gcm) esp=aes_gcm128 ;;
	cbc) esp=aes_cbc128-sha2_256 ;;
	esac
	{
		printf '\nconn %s\n' "$name"
		printf '\t%s\n' ikev2=insist ike=aes_gcm128-sha2_256-dh19 esp=$esp "esn=$esn" pfs=no \
			"compress=$ipcomp" "type=$mode" rekey=no mobike=no auto=add "left=$3" "right=$6" \
			"leftid=@$(ike_identity "$2")" "rightid=@$(ike_identity "$5")" leftupdown=%disabled
		[ "${!dpd}" = 0 ] || printf '\t%s\n' "dpddelay=${!dpd}" dpdtimeout=120 dpdaction=hold
		[ "$mode" = transport ] || printf '\t%s\n' "leftsubnet=$4" "rightsubnet=$7"
		if [ "$auth" = cert ]; then
			printf '\t%s\n' authby=ecdsa "leftcert=$2" leftsendcert=always rightca=%same
		else
			printf '\t%s\n' authby=secret
		fi
	} >>"$home/ipsec.conf"
	[ "$auth" = cert ] ||
		echo "@$(ike_identity "$2") @$(ike_identity "$5") : PSK \"the secret of $name\"" >>"$home/ipsec.secrets"
}

ike_command_libreswan()
{
	echo /usr/libexec/ipsec/pluto --nofork --stderrlog --config /run/ipsec.conf \
		--secretsfile /run/ipsec.secrets --nssdir /run/nss --rundir /run/pluto
}

ike_whack()
{
	local place=$1
	shift
	ike_in "$place" /usr/libexec/ipsec/whack "$@"
}

ike_listens_libreswan() { grep -q 'loading secrets from' "$1"; }

# pluto has its connections loaded by itself.
ike_ready_libreswan()
{
	wait_until 30 test -S "$(ike_home "$1")/pluto/pluto.ctl" &&
		wait_until 30 ike_listens_libreswan "$(ike_home "$1")/log"
}

ike_load_libreswan()
{
	ike_in "$1" /usr/libexec/ipsec/addconn --config /run/ipsec.conf --autoall >/dev/null
}

ike_initiate_libreswan() { ike_whack "$1" --name "$2" --initiate >/dev/null; }
ike_rekey_child_libreswan() { ike_whack "$1" --name "$2" --rekey-ipsec --asynchronous >/dev/null; }
ike_rekey_ike_libreswan() { ike_whack "$1" --name "$2" --rekey-ike --asynchronous >/dev/null; }
ike_terminate_libreswan() { ike_whack "$1" --name "$2" --terminate >/dev/null; }
ike_sas_libreswan()
{
	ike_whack "$1" --showstates | sed -nE 's/.*#([0-9]+): "([^"]+)".*ESTABLISHED_IKE_SA.*/\2 \1/p' | sort
}
ike_dpd_answers_libreswan() { ike_whack "$1" --globalstatus | sed -n 's/^total.ike.dpd.recv=//p'; }
