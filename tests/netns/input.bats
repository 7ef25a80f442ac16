#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Bad input at the command line: one sentence each that says what, where and what to do, a non-zero
# exit, nothing left behind. The file's own mistakes, each of them, are in tests/unit/test_config.c.

setup()
{
	cd "$BATS_TEST_DIRNAME/../.." || return
	export TOPOLOGY_PREFIX=${TOPOLOGY_PREFIX:-espalier-input}
	source tests/lib/topology.sh
	PATH=$PWD/build:$PATH
	topology_up 1
	config=$(member_config 0)
}

teardown() { topology_down; }

# refused SENTENCE COMMAND...: exit status 1 and this one line, where * stands for anything.
refused()
{
	local sentence=$1
	shift
	run in_member 0 timeout 10 "$@"
	echo "status $status: $output"
	[ "$status" = 1 ]
	[ "${#lines[@]}" = 1 ]
	# shellcheck disable=SC2053 # a pattern
	[[ $output == espalierd:\ $sentence ]]
	[ ! -e "$(member_state 0)/bpf/espalier" ]
	[ "$(in_member 0 ip -json link show outer | jq -r '.[0].xdp // "none"')" = none ]
}

@test "a good configuration is said to be good" {
	run in_member 0 espalierd -t "$config"
	[ "$status" = 0 ]
	[ "$output" = "$config: good" ]
}

@test "an unknown key" {
	sed -i '2i Adress = 192.0.2.1' "$config"
	refused "*espalier.conf:2: *Adress*" espalierd -t "$config"
	refused "*espalier.conf:2: *Adress*" espalierd "$config"
}

@test "a member id out of range" {
	printf '[Member]\nId = 16\nSync = 10.255.0.99\n' >>"$config"
	refused "*espalier.conf:*16*0 to 15*" espalierd "$config"
}

@test "a member id that is there twice" {
	printf '[Member]\nId = 0\nSync = 10.255.0.99\n' >>"$config"
	refused "*espalier.conf:*0*" espalierd "$config"
}

@test "an interface that is not there" {
	sed -i 's/^Outer = .*/Outer = nowhere0/' "$config"
	refused "*espalier.conf:*nowhere0*" espalierd "$config"
}

@test "an interface that is given twice" {
	sed -i 's/^Inner = inner/Inner = outer/' "$config"
	refused "*espalier.conf:*: Inner outer is the interface of Outer, too: *" espalierd -t "$config"
	refused "*espalier.conf:*: Inner outer is the interface of Outer, too: *" espalierd "$config"
	sed -i 's/^Inner = outer/Inner = inner/; s/^Sync = sync/Sync = outer/' "$config"
	refused "*espalier.conf:*: Sync outer is the interface of Outer, too: *" espalierd -t "$config"
}

@test "a folder as the journal" {
	sed -i "s,^Journal = .*,Journal = $(topology_state)," "$config"
	refused "*espalier.conf:*: the journal $(topology_state) is a folder: *" espalierd -t "$config"
}

@test "a certificate that its CA does not know, that is no certificate, that is another key's" {
	state=$(topology_state)
	for name in ca own other; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$name \
			-addext "subjectAltName=IP:$(sync_address 0)" -keyout "$state/$name.key" -out "$state/$name.pem"
	done
	sed -i "s,^PresharedKeyFile = .*,CertificateFile = $state/own.pem\nPrivateKeyFile = $state/own.key\nCAFile = $state/ca.pem," \
		"$config"
	refused "*espalier.conf: certificate $state/own.pem is not good by CA file $state/ca.pem: *" espalierd -t "$config"
	sed -i "s,^CAFile = .*,CAFile = $state/own.pem," "$config"
	run in_member 0 espalierd -t "$config"
	[ "$output" = "$config: good" ]
	sed -i "s,^PrivateKeyFile = .*,PrivateKeyFile = $state/other.key," "$config"
	refused "*espalier.conf: private key $state/other.key is not that of certificate *" espalierd -t "$config"
	sed -i "s,^CertificateFile = .*,CertificateFile = $state/own.key," "$config"
	refused "*espalier.conf: certificate $state/own.key: *" espalierd -t "$config"
}

@test "a key file that others can read" {
	chmod 644 "$(topology_state)/key"
	refused "*key*chmod*" espalierd "$config"
}

@test "a cluster address that is not on lo" {
	in_member 0 ip address del "$CLUSTER_OUTER/32" dev lo
	refused "*$CLUSTER_OUTER*lo*" espalierd "$config"
}

@test "an IPv6 cluster address that is not on lo, then is" {
	in_member 0 sysctl -q -w net.ipv6.conf.lo.disable_ipv6=0
	sed -i 's/^Address = .*/&, 2001:db8::1/' "$config"
	refused "*espalier.conf:*: address 2001:db8::1 is not on lo: ip address add 2001:db8::1/128 dev lo" \
		espalierd "$config"
	in_member 0 ip address add 2001:db8::1/128 dev lo
	run in_member 0 espalierd -t "$config"
	[ "$output" = "$config: good" ]
}

