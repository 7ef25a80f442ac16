#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# kinds.sh - prints, for `ip -batch`, all kinds of SAs and policies that a cluster is to copy: each
# kind a comment with its name, and its lines. A kind has its own reqid, and SPIs that follow from
# it. 192.0.2.1 and 2001:db8:1::1 are to be cluster addresses. What another member's kernel shows
# of them is compared by xfrm_kinds.
set -u

reqid=256
GCM='aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314'
KEY16=0x202122232425262728292a2b2c2d2e2f
KEY32=${KEY16}303132333435363738393a3b3c3d3e3f
KEY64=$KEY32${KEY32#0x}
CBC="enc cbc(aes) $KEY16"
SHA256="auth-trunc hmac(sha256) $KEY32 128"

# kind NAME [VARIABLE=VALUE...]: a Child SA and its policies. Variables:
#   outer, inner      4 or 6: IP versions
#   local, remote     selectors, in place of networks of the kind's own
#   mode, state       of both SAs: mode and what else is told of them
#   in, out           of one SA only
#   narrow_in, narrow_out  upper-layer part of the selectors of SAs and policies
#   sel               1: SAs have the selectors too
#   policy, policy_out, template  of all policies, of the outbound one, of inbound templates
#   dirs              directions of the policies
kind()
{
	local outer=4 inner=4 local='' remote='' mode=tunnel state="$GCM 128" in='' out='' sel=''
	local narrow_in='' narrow_out='' policy='' policy_out='' template='' dirs='in fwd out'
	local ours theirs number hex inbound outbound dir

	echo "# $1"
	reqid=$((reqid + 1)) number=$((reqid - 256))
	[ $# = 1 ] || local "${@:2}"
	hex=$(printf %x $reqid)
	ours=192.0.2.1 theirs=198.51.100.1
	[ "$outer" = 4 ] || ours=2001:db8:1::1 theirs=2001:db8:2::1
	if [ "$inner" = 4 ]; then
		: "${local:=10.$number.1.0/24}" "${remote:=10.$number.2.0/24}"
	else
		: "${local:=2001:db8:a:$number::/64}" "${remote:=2001:db8:b:$number::/64}"
	fi
	inbound="src $remote dst $local $narrow_in" outbound="src $local dst $remote $narrow_out"
	echo "xfrm state add src $theirs dst $ours proto esp spi 0x${hex}0 reqid $reqid" \
		"mode $mode $state $in ${sel:+sel $inbound}"
	echo "xfrm state add src $ours dst $theirs proto esp spi 0x${hex}1 reqid $reqid" \
		"mode $mode $state $out ${sel:+sel $outbound}"
	for dir in $dirs; do
		if [ "$dir" = out ]; then
			echo "xfrm policy add $outbound dir out $policy $policy_out" \
				"tmpl src $ours dst $theirs proto esp reqid $reqid mode $mode"
		else
			echo "xfrm policy add $inbound dir $dir $policy" \
				"tmpl src $theirs dst $ours proto esp reqid $reqid mode $mode $template"
		fi
	done
}

# policy LINE: one more of the last kind; R stands for its reqid, SPI0 and SPI1 for its SPIs. What has
# no reqid has its number as priority.
policy()
{
	local line=${1//reqid R/reqid $reqid}
	line=${line//priority R/priority $reqid}

	line=${line//[$'\n\t']/ }

	line=${line//SPI0/0x$(printf %x $reqid)0}
	echo "xfrm policy add ${line//SPI1/0x$(printf %x $reqid)1}"
}

# comp CPI SRC DST MODE: an IPComp SA of the last kind. A CPI is one of 16 bits, and may be another
# one's SPI.
comp() { echo "xfrm state add src $2 dst $3 proto comp spi $1 reqid $reqid mode $4 comp deflate"; }

# Modes and families. `transport4`, `transport6`: between the outer addresses themselves.
transport4=(mode=transport dirs='in out' local=192.0.2.1/32 remote=198.51.100.1/32)
transport6=(mode=transport dirs='in out' outer=6 inner=6
	local=2001:db8:1::1/128 remote=2001:db8:2::1/128)
tcp=(narrow_in='proto tcp sport 443 dport 80' narrow_out='proto tcp sport 80 dport 443' sel=1)
kind 'tunnel, IPv4 in IPv4'
kind 'tunnel, IPv6 in IPv6' outer=6 inner=6
kind 'tunnel, IPv6 in IPv4' inner=6
kind 'tunnel, IPv4 in IPv6' outer=6
kind 'tunnel, any family in IPv4' state="$GCM 128 flag af-unspec"
kind 'tunnel, any family in IPv6' outer=6 inner=6 state="$GCM 128 flag af-unspec"
kind 'transport, IPv4' "${transport4[@]}"
kind 'transport, IPv6' "${transport6[@]}"
kind 'transport of one TCP port, IPv4' "${transport4[@]}" "${tcp[@]}"
kind 'transport of one TCP port, IPv6' "${transport6[@]}" "${tcp[@]}"
kind 'transport, addresses in the selector alone, IPv4' "${transport4[@]}" dirs=
policy 'src 192.0.2.1/32 dst 198.51.100.1/32 proto udp dport 1001 dir out
	tmpl proto esp reqid R mode transport'
policy 'src 198.51.100.1/32 dst 192.0.2.1/32 proto udp sport 1001 dir in
	tmpl proto esp reqid R mode transport'
kind 'transport, addresses in the selector alone, IPv6' "${transport6[@]}" dirs=
policy 'src 2001:db8:1::1/128 dst 2001:db8:2::1/128 proto udp dport 1001 dir out
	tmpl proto esp reqid R mode transport'
policy 'src 2001:db8:2::1/128 dst 2001:db8:1::1/128 proto udp sport 1001 dir in
	tmpl proto esp reqid R mode transport'
kind 'BEET, IPv4' mode=beet sel=1 local=10.200.1.1/32 remote=10.200.2.1/32
kind 'BEET, IPv6' mode=beet sel=1 outer=6 local=2001:db8:c:1::1/128 remote=2001:db8:c:2::1/128
kind 'BEET, IPv6 in IPv4' mode=beet sel=1 local=2001:db8:c:3::1/128 remote=2001:db8:c:4::1/128
kind 'BEET, IPv4 in IPv6' mode=beet sel=1 outer=6 local=10.200.3.1/32 remote=10.200.4.1/32

# ESP in UDP.
kind 'ESP in UDP, IPv4' in='encap espinudp 1024 4500 0.0.0.0' out='encap espinudp 4500 1024 0.0.0.0'
kind 'ESP in UDP, IPv6' outer=6 inner=6 \
	in='encap espinudp 1025 4500 ::' out='encap espinudp 4500 1025 ::'
kind 'ESP in UDP, IPv6 in IPv4' inner=6 \
	in='encap espinudp 1026 4500 0.0.0.0' out='encap espinudp 4500 1026 0.0.0.0'
kind 'ESP in UDP, transport, with the original address' "${transport4[@]}" sel=1 \
	narrow_in='proto udp sport 1701' narrow_out='proto udp dport 1701' \
	in='encap espinudp 1027 4500 10.9.8.7' out='encap espinudp 4500 1027 10.9.8.7'

# Marks and interfaces.
kind 'mark, IPv4' state="$GCM 128 mark 0x15 mask 0xff" policy='mark 0x15 mask 0xff'
kind 'mark, IPv6' outer=6 inner=6 state="$GCM 128 mark 0x16 mask 0xff" policy='mark 0x16 mask 0xff'
kind 'mark of all bits, on the way out only' out='mark 0xdeadbeef' policy_out='mark 0xdeadbeef'
kind 'output mark' state="$GCM 128 output-mark 0x17 mask 0xf0ff"
kind 'output mark of all bits, IPv6' outer=6 inner=6 state="$GCM 128 output-mark 0x18"
kind 'route-based: if_id, IPv4' state="$GCM 128 if_id 0x19" policy='if_id 0x19' \
	local=0.0.0.0/0 remote=0.0.0.0/0
kind 'route-based: if_id, IPv6' outer=6 state="$GCM 128 if_id 0x1a" policy='if_id 0x1a' \
	local=::/0 remote=::/0
kind 'if_id, mark and output mark' policy='if_id 0x1b mark 0x1b mask 0x3f' \
	state="$GCM 128 if_id 0x1b mark 0x1b mask 0x3f output-mark 0x1c mask 0xff"

# Counters.
kind 'ESN, window of 32' state="$GCM 128 flag esn replay-window 32"
kind 'ESN, window of 128, CBC' state="$SHA256 $CBC flag esn replay-window 128"
kind 'ESN, window of 4096, IPv6' outer=6 inner=6 state="$GCM 128 flag esn replay-window 4096"
kind '32 bits, no window' state="$GCM 128 replay-window 0"
kind '32 bits, window of 32' state="$GCM 128 replay-window 32"
kind '32 bits, window of 64' state="$GCM 128 replay-window 64"
kind '32 bits, window of 1024, CBC, IPv6' outer=6 inner=6 state="$SHA256 $CBC replay-window 1024"

# Algorithms.
CHACHA="aead rfc7539esp(chacha20,poly1305) ${KEY32}01020304 128"
kind 'ChaCha20-Poly1305' state="$CHACHA"
kind 'ChaCha20-Poly1305, ESN, IPv6' outer=6 inner=6 state="$CHACHA flag esn replay-window 64"
kind 'AES-GCM of 256 bits' state="aead rfc4106(gcm(aes)) ${KEY32}01020304 128"
kind 'AES-GCM, ICV of 8 bytes' state="$GCM 64"
kind 'AES-GCM, ICV of 12 bytes, IPv6' outer=6 inner=6 state="$GCM 96"
kind 'AES-CCM' state="aead rfc4309(ccm(aes)) ${KEY16}010203 128"
kind 'AES-GMAC' state="aead rfc4543(gcm(aes)) ${KEY16}01020304 128"
kind 'AES-CBC, HMAC-SHA-1' state="auth-trunc hmac(sha1) ${KEY16}01020304 96 $CBC"
kind 'AES-CBC of 256 bits, HMAC-SHA-384, IPv6' outer=6 inner=6 \
	state="auth-trunc hmac(sha384) $KEY32${KEY16#0x} 192 enc cbc(aes) $KEY32"
kind 'AES-CBC of 256 bits, HMAC-SHA-512' \
	state="auth-trunc hmac(sha512) $KEY64 256 enc cbc(aes) $KEY32"
kind 'HMAC-SHA-256 cut to 96 bits' state="auth hmac(sha256) $KEY32 $CBC"
kind 'AES-CTR, AES-XCBC' \
	state="auth-trunc xcbc(aes) $KEY16 96 enc rfc3686(ctr(aes)) ${KEY16}30313233"
kind 'authentication, null encryption' state="$SHA256 enc ecb(cipher_null) ''"

# Narrowing.
kind 'TCP ports, IPv4' sel=1 narrow_in='proto tcp sport 22' narrow_out='proto tcp dport 22'
kind 'UDP ports, IPv6' outer=6 inner=6 sel=1 \
	narrow_in='proto udp sport 53 dport 5353' narrow_out='proto udp sport 5353 dport 53'
kind 'ICMP type and code' \
	narrow_in='proto icmp type 0 code 0' narrow_out='proto icmp type 8 code 0'
kind 'ICMPv6 type' outer=6 inner=6 \
	narrow_in='proto ipv6-icmp type 129' narrow_out='proto ipv6-icmp type 128'
kind 'GRE key' narrow_in='proto gre key 7' narrow_out='proto gre key 7'
kind 'a protocol, from a host to a network' local=10.201.1.7/32 remote=10.201.128.0/17 sel=1 \
	narrow_in='proto 50' narrow_out='proto 50'
kind 'selectors inside each other, by priority' dirs=
policy 'src 10.202.0.0/16 dst 10.203.0.0/16 dir out priority 2000
	tmpl src 192.0.2.1 dst 198.51.100.1 proto esp reqid R mode tunnel'
policy 'src 10.202.0.0/16 dst 10.203.4.0/22 dir out priority 1000
	tmpl src 192.0.2.1 dst 198.51.100.1 proto esp reqid R mode tunnel'
policy 'src 10.203.4.0/22 dst 10.202.0.0/16 dir in priority 1000
	tmpl src 198.51.100.1 dst 192.0.2.1 proto esp reqid R mode tunnel'

# Flags, limits, and what else an SA can have.
kind 'noecn, decap-dscp, nopmtudisc' state="$GCM 128 flag noecn flag decap-dscp flag nopmtudisc"
kind 'wildrecv, icmp, align4, IPv6' outer=6 inner=6 \
	state="$GCM 128 flag wildrecv flag icmp flag align4"
kind 'dont-encap-dscp, oseq-may-wrap' \
	state="$GCM 128 extra-flag dont-encap-dscp extra-flag oseq-may-wrap"
LIMITS='limit time-soft 10000 limit time-hard 20000 limit byte-soft 5000000000'
LIMITS+=' limit byte-hard 6000000000 limit packet-soft 70000000 limit packet-hard 80000000'
LIMITS+=' limit time-use-soft 9000 limit time-use-hard 9500'
kind 'limits, IPv4' state="$GCM 128 $LIMITS" policy="$LIMITS"
kind 'limits, IPv6' outer=6 inner=6 state="$GCM 128 $LIMITS" policy="$LIMITS"
kind 'padding for traffic flow confidentiality' out='tfcpad 1200'

# Policies.
kind 'priority, localok, icmp' policy='priority 4242 flag localok flag icmp'
kind 'used if there is an SA' template='level use'
kind 'block' policy='action block'
kind 'IPComp if there is an SA, then ESP' dirs=
policy 'src 10.204.1.0/24 dst 10.204.2.0/24 dir in
	tmpl src 198.51.100.1 dst 192.0.2.1 proto comp reqid R mode tunnel level use
	tmpl src 198.51.100.1 dst 192.0.2.1 proto esp reqid R mode transport'
policy 'src 10.204.2.0/24 dst 10.204.1.0/24 dir out
	tmpl src 192.0.2.1 dst 198.51.100.1 proto comp reqid R mode tunnel
	tmpl src 192.0.2.1 dst 198.51.100.1 proto esp reqid R mode transport'
kind 'IPComp, then ESP in transport mode, IPv4' mode=transport dirs=
comp "0x$(printf %x $reqid)0" 198.51.100.1 192.0.2.1 tunnel
comp "0x$(printf %x $reqid)2" 192.0.2.1 198.51.100.1 tunnel
policy 'src 10.210.2.0/24 dst 10.210.1.0/24 dir in
	tmpl src 198.51.100.1 dst 192.0.2.1 proto comp reqid R mode tunnel level use
	tmpl proto esp reqid R mode transport'
policy 'src 10.210.1.0/24 dst 10.210.2.0/24 dir out
	tmpl src 192.0.2.1 dst 198.51.100.1 proto comp reqid R mode tunnel
	tmpl proto esp reqid R mode transport'
kind 'IPComp, then ESP in transport mode, IPv6' outer=6 inner=6 mode=transport dirs=
comp "0x$(printf %x $reqid)2" 2001:db8:2::1 2001:db8:1::1 tunnel
comp "0x$(printf %x $reqid)1" 2001:db8:1::1 2001:db8:2::1 tunnel
policy 'src 2001:db8:ab:2::/64 dst 2001:db8:ab:1::/64 dir in
	tmpl src 2001:db8:2::1 dst 2001:db8:1::1 proto comp reqid R mode tunnel level use
	tmpl proto esp reqid R mode transport'
policy 'src 2001:db8:ab:1::/64 dst 2001:db8:ab:2::/64 dir out
	tmpl src 2001:db8:1::1 dst 2001:db8:2::1 proto comp reqid R mode tunnel
	tmpl proto esp reqid R mode transport'
kind 'IPComp in transport mode' "${transport4[@]}" dirs=
comp "0x$(printf %x $reqid)3" 192.0.2.1 198.51.100.1 transport
comp "0x$(printf %x $reqid)3" 198.51.100.1 192.0.2.1 transport
kind 'ESP of two hosts inside ESP of the cluster, IPv6' outer=6 inner=6 dirs=
policy 'src 2001:db8:d:1::1/128 dst 2001:db8:d:2::1/128 dir out
	tmpl src 2001:db8:d:1::1 dst 2001:db8:d:2::1 proto esp reqid R mode transport
	tmpl src 2001:db8:1::1 dst 2001:db8:2::1 proto esp reqid R mode tunnel'
kind 'IPComp, then ESP between the same addresses, which it does not name' dirs=
policy 'src 10.206.2.0/24 dst 10.206.1.0/24 dir out
	tmpl src 192.0.2.1 dst 198.51.100.1 proto comp reqid R mode tunnel
	tmpl proto esp reqid R mode transport'
kind 'no template: allow, block' dirs=
policy 'src 10.207.1.0/24 dst 10.207.2.0/24 dir out priority R action allow'
policy 'src 10.207.2.0/24 dst 10.207.1.0/24 dir fwd priority R action block'
policy 'src 2001:db8:e:1::/64 dst 2001:db8:e:2::/64 dir in priority R action block'
kind 'traps' dirs=
policy 'src 10.208.1.0/24 dst 10.208.2.0/24 dir out priority R
	tmpl src 0.0.0.0 dst 0.0.0.0 proto esp mode transport'
policy 'src 2001:db8:f:1::/64 dst 2001:db8:f:2::/64 dir out priority R
	tmpl src :: dst :: proto esp mode transport'
policy 'src 10.208.3.0/24 dst 10.208.4.0/24 dir out
	tmpl src 0.0.0.0 dst 198.51.100.1 proto esp reqid R mode tunnel'
kind 'AH' dirs=
policy 'src 10.209.1.0/24 dst 10.209.2.0/24 dir out
	tmpl src 192.0.2.1 dst 198.51.100.1 proto ah reqid R mode tunnel'
kind 'templates that name the SPI' dirs=
policy 'src 10.205.1.0/24 dst 10.205.2.0/24 dir out
	tmpl src 192.0.2.1 dst 198.51.100.1 proto esp spi SPI1 reqid R mode tunnel'
policy 'src 10.205.2.0/24 dst 10.205.1.0/24 dir in
	tmpl src 198.51.100.1 dst 192.0.2.1 proto esp spi SPI0 reqid R mode tunnel'
