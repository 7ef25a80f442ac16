#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Policies that lead to no SA, or do not say to which: all members have them, whatever becomes of
# the one on which they were made. No SA is needed.

load common

# What the tests have in common, once the topology is there.
names()
{
	NETS="src $HOST_NET dst $CLIENT_NET dir out"
	TUNNEL="tmpl src $CLUSTER_OUTER dst $PEER_OUTER proto esp reqid 7 mode tunnel"
	TRAP="tmpl src 0.0.0.0 dst 0.0.0.0 proto esp mode transport"
	IN_WORDS="out $HOST_NET to $CLIENT_NET"
	IS_TUNNEL="$IN_WORDS: esp tunnel $CLUSTER_OUTER to $PEER_OUTER reqid 7"
}

policy() # MEMBER COMMAND...
{
	local member=$1
	shift
	# shellcheck disable=SC2048,SC2086 # words
	in_member "$member" ip xfrm policy $*
}

# has MEMBER TEXT: espalierctl shows it, and the kernel has as many.
has()
{
	[ "$(field "$1" policy ".[] | select(.local | not).policy")" = "$2" ] &&
		[ "$(in_member "$1" ip -o xfrm policy list | grep -c "dir out")" = $((${#2} > 0)) ]
}

all_have() { for member in 0 1 2; do wait_until 5 has $member "$1"; done; }

reaches() { in_host ping -q -c 2 -i 0.2 -W 1 "$CLIENT" >/dev/null; }

@test "a tunnel's policy that becomes a trap keeps traffic from leaving in the clear on all members" {
	names
	start 3
	wait_until 10 active 0 1 2
	wait_until 5 reaches
	policy 0 add "$NETS" "$TUNNEL"
	all_have "$IS_TUNNEL"
	run reaches
	[ "$status" != 0 ]
	policy 0 update "$NETS" "$TRAP"
	all_have "$IN_WORDS: esp transport 0.0.0.0 to 0.0.0.0 reqid 0"
	member_off 0
	wait_until 5 active 1 2
	run reaches
	[ "$status" != 0 ]
	policy 1 delete "$NETS" # who made it is gone
	wait_until 5 has 2 ""
	wait_until 5 reaches
}

@test "a policy that blocks is on all members until whoever made it deletes it" {
	names
	start 3
	wait_until 10 active 0 1 2
	policy 1 add "$NETS" action block
	all_have "$IN_WORDS: block"
	policy 2 flush
	wait_until 5 grep -q "somebody flushed" "$(member_state 2)/log"
	all_have "$IN_WORDS: block"
	policy 0 update "$NETS" action block # the same is made on a second one
	policy 1 delete "$NETS"
	wait_until 5 grep -q "was made here, too" "$(member_state 0)/log"
	all_have "$IN_WORDS: block"
	run reaches
	[ "$status" != 0 ]
	policy 0 delete "$NETS"
	all_have ""
	wait_until 5 reaches
}

@test "policies of an interface stay, and are listed" {
	names
	start 2
	wait_until 10 active 0 1
	policy 0 add "$NETS" "$TUNNEL"
	policy 0 add "src $HOST_NET dst $CLIENT_NET dev outer dir out priority 1 action block"
	wait_until 5 has 1 "$IS_TUNNEL"
	[ "$(field 0 policy '.[] | select(.local) | .policy + "; " + .local')" = \
		"$IN_WORDS dev outer: block; its selector is bound to an interface" ]
	[ "$(grep -c "not copied: its selector is bound to an interface" "$(member_state 0)/log")" = 1 ]
	[ "$(field 0 status .local_policies)" = 1 ]
	policy 0 delete "src $HOST_NET dst $CLIENT_NET dev outer dir out"
	[ "$(field 0 status .local_policies)" = 0 ]
	has 1 "$IS_TUNNEL"
}
