#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# One agent per member: a second one, and a start that fails, say one sentence and leave everything
# as it was: nothing on a first start, else what an earlier agent has left.

load common

setup()
{
	export TOPOLOGY_PREFIX=${TOPOLOGY_PREFIX:-espalier-start}
	source tests/lib/topology.sh
	PATH=$PWD/build:$PWD/build/tests:$PATH
	topology_up 1
	config=$(member_config 0 "$PACE")
	state=$(member_state 0)
	pin=$state/bpf/espalier
}

# What is attached where, the programs that have our maps, the guard's settings, the view but for its clock. (Where
# several share an interface, the program there is a dispatcher, which may be made anew.)
snapshot()
{
	local view map
	view=$(bpftool -j map show pinned "$pin/view" | jq .id)
	in_member 0 bpftool -j net show | jq -c 'del(.[].xdp[].id)'
	bpftool -j prog show | jq -c "[.[] | select((.map_ids // []) | index($view)) | .id]"
	bpftool -j map dump pinned "$pin/settings" | jq -c '.[0].value'
	bpftool -j map dump pinned "$pin/view" |
		jq '.[0].formatted.value | del(.heartbeat_ns, .lease_jiffies)' | sha256sum
	for map in sas pins; do
		bpftool map dump pinned "$pin/$map"
	done
	ls "$pin"
}

same() { [ "$before" = "$(snapshot)" ]; }

# The kernel frees programs in its own time.
unchanged()
{
	wait_until 2 same || diff <(echo "$before") <(snapshot)
}

# What anybody can see of an agent that is not there.
nothing_left()
{
	local found file
	found=$(in_member 0 bpftool -j net show)
	[[ $found != *espalier_* ]] || return
	[ ! -e "$pin" ] || return
	for file in "$state"/*; do
		[[ ${file##*/} =~ ^(bpf|log|pid|espalier.conf|other.conf|journal.lock|small|socket)$ ]] || return
	done
}

# refused SENTENCE COMMAND...: exit status 1 and this one line, where * stands for anything.
refused()
{
	local sentence=$1
	shift
	run in_member 0 timeout 10 "$@"
	echo "status $status: $output"
	[ "$status" = 1 ]
	if [ "$1" = refuse ]; then
		[ "${lines[0]}" = "refuse: refused" ]
		lines=("${lines[@]:1}")
	fi
	[ "${#lines[@]}" = 1 ]
	# shellcheck disable=SC2053 # a pattern
	[[ ${lines[0]} == espalierd:\ $sentence ]]
}

# other SED-SCRIPT: a second configuration; what it is called.
other()
{
	sed "$1" "$config" >"$state/other.conf"
	echo "$state/other.conf"
}

start_good()
{
	member_start 0 espalierd "$config"
	wait_until 10 active 0
}

# An SA of the cluster as the guard knows it: the agent hears of it from the kernel only where that has ESP.
guard_knows_one()
{
	local key value
	key=$(printf '%02x ' 192 0 2 100)$(printf '00 %.0s' {1..12})'11 22 33 44 02 '$(printf '00 %.0s' {1..11})
	value=$(printf '00 %.0s' {1..72})
	# shellcheck disable=SC2086 # bytes
	bpftool map update pinned "$pin/sas" key hex $key value hex $value
}

@test "a second agent is refused, whatever of the configuration it shares, and changes nothing" {
	start_good
	before=$(snapshot) pid=$(member_pid 0)
	refused "The journal $state/journal is in use by process $pid: *" espalierd "$config"
	unchanged
	refused "The journal $state/journal is in use by process $pid: *" \
		espalierd "$(other 's/^Id = 0/Id = 1/; s/^Sync = 10.255.0.10/Sync = 10.255.0.10/')"
	unchanged
	in_member 0 ip address add 192.0.2.77/32 dev lo
	refused "The journal $state/journal is in use by process $pid: *" \
		espalierd "$(other "s/^Address = .*/Address = 192.0.2.77/")"
	unchanged
	refused "the pin folder $pin is in use by process $pid: stop that first" \
		espalierd "$(other "s|^Journal = .*|Journal = $state/journal2|; s|^Control = .*|Control = $state/control2|")"
	unchanged
	refused "another espalierd runs in this network namespace: stop that first" \
		espalierd "$(other "s|^Journal = .*|Journal = $state/journal2|; s|^Pin = .*|Pin = ${pin}2|")"
	unchanged
	[ ! -e "${pin}2" ]
	[ ! -e "$state/journal2" ]
	[ "$(field 0 status .state)" = active ]
}

