/* SPDX-License-Identifier: BSD-2-Clause */
/* The configuration file: what is read, every sentence said about what is wrong. */
#include "config_endpoint.h"
#include "config_file.h"

#include <arpa/inet.h>

#define CLUSTER "[Cluster]\nAddress = 192.0.2.1\nPresharedKeyFile = /psk\n"
#define INTERFACE "[Interface]\nId = 0\nOuter = o\nSync = s\n"
#define GOOD CLUSTER INTERFACE MEMBER /* lines 1 to 3, 4 to 7, 8 to 10 */

static void assert_bad(const char *text, unsigned int line, const char *sentence)
{
	struct config c, before;

	memset(&c, 0x5a, sizeof(c));
	before = c;
	assert_int_equal(read_text(text, &c), -EINVAL);
	assert_sentence(line, sentence);
	assert_memory_equal(&c, &before, sizeof(c));
}

static void assert_address(const struct address *address, const char *text)
{
	static const uint8_t zero[12];
	char buffer[INET6_ADDRSTRLEN];

	inet_ntop(address->family, address->bytes, buffer, sizeof(buffer));
	assert_string_equal(buffer, text);
	if (address->family == AF_INET)
		assert_memory_equal(address->bytes + 4, zero, sizeof(zero));
}

static void test_defaults(void **state)
{
	struct config c;

	(void)state;
	assert_good(GOOD, &c);
	assert_string_equal(c.name, "espalier");
	assert_int_equal(c.outer.count, 1);
	assert_address(&c.outer.address[0], "192.0.2.1");
	assert_int_equal(c.inner.count, 0);
	assert_int_equal(c.mode, CONFIG_LOAD_SHARING);
	assert_int_equal(c.hash, ESPALIER_HASH_PREFIX);
	assert_int_equal(c.ingress, CONFIG_INGRESS_ONE);
	assert_int_equal(c.block_bits, 16);
	assert_int_equal(c.heartbeat_us, 10000);
	assert_int_equal(c.dead_after, 3);
	assert_int_equal(c.sync_port, 6311);
	assert_string_equal(c.psk_path, "/psk");
	assert_string_equal(c.cert_path, "");
	assert_int_equal(c.psk_size, 0);
	assert_int_equal(c.id, 0);
	assert_string_equal(c.outer_interface, "o");
	assert_string_equal(c.inner_interface, "");
	assert_string_equal(c.sync_interface, "s");
	assert_string_equal(c.journal_path, "/var/lib/espalier/journal");
	assert_string_equal(c.pin_path, "/sys/fs/bpf/espalier");
	assert_string_equal(c.control_path, "/run/espalier/control");
	assert_int_equal(c.transport, CONFIG_TRANSPORT_AUTO);
	assert_int_equal(c.counters, CONFIG_COUNTERS_AUTO);
	assert_int_equal(c.max_sas, 65536);
	assert_int_equal(c.audit_us, 60000000);
	assert_int_equal(c.misses_per_second, 100);
	assert_int_equal(c.cpus, 0);
	assert_int_equal(c.max_ikes, 100000);
	assert_int_equal(c.ike_commit_us, 50000);
	assert_int_equal(c.members, 1);
	assert_string_equal(inet_ntoa(c.member_sync[0]), "10.0.0.1");
	assert_int_equal(c.member_outer[0].family, 0);
	assert_int_equal(c.member_inner[0].family, 0);
}

