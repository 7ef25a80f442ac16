/* SPDX-License-Identifier: BSD-2-Clause */
/* DTLS associations with certificates, which the openssl command makes. */
#include "dtls_link.h"

static char folder[] = "/tmp/test_dtls.XXXXXX";

static void shell(const char *format, ...)
{
	char command[1024], in_folder[1200];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	snprintf(in_folder, sizeof(in_folder), "cd %s && { %s; } >log 2>&1", folder, command);
	if (system(in_folder) != 0)
		fail_msg("%s", in_folder);
}

static void make_ca(const char *name)
{
	shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
	      "-subj /CN=%s -keyout %s.key -out %s.pem",
		name, name, name);
}

static void make_certificate(
	const char *name, const char *ca, const char *key_type, const char *address, int days)
{
	shell("openssl req -newkey %s -nodes -subj /CN=%s -keyout %s.key -out %s.csr && "
	      "echo subjectAltName=IP:%s >%s.ext && "
	      "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days %d "
	      "-extfile %s.ext -out %s.pem",
		key_type, name, name, name, address, name, name, ca, ca, days, name, name);
}

#define EC "ec -pkeyopt ec_paramgen_curve:P-256"

static int certificates_make(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	make_ca("ca");
	make_ca("foreign_ca");
	make_certificate("m0", "ca", EC, "10.9.0.1", 2);
	make_certificate("m1", "ca", EC, "10.9.0.2", 2);
	make_certificate("rsa0", "ca", "rsa:3072", "10.9.0.1", 2);
	make_certificate("rsa1", "ca", "rsa:3072", "10.9.0.2", 2);
	for (int i = 0; i < 2; i++) {
		char name[32], address[32];

		snprintf(address, sizeof(address), "10.9.0.%d", i + 1);
		snprintf(name, sizeof(name), "foreign%d", i);
		make_certificate(name, "foreign_ca", EC, address, 2);
		snprintf(name, sizeof(name), "expired%d", i);
		make_certificate(name, "ca", EC, address, 0);
		snprintf(name, sizeof(name), "other%d", i);
		make_certificate(name, "ca", EC, "10.9.0.9", 2);
	}
	make_certificate("below", "ca", EC, "10.9.0.9", 2);
	shell("echo basicConstraints=CA:TRUE >ca.ext && openssl x509 -req -in below.csr -CA ca.pem "
	      "-CAkey ca.key -days 2 -out below.pem "
	      "-extfile ca.ext");
	make_certificate("below0", "below", EC, "10.9.0.1", 2);
	shell("cat below.pem >>below0.pem");
	shell("openssl pkey -in m0.key -aes128 -passout pass:secret -out sealed.key");
	return 0;
}

static int certificates_remove(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

struct files {
	char certificate[64], private_key[64], ca[64];
};

static struct dtls_config certificate_config(struct files *f, uint8_t id, const char *name)
{
	snprintf(f->certificate, sizeof(f->certificate), "%s/%s.pem", folder, name);
	snprintf(f->private_key, sizeof(f->private_key), "%s/%s.key", folder, name);
	snprintf(f->ca, sizeof(f->ca), "%s/ca.pem", folder);
	return (struct dtls_config){
		.cluster = "test",
		.self = id,
		.address = address_of(id),
		.certificate = f->certificate,
		.private_key = f->private_key,
		.ca = f->ca,
		.silence_us = SILENCE_US,
	};
}

static struct link *link_open_certificates(const char *first, const char *second)
{
	struct files files[2] = {0};
	struct dtls_config a = certificate_config(&files[0], 0, first);
	struct dtls_config b = certificate_config(&files[1], 1, second);

	if (strncmp(first, "other", 5) == 0)
		a.address.s_addr = htonl(0x0a090009);
	if (strncmp(second, "other", 5) == 0)
		b.address.s_addr = htonl(0x0a090009);
	return link_open(&a, &b);
}

static void test_certificates(void **state)
{
	const char *pairs[][2] = {{"m0", "m1"}, {"rsa0", "rsa1"}, {"m0", "rsa1"}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct link *l = link_open_certificates(pairs[i][0], pairs[i][1]);

		link_run(l, SECOND / 10);
		assert_true(link_is_up(l));
		assert_works(l, 1);
		link_close(l);
	}
}

/* Long certificates over a bad link: flights of several datagrams. */
static void test_certificates_faulty_link(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct link *l = link_open_certificates("rsa0", "rsa1");

		l->rng = seed;
		l->loss = 15;
		l->twice = 15;
		l->jitter_us = 10000;
		link_run(l, 30 * SECOND);
		assert_true(link_is_up(l));
		link_close(l);
	}
}

