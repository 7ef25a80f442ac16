# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# cluster.sh - a running cluster with real ESP, for the demo and for tests in the virtual machine:
# agents, Child SAs, streams through them, and a reader of every ESP packet. Source it after
# topology.sh; needs a kernel with ESP.
#
# Pair I is two SAs between the peer and the cluster address, with reqid 100 + I, for what goes
# between the protected hosts and the I-th of eight parts of the client network. It is added on one
# member alone, as an IKE daemon would; espalier does the rest.

CLUSTER_BUILD=${CLUSTER_BUILD:-$(dirname "${BASH_SOURCE[0]}")/../../build}
CLUSTER_TOOLS=$CLUSTER_BUILD/tests
CLUSTER_SETTINGS=${CLUSTER_SETTINGS:-}
CLUSTER_INTERFACE_SETTINGS=${CLUSTER_INTERFACE_SETTINGS:-}
CLUSTER_INTERVAL_US=${CLUSTER_INTERVAL_US:-20000} # of a stream's packets

# What was made: by pair, SPIs as 0x%08x.
pairs=()
declare -A pair_out
declare -A pair_in

# ESP's code is there, or its module can be loaded.
kernel_has_esp()
{
	local name=$TOPOLOGY_PREFIX-probe status

	ip netns add "$name" || return
	ip -n "$name" -batch - >/dev/null 2>&1 <<-END
		xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1000 mode tunnel aead rfc4106(gcm(aes)) 0x$(random_hex 5) 128
	END
	status=$?
	ip netns del "$name"
	return $status
}

# random_hex WORDS: that many times 32 bits.
random_hex()
{
	local word

	for ((word = 0; word < $1; word++)); do
		printf '%08x' "$SRANDOM"
	done
}

# Agents.

# cluster_up MEMBERS: a topology, and an agent on each member; returns when they are one cluster.
cluster_up()
{
	local member

	pairs=() pair_in=() pair_out=()
	topology_up "$1" || return
	for ((member = 0; member < $1; member++)); do
		member_config "$member" "$CLUSTER_SETTINGS" "$CLUSTER_INTERFACE_SETTINGS" >/dev/null || return
		agent_start "$member"
	done
	wait_until 30 cluster_complete "$1"
}

# agent_start MEMBER: without the socket that one has left which was killed, or it would be asked there.
agent_start()
{
	local state=/run/$TOPOLOGY_PREFIX/m$1

	[ ! -S "$state/control" ] || member_runs "$1" || rm "$state/control"
	member_start "$1" "$CLUSTER_BUILD/espalierd" "$state/espalier.conf"
}

# agent_ask MEMBER COMMAND...: espalierctl's answer as JSON, in `answer`. An agent that is not ready has
# no socket yet.
agent_ask()
{
	local socket=/run/$TOPOLOGY_PREFIX/m$1/control

	answer=
	[ -S "$socket" ] &&
		answer=$("$CLUSTER_BUILD/espalierctl" --json --socket "$socket" "${@:2}" 2>/dev/null)
}

# agent_ctl MEMBER COMMAND...: prints it.
agent_ctl()
{
	local answer

	agent_ask "$@" && printf '%s\n' "$answer"
}

