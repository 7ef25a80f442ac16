#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What we give to Prometheus and Grafana. (tests/netns/metrics.bats has the metrics themselves.)

setup_file()
{
	cd "$BATS_TEST_DIRNAME/../.." || return
	promtool=$(scripts/fetch-prometheus)/promtool || return
	export promtool
}

@test "promtool takes the example and the alert rules" {
	"$promtool" check config deploy/prometheus/prometheus.yml
	"$promtool" check rules --lint=all --lint-fatal deploy/prometheus/espalier.rules.yml
}

@test "each alert fires when it is to, and none when all is well" {
	"$promtool" test rules deploy/prometheus/espalier.rules.test.yml
}

@test "the dashboard has a panel for each query, and each has a place of its own" {
	jq -e '.panels | length > 10 and all(.targets | length > 0 and all(.expr != ""))' deploy/prometheus/dashboard.json
	jq -e '[.panels[].gridPos | "\(.x) \(.y)"] | length == (unique | length)' deploy/prometheus/dashboard.json
	jq -e '[.panels[].id] | length == (unique | length)' deploy/prometheus/dashboard.json
}