static void test_wrong_certificates(void **state)
{
	(void)state;
	assert_never_up(link_open_certificates("m0", "foreign1"));
	assert_never_up(link_open_certificates("foreign0", "m1"));
	assert_never_up(link_open_certificates("m0", "expired1"));
	assert_never_up(link_open_certificates("expired0", "m1"));
	assert_never_up(link_open_certificates("m0", "other1"));
	assert_never_up(link_open_certificates("other0", "m1"));
}

static void test_key_against_certificate(void **state)
{
	struct files files = {0};
	struct dtls_config a = certificate_config(&files, 0, "m0"), b = psk_config(1);

	(void)state;
	assert_never_up(link_open(&a, &b));
}

static void assert_refused(const struct dtls_config *config, const char *why)
{
	struct dtls_context *c = NULL;
	char err[256] = "";

	assert_int_equal(dtls_context_open(config, &c, err, sizeof(err)), -EINVAL);
	if (!strstr(err, why))
		fail_msg("'%s' is not in '%s'", why, err);
}

static void test_bad_files(void **state)
{
	struct files files = {0}, other = {0};
	struct dtls_config config = certificate_config(&files, 0, "m0");

	(void)state;
	certificate_config(&other, 0, "missing");
	config.certificate = other.certificate;
	assert_refused(&config, "missing.pem: No such file");
	config.certificate = files.certificate;
	config.ca = other.certificate;
	assert_refused(&config, "missing.pem: No such file");
	config.ca = files.private_key;
	assert_refused(&config, "CA file");
	config.ca = files.ca;
	certificate_config(&other, 0, "m1");
	config.private_key = other.private_key;
	assert_refused(&config, "m1.key is not that of certificate ");
	certificate_config(&other, 0, "sealed");
	config.private_key = other.private_key;
	assert_refused(&config, "sealed.key");
	config.private_key = files.private_key;
	config.address = address_of(1);
	assert_refused(&config, "does not name this member's sync address");
}

static int check(const char *name, const char *ca, char *err, size_t err_size)
{
	struct files files = {0}, other = {0};
	struct dtls_config config = certificate_config(&files, 0, name);

	certificate_config(&other, 0, ca);
	config.ca = other.certificate;
	return dtls_check(&config, err, err_size);
}

/* What another member would say of them. */
static void test_check(void **state)
{
	struct dtls_config psk = psk_config(0);
	char err[512];

	(void)state;
	assert_int_equal(dtls_check(&psk, err, sizeof(err)), 0);
	assert_int_equal(check("m0", "ca", err, sizeof(err)), 0);
	assert_int_equal(check("below0", "ca", err, sizeof(err)), 0);
	assert_int_equal(check("foreign0", "ca", err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "foreign0.pem is not good by CA file "));
	assert_int_equal(check("below0", "foreign_ca", err, sizeof(err)), -EINVAL);
	assert_int_equal(check("expired0", "ca", err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "certificate has expired"));
	assert_int_equal(check("m1", "ca", err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "does not name this member's sync address"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_certificates_faulty_link),
		cmocka_unit_test(test_wrong_certificates),
		cmocka_unit_test(test_key_against_certificate),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, certificates_make, certificates_remove);
}
