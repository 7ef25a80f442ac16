/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/kernel.h"

#include <pthread.h>

#include "charon/policy.h"
#include "charon/reqid.h"

static kernel_interface_t *kernel; /* charon's */
static kernel_interface_t stock; /* its functions as they were */

static struct {
	pthread_mutex_t lock;
	uint32_t first, last; /* 0: as strongswan.conf has it */
} spis = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The range is in the settings, which the stock function reads. */
static void use_spis(uint32_t first, uint32_t last)
{
	lib->settings->set_int(lib->settings, "%s.spi_min", (int)first, lib->ns);
	lib->settings->set_int(lib->settings, "%s.spi_max", (int)last, lib->ns);
}

void kernel_draw(uint32_t reqid_first, uint32_t reqid_last, uint32_t spi_first, uint32_t spi_last)
{
	reqid_draw(reqid_first, reqid_last);
	pthread_mutex_lock(&spis.lock);
	if (spi_first && (spis.first != spi_first || spis.last != spi_last)) {
		spis.first = spi_first;
		spis.last = spi_last;
		use_spis(spi_first, spi_last);
	}
	pthread_mutex_unlock(&spis.lock);
}

static status_t add_sa(
	kernel_interface_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *data)
{
	return ours.adopting ? SUCCESS : stock.add_sa(this, id, data);
}

static status_t del_sa(
	kernel_interface_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_del_sa_t *data)
{
	return ours.adopting || stopping ? SUCCESS : stock.del_sa(this, id, data);
}

static status_t add_policy(
	kernel_interface_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	if (!ours.adopting)
		return stock.add_policy(this, id, data);
	policy_adopt(id, data);
	return SUCCESS;
}

static status_t del_policy(
	kernel_interface_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	if (stopping)
		return SUCCESS;
	if (ours.adopting) {
		policy_leave(id, data);
		return SUCCESS;
	}
	policy_settle(&stock, this, id);
	status_t status = stock.del_policy(this, id, data);
	policy_clear(&stock, this, id);
	return status;
}

void kernel_wrap(void)
{
	kernel = charon->kernel;
	stock = *kernel;
	reqid_begin();
	policy_begin();
	kernel->add_sa = add_sa;
	kernel->del_sa = del_sa;
	kernel->add_policy = add_policy;
	kernel->del_policy = del_policy;
	kernel->alloc_reqid = reqid_alloc;
	kernel->release_reqid = reqid_release;
#if CHARON_VERSION >= 60000
	kernel->ref_reqid = reqid_ref;
#endif
}

void kernel_unwrap(void)
{
	kernel->add_sa = stock.add_sa;
	kernel->del_sa = stock.del_sa;
	kernel->add_policy = stock.add_policy;
	kernel->del_policy = stock.del_policy;
	kernel->alloc_reqid = stock.alloc_reqid;
	kernel->release_reqid = stock.release_reqid;
#if CHARON_VERSION >= 60000
	kernel->ref_reqid = stock.ref_reqid;
#endif
	policy_end();
	reqid_end();
}
