/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.h - the configuration file: reading it, checking it against this machine.
 *
 * The file is as simple as wg.conf (docs/espalier.conf.example is one): sections [Cluster],
 * [Interface] and one [Member] for each member, `Key = value`, `#` or `;` begins a comment. The
 * case of section names and keys does not matter; an unknown one is an error.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "core/address.h"
#include "espalier.h"

#define CONFIG_PATH_SIZE 192
#define CONFIG_NAME_SIZE 33
#define CONFIG_PSK_MIN 32 /* bytes, decoded */
#define CONFIG_PSK_MAX 64

enum config_mode { CONFIG_LOAD_SHARING, CONFIG_HOT_STANDBY };
enum config_transport { CONFIG_TRANSPORT_AUTO, CONFIG_TRANSPORT_UDP };
enum config_counters { CONFIG_COUNTERS_AUTO, CONFIG_COUNTERS_EVENTS };
enum config_sas { CONFIG_SAS_NO, CONFIG_SAS_YES };
enum config_ingress { CONFIG_INGRESS_ONE, CONFIG_INGRESS_ALL };

#define CONFIG_CPUS_MAX 255
#define CONFIG_CPUS_ALL (CONFIG_CPUS_MAX + 1)

/* Every key; index of config.line. */
enum config_key {
	CONFIG_NAME,
	CONFIG_ADDRESS,
	CONFIG_INNER_ADDRESS,
	CONFIG_MODE,
	CONFIG_HASH,
	CONFIG_INGRESS,
	CONFIG_BLOCK_BITS,
	CONFIG_HEARTBEAT,
	CONFIG_DEAD,
	CONFIG_SYNC_PORT,
	CONFIG_PSK_FILE,
	CONFIG_CERT_FILE,
	CONFIG_KEY_FILE,
	CONFIG_CA_FILE,
	CONFIG_ID,
	CONFIG_OUTER,
	CONFIG_INNER,
	CONFIG_SYNC,
	CONFIG_JOURNAL,
	CONFIG_PIN,
	CONFIG_CONTROL,
	CONFIG_TRANSPORT,
	CONFIG_COUNTERS,
	CONFIG_MAX_SAS,
	CONFIG_AUDIT,
	CONFIG_MISSES,
	CONFIG_CPUS,
	CONFIG_METRICS,
	CONFIG_METRICS_FILE,
	CONFIG_METRICS_SAS,
	CONFIG_MAX_IKES,
	CONFIG_IKE_COMMIT,
	CONFIG_MEMBER_ID,
	CONFIG_MEMBER_SYNC,
	CONFIG_MEMBER_OUTER,
	CONFIG_MEMBER_INNER,
	CONFIG_KEYS
};

/* IPv4 and IPv6, as the file has them; the rest is zero. */
struct config_addresses {
	struct address address[ESPALIER_ADDRESSES];
	unsigned int line[ESPALIER_ADDRESSES]; /* where each was said */
	unsigned int count;
};

/* Holds a secret (psk): end it with config_wipe(). Paths and names that are not set are "". */
struct config {
	/* [Cluster]: the same on all members */
	char name[CONFIG_NAME_SIZE];
	struct config_addresses outer; /* cluster addresses, the peers' side; at least one */
	struct config_addresses
		inner; /* cluster addresses, the protected hosts' gateway; or none */
	enum config_mode mode;
	enum espalier_hash hash;
	enum config_ingress ingress; /* who gets what is for the outer cluster addresses */
	unsigned int block_bits; /* a sequence block is 2^block_bits numbers */
	unsigned int heartbeat_us;
	unsigned int dead_after; /* missed heartbeats */
	unsigned int sync_port; /* UDP, host byte order */
	char psk_path[CONFIG_PATH_SIZE]; /* either this, or the next three */
	char cert_path[CONFIG_PATH_SIZE];
	char key_path[CONFIG_PATH_SIZE];
	char ca_path[CONFIG_PATH_SIZE];
	uint8_t psk[CONFIG_PSK_MAX]; /* read by config_check_system() */
	size_t psk_size; /* bytes; 0: certificates, or not read yet */

