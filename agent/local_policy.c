/* SPDX-License-Identifier: BSD-2-Clause */
/* local_policy.c - policies that stay on this member: of sockets, of interfaces, with a label. The
 * kernel applies them as ever; they are listed, so that nobody looks for them on other members. */
#include <stdio.h>
#include <string.h>

#include "agent.h"

static struct local_policy *find(struct agent *a, const struct record_key *key)
{
	struct local_policies *l = &a->local_policies;

	for (unsigned int i = 0; i < l->count; i++)
		if (memcmp(&l->policies[i].key, key, sizeof(*key)) == 0)
			return &l->policies[i];
	return NULL;
}

static struct local_policy *add(struct agent *a, const struct record_key *key)
{
	struct local_policies *l = &a->local_policies;

	if (l->count == LOCAL_POLICIES_MAX) {
		if (!l->full_said)
			agent_say("more than %u policies stay on this member: no more are listed",
				LOCAL_POLICIES_MAX);
		l->full_said = true;
		return NULL;
	}
	l->policies[l->count] = (struct local_policy){.key = *key};
	return &l->policies[l->count++];
}

/* Those of sockets are everyday: IKE daemons have them. */
void local_policy_told(
	struct agent *a, const struct record_key *key, const char *text, const char *why)
{
	struct local_policy *p = find(a, key);
	bool new = !p;

	if (new)
		p = add(a, key);
	if (!p)
		return;
	p->seen = true;
	p->why = why;
	snprintf(p->text, sizeof(p->text), "%s", text);
	if (new && key->proto <= LOCAL_POLICY_FWD)
		agent_say("a policy is not copied: %s: %s", why, text);
}

void local_policy_gone(struct agent *a, const struct record_key *key)
{
	struct local_policy *p = find(a, key);

	if (p)
		*p = a->local_policies.policies[--a->local_policies.count];
}

void local_policy_begin(struct agent *a)
{
	for (unsigned int i = 0; i < a->local_policies.count; i++)
		a->local_policies.policies[i].seen = false;
}

void local_policy_end(struct agent *a)
{
	struct local_policies *l = &a->local_policies;

	for (unsigned int i = l->count; i-- > 0;)
		if (!l->policies[i].seen)
			l->policies[i] = l->policies[--l->count];
}