static void test_every_key(void **state)
{
	struct config c;

	(void)state;
	assert_good("\xef\xbb\xbf; a comment\n"
		    "[cluster]  # one more\n"
		    "  name = gw_1.a-b # not a part\n"
		    "\tADDRESS=192.0.2.1 , 2001:DB8:0::2,192.0.2.3\n"
		    "InnerAddress: fd00::1,10.1.0.1\naddress = 2001:db8::4\n"
		    "Mode = Hot-Standby\nHash = mix\nBlockBits = 8\nHeartbeat = 250 ms\n"
		    "Dead = 100\r\nSyncPort = 65535\nIngress = ALL\n"
		    "CertificateFile = /c\nPrivateKeyFile = /k\nCAFile = /ca\n"
		    "\n[INTERFACE]\nId = 15\nOuter = a\nInner = b\nSync = c\nJournal = /j/j\n"
		    "Pin = /p\nControl = /x\nTransport = udp\nCounters = events\n"
		    "MaxSAs = 4194304\nAudit = 60 MIN\nMisses = 100000\nCpus = 255\n"
		    "Metrics = [2001:db8::9]:65535\nMetricsFile = /m.prom\nMetricsSas = YES\n"
		    "MaxIkeSAs = 0\nIkeCommit = 2s\n"
		    "[Member]\nId = 15\nSync = 10.0.0.15\nOuter = 10.3.0.15\nInner = fd00::f\n"
		    "[Member]\nId = 2\nSync = 10.0.0.2\nInner = fd00:1::2\nOuter = 10.0.0.2",
		&c);
	assert_string_equal(c.name, "gw_1.a-b");
	assert_int_equal(c.outer.count, 4);
	assert_address(&c.outer.address[1], "2001:db8::2");
	assert_address(&c.outer.address[2], "192.0.2.3");
	assert_address(&c.outer.address[3], "2001:db8::4");
	assert_int_equal(c.outer.line[2], 4);
	assert_int_equal(c.outer.line[3], 6);
	assert_int_equal(c.inner.count, 2);
	assert_address(&c.inner.address[0], "fd00::1");
	assert_address(&c.inner.address[1], "10.1.0.1");
	assert_int_equal(c.mode, CONFIG_HOT_STANDBY);
	assert_int_equal(c.hash, ESPALIER_HASH_MIX);
	assert_int_equal(c.block_bits, 8);
	assert_int_equal(c.heartbeat_us, 250000);
	assert_int_equal(c.dead_after, 100);
	assert_int_equal(c.sync_port, 65535);
	assert_string_equal(c.psk_path, "");
	assert_string_equal(c.cert_path, "/c");
	assert_string_equal(c.key_path, "/k");
	assert_string_equal(c.ca_path, "/ca");
	assert_int_equal(c.id, 15);
	assert_string_equal(c.outer_interface, "a");
	assert_string_equal(c.inner_interface, "b");
	assert_string_equal(c.sync_interface, "c");
	assert_string_equal(c.journal_path, "/j/j");
	assert_string_equal(c.pin_path, "/p");
	assert_string_equal(c.control_path, "/x");
	assert_int_equal(c.transport, CONFIG_TRANSPORT_UDP);
	assert_int_equal(c.counters, CONFIG_COUNTERS_EVENTS);
	assert_int_equal(c.max_sas, 4194304);
	assert_true(c.audit_us == 3600000000U);
	assert_int_equal(c.misses_per_second, 100000);
	assert_int_equal(c.cpus, 255);
	assert_address(&c.metrics_address, "2001:db8::9");
	assert_int_equal(c.metrics_port, 65535);
	assert_string_equal(c.metrics_path, "/m.prom");
	assert_int_equal(c.metrics_sas, CONFIG_SAS_YES);
	assert_int_equal(c.max_ikes, 0);
	assert_int_equal(c.ike_commit_us, 2000000);
	assert_int_equal(c.ingress, CONFIG_INGRESS_ALL);
	assert_int_equal(c.members, 1 << 15 | 1 << 2);
	assert_string_equal(inet_ntoa(c.member_sync[15]), "10.0.0.15");
	assert_string_equal(inet_ntoa(c.member_sync[2]), "10.0.0.2");
	assert_address(&c.member_outer[15], "10.3.0.15");
	assert_address(&c.member_inner[15], "fd00::f");
	assert_address(&c.member_outer[2], "10.0.0.2"); /* the sync network is one of the two */
	assert_address(&c.member_inner[2], "fd00:1::2");
	assert_good(CLUSTER INTERFACE "Cpus = All\n" MEMBER, &c);
	assert_int_equal(c.cpus, CONFIG_CPUS_ALL);
}