@test "an agent is the only one on an interface that was renamed, or is another one of its name" {
	local elsewhere="s|^Journal = .*|Journal = $state/journal2|; s|^Pin = .*|Pin = ${pin}2|; s|^Control = .*|Control = $state/control2|"
	local only="another espalierd runs in this network namespace: stop that first"
	start_good
	for interface in outer inner sync; do
		in_member 0 ip link set $interface name ${interface}9
	done
	before=$(snapshot)
	refused "$only" espalierd "$(other "$elsewhere; s/^\(Outer\|Inner\|Sync\) = [a-z]*$/&9/")"
	refused "$only" espalierd --detach "$state/other.conf"
	refused "$only" espalierd --detach "$(other "$elsewhere")" # these are not there
	unchanged
	[ ! -e "${pin}2" ]
	in_member 0 ip link add outer type veth peer name outer-end
	wait_until 2 steered inner9 outer sync9
	in_member 0 ip link set outer name outer8
	before=$(snapshot)
	refused "$only" espalierd --detach "$(other "$elsewhere; s/^Outer = .*/Outer = outer8/")"
	unchanged
}

@test "--detach beside a running agent is refused, and -t is not" {
	start_good
	before=$(snapshot)
	refused "the pin folder $pin is in use by process $(member_pid 0): stop that first" espalierd --detach "$config"
	refused "another espalierd runs in this network namespace: stop that first" \
		espalierd --detach "$(other "s|^Pin = .*|Pin = ${pin}2|")"
	run in_member 0 espalierd -t "$config"
	[ "$output" = "$config: good" ]
	unchanged
	member_stop 0
	unchanged
	in_member 0 espalierd --detach "$config"
	rm "$state/journal" "$state/journal.boot"
	nothing_left
}

@test "a frozen agent is still the only one" {
	start_good
	before=$(snapshot)
	member_freeze 0
	refused "*is in use by process*" espalierd "$config"
	refused "*is in use by process*" espalierd --detach "$config"
	unchanged
	member_thaw 0
}

# fails_... SENTENCE [CONFIGURATION]: as a first start, which leaves nothing; as a restart, which leaves
# what was there. `under`: by what the agent is started.
under=()
fails_first()
{
	refused "$1" "${under[@]}" espalierd "${2:-$config}"
	nothing_left
}

fails_again()
{
	before=$(snapshot)
	refused "$1" "${under[@]}" espalierd "${2:-$config}"
	unchanged
}

@test "the sync port is in use" {
	start_in m0 python3 -c 'import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("'"$(sync_address 0)"'", 6311))
print(flush = True)
time.sleep(60)' >"$state/socket"
	user=$!
	wait_until 5 test -s "$state/socket"
	fails_first "cannot bind the sync channel to $(sync_address 0), UDP port 6311: Address already in use"
	kill $user
	wait $user || true
	start_good
}

@test "the control socket cannot be made, or is another's" {
	fails_first "cannot make the control socket /proc/nowhere/control: No such file or directory" \
		"$(other 's|^Control = .*|Control = /proc/nowhere/control|')"
	echo precious >"$state/socket"
	fails_first "*: the control socket $state/socket is something else already: *" \
		"$(other "s|^Control = .*|Control = $state/socket|")"
	[ "$(cat "$state/socket")" = precious ]
	start_good
	member_stop 0
	rm "$state/socket"
	start_in m0 python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
s.listen()
time.sleep(60)' "$state/socket"
	user=$!
	wait_until 5 test -S "$state/socket"
	fails_again "the control socket $state/socket is in use by another process: *" \
		"$(other "s|^Control = .*|Control = $state/socket|")"
	[ -S "$state/socket" ]
	kill $user
	wait $user || true
	start_good
}

