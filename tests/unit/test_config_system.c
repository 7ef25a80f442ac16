/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checks of a configuration that need a machine: a network namespace of our own, where lo
 * carries 192.0.2.1 and 2001:db8::1, and another interface the sync address, 10.0.0.1.
 */
#include "config_file.h"

#include <arpa/inet.h>
#include <sched.h>
#include <linux/ipv6.h>
#include <sys/ioctl.h>

static int add_address(const char *label, const char *address)
{
	struct sockaddr_in *sin;
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", label);
	sin = (struct sockaddr_in *)&request.ifr_addr;
	sin->sin_family = AF_INET;
	inet_pton(AF_INET, address, &sin->sin_addr);
	r = ioctl(fd, SIOCSIFADDR, &request);
	close(fd);
	return r;
}

static int add_address6(const char *address)
{
	struct in6_ifreq request = {.ifr6_prefixlen = 128, .ifr6_ifindex = 1};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	inet_pton(AF_INET6, address, &request.ifr6_addr);
	r = ioctl(fd, SIOCSIFADDR, &request);
	close(fd);
	return r;
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("%s", command);
}

#define HEX32 "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F"
#define BASE32 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

struct machine {
	char psk[64];
	struct config config;
};

static bool has_namespace;

static void need_namespace(void)
{
	if (!has_namespace)
		skip();
}

static void configure(struct machine *m, const char *extra)
{
	char text[2048];

	snprintf(text, sizeof(text),
		"[Cluster]\nAddress = 192.0.2.1\n%s\n[Interface]\nId = 0\nOuter = lo\nSync = s\n"
		"Journal = %s/journal\n" MEMBER,
		extra, folder);
	assert_good(text, &m->config);
}

static void configure_psk(struct machine *m)
{
	char line[128];

	snprintf(line, sizeof(line), "PresharedKeyFile = %s", m->psk);
	configure(m, line);
}

static void assert_check_fails(
	struct machine *m, int error, unsigned int line, const char *sentence)
{
	static const uint8_t zero[CONFIG_PSK_MAX];

	assert_int_equal(config_check_system(&m->config, err, sizeof(err)), -error);
	assert_sentence(line, sentence);
	assert_int_equal(m->config.psk_size, 0);
	assert_memory_equal(m->config.psk, zero, sizeof(zero));
}