static void test_syntax(void **state)
{
	char long_line[400];
	struct config c;

	(void)state;
	assert_bad(GOOD "Nonsense\n", 11,
		"this is neither a [Section] nor Key = Value: correct the line");
	assert_bad("[Cluster\nFoo = 1\n", 1,
		"this is neither a [Section] nor Key = Value: correct the line");
	assert_bad("Name = a\n" GOOD, 1, "Name stands before any section: begin with [Cluster]");
	assert_bad(GOOD "[Members]\nId = 1\n", 12,
		"unknown section [Members]: use [Cluster], [Interface] and [Member]");
	assert_bad(GOOD "Key = 1\n", 11, "unknown key Key in [Member]: use Id, Sync, Outer, Inner");
	assert_bad("[Interface]\n\nKey = 1\nNonsense\n", 3,
		"unknown key Key in [Interface]: use Id, Outer, Inner, Sync, Journal, Pin, "
		"Control, "
		"Transport, Counters, MaxSAs, Audit, Misses, Cpus, Metrics, MetricsFile, "
		"MetricsSas, MaxIkeSAs, IkeCommit");
	assert_bad("[Cluster]\nName = a\nName = b\n", 3,
		"Name was given already in line 2: remove one");
	assert_bad(
		"[Cluster]\nName = # none\n", 2, "Name has no value: give one or remove the line");

	snprintf(long_line, sizeof(long_line), "[Cluster]\nName = %0300d\n", 1);
	assert_bad(long_line, 2, "the line is too long: use at most 198 characters");

	unlink(path);
	assert_int_equal(config_read(path, &c, err, sizeof(err)), -ENOENT);
	assert_sentence(0, "cannot open the configuration: No such file or directory");
	assert_int_equal(config_read(folder, &c, err, sizeof(err)), -EIO);
}