@test "another XDP program is attached alone" {
	in_member 0 ip link set dev sync xdpdrv object "$TOPOLOGY_PASS" section xdp
	fails_first "sync: the XDP program \"*\" is attached there alone, *"
	in_member 0 ip link set dev sync xdp off
	start_good
	member_stop 0
	in_member 0 ip link set dev sync xdp off
	in_member 0 ip link set dev sync xdpdrv object "$TOPOLOGY_PASS" section xdp
	fails_again "sync: the XDP program \"*\" is attached there alone, *"
	in_member 0 ip link set dev sync xdp off
	start_good
}

@test "the journal cannot be written" {
	mkdir -p "$state/small"
	mount -t tmpfs -o size=4k,nr_inodes=2 tmpfs "$state/small"
	fails_first "The journal $state/small/journal cannot be used: No space left on device" \
		"$(other "s|^Journal = .*|Journal = $state/small/journal|")"
	umount "$state/small"
	mkdir "$state/journal.new"
	refused "The journal $state/journal cannot be used: Is a directory" espalierd "$config"
	rmdir "$state/journal.new"
	nothing_left
	start_good
}

@test "the journal is another member's, or of other blocks" {
	start_good
	member_stop 0
	sum=$(sha256sum <"$state/journal")
	fails_again "The journal $state/journal is of member 0 with blocks of 2^16 numbers and *" \
		"$(other 's/^PresharedKeyFile/BlockBits = 12\n&/')"
	in_member 0 ip address add 10.255.0.99/24 dev sync
	fails_again "The journal $state/journal is of member 0 *" \
		"$(other 's/^Id = 0/Id = 1/; s/^Sync = 10.*/Sync = 10.255.0.99/')"
	[ "$(sha256sum <"$state/journal")" = "$sum" ]
	[ ! -e "$state/journal.old" ]
	start_good
}

@test "pinned maps of another layout, or of other settings while SAs are in them" {
	start_good
	member_stop 0
	fails_again "the pinned map $pin/sas has another layout *" "$(other 's/^Outer = outer/&\nMaxSAs = 4711/')"
	guard_knows_one
	in_member 0 ip address add 192.0.2.77/32 dev lo
	fails_again "$pin has SAs that are guarded by other settings (Address $CLUSTER_OUTER is gone): *" \
		"$(other "s/^Address = .*/Address = 192.0.2.77/")"
	rm "$state/journal" # what else would tell
	fails_again "$pin has SAs that are guarded by other settings (BlockBits was 16, is 12): *" \
		"$(other 's/^PresharedKeyFile/BlockBits = 12\n&/')"
	[ ! -e "$state/journal" ]
	start_good
}

# steered INTERFACE...: on these and no others is an XDP program.
steered()
{
	[ "$(in_member 0 ip -json link show | jq -r '[.[] | select(.xdp).ifname] | sort | join(" ")')" = "$*" ]
}

# limited LIMIT: true if a start under it gets through. If not, its sentence is in the log.
limited()
{
	: >"$state/log"
	member_start 0 prlimit "$1" espalierd "$config"
	wait_until 10 ended_or_serves
	member_runs 0
}

ended_or_serves() { member_ended 0 || grep -q "member 0 of cluster" "$state/log"; }

# lacks CAUSE: one sentence that ends with it.
lacks()
{
	cat "$state/log"
	[ "$(grep -c . "$state/log")" = 1 ]
	grep -Eq "($1)$" "$state/log"
}

@test "a start that lacks descriptors, at whatever step, changes nothing" {
	# libbpf then takes the kernel for an old one, and libxdp the lack for its own fault
	local none="Too many open files|the BPF program .*: Invalid argument|the XDP program .*: Bad file descriptor"
	for ((first = 4; first < 99; first++)); do
		limited --nofile=$first && break
		lacks "$none"
		nothing_left
	done
	[ $first -lt 99 ]
	[ $first -gt 20 ] # it has failed at several steps
	member_stop 0
	before=$(snapshot)
	for ((again = 26; again < 99; again++)); do
		limited --nofile=$again && break
		lacks "$none"
		unchanged
	done
	[ $again -lt 99 ]
	[ $again -gt 40 ]
	member_kill 0
	start_good
}

