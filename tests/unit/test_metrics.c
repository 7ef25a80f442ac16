/* SPDX-License-Identifier: BSD-2-Clause */
/* test_metrics.c - the text format, and what espalierctl is told as metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "exposition.h"

static const char status[] =
	"{\"cluster\":\"a "
	"\\\"b\\\"\\\\\\n\",\"member\":1,\"state\":\"held-back\",\"mode\":\"hot-standby\","
	"\"hash\":\"mix\",\"epoch\":7,\"publisher\":null,\"ingress\":0,\"sas\":18446744073709551,"
	"\"doubled\":[2,3],\"barred\":4,\"barred_past-unknown\":3,\"barred_journal-old\":1,"
	"\"forwarding\":\"outer does not forward\",\"journal\":\"good\",\"takeovers\":5,"
	"\"guard\":\"3 interfaces, "
	"TCX\",\"catching_up\":{\"records\":10,\"of\":20,\"per_second\":0},"
	"\"sync\":{\"carrier\":\"UDP\",\"sent_bytes\":99},\"datapath\":{\"outer\":\"native\"}}";
static const char members[] =
	"[{\"member\":0,\"self\":false,\"in_view\":true,\"buckets\":4096,\"state\":\"active\","
	"\"heard_ms_ago\":"
	"1234,\"differs\":\"\"},{\"member\":1,\"self\":true,\"in_view\":false,\"buckets\":0,"
	"\"state\":\"no-session\",\"differs\":\"the key\"}]";
static const char reasons[] = "[{\"reason\":\"local\",\"packets\":11,\"meaning\":\"passed\"},"
			      "{\"reason\":\"one-hop\",\"packets\":0,\"meaning\":\"passed\"}]";

static struct agent agent;
static char *text;

struct json_object *control_answer(const struct agent *a, char *request)
{
	assert_ptr_equal(a, &agent);
	if (strcmp(request, "sa 0") == 0)
		return json_tokener_parse("{\"sas\":[{\"protocol\":\"esp\",\"spi\":\"0x00001000\","
					  "\"destination\":\"192.0.2.1\","
					  "\"direction\":\"in\",\"seq\":5,\"installed\":true,"
					  "\"owner\":null},{\"spi\":\"0x2\","
					  "\"local\":\"it has a label\"}],\"next\":9}");
	if (strcmp(request, "sa 9") == 0)
		return json_tokener_parse("{\"sas\":[]}");
	return json_tokener_parse(strcmp(request, "status") == 0    ? status
				  : strcmp(request, "members") == 0 ? members
								    : reasons);
}

static void put(void)
{
	size_t len;
	FILE *to = open_memstream(&text, &len);

	metrics_put(to, &agent);
	fclose(to);
}

static int forget(void **state)
{
	(void)state;
	free(text);
	text = NULL;
	return 0;
}

/* It is there as a line of its own, once. */
static void assert_line(const char *line)
{
	char whole[512];
	const char *at;

	snprintf(whole, sizeof(whole), "\n%s\n", line);
	at = strstr(text, whole);
	if (!at)
		fail_msg("no line %s", line);
	else
		assert_null(strstr(at + 1, whole));
}

static void test_values(void **state)
{
	(void)state;
	put();
	assert_line("espalier_view_epoch 7");
	assert_line("espalier_view_publisher -1");
	assert_line("espalier_view_ingress 0");
	assert_line("espalier_sas 18446744073709551");
	assert_line("espalier_doubled_members 2");
	assert_line("espalier_barred_sas 4");
	assert_line("espalier_barred_sas_by_reason{reason=\"past-unknown\"} 3");
	assert_line("espalier_barred_sas_by_reason{reason=\"journal-old\"} 1");
	assert_line("espalier_forwarding_good 0");
	assert_line("espalier_journal_good 1");
	assert_line("espalier_takeovers_total 5");
	assert_line("espalier_guarded_interfaces 3");
	assert_line("espalier_catching_up 1");
	assert_line("espalier_catching_up_wanted_records 20");
	assert_line("espalier_sync_info{carrier=\"UDP\"} 1");
	assert_line("espalier_sync_sent_bytes_total 99");
	assert_line("espalier_datapath_info{outer=\"native\"} 1");
	assert_line("espalier_state{state=\"held-back\"} 1");
	assert_line("espalier_state{state=\"active\"} 0");
	assert_line("espalier_member_state{state=\"no-session\",member=\"1\"} 1");
	assert_line("espalier_member_state{state=\"no-session\",member=\"0\"} 0");
	assert_line("espalier_member_buckets{member=\"0\"} 4096");
	assert_line("espalier_member_in_view{member=\"0\"} 1");
	assert_line("espalier_member_in_view{member=\"1\"} 0");
	assert_line("espalier_member_silence_seconds{member=\"0\"} 1.234000");
	assert_line("espalier_member_settings_good{member=\"0\"} 1");
	assert_line("espalier_member_settings_good{member=\"1\"} 0");
	assert_line("espalier_packets_total{reason=\"local\"} 11");
	assert_line("espalier_packets_total{reason=\"one-hop\"} 0");
	assert_null(strstr(text, "espalier_member_silence_seconds{member=\"1\"}"));
	assert_null(strstr(text, "espalier_policies "));
}