static void test_values(void **state)
{
	(void)state;
#define CLUSTER_KEY(text) "[Cluster]\n" text "\n"
	assert_bad(CLUSTER_KEY("Name = a b"), 2,
		"Name 'a b' holds ' ': use letters, digits, '-', '_' and '.'");
	assert_bad(CLUSTER_KEY("Name = a23456789012345678901234567890123"), 2,
		"Name is too long: use at most 32 characters");
	assert_bad(CLUSTER_KEY("Mode = both"), 2,
		"Mode 'both' is unknown: use load-sharing or hot-standby");
	assert_bad(CLUSTER_KEY("Hash = md5"), 2, "Hash 'md5' is unknown: use prefix or mix");
	assert_bad(CLUSTER_KEY("BlockBits = 7"), 2, "BlockBits 7 is out of range: use 8 to 24");
	assert_bad(CLUSTER_KEY("BlockBits = 25"), 2, "BlockBits 25 is out of range: use 8 to 24");
	assert_bad(CLUSTER_KEY("BlockBits = -9"), 2, "BlockBits '-9' is not a number: use 8 to 24");
	assert_bad(CLUSTER_KEY("Heartbeat = 10 h"), 2,
		"Heartbeat '10 h' is not a time: use 1ms to 10s");
	assert_bad(CLUSTER_KEY("Heartbeat = 10001ms"), 2,
		"Heartbeat '10001ms' is out of range: use 1ms to 10s");
	assert_bad(CLUSTER_KEY("Heartbeat = 11s"), 2,
		"Heartbeat '11s' is out of range: use 1ms to 10s");
	assert_bad(
		CLUSTER_KEY("Heartbeat = 0"), 2, "Heartbeat '0' is out of range: use 1ms to 10s");
	assert_bad(
		CLUSTER_KEY("Heartbeat = ms"), 2, "Heartbeat 'ms' is not a time: use 1ms to 10s");
	assert_bad(CLUSTER_KEY("Heartbeat = 99999999999999999999999 min"), 2,
		"Heartbeat '99999999999999999999999 min' is out of range: use 1ms to 10s");
	assert_bad(CLUSTER_KEY("Dead = 2"), 2, "Dead 2 is out of range: use 3 to 100");
	assert_bad(CLUSTER_KEY("SyncPort = 65536"), 2,
		"SyncPort 65536 is out of range: use 1 to 65535");
	assert_bad(CLUSTER_KEY("SyncPort = 99999999999999999999999"), 2,
		"SyncPort 99999999999999999999999 is out of range: use 1 to 65535");
	assert_bad(CLUSTER_KEY("CAFile = ca.pem"), 2,
		"CAFile 'ca.pem' is not a full path: let it begin with /");
#define INTERFACE_KEY(text) "[Interface]\n" text "\n"
	assert_bad(INTERFACE_KEY("Id = 16"), 2, "member id 16 is out of range: use 0 to 15");
	assert_bad(INTERFACE_KEY("Id = a"), 2, "member id 'a' is not a number: use 0 to 15");
	assert_bad(INTERFACE_KEY("Outer = abcdefghijklmnop"), 2,
		"Outer is too long: use at most 15 characters");
	assert_bad(
		INTERFACE_KEY("Transport = tcp"), 2, "Transport 'tcp' is unknown: use auto or udp");
	assert_bad(INTERFACE_KEY("Counters = none"), 2,
		"Counters 'none' is unknown: use auto or events");
	assert_bad(INTERFACE_KEY("MaxSAs = 15"), 2, "MaxSAs 15 is out of range: use 16 to 4194304");
	assert_bad(INTERFACE_KEY("Audit = 999ms"), 2,
		"Audit '999ms' is out of range: use 1000ms to 3600s");
	assert_bad(INTERFACE_KEY("Audit = 61min"), 2,
		"Audit '61min' is out of range: use 1000ms to 3600s");
	assert_bad(
		INTERFACE_KEY("Audit = 60"), 2, "Audit '60' is out of range: use 1000ms to 3600s");
	assert_bad(INTERFACE_KEY("Misses = 0"), 2, "Misses 0 is out of range: use 1 to 100000");
	assert_bad(INTERFACE_KEY("Misses = 100001"), 2,
		"Misses 100001 is out of range: use 1 to 100000");
	assert_bad(CLUSTER_KEY("Ingress = two"), 2, "Ingress 'two' is unknown: use one or all");
	assert_bad(INTERFACE_KEY("Cpus = 256"), 2, "Cpus 256 is out of range: use 0 to 255");
	assert_bad(INTERFACE_KEY("Metrics = 127.0.0.1"), 2,
		"Metrics '127.0.0.1' is no address with a port: write it like 127.0.0.1:9742, "
		"[::1]:9742, or off");
	assert_bad(INTERFACE_KEY("MetricsFile = m.prom"), 2,
		"MetricsFile 'm.prom' is not a full path: let it begin with /");
	assert_bad(
		INTERFACE_KEY("MetricsSas = all"), 2, "MetricsSas 'all' is unknown: use no or yes");
	assert_bad(INTERFACE_KEY("Cpus = some"), 2, "Cpus 'some' is not a number: use 0 to 255");
	assert_bad(INTERFACE_KEY("Control = /"
				 "1234567890123456789012345678901234567890123456789012345678901234"
				 "56789012345678901234567890123456789012345678"),
		2, "Control is too long: use at most 107 characters");
}