@test "a start that lacks memory, at whatever step, changes nothing" {
	# with less not even all shared libraries get in
	local lowest=$((20 << 20)) step=$((2 << 20)) none="out of memory|Resource temporarily unavailable|Cannot allocate memory.*|error while loading.*"
	for ((first = lowest; first < 64 << 20; first += step)); do
		limited --as=$first && break
		lacks "$none"
		nothing_left
	done
	[ $first -lt $((64 << 20)) ]
	[ $first -gt $((lowest + 4 * step)) ]
	member_stop 0
	before=$(snapshot)
	for ((again = first - 4 * step; again < 64 << 20; again += step)); do
		limited --as=$again && break
		lacks "$none"
		unchanged
	done
	[ $again -lt $((64 << 20)) ]
	member_stop 0
	in_member 0 espalierd --detach "$config"
	rm "$state/journal" "$state/journal.boot"
	under=(prlimit "--as=$first")
	fails_first "no memory for the counters of 4194304 SAs: give it more, or lower MaxSAs" \
		"$(other 's/^Outer = outer/&\nMaxSAs = 4194304/')"
	under=(refuse bpf:0=0 0 12) # BPF_MAP_CREATE, ENOMEM
	fails_first "the kernel does not take the BPF program espalier_guard: Cannot allocate memory; *"
}

@test "the kernel refuses the guard" {
	in_member 0 build/tests/netns/tcx before outer 63
	fails_first "outer: cannot attach the guard at tc egress (TCX): the kernel allows no more programs there, *"
	in_member 0 build/tests/netns/tcx take-off outer other
	under=(refuse bpf:0=8 0 1) # BPF_PROG_ATTACH, EPERM
	fails_first "outer: cannot attach the guard at tc egress (TCX): Operation not permitted"
	start_good
	member_stop 0
	fails_again "outer: cannot attach the guard at tc egress (TCX): Operation not permitted"
	under=()
	in_member 0 build/tests/netns/tcx before outer 62
	fails_again "outer: cannot attach the guard at tc egress (TCX): the kernel allows no more programs there, *"
	in_member 0 build/tests/netns/tcx take-off outer other
	start_good
}

@test "the kernel does not tell of its SAs and policies" {
	local sentence="cannot read the kernel's SAs and policies (XFRM netlink)"
	under=(refuse socket:0=16:2=6 0 93) # NETLINK_XFRM, EPROTONOSUPPORT
	fails_first "$sentence: Protocol not supported; load the kernel module xfrm_user"
	under=(refuse sendto:2=16 0 105) # the request for policies, after that for SAs; ENOBUFS
	fails_first "$sentence: No buffer space available"
	start_good
	member_stop 0
	guard_knows_one
	fails_again "$sentence: No buffer space available"
	start_good
}

@test "the agent lacks a capability" {
	local sentence="not allowed to load BPF programs *: run as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN"
	under=(setpriv --bounding-set -sys_admin)
	fails_first "$sentence"
	start_good
	member_stop 0
	fails_again "$sentence"
	under=(setpriv --bounding-set -net_admin)
	fails_again "$sentence"
	start_good
}

@test "an agent that starts on other interfaces leaves the earlier ones" {
	start_good
	member_stop 0
	in_member 0 ip link add extra type veth peer name extra-peer
	in_member 0 ip link set extra-peer up
	in_member 0 ip link set extra up
	member_start 0 espalierd "$(other 's/^Outer = outer/Outer = extra\nTransport = udp/')"
	wait_until 10 active 0
	steered extra inner
	member_stop 0
	start_good
	steered inner outer sync
	member_stop 0
	# detached by a configuration that does not name it
	in_member 0 espalierd --detach "$state/other.conf"
	rm "$state/journal" "$state/journal.boot"
	nothing_left
}