static void assert_psk(struct machine *m, const char *text)
{
	write_file(m->psk, 0600, text, strlen(text));
	configure_psk(m);
	if (config_check_system(&m->config, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_int_equal(m->config.psk_size, 32);
	for (unsigned int i = 0; i < 32; i++)
		assert_int_equal(m->config.psk[i], i);
	config_wipe(&m->config);
	for (unsigned int i = 0; i < 32; i++)
		assert_int_equal(m->config.psk[i], 0);
}

static void assert_bad_psk(
	struct machine *m, mode_t mode, const char *text, size_t size, int error, const char *what)
{
	char sentence[256];

	write_file(m->psk, mode, text, size);
	configure_psk(m);
	snprintf(sentence, sizeof(sentence), "key file %s %s", m->psk, what);
	assert_check_fails(m, error, 3, sentence);
}

static void test_psk(void **state)
{
	static const char malformed[] =
		"is neither base64 nor hexadecimal: write it with openssl rand -base64 32";
	struct machine *m = *state;

	need_namespace();
	assert_psk(m, BASE32 "\n");
	assert_psk(m, HEX32);
	assert_psk(m, "AAECAwQFBgcICQoLDA0ODxAR\r\nEhMUFRYXGBkaGxwdHh8=\r\n");

	assert_bad_psk(m, 0640, BASE32, strlen(BASE32), EPERM,
		"is open to others (mode 0640): chmod it to 0600");
	assert_bad_psk(m, 0604, BASE32, strlen(BASE32), EPERM,
		"is open to others (mode 0604): chmod it to 0600");
	assert_bad_psk(m, 0600, "", 0, EINVAL, "is empty: write the key to it");
	assert_bad_psk(m, 0600, "AAECAwQF\n", 9, EINVAL,
		"holds 6 bytes: use 32 to 64, as openssl rand -base64 32 writes them");
	assert_bad_psk(m, 0600, HEX32 HEX32 "00", 130, EINVAL,
		"holds 65 bytes: use 32 to 64, as openssl rand -base64 32 writes them");
	assert_bad_psk(m, 0600, "correct horse battery staple!", 29, EINVAL, malformed);
	assert_bad_psk(m, 0600, HEX32 "0", 65, EINVAL, malformed);
	assert_bad_psk(m, 0600, HEX32 "\0xx", 67, EINVAL, malformed);
	assert_bad_psk(m, 0600, "=" BASE32, strlen(BASE32) + 1, EINVAL, malformed);

	if (geteuid() == 0) {
		assert_int_equal(chown(m->psk, 1, 1), 0);
		configure_psk(m);
		assert_int_equal(config_check_system(&m->config, err, sizeof(err)), -EPERM);
		assert_non_null(strstr(err, "belongs to user 1: chown it to root"));
	}
	unlink(m->psk);
	assert_int_equal(config_check_system(&m->config, err, sizeof(err)), -ENOENT);
	assert_non_null(strstr(err, "cannot open key file"));
	configure(m, "PresharedKeyFile = /dev/null");
	assert_check_fails(m, EINVAL, 3, "key file /dev/null is not a regular file: name one");
}

static void test_certificates(void **state)
{
	struct machine *m = *state;
	char lines[256], sentence[256];

	need_namespace();
	write_file(m->psk, 0600, "key", 3);
	snprintf(lines, sizeof(lines),
		"CAFile = %s\nPrivateKeyFile = %s\nCertificateFile = /nonexistent/cert", path,
		m->psk);
	configure(m, lines);
	assert_check_fails(
		m, ENOENT, 5, "cannot read /nonexistent/cert: No such file or directory");
	snprintf(lines, sizeof(lines), "CAFile = %s\nCertificateFile = %s\nPrivateKeyFile = %s",
		path, path, m->psk);
	configure(m, lines);
	snprintf(sentence, sizeof(sentence), "CA file %s: no certificate or crl found", path);
	assert_check_fails(m, EINVAL, 0, sentence);
	run("cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
	    "-subj /CN=m0 -addext subjectAltName=IP:10.0.0.1 -keyout psk -out cert 2>log",
		folder);
	snprintf(lines, sizeof(lines),
		"CAFile = %s/cert\nCertificateFile = %s/cert\nPrivateKeyFile = %s", folder, folder,
		m->psk);
	configure(m, lines);
	if (config_check_system(&m->config, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	run("cd %s && openssl ecparam -genkey -name prime256v1 -noout -out psk", folder);
	assert_int_equal(config_check_system(&m->config, err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "/psk is not that of certificate "));
	assert_int_equal(chmod(m->psk, 0644), 0);
	assert_int_equal(config_check_system(&m->config, err, sizeof(err)), -EPERM);
	assert_non_null(strstr(err, ":5: key file "));
	run("cd %s && rm cert log", folder);
}

static void test_machine(void **state)
{
	struct machine *m = *state;
	char sentence[128];
	struct config good;

	need_namespace();
	write_file(m->psk, 0600, BASE32, strlen(BASE32));
	configure_psk(m);
	good = m->config;

	strcpy(m->config.outer_interface, "nothere0");
	assert_check_fails(
		m, ENODEV, 6, "interface nothere0 is not there: create it or name another");
	m->config = good;
	strcpy(m->config.sync_interface, "nothere1");
	assert_check_fails(
		m, ENODEV, 7, "interface nothere1 is not there: create it or name another");
	m->config = good;
	m->config.outer.address[0].bytes[3] = 9;
	assert_check_fails(m, EADDRNOTAVAIL, 2,
		"address 192.0.2.9 is not on lo: ip address add 192.0.2.9/32 dev lo");
	configure(m, "Address = 2001:db8::1\nPresharedKeyFile = /dev/null");
	assert_check_fails(m, EINVAL, 4, "key file /dev/null is not a regular file: name one");
	configure(m, "Address = 2001:db8::2\nPresharedKeyFile = /dev/null");
	assert_check_fails(m, EADDRNOTAVAIL, 3,
		"address 2001:db8::2 is not on lo: ip address add 2001:db8::2/128 dev lo");
	m->config = good;
	m->config.member_sync[0].s_addr = htonl(0x0a000009);
	assert_check_fails(m, EADDRNOTAVAIL, 10,
		"address 10.0.0.9 is not on s: ip address add 10.0.0.9/32 dev s");
	m->config = good;
	m->config.member_outer[0] = (struct address){AF_INET, {10, 3, 0, 1}};
	assert_check_fails(m, EADDRNOTAVAIL, 10,
		"address 10.3.0.1 is not on lo: ip address add 10.3.0.1/32 dev lo");
	m->config.member_outer[0] = m->config.outer.address[0];
	m->config.member_inner[0] = (struct address){AF_INET6, {0xfd}};
	strcpy(m->config.inner_interface, "i");
	assert_check_fails(m, EADDRNOTAVAIL, 10,
		"address fd00:: is not on i: ip address add fd00::/128 dev i");
	m->config.member_inner[0] = (struct address){AF_INET, {10, 1, 0, 1}};
	m->config.cpus = CONFIG_CPUS_ALL;
	assert_int_equal(config_check_system(&m->config, err, sizeof(err)), 0);
	m->config.cpus = 4711;
	snprintf(sentence, sizeof(sentence),
		"Cpus 4711 is more than this machine has: use at most %ld, or all",
		sysconf(_SC_NPROCESSORS_ONLN));
	m->config.line[CONFIG_CPUS] = 4;
	assert_check_fails(m, EINVAL, 4, sentence);
}

static void test_interface_twice(void **state)
{
	struct machine *m = *state;
	struct config good;

	need_namespace();
	write_file(m->psk, 0600, BASE32, strlen(BASE32));
	configure_psk(m);
	good = m->config;

	strcpy(m->config.sync_interface, "lo");
	assert_check_fails(m, EINVAL, 7,
		"Sync lo is the interface of Outer, too: the peers' side needs one of its own");
	m->config = good;
	strcpy(m->config.inner_interface, "lo");
	m->config.line[CONFIG_INNER] = 8;
	assert_check_fails(m, EINVAL, 8,
		"Inner lo is the interface of Outer, too: the peers' side needs one of its own");
	strcpy(m->config.inner_interface, "s");
	assert_int_equal(config_check_system(&m->config, err, sizeof(err)), 0);
	strcpy(m->config.outer_interface, "other_name_of_s");
	assert_check_fails(m, EINVAL, 8,
		"Inner s is the interface of Outer, too: the peers' side needs one of its own");
	m->config = good;
	assert_int_equal(config_check_system(&m->config, err, sizeof(err)), 0);
	config_wipe(&m->config);
}

static void test_paths(void **state)
{
	struct machine *m = *state;
	char sentence[256];
	struct config good;

	need_namespace();
	write_file(m->psk, 0600, BASE32, strlen(BASE32));
	configure_psk(m);
	good = m->config;

	strcpy(m->config.journal_path, "/nonexistent/journal");
	assert_check_fails(m, ENOENT, 8,
		"the journal's folder /nonexistent/ cannot be used (No such file or directory): "
		"create it");
	m->config = good;
	strcpy(m->config.journal_path, "/dev/null/journal");
	assert_check_fails(m, ENOTDIR, 8,
		"the journal's folder /dev/null/ cannot be used (Not a directory): create it");
	snprintf(sentence, sizeof(sentence), "the journal %s is a folder: name a file in it",
		folder);
	snprintf(m->config.journal_path, sizeof(m->config.journal_path), "%s", folder);
	assert_check_fails(m, EISDIR, 8, sentence);
	strcpy(m->config.journal_path, "/dev/null");
	assert_check_fails(m, EINVAL, 8,
		"the journal /dev/null is something else already: name a file of its own");
	m->config = good;
	m->config.line[CONFIG_CONTROL] = 9;
	snprintf(m->config.control_path, sizeof(m->config.control_path), "%s", folder);
	snprintf(sentence, sizeof(sentence), "the control socket %s is a folder: name a file in it",
		folder);
	assert_check_fails(m, EISDIR, 9, sentence);
	snprintf(m->config.control_path, sizeof(m->config.control_path), "%s", path);
	snprintf(sentence, sizeof(sentence),
		"the control socket %s is something else already: name a file of its own", path);
	assert_check_fails(m, EINVAL, 9, sentence);
}

static int make_machine(void **state)
{
	static struct machine machine;

	if (make_folder(state) < 0)
		return -1;
	snprintf(machine.psk, sizeof(machine.psk), "%s/psk", folder);
	*state = &machine;
	if (unshare(CLONE_NEWNET) < 0) {
		print_message("no network namespace can be made: %s\n", strerror(errno));
		return 0; /* the tests skip */
	}
	has_namespace = true;
	if (system("ip link add i type veth peer name s && ip address add 10.1.0.1/24 dev i &&"
		   "ip address add 10.0.0.1/24 dev s label s:1 &&"
		   "ip link property add dev s altname other_name_of_s") != 0 ||
		add_address("lo:1", "192.0.2.1") < 0 || add_address6("2001:db8::1") < 0) {
		print_message("cannot give the namespace its interfaces and addresses\n");
		return -1;
	}
	return 0;
}

static int remove_machine(void **state)
{
	const struct machine *m = *state;

	unlink(m->psk);
	return remove_folder(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_psk),
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_interface_twice),
		cmocka_unit_test(test_paths),
	};

	return cmocka_run_group_tests_name(
		"config_check_system", tests, make_machine, remove_machine);
}