static void test_addresses(void **state)
{
	static const char *const not_global[] = {
		"::", "::1", "ff02::1", "fe80::1", "febf::1", "::ffff:192.0.2.1"};

	(void)state;
	assert_bad(CLUSTER_KEY("Address = 192.0.2.256"), 2,
		"Address '192.0.2.256' is not an IP address: write it like 192.0.2.1 or "
		"2001:db8::1");
	assert_bad(CLUSTER_KEY("Address = 2001:db8::1/64"), 2,
		"Address '2001:db8::1/64' is not an IP address: write it like 192.0.2.1 or "
		"2001:db8::1");
	assert_bad(CLUSTER_KEY("Address = 192.0.2.1,"), 2,
		"Address '' is not an IP address: write it like 192.0.2.1 or 2001:db8::1");
	for (size_t i = 0; i < sizeof(not_global) / sizeof(not_global[0]); i++) {
		char text[64], sentence[256];

		snprintf(text, sizeof(text), CLUSTER_KEY("Address = %s"), not_global[i]);
		snprintf(sentence, sizeof(sentence),
			"Address %s cannot be a host's address on any link: use a global or unique "
			"local address",
			not_global[i]);
		assert_bad(text, 2, sentence);
	}
	assert_bad(CLUSTER_KEY("InnerAddress = 224.0.0.1"), 2,
		"InnerAddress 224.0.0.1 cannot be a host's address: use a unicast address");
	assert_bad(CLUSTER_KEY("Address = 127.0.0.1"), 2,
		"Address 127.0.0.1 cannot be a host's address: use a unicast address");
	assert_bad(CLUSTER_KEY("Address = 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,"
			       "10.0.0.7,10.0.0.8,10.0.0.9"),
		2, "Address has too many addresses: use at most 8");
	assert_bad(CLUSTER_KEY("Address = 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,fd00::5,fd00::6\n"
			       "Address = fd00::7,fd00::8,fd00::9"),
		3, "Address has too many addresses: use at most 8");
	assert_bad("[Cluster]\nAddress = fd00::1, 192.0.2.1\nName = x\nAddress = fd00:0::1\n"
		   "PresharedKeyFile = /psk\n" INTERFACE MEMBER,
		4, "address fd00::1 was given already in line 2: use each one once");
	assert_bad("[Cluster]\nInnerAddress = 10.1.0.1\nAddress = 192.0.2.1, 10.1.0.1\n"
		   "PresharedKeyFile = /psk\n" INTERFACE "Inner = i\n" MEMBER,
		3, "address 10.1.0.1 was given already in line 2: use each one once");
	assert_bad(GOOD "[Member]\nId = 1\nSync = 10.0.0.1\n", 12,
		"address 10.0.0.1 was given already in line 9: use each one once");
	assert_bad(GOOD "[Member]\nId = 1\nSync = 192.0.2.1\n", 12,
		"address 192.0.2.1 was given already in line 2: use each one once");
	assert_bad(GOOD "[Member]\nId = 1\nSync = 10.0.0.1.2\n", 13,
		"Sync '10.0.0.1.2' is not an IP address: write it like 192.0.2.1 or 2001:db8::1");
	assert_bad(GOOD "[Member]\nId = 1\nSync = fd00::1\n", 13,
		"Sync fd00::1 is an IPv6 address: the sync channel is IPv4, write an address like "
		"10.255.0.1");
}