static void test_escaped(void **state)
{
	static const char *const labels[] = {"a", "\\\"\n", "b", "", NULL};
	char buf[256] = "";
	FILE *to = fmemopen(buf, sizeof(buf), "w");

	(void)state;
	exposition_family(to, "x", "gauge", "one \"line\"\nand \\ more");
	exposition_number(to, "x", labels, -1);
	exposition_time(to, "x_seconds", NULL, 61000002);
	fclose(to);
	assert_string_equal(buf, "# HELP x one \"line\"\\nand \\\\ more\n# TYPE x gauge\n"
				 "x{a=\"\\\\\\\"\\n\",b=\"\"} -1\nx_seconds 61.000002\n");
	put();
	assert_line(
		"espalier_info{cluster=\"a \\\"b\\\"\\\\\\n\",member=\"1\",mode=\"hot-standby\","
		"hash=\"mix\"} 1");
}

/* The longest prefix of the line's name that is a family's. */
static bool is_of(const char *line, const char *family)
{
	size_t len = strlen(family);
	const char *rest = line + len;

	if (strncmp(line, family, len) != 0)
		return false;
	return *rest == ' ' || *rest == '{' || strncmp(rest, "_bucket{", 8) == 0 ||
	       strncmp(rest, "_sum ", 5) == 0 || strncmp(rest, "_count ", 7) == 0;
}

/* Each sample is behind HELP and TYPE of its family; no family comes twice; counters are called so.
 */
static void test_families(void **state)
{
	char *rest, *line, family[128] = "", type[16] = "", seen[256][128];
	unsigned int n = 0, samples = 0;

	(void)state;
	put();
	rest = text;
	while ((line = strsep(&rest, "\n")) && *line) {
		if (strncmp(line, "# HELP ", 7) == 0) {
			assert_int_equal(sscanf(line, "# HELP %127s", family), 1);
			for (unsigned int i = 0; i < n; i++)
				assert_string_not_equal(seen[i], family);
			memcpy(seen[n++], family, sizeof(family));
			type[0] = '\0';
		} else if (line[0] == '#') {
			char name[128];

			assert_int_equal(sscanf(line, "# TYPE %127s %15s", name, type), 2);
			assert_string_equal(name, family);
		} else {
			const char *end = family + strlen(family) - strlen("_total");

			assert_true(type[0]);
			if (!is_of(line, family))
				fail_msg("%s is not of %s", line, family);
			assert_int_equal(strcmp(type, "counter") == 0, strcmp(end, "_total") == 0);
			samples++;
		}
	}
	assert_true(n > 20 && samples > n);
	assert_string_equal(rest ? rest : "", "");
}

static void test_histogram(void **state)
{
	uint64_t last = 0, count = 0;
	unsigned int buckets = 0;
	double bound, before = 0;
	const char *at;

	(void)state;
	memset(&agent, 0, sizeof(agent));
	histogram_add(&agent.metrics.times.flip, 0);
	histogram_add(&agent.metrics.times.flip, 10);
	histogram_add(&agent.metrics.times.flip, 11);
	histogram_add(&agent.metrics.times.flip, 10000000);
	histogram_add(&agent.metrics.times.flip, 10000001);
	put();
	assert_line("espalier_takeover_flip_seconds_bucket{le=\"1e-05\"} 2");
	assert_line("espalier_takeover_flip_seconds_bucket{le=\"2.5e-05\"} 3");
	assert_line("espalier_takeover_flip_seconds_bucket{le=\"10\"} 4");
	assert_line("espalier_takeover_flip_seconds_bucket{le=\"+Inf\"} 5");
	assert_line("espalier_takeover_flip_seconds_count 5");
	assert_line("espalier_takeover_flip_seconds_sum 20.000022");
	assert_line("espalier_loop_seconds_count 0");
	for (at = text; (at = strstr(at, "flip_seconds_bucket{le=\"")); buckets++) {
		char *end;

		bound = strtod(strchr(at, '"') + 1, &end);
		assert_memory_equal(end, "\"} ", 3);
		count = strtoull(end + 3, NULL, 10);
		assert_true(bound > before && count >= last);
		before = bound;
		last = count;
		at++;
	}
	assert_int_equal(buckets, HISTOGRAM_COUNT + 1);
}

static void test_sas(void **state)
{
	unsigned int family = 0, parts = 0;
	uint32_t from = 0;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	(void)state;
	fputc('\n', to);
	while (metrics_put_sas(to, &agent, family, &from)) {
		family += from == 0;
		parts++;
	}
	fclose(to);
	assert_int_equal(parts, 2 * family);
	assert_line("# TYPE espalier_sa_sequence gauge");
	assert_line("espalier_sa_sequence{protocol=\"esp\",spi=\"0x00001000\",destination=\"192.0."
		    "2.1\","
		    "direction=\"in\"} 5");
	assert_line(
		"espalier_sa_owner{protocol=\"esp\",spi=\"0x00001000\",destination=\"192.0.2.1\","
		"direction=\"in\"} -1");
	assert_line("espalier_sa_installed{protocol=\"esp\",spi=\"0x00001000\",destination=\"192.0."
		    "2.1\","
		    "direction=\"in\"} 1");
	assert_null(strstr(text, "0x2\"}"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_values, forget),
		cmocka_unit_test_teardown(test_escaped, forget),
		cmocka_unit_test_teardown(test_families, forget),
		cmocka_unit_test_teardown(test_histogram, forget),
		cmocka_unit_test_teardown(test_sas, forget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