# json_into VARIABLE NAME JSON: the first value of that name in it. (jq takes 0.7 s in an emulated
# machine, and each $(...) 7 ms.)
json_into()
{
	[[ $3 =~ \"$2\":\ ?(\"([^\"]*)|([a-z0-9.]+)) ]] &&
		printf -v "$1" %s "${BASH_REMATCH[2]}${BASH_REMATCH[3]}"
}

# json_first NAME JSON: prints it.
json_first()
{
	local first

	json_into first "$@" && echo "$first"
}

# count_into VARIABLE WORD TEXT: how often it is there.
count_into()
{
	local without=${3//"$2"/}

	printf -v "$1" %d $(((${#3} - ${#without}) / ${#2}))
}

# agent_field MEMBER NAME COMMAND...: the first value of that name in the answer.
agent_field()
{
	local answer

	agent_ask "$1" "${@:3}" && json_first "$2" "$answer"
}

# agent_field_of MEMBER NAME OBJECT COMMAND...: the first one after how that object begins.
agent_field_of()
{
	local answer

	agent_ask "$1" "${@:4}" && [[ $answer == *"$3"* ]] && json_first "$2" "${answer#*"$3"}"
}

# How many packets came to that verdict.
agent_packets() # MEMBER REASON
{
	agent_field_of "$1" packets "\"reason\":\"$2\"" reasons
}

# As that member has it, so many are in the view.
members_in_view() # MEMBER N
{
	local answer members

	agent_ask "$1" members && count_into members '"in_view":true' "$answer" && [ "$members" = "$2" ]
}

# Members 0 to MEMBERS - 1 are in the view, and all agree on that.
cluster_complete()
{
	local members=$1 member

	for ((member = 0; member < members; member++)); do
		members_in_view "$member" "$members" || return
	done
}

# They hold all SAs and policies of all pairs in their kernels, and none more.
cluster_installed()
{
	local members=$1 member answer

	for ((member = 0; member < members; member++)); do
		agent_ask "$member" status &&
			[[ $answer =~ \"sas\":$((2 * ${#pairs[@]}))[,[:space:]] ]] &&
			[[ $answer =~ \"policies\":$((3 * ${#pairs[@]}))[,[:space:]] ]] &&
			[[ $answer =~ \"missing\":0[,[:space:]] ]] || return
	done
}

owner_of() { agent_field "$1" owner owner "$2"; }

# Child SAs.

pair_net() { echo "10.2.0.$((32 * $1))/27"; }
pair_client() { echo "10.2.0.$((32 * $1 + 5))"; }

# An SPI whose bucket that member owns.
spi_of()
{
	local member=$1 spi answer owner

	for ((;;)); do
		printf -v spi '0x%08x' "$SRANDOM"
		((spi > 255)) && agent_ask "$member" owner "$spi" && json_into owner owner "$answer" &&
			[ "$owner" = "$member" ] && break
	done
	echo "$spi"
}

# Keys go by stdin: other users may read what is in argv.
pair_states()
{
	local reqid=$1 in=$2 out=$3 keys=$4 flags=$5

	echo "xfrm state add src $PEER_OUTER dst $CLUSTER_OUTER proto esp spi $in reqid $reqid" \
		"mode tunnel $flags aead rfc4106(gcm(aes)) 0x${keys%:*} 128"
	echo "xfrm state add src $CLUSTER_OUTER dst $PEER_OUTER proto esp spi $out reqid $reqid" \
		"mode tunnel $flags aead rfc4106(gcm(aes)) 0x${keys#*:} 128"
}

# policies LOCAL-NET REMOTE-NET LOCAL-ADDRESS REMOTE-ADDRESS REQID
pair_policies()
{
	local ours="src $1 dst $2" theirs="src $2 dst $1"
	local out="tmpl src $3 dst $4 proto esp reqid $5 mode tunnel"
	local in="tmpl src $4 dst $3 proto esp reqid $5 mode tunnel"

	echo "xfrm policy add $ours dir out $out"
	echo "xfrm policy add $theirs dir in $in"
	echo "xfrm policy add $theirs dir fwd $in"
}

# pair_add I MEMBER [esn]: new keys and SPIs; the policies, too, unless the pair has them already.
pair_add()
{
	local pair=$1 member=$2 reqid=$((100 + $1)) flags="replay-window 32" keys in out

	[ "${3:-}" != esn ] || flags="flag esn replay-window 128"
	in=$(spi_of "$member") out=0x$(random_hex 1)
	keys=$(random_hex 5):$(random_hex 5)
	{
		pair_states "$reqid" "$in" "$out" "$keys" "$flags"
		[ -n "${pair_in[$pair]:-}" ] || pair_policies "$(pair_net "$pair")" \
			"$HOST_NET" "$PEER_OUTER" "$CLUSTER_OUTER" "$reqid"
	} | topology_ip peer || return
	{
		pair_states "$reqid" "$in" "$out" "$keys" "$flags"
		[ -n "${pair_in[$pair]:-}" ] || pair_policies "$HOST_NET" \
			"$(pair_net "$pair")" "$CLUSTER_OUTER" "$PEER_OUTER" "$reqid"
	} | topology_ip "m$member" || return
	[ -n "${pair_in[$pair]:-}" ] || {
		pairs+=("$pair")
		ip_in client addr add "$(pair_client "$pair")/24" dev peer
	} || return
	pair_in[$pair]=$in
	# shellcheck disable=SC2034 # for the caller
	pair_out[$pair]=$out
}

pair_delete() # IN OUT
{
	echo "xfrm state delete src $PEER_OUTER dst $CLUSTER_OUTER proto esp spi $1"
	echo "xfrm state delete src $CLUSTER_OUTER dst $PEER_OUTER proto esp spi $2"
}

# Streams: for each pair one in each direction, "up" from the client to the host, "down" from the
# host to the client.

stream_senders=() stream_receivers=()

stream_file() { echo "/run/$TOPOLOGY_PREFIX/streams/$1-$2-$3.json"; }

# start_stream NAMESPACE send|receive OPTION...: in the background; $! is its process id.
start_stream()
{
	"$CLUSTER_TOOLS/stream" "${@:2}" --namespace "/run/netns/$TOPOLOGY_PREFIX-$1" </dev/null 3>&- &
}

stream_start() # PAIR up|down
{
	local pair=$1 direction=$2 from to source target

	case $direction in
	up) from=client source=$(pair_client "$pair") to=host target=$HOST:$((5000 + pair)) ;;
	down) from=host source=$HOST to=client target=$(pair_client "$pair"):$((6000 + pair)) ;;
	esac
	start_stream "$to" receive --bind "$target" --seconds 600 \
		--json "$(stream_file "$direction" "$pair" received)"
	stream_receivers+=($!)
	start_stream "$from" send --from "$source" --to "$target" --seconds 600 \
		--interval-us "$CLUSTER_INTERVAL_US" --json "$(stream_file "$direction" "$pair" sent)"
	stream_senders+=($!)
}

streams_start()
{
	local pair

	rm -rf "$(topology_state)/streams"
	mkdir "$(topology_state)/streams"
	stream_senders=() stream_receivers=()
	for pair in "${pairs[@]}"; do
		stream_start "$pair" up
		stream_start "$pair" down
	done
}

none_runs()
{
	local pid

	for pid; do
		! kill -0 "$pid" 2>/dev/null || return
	done
}

# Ends the senders, and then the receivers, which may never see an end.
streams_stop()
{
	kill -TERM "${stream_senders[@]}"
	wait "${stream_senders[@]}"
	wait_until 3 none_runs "${stream_receivers[@]}" || kill -TERM "${stream_receivers[@]}" 2>/dev/null
	wait "${stream_receivers[@]}"
}

# streams_report DIRECTION [PAIR...]: over these streams, by default all, how many packets were sent, had
# arrived, arrived twice; how many streams had nothing arrive, had no end arrive; the longest gap, in ms.
streams_report()
{
	local direction=$1 pair files file sent=0 received=0 duplicates=0 silent=0 unended=0 gap=0 one
	files=$(topology_state)/streams/$1
	shift

	for pair in "${@:-${pairs[@]}}"; do
		file=$(<"$files-$pair-sent.json") && json_into one sent "$file" || return
		sent=$((sent + one))
		file=$(<"$files-$pair-received.json") && json_into one duplicates "$file" || return
		duplicates=$((duplicates + one))
		json_into one complete "$file" && [ "$one" = true ] || unended=$((unended + 1))
		json_into one received "$file" || return
		received=$((received + one))
		[ "$one" != 0 ] || silent=$((silent + 1))
		json_into one ms "$file" || return
		[ "${one/./}" -le "${gap/./}" ] || gap=$one
	done
	echo "$sent $received $duplicates $silent $unended $gap"
}

# The wire: what the cluster emits, read where the peer gets it, at these interfaces and addresses
# of its.

CLUSTER_WIRES=${CLUSTER_WIRES:-outer}
CLUSTER_PEERS=${CLUSTER_PEERS:-$PEER_OUTER}

declare -A wire_pid

wire_file() { echo "/run/$TOPOLOGY_PREFIX/wire-$1.json"; }

wire_is_read() { [[ $(<"$1") == *watching* ]]; }

# wire_start NAME [OPTION...]: of espwatch.
wire_start()
{
	local name=$1 address options=() said
	said=$(topology_state)/wire-$1.log
	shift

	for address in $CLUSTER_PEERS; do
		options+=(--destination "$address")
	done
	# shellcheck disable=SC2086 # several
	start_in peer "$CLUSTER_TOOLS/espwatch" "${options[@]}" "$@" --json "$(wire_file "$name")" \
		$CLUSTER_WIRES >"$said" 2>&1
	wire_pid[$name]=$!
	wait_until 5 wire_is_read "$said"
}

# Fails when packets were missed.
wire_stop()
{
	kill -TERM "${wire_pid[$1]}" && wait "${wire_pid[$1]}"
}

wire_packets() { json_first packets "$(<"$(wire_file "$1")")"; }
wire_duplicates() { json_first duplicates "$(<"$(wire_file "$1")")"; }