	/* [Interface]: this member */
	unsigned int id;
	char outer_interface[IFNAMSIZ];
	char inner_interface[IFNAMSIZ]; /* "" only where there is no inner cluster address */
	char sync_interface[IFNAMSIZ];
	char journal_path[CONFIG_PATH_SIZE];
	char pin_path[CONFIG_PATH_SIZE];
	char control_path[CONFIG_PATH_SIZE]; /* fits sockaddr_un.sun_path */
	enum config_transport transport;
	enum config_counters counters;
	unsigned int max_sas;
	unsigned int audit_us; /* how often the kernel's SAs and policies are compared with the
				  table */
	unsigned int misses_per_second; /* packets for unknown SPIs that may wake the agent */
	unsigned int cpus; /* that local ESP is spread over; 0: it is not; or CONFIG_CPUS_ALL */
	struct address metrics_address; /* where to serve metrics by HTTP */
	unsigned int metrics_port; /* TCP, host byte order; 0: nowhere */
	char metrics_path[CONFIG_PATH_SIZE]; /* a file for them, or "" */
	enum config_sas metrics_sas; /* by HTTP: those of each SA, too */

	unsigned int max_ikes; /* IKE SAs that live, of the whole cluster; 0: no plugin is served */
	unsigned int ike_commit_us; /* an IKE message waits so long at most */

	/* [Member]: all members, this one too */
	uint32_t members; /* bit i: member i is configured */
	struct in_addr member_sync[ESPALIER_MEMBERS]; /* by id: address on the sync network */
	/* By id: where the others reach it on that side. All members have one or none has, all of
	 * one family; family 0: none. */
	struct address member_outer[ESPALIER_MEMBERS], member_inner[ESPALIER_MEMBERS];

	/* Where it was said, for messages. Line 0: not said, the default holds. */
	char path[CONFIG_PATH_SIZE];
	unsigned int line[CONFIG_KEYS];
	unsigned int member_line[ESPALIER_MEMBERS];
};

/*
 * Reads the file and checks everything that the file alone can tell. Opens no other file and asks
 * nothing of the machine. On error: a negative errno (-EINVAL when the content is wrong), one
 * sentence in err (file, line, what is wrong, what to do), and *ret is left as it was.
 */
int config_read(const char *path, struct config *ret, char *err, size_t err_size);

/*
 * Checks the rest against this machine: key files (not for others to read; the pre-shared key is
 * read into config->psk), interfaces, cluster addresses on `lo`, this member's own addresses on
 * their interfaces, the number of CPUs, the journal's folder. Errors as config_read(); config->psk
 * is then empty.
 */
int config_check_system(struct config *config, char *err, size_t err_size);

/* Clears everything, the pre-shared key too. Takes NULL. */
void config_wipe(struct config *config);

/*
 * Digest (64-bit FNV-1a) over [Cluster] and the member list, no secrets, no paths: the same on all
 * members of a cluster that is configured alike, so that they can tell when they are not.
 */
uint64_t config_cluster_digest(const struct config *config);

/* What the digest is made of, in this order. */
enum config_setting {
	CONFIG_SETTING_NAME,
	CONFIG_SETTING_ADDRESS,
	CONFIG_SETTING_INNER_ADDRESS,
	CONFIG_SETTING_MODE,
	CONFIG_SETTING_HASH,
	CONFIG_SETTING_INGRESS,
	CONFIG_SETTING_BLOCK_BITS,
	CONFIG_SETTING_HEARTBEAT,
	CONFIG_SETTING_DEAD,
	CONFIG_SETTING_SYNC_PORT,
	CONFIG_SETTING_MEMBERS,
	CONFIG_SETTINGS
};

extern const char *const config_setting_names[CONFIG_SETTINGS];

/* A digest of each of them, to tell in which two members differ. */
void config_setting_digests(const struct config *config, uint32_t ret[CONFIG_SETTINGS]);

#endif