static void test_members(void **state)
{
	struct config c;

	(void)state;
	assert_bad(CLUSTER "BlockBits = 24\n" INTERFACE MEMBER
			   "[Member]\nId = 8\nSync = 10.0.0.9\n",
		4,
		"BlockBits 24 with member ids up to 8: four takeovers would skip 2^31 sequence "
		"numbers, more than a peer may follow (RFC 4303 A2.2): use smaller blocks or lower "
		"ids");
	assert_good(CLUSTER "BlockBits = 24\n" INTERFACE MEMBER
			    "[Member]\nId = 7\nSync = 10.0.0.8\n",
		&c);
	assert_bad(GOOD "[Member]\nId = 17\nSync = 10.0.0.2\n", 12,
		"member id 17 is out of range: use 0 to 15");
	assert_bad(GOOD "[Member]\nId = 0\nSync = 10.0.0.2\n", 12,
		"member id 0 was given already in line 9: each member has its own");
	assert_bad(GOOD "[Member]\nSync = 10.0.0.2\nId = 1\n", 12,
		"this [Member] does not begin with its Id: put Id first");
	assert_bad(GOOD "Id = 1\n", 11, "this [Member] has an Id already: begin a new [Member]");
	assert_bad(GOOD "Sync = 10.0.0.2\n", 11, "member 0 was given its Sync already: remove one");
	assert_bad(GOOD "[Member]\nId = 1\n", 12,
		"member 1 has no Sync: give its address on the sync network");
	assert_bad(CLUSTER INTERFACE "[Member]\nId = 1\nSync = 10.0.0.2\n", 5,
		"this member's id 0 has no [Member]: add one for each member");
}

#define MEMBER1 "[Member]\nId = 1\nSync = 10.0.0.2\n" /* lines 12 to 14 after GOOD and a line */

static void test_member_addresses(void **state)
{
	struct config c;

	(void)state;
	assert_bad(GOOD "Outer = 10.3.0.1\nOuter = 10.3.0.1\n", 12,
		"member 0 was given its Outer already: remove one");
	assert_bad(GOOD "[Member]\nInner = 10.3.0.1\n", 12,
		"this [Member] does not begin with its Id: put Id first");
	assert_bad(GOOD "Outer = 10.3.0.1/24\n", 11,
		"Outer '10.3.0.1/24' is not an IP address: write it like 192.0.2.1 or 2001:db8::1");
	assert_bad(GOOD "Outer = fe80::1\n", 11,
		"Outer fe80::1 cannot be a host's address on any link: use a global or unique "
		"local address");
	assert_bad(GOOD "Inner = 10.3.0.1\n", 0,
		"[Interface] Inner is missing: give the interface of the protected hosts");
	assert_bad(GOOD "Outer = 10.3.0.1\n" MEMBER1, 13,
		"member 1 has no Outer, but member 0 has: give it to all members or to none");
	assert_bad(CLUSTER INTERFACE "Inner = i\n" MEMBER MEMBER1 "Inner = 10.3.0.2\n", 10,
		"member 0 has no Inner, but member 1 has: give it to all members or to none");
	assert_bad(GOOD "Outer = 10.3.0.1\n" MEMBER1 "Outer = fd00::2\n", 13,
		"Outer of member 1 is IPv6, that of member 0 is not: use one family");
	assert_bad(GOOD "Outer = 192.0.2.1\n", 9,
		"address 192.0.2.1 was given already in line 2: use each one once");
	assert_bad(GOOD "Outer = 10.3.0.1\n" MEMBER1 "Outer = 10.3.0.1\n", 13,
		"address 10.3.0.1 was given already in line 9: use each one once");
	assert_bad(GOOD "Outer = 10.0.0.2\n" MEMBER1 "Outer = 10.3.0.2\n", 13,
		"address 10.0.0.2 was given already in line 9: use each one once");
	/* A member may have one address for all, and another family on the other side. */
	assert_good(
		CLUSTER INTERFACE "Inner = i\n" MEMBER "Outer = 10.0.0.1\nInner = fd00::1\n", &c);
}