@test "an IPv6 address that is of one link only" {
	sed -i 's/^Address = .*/Address = fe80::1/' "$config"
	refused "*espalier.conf:*: Address fe80::1 *global*" espalierd "$config"
}

@test "an IPv6 address for the sync channel" {
	printf '[Member]\nId = 9\nSync = fd00::9\n' >>"$config"
	refused "*espalier.conf:*: Sync fd00::9 is an IPv6 address: the sync channel is IPv4,*" \
		espalierd "$config"
}

@test "a time that is too long" {
	sed -i 's/^\[Interface\]/&\nAudit = 2h/' "$config"
	refused "*espalier.conf:*: Audit '2h' is not a time: use *" espalierd "$config"
	sed -i 's/^Audit = .*/Audit = 61 min/' "$config"
	refused "*espalier.conf:*: Audit '61 min' is out of range: use *" espalierd "$config"
}

@test "no CAP_BPF" {
	refused "*CAP_BPF*" setpriv --bounding-set -bpf,-sys_admin --inh-caps -bpf,-sys_admin \
		espalierd "$config"
}

@test "a kernel without BTF" {
	mkdir -p "$(topology_state)/empty"
	refused "*BTF*" unshare --mount --propagation private bash -c \
		'mount --bind "$1" /sys/kernel/btf && exec espalierd "$2"' bash "$(topology_state)/empty" "$config"
}

@test "no configuration file, or none named" {
	refused "*nowhere.conf*" espalierd nowhere.conf
	run espalierd
	[ "$status" = 1 ]
	[[ $output == usage:* ]]
}

@test "espalierctl without an agent, with a wrong command, with a wrong SPI" {
	run espalierctl --socket /run/nowhere status
	[ "$status" = 1 ]
	[ "$output" = "espalierctl: cannot reach espalierd at /run/nowhere: No such file or directory (does it run?)" ]
	run espalierctl shine
	[ "$status" = 1 ]
	[[ $output == usage:* ]]
	member_start 0 espalierd "$config"
	wait_until 5 test -S "$(member_state 0)/control"
	run espalierctl --socket "$(member_state 0)/control" owner 0x1ffffffff
	[ "$status" = 1 ]
	[ "$output" = "espalierctl: an SPI is a number from 0 to 0xffffffff" ]
}

@test "espalierctl gives up on an agent that hangs, also when others wait before it" {
	member_start 0 espalierd "$config"
	wait_until 5 test -S "$(member_state 0)/control"
	member_freeze 0
	for _ in {1..12}; do
		espalierctl --socket "$(member_state 0)/control" status 2>/dev/null 3>&- &
	done
	run timeout 60 espalierctl --socket "$(member_state 0)/control" status
	echo "status $status: $output"
	[ "$status" = 1 ]
	[ "$output" = "espalierctl: espalierd has not answered for 3 s: it hangs, or is stopped; kill it, and start it again" ]
	member_thaw 0
	wait
	run espalierctl --socket "$(member_state 0)/control" status
	[ "$status" = 0 ]
}

@test "the agent leaves its programs when it ends, and --detach removes them" {
	member_start 0 espalierd "$config"
	wait_until 5 test -S "$(member_state 0)/control"
	member_stop 0
	[ -e "$(member_state 0)/bpf/espalier/view" ]
	[ "$(in_member 0 build/tests/netns/tcx first outer)" = espalier_guard ]
	in_member 0 espalierd --detach "$config"
	[ -z "$(ls "$(member_state 0)/bpf/espalier" 2>/dev/null)" ]
	run in_member 0 build/tests/netns/tcx first outer
	[[ $output != *espalier* ]]
	[ "$(in_member 0 ip -json link show outer | jq -r '.[0].xdp // "none"')" = none ]
}

@test "no key is in the agent's arguments, log or status, nor in a core dump" {
	member_start 0 espalierd "$config"
	wait_until 5 test -S "$(member_state 0)/control"
	key=$(cat "$(topology_state)/key")
	arguments=$(tr '\0' '\n' <"/proc/$(member_pid 0)/cmdline")
	status=$(espalierctl --json --socket "$(member_state 0)/control" status)
	[[ $arguments == *espalierd* && $arguments != *"$key"* ]]
	[[ $status == *espalier* && $status != *"$key"* ]]
	[[ $(cat "$(member_state 0)/log") != *"$key"* ]]
	grep -q '^Max core file size *0 *0' "/proc/$(member_pid 0)/limits"
	[ "$(stat -c %a "$(member_state 0)/journal")" = 600 ]
	[ "$(stat -c %a "$(member_state 0)/control")" = 600 ]
}
