/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/policy.h"

#include <collections/hashtable.h>
#include <pthread.h>

enum known_by {
	KERNEL_ONLY, /* adopted */
	NETLINK_ONLY, /* left */
};

struct user {
	struct user *next;
	enum known_by by;
	kernel_ipsec_manage_policy_t data;
	ipsec_sa_cfg_t sa;
};

/* The users of one selector. */
struct selector {
	kernel_ipsec_policy_id_t id;
	struct user *users;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static hashtable_t *selectors;

static u_int selector_hash(const void *key)
{
	const struct selector *selector = key;
	const kernel_ipsec_policy_id_t *id = &selector->id;
	u_int plain[] = {id->dir, id->mark.value, id->mark.mask, id->if_id};

	return id->src_ts->hash(
		id->src_ts, id->dst_ts->hash(id->dst_ts, chunk_hash(chunk_from_thing(plain))));
}

static bool selector_equals(const void *a, const void *b)
{
	const kernel_ipsec_policy_id_t *x = &((const struct selector *)a)->id,
				       *y = &((const struct selector *)b)->id;

	return x->dir == y->dir && x->mark.value == y->mark.value && x->mark.mask == y->mark.mask &&
	       x->if_id == y->if_id && x->src_ts->equals(x->src_ts, y->src_ts) &&
	       x->dst_ts->equals(x->dst_ts, y->dst_ts);
}

void policy_begin(void)
{
	selectors = hashtable_create(selector_hash, selector_equals, 64);
}

static struct selector *find(const kernel_ipsec_policy_id_t *id)
{
	struct selector key = {.id = *id};

	return selectors->get(selectors, &key);
}

static struct selector *find_or_make(const kernel_ipsec_policy_id_t *id)
{
	struct selector *selector = find(id);

	if (!selector) {
		INIT(selector, .id = *id);
		selector->id.src_ts = id->src_ts->clone(id->src_ts);
		selector->id.dst_ts = id->dst_ts->clone(id->dst_ts);
		selector->id.interface = id->interface ? strdup(id->interface) : NULL;
		selector->id.label = NULL;
		selectors->put(selectors, selector, selector);
	}
	return selector;
}

static void selector_destroy(struct selector *selector)
{
	selector->id.src_ts->destroy(selector->id.src_ts);
	selector->id.dst_ts->destroy(selector->id.dst_ts);
	free(selector->id.interface);
	free(selector);
}

static void user_destroy(struct user *user)
{
	user->data.src->destroy(user->data.src);
	user->data.dst->destroy(user->data.dst);
	free(user);
}

static void add(const kernel_ipsec_policy_id_t *id, const kernel_ipsec_manage_policy_t *data,
	enum known_by by)
{
	struct selector *selector = find_or_make(id);
	struct user *user;

	INIT(user, .next = selector->users, .by = by, .data = *data, .sa = *data->sa);
	user->data.src = data->src->clone(data->src);
	user->data.dst = data->dst->clone(data->dst);
	user->data.sa = &user->sa;
	selector->users = user;
}

/* The number of policies aside, which a Child SA may not know when it deletes one. */
static bool same_user(const struct user *user, const kernel_ipsec_manage_policy_t *data)
{
	const ipsec_sa_cfg_t *x = &user->sa, *y = data->sa;

	return user->data.type == data->type && user->data.prio == data->prio &&
	       x->reqid == y->reqid && x->mode == y->mode && x->esp.use == y->esp.use &&
	       x->esp.spi == y->esp.spi && x->ah.use == y->ah.use && x->ah.spi == y->ah.spi &&
	       x->ipcomp.cpi == y->ipcomp.cpi &&
	       user->data.src->ip_equals(user->data.src, data->src) &&
	       user->data.dst->ip_equals(user->data.dst, data->dst);
}

/* Takes out the one like `data`, or if that is NULL the first one. */
static struct user *take(const kernel_ipsec_policy_id_t *id, enum known_by by,
	const kernel_ipsec_manage_policy_t *data)
{
	struct selector *selector = find(id);
	struct user *user, **at;

	if (!selector)
		return NULL;
	for (at = &selector->users; (user = *at); at = &user->next)
		if (user->by == by && (!data || same_user(user, data)))
			break;
	if (!user)
		return NULL;
	*at = user->next;
	if (!selector->users) {
		selectors->remove(selectors, selector);
		selector_destroy(selector);
	}
	return user;
}

/* One that was left, and comes back as it was, is known to both again; and the other way round. */
static void change(const kernel_ipsec_policy_id_t *id, const kernel_ipsec_manage_policy_t *data,
	enum known_by to)
{
	struct user *user;

	pthread_mutex_lock(&lock);
	user = take(id, to == KERNEL_ONLY ? NETLINK_ONLY : KERNEL_ONLY, data);
	if (user)
		user_destroy(user);
	else
		add(id, data, to);
	pthread_mutex_unlock(&lock);
}

void policy_adopt(const kernel_ipsec_policy_id_t *id, const kernel_ipsec_manage_policy_t *data)
{
	change(id, data, KERNEL_ONLY);
}

void policy_leave(const kernel_ipsec_policy_id_t *id, const kernel_ipsec_manage_policy_t *data)
{
	change(id, data, NETLINK_ONLY);
}

static struct user *take_first(const kernel_ipsec_policy_id_t *id, enum known_by by)
{
	struct user *user;

	pthread_mutex_lock(&lock);
	user = take(id, by, NULL);
	pthread_mutex_unlock(&lock);
	return user;
}

void policy_settle(
	kernel_interface_t *stock, kernel_interface_t *kernel, const kernel_ipsec_policy_id_t *id)
{
	kernel_ipsec_policy_id_t same = *id;
	struct user *user;

	while ((user = take_first(id, KERNEL_ONLY))) {
		stock->add_policy(kernel, &same, &user->data);
		user_destroy(user);
	}
}

void policy_clear(
	kernel_interface_t *stock, kernel_interface_t *kernel, const kernel_ipsec_policy_id_t *id)
{
	kernel_ipsec_policy_id_t same = *id;
	struct user *user;

	while ((user = take_first(id, NETLINK_ONLY))) {
		stock->del_policy(kernel, &same, &user->data);
		user_destroy(user);
	}
}

void policy_end(void)
{
	enumerator_t *enumerator = selectors->create_enumerator(selectors);
	struct selector *selector;
	void *key;

	while (enumerator->enumerate(enumerator, &key, &selector)) {
		struct user *user;

		while ((user = selector->users)) {
			selector->users = user->next;
			user_destroy(user);
		}
		selector_destroy(selector);
	}
	enumerator->destroy(enumerator);
	selectors->destroy(selectors);
}