static void test_missing(void **state)
{
	(void)state;
	assert_bad("", 0, "[Cluster] Address is missing: give the address that the peers send to");
	assert_bad("[Cluster]\nAddress = 192.0.2.1\n" INTERFACE MEMBER, 0,
		"[Cluster] PresharedKeyFile is missing: give it, or CertificateFile, "
		"PrivateKeyFile and CAFile");
	assert_bad("[Cluster]\nAddress = 192.0.2.1\nCAFile = /ca\nPrivateKeyFile = /k\n", 0,
		"[Cluster] CertificateFile is missing: give all of CertificateFile, "
		"PrivateKeyFile, CAFile");
	assert_bad(CLUSTER "CAFile = /ca\n", 4,
		"CAFile and PresharedKeyFile exclude each other: remove one");
	assert_bad(CLUSTER "[Interface]\nOuter = o\nSync = s\n" MEMBER, 0,
		"[Interface] Id is missing: give this member's id, 0 to 15");
	assert_bad(CLUSTER "[Interface]\nId = 0\nSync = s\n" MEMBER, 0,
		"[Interface] Outer is missing: give the interface that the peers are behind");
	assert_bad(CLUSTER "[Interface]\nId = 0\nOuter = o\n" MEMBER, 0,
		"[Interface] Sync is missing: give the interface of the sync network");
	assert_bad(CLUSTER "InnerAddress = 10.1.0.1\n" INTERFACE MEMBER, 0,
		"[Interface] Inner is missing: give the interface of the protected hosts");
}

static uint64_t digest(const char *text)
{
	struct config c;

	assert_good(text, &c);
	return config_cluster_digest(&c);
}

static void assert_differs_in(const char *text, enum config_setting setting)
{
	uint32_t ours[CONFIG_SETTINGS], others[CONFIG_SETTINGS];
	struct config c;

	assert_good(GOOD, &c);
	config_setting_digests(&c, ours);
	assert_good(text, &c);
	config_setting_digests(&c, others);
	for (unsigned int i = 0; i < CONFIG_SETTINGS; i++)
		assert_int_equal(ours[i] != others[i], i == setting);
}

static void test_digest(void **state)
{
	static const char *const others[] = {CLUSTER "Name = other\n" INTERFACE MEMBER,
		"[Cluster]\nPresharedKeyFile = /psk\nAddress = 192.0.2.2\n" INTERFACE MEMBER,
		"[Cluster]\nPresharedKeyFile = /psk\nAddress = c000:201::\n" INTERFACE MEMBER,
		CLUSTER "Address = fd00::1\n" INTERFACE MEMBER,
		CLUSTER "Address = fd00::2\n" INTERFACE MEMBER,
		CLUSTER "InnerAddress = 10.1.0.1\n" INTERFACE "Inner = i\n" MEMBER,
		CLUSTER "Mode = hot-standby\n" INTERFACE MEMBER,
		CLUSTER "Hash = mix\n" INTERFACE MEMBER,
		CLUSTER "BlockBits = 17\n" INTERFACE MEMBER,
		CLUSTER "Ingress = all\n" INTERFACE MEMBER, GOOD "Outer = 10.3.0.1\n",
		GOOD "Outer = fd00::1\n",
		CLUSTER INTERFACE "Inner = i\n" MEMBER "Inner = fd00::1\n",
		CLUSTER "Heartbeat = 11\n" INTERFACE MEMBER, CLUSTER "Dead = 4\n" INTERFACE MEMBER,
		CLUSTER "SyncPort = 1\n" INTERFACE MEMBER,
		GOOD "[Member]\nId = 1\nSync = 10.0.0.2\n",
		CLUSTER INTERFACE "[Member]\nId = 0\nSync = 10.0.0.2\n"};
	static const enum config_setting differ[] = {CONFIG_SETTING_NAME, CONFIG_SETTING_ADDRESS,
		CONFIG_SETTING_ADDRESS, CONFIG_SETTING_ADDRESS, CONFIG_SETTING_ADDRESS,
		CONFIG_SETTING_INNER_ADDRESS, CONFIG_SETTING_MODE, CONFIG_SETTING_HASH,
		CONFIG_SETTING_BLOCK_BITS, CONFIG_SETTING_INGRESS, CONFIG_SETTING_MEMBERS,
		CONFIG_SETTING_MEMBERS, CONFIG_SETTING_MEMBERS, CONFIG_SETTING_HEARTBEAT,
		CONFIG_SETTING_DEAD, CONFIG_SETTING_SYNC_PORT, CONFIG_SETTING_MEMBERS,
		CONFIG_SETTING_MEMBERS};
	uint64_t same = digest(GOOD);

	(void)state;
	/* Of the program, not of the machine or the build: it is compared over the wire. */
	assert_int_equal(same, 0xae14f90e55264e4bULL);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_not_equal(digest(others[i]), same);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(digest(others[i]), digest(others[j]));
		assert_differs_in(others[i], differ[i]);
	}
	/* What is of one member only, how it is written, and where the key lies do not count. */
	assert_int_equal(
		digest("[Cluster]\nPresharedKeyFile = /x\nDead = 3\nAddress=192.0.2.1\n"
		       "[Interface]\nId = 0\nOuter = x\nSync = y\nMaxSAs = 99\nAudit = 1s\n"
		       "Misses = 1\nCpus = all\n" MEMBER),
		same);
	assert_int_equal(digest(CLUSTER "[Interface]\nId = 1\nOuter = o\nSync = s\n" MEMBER
					"[Member]\nId = 1\nSync = 10.0.0.2\n"),
		digest(CLUSTER INTERFACE "[Member]\nId = 1\nSync = 10.0.0.2\n" MEMBER));
}

