/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_text.c - a policy in words: for whom it is, and what it does. */
#include <arpa/inet.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/xfrm.h"
#include "io/xfrm_body.h"

struct text {
	char *at, *end;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->at, (size_t)(t->end - t->at), format, args);
	va_end(args);
	if (n > 0)
		t->at = n < t->end - t->at ? t->at + n : t->end - 1;
}

static void add_address(struct text *t, uint16_t family, const xfrm_address_t *a)
{
	char text[INET6_ADDRSTRLEN] = "any";

	if (family == AF_INET || family == AF_INET6)
		inet_ntop(family, a, text, sizeof(text));
	add(t, "%s", text);
}

static void add_port(struct text *t, const char *name, __be16 port, __be16 mask)
{
	if (mask)
		add(t, " %s %u", name, ntohs(port));
}

static void add_selector(struct text *t, const struct xfrm_selector *sel)
{
	char name[IF_NAMESIZE];

	add_address(t, sel->family, &sel->saddr);
	add(t, "/%u to ", sel->prefixlen_s);
	add_address(t, sel->family, &sel->daddr);
	add(t, "/%u", sel->prefixlen_d);
	if (sel->proto)
		add(t, " proto %u", sel->proto);
	add_port(t, "sport", sel->sport, sel->sport_mask);
	add_port(t, "dport", sel->dport, sel->dport_mask);
	if (sel->ifindex && if_indextoname((unsigned int)sel->ifindex, name))
		add(t, " dev %s", name);
	else if (sel->ifindex)
		add(t, " dev %d", sel->ifindex);
}

static void add_template(struct text *t, const struct xfrm_user_tmpl *tmpl)
{
	static const char *const modes[] = {[XFRM_MODE_TRANSPORT] = "transport",
		[XFRM_MODE_TUNNEL] = "tunnel",
		[XFRM_MODE_BEET] = "beet"};
	const char *mode = tmpl->mode < sizeof(modes) / sizeof(*modes) ? modes[tmpl->mode] : NULL;

	add(t, " %s %s ",
		tmpl->id.proto == IPPROTO_ESP  ? "esp"
		: tmpl->id.proto == IPPROTO_AH ? "ah"
					       : "comp",
		mode ? mode : "other");
	add_address(t, tmpl->family, &tmpl->saddr);
	add(t, " to ");
	add_address(t, tmpl->family, &tmpl->id.daddr);
	add(t, " reqid %u", tmpl->reqid);
}

void xfrm_text(const struct xfrm_body *b, char *buf, size_t size)
{
	static const char *const directions[] = {"in", "out", "fwd"};
	struct text t = {.at = buf, .end = buf + size};
	struct xfrm_mark mark = xfrm_body_mark(b);
	uint32_t if_id = xfrm_body_u32(b, XFRMA_IF_ID);
	size_t n;
	const struct xfrm_user_tmpl *templates = xfrm_body_templates(b, &n);

	buf[0] = '\0';
	add(&t, "%s%s ", b->policy.dir > XFRM_POLICY_FWD ? "socket " : "",
		directions[b->policy.dir % 3]);
	add_selector(&t, &b->policy.sel);
	if (mark.m)
		add(&t, " mark 0x%x/0x%x", mark.v, mark.m);
	if (if_id)
		add(&t, " if_id 0x%x", if_id);
	add(&t, ":");
	if (b->policy.action == XFRM_POLICY_BLOCK || n == 0)
		add(&t, " %s", b->policy.action == XFRM_POLICY_BLOCK ? "block" : "allow");
	for (size_t i = 0; i < n; i++)
		add_template(&t, &templates[i]);
}

void xfrm_policy_text(const void *body, size_t len, char *buf, size_t size)
{
	struct xfrm_body b;

	if (xfrm_body_parse(RECORD_POLICY, body, len, XFRM_BODY_MEMBER, &b) == 0)
		xfrm_text(&b, buf, size);
	else
		snprintf(buf, size, "not readable");
}
