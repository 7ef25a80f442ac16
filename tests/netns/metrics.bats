#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Metrics of clusters in network namespaces: by HTTP, in a file, and as a real Prometheus has them.

load common

# request MEMBER METHOD [PATH]: the answer, with its headers.
request()
{
	in_member "$1" timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/9742 && printf "%s %s HTTP/1.0\r\n\r\n" "$@" >&3 && cat <&3' \
		- "$2" "${3:-/metrics}"
}

# metric MEMBER SERIES: its value.
metric() { request "$1" GET | sed -n "s|^$2 ||p"; }

is_served() { request "$1" GET 2>/dev/null | grep -q '^espalier_build_info'; }

answers() { request "$1" GET 2>/dev/null | head -n 1 | grep -q ' 200 '; }

@test "what espalierctl knows is served on loopback, and only there" {
	start 2
	wait_until 10 active 0 1
	wait_until 5 is_served 0
	run request 0 GET
	[[ ${lines[0]} == "HTTP/1."*" 200 OK"* ]]
	grep -q '^Content-Type: text/plain; version=0.0.4; charset=utf-8' <<<"$output"
	for pair in epoch:view_epoch buckets:buckets sas:sas max_sas:records_limit barred:barred_sas \
		pins:pins takeovers:takeovers_total blocks_entered:blocks_entered_total \
		install_failed:install_failures_total malformed:malformed_datagrams_total slept:sleeps_total; do
		[ "$(field 0 status ".${pair%:*}")" = "$(metric 0 "espalier_${pair#*:}")" ]
	done
	[ "$(metric 0 'espalier_state{state="active"}')" = 1 ]
	[ "$(metric 0 'espalier_state{state="standby"}')" = 0 ]
	[ "$(metric 1 'espalier_member_session{member="0"}')" = 1 ]
	[ "$(metric 1 'espalier_member_buckets{member="0"}')" = "$(field 1 members '.[0].buckets')" ]
	in_peer espsend --from "$PEER_OUTER" --to "$CLUSTER_OUTER" --spi "$(spi_of 0)" --count 20
	[ "$(metric 0 'espalier_packets_total{reason="local"}')" = "$(reason 0 local)" ]
	[ "$(reason 0 local)" -ge 20 ]
	[ "$(metric 0 espalier_journal_good)" = 1 ]
	[ "$(metric 0 espalier_loop_seconds_count)" -gt 10 ]
	run in_member 0 timeout 5 bash -c 'exec 3<>/dev/tcp/'"$(sync_address 0)"'/9742'
	[ "$status" = 1 ]
}

@test "each key that espalierctl prints is in the table of metrics, and each counted packet" {
	start 2
	wait_until 10 active 0 1
	keys=$( (ctl 0 status | jq -r '[., .sync, .ike, .datapath] | .[] | keys[]'
		ctl 0 members | jq -r '.[] | keys[]') | grep -v '^barred_' | sort -u)
	[ "$(wc -l <<<"$keys")" -gt 50 ]
	for key in $keys; do
		grep -q "{\"$key\"," agent/metrics.c || { echo "$key is in no table of agent/metrics.c" && false; }
	done
	wait_until 5 is_served 0
	diff <(ctl 0 reasons | jq -r '.[].reason' | sort) \
		<(request 0 GET | sed -n 's/^espalier_packets_total{reason="\(.*\)"} .*/\1/p' | sort)
}

@test "those of SAs are there for who asks for them" {
	topology_up 2
	member_start 0 espalierd "$(member_config 0 "$PACE" 'MetricsSas = yes')"
	member_start 1 espalierd "$(member_config 1 "$PACE")"
	wait_until 10 active 0 1
	wait_until 5 is_served 0
	[ "$(request 0 GET | grep -c '^# TYPE espalier_sa_')" = 5 ]
	[ "$(request 1 GET | grep -c '^# TYPE espalier_sa_')" = 0 ]
	request 0 GET | grep -v '^# TYPE espalier_sa_' | grep -q '^process_resident_memory_bytes '
}

@test "nobody may do more than read, and idle connections do no harm" {
	start 2
	wait_until 10 active 0 1
	wait_until 5 is_served 0
	run request 0 POST
	[[ ${lines[0]} == *" 405 "* ]]
	run request 0 GET /../../etc/passwd
	[[ ${lines[0]} == *" 404 "* ]]
	slept=$(field 0 status .slept) epoch=$(field 0 status .epoch)
	in_member 0 bash -c 'for ((i = 0; i < 100; i++)); do exec {fd}<>/dev/tcp/127.0.0.1/9742; done; sleep 8' 3>&- &
	sleep 1
	wait_until 2 answers 0
	sleep 1
	wait_until 2 answers 0
	active 0 1
	[ "$(field 0 status .slept) $(field 0 status .epoch)" = "$slept $epoch" ]
	wait
}

@test "an address in use is said once, and metrics are there when it is free" {
	topology_up 2
	start_in m0 perl -MIO::Socket::INET -e \
		'$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:9742") or die; $| = 1; print "there\n"; $s->accept while 1' \
		>"$(topology_state)/other"
	server=$!
	wait_until 5 grep -q there "$(topology_state)/other"
	for member in 0 1; do
		member_start $member espalierd "$(member_config $member "$PACE")"
	done
	wait_until 10 active 0 1
	[ "$(grep -c 'no metrics at 127.0.0.1, port 9742: Address already in use' "$(member_state 0)/log")" = 1 ]
	kill $server
	wait_until 20 is_served 0
	grep -q 'metrics are served at 127.0.0.1, port 9742' "$(member_state 0)/log"
	active 0 1
}

has_taken_over() { grep -q '^espalier_takeovers_total [1-9]' "$1"; }

@test "without an address there is no listener; the file for node_exporter has the same, whole" {
	topology_up 2
	file=$(topology_state)/m.prom
	member_start 0 espalierd "$(member_config 0 "$PACE" $'Metrics = off\nMetricsFile = '"$file")"
	member_start 1 espalierd "$(member_config 1 "$PACE")"
	wait_until 10 active 0 1
	wait_until 5 test -s "$file"
	[ "$(stat -c %a "$file")" = 644 ]
	grep -q '^espalier_build_info{version="' "$file"
	grep -q '^process_resident_memory_bytes [1-9]' "$file"
	[ ! -e "$file.tmp" ]
	run is_served 0
	[ "$status" != 0 ]
	member_kill 1
	wait_until 20 has_taken_over "$file"
	member_stop 0
	[ ! -e "$file" ]
}

@test "espalierctl events tells of views and takeovers, with their times" {
	start 2
	wait_until 10 active 0 1
	[ "$(field 1 events '[.[] | select(.event == "takeover")] | length')" = 0 ]
	[ "$(field 1 events '[.[] | select(.event == "view")] | length')" -ge 1 ]
	before=$(date +%s%3N)
	member_kill 0
	wait_until 5 active 1
	after=$(date +%s%3N)
	takeover=$(ctl 1 events | jq -c '[.[] | select(.event == "takeover")] | .[0]')
	[[ $(jq -r .text <<<"$takeover") == "member 0 is gone, without a word, heard "* ]]
	at=$(jq .at_ms <<<"$takeover")
	[ "$at" -ge "$before" ]
	[ "$at" -le "$after" ]
	espalierctl --socket "$(member_state 1)/control" events | grep -qE '^[0-9-]+ [0-9:]+\.[0-9]{3}  takeover  member 0'
	member_start 0 espalierd "$(member_state 0)/espalier.conf"
	wait_until 10 active 0 1
	member_stop 0
	wait_until 5 active 1
	[[ $(field 1 events '[.[] | select(.event == "takeover")] | .[1].text') == "member 0 is gone, as it said, "* ]]
}

# The metrics that queries name, without what a histogram adds.
named()
{
	grep -oE '\<(espalier|process)_[a-z_]+' | sed -E 's/_bucket$//' | sort -u
}

@test "each metric that the dashboard and the alerts name is there" {
	start 2
	wait_until 10 active 0 1
	wait_until 5 is_served 0
	request 0 GET | sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' | sort >"$(topology_state)/there"
	names=$( (jq -r '.panels[].targets[].expr' deploy/prometheus/dashboard.json
		sed -n '/expr:/,/for:\|labels:/p' deploy/prometheus/espalier.rules.yml) | named)
	[ "$(wc -l <<<"$names")" -gt 20 ]
	run comm -23 - "$(topology_state)/there" <<<"$names"
	[ "$output" = "" ]
}

found() { in_switch "$prometheus/promtool" query instant http://10.255.0.99:9090 "$1" 2>/dev/null | grep -q "$2"; }

@test "a real Prometheus scrapes a cluster, and a query finds the takeover" {
	prometheus=$(scripts/fetch-prometheus)
	topology_up 2
	for member in 0 1; do
		member_start $member espalierd \
			"$(member_config $member "$PACE" "Metrics = $(sync_address $member):9742")"
	done
	wait_until 10 active 0 1
	in_switch ip address add 10.255.0.99/24 dev sync
	cat >"$(topology_state)/prometheus.yml" <<-END
		global: {scrape_interval: 1s, evaluation_interval: 1s}
		rule_files: [$PWD/deploy/prometheus/espalier.rules.yml]
		scrape_configs:
		  - job_name: espalier
		    static_configs: [{targets: ['$(sync_address 0):9742', '$(sync_address 1):9742']}]
	END
	GOMAXPROCS=1 start_in switch "$prometheus/prometheus" --web.listen-address=10.255.0.99:9090 \
		--config.file="$(topology_state)/prometheus.yml" --storage.tsdb.path="$(topology_state)/tsdb" \
		>"$(topology_state)/prometheus.log" 2>&1
	wait_until 30 found 'sum(espalier_member_in_view)' ' => 4 '
	found 'sum(espalier_buckets)' ' => 4096 '
	found 'count(up == 1)' ' => 2 '
	member_off 0
	wait_until 20 found 'sum(espalier_buckets{instance="'"$(sync_address 1)"':9742"})' ' => 4096 '
	wait_until 10 found 'changes(espalier_takeovers_total[1m]) == 1' "$(sync_address 1)"
	found 'espalier_takeover_flip_seconds_count' ' => 1 '
	found 'espalier_takeover_silence_seconds_bucket{le="10"}' ' => 1 '
	wait_until 10 found 'ALERTS{alertname="EspalierTakeover"}' "$(sync_address 1)"
}