/* docs/espalier.conf.example, and the same with every default uncommented: one cluster. */
static void test_example(void **state)
{
	struct config c;
	char text[4096], *line;
	uint64_t plain;
	size_t size;
	FILE *file = fopen("docs/espalier.conf.example", "r");

	(void)state;
	if (!file)
		fail_msg("run this test in the top folder");
	size = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[size] = '\0';
	assert_good(text, &c);
	assert_int_equal(c.members, 3);
	plain = config_cluster_digest(&c);
	for (line = text; (line = strstr(line, "\n# ")); line++)
		if (strcspn(line + 3, " ") + 1 == strcspn(line + 3, "="))
			line[1] = ' ';
	assert_good(text, &c);
	assert_int_equal(config_cluster_digest(&c), plain);
	assert_true(c.line[CONFIG_SYNC_PORT] > 0 && c.line[CONFIG_MAX_SAS] > 0);
	assert_int_equal(c.max_sas, 65536);
}

static void test_endpoints(void **state)
{
	static const char *const bad[] = {"", "9742", ":9742", "127.0.0.1:", "127.0.0.1:0",
		"127.0.0.1:65536", "127.0.0.1:999999", "127.0.0.1:1x", "127.0.0.1: 1", "a:1",
		"::1:1", "[::1]", "[::1]1", "[::1:1", "[]:1", "[:1", "[127.0.0.1]:1",
		"127.0.0.1]:1", "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1"};
	struct address address = {0};
	unsigned int port = 7;
	struct config c;

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (config_endpoint(bad[i], &address, &port))
			fail_msg("%s is taken", bad[i]);
	assert_int_equal(port, 7);
	assert_true(config_endpoint("0.0.0.0:1", &address, &port));
	assert_int_equal(port, 1);
	assert_true(config_endpoint("[::1]:65535", &address, &port));
	assert_address(&address, "::1");
	assert_int_equal(port, 65535);
	assert_good(GOOD, &c);
	assert_address(&c.metrics_address, "127.0.0.1");
	assert_int_equal(c.metrics_port, 9742);
	assert_int_equal(c.metrics_sas, CONFIG_SAS_NO);
	assert_string_equal(c.metrics_path, "");
	assert_good(GOOD "[Interface]\nMetrics = OFF\n", &c);
	assert_int_equal(c.metrics_port, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_key),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_member_addresses),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_example),
	};

	return cmocka_run_group_tests_name("config_read", tests, make_folder, remove_folder);
}
