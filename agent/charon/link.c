/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/link.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <threading/thread.h>
#include <unistd.h>

#include "charon/commit.h"
#include "charon/holder.h"
#include "charon/kernel.h"
#include "charon/need.h"
#include "charon/qcd.h"

#define LINK_BUFFER (1 << 20) /* bytes of the socket's, a message has up to 77,000 */
#define LINK_RETRY 100 /* ms between attempts to connect */
#define LINK_TICK 5 /* ms, while packets wait */
#define LINK_IDLE 1000 /* ms */

/* What all threads read. */
static struct {
	bool up; /* SETTINGS has come, on this connection */
	bool taken; /* and TAKEN */
	bool known; /* SETTINGS has come once */
	uint64_t heard; /* us: the agent's last message */
	struct espalier_ike_settings settings;
	pthread_mutex_t lock; /* of the settings */
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int fd = -1, wake = -1;
static bool backlog; /* something is dirty; with known_lock */
static bool ending;
static thread_t *thread;

bool link_up(void)
{
	return __atomic_load_n(&state.up, __ATOMIC_ACQUIRE);
}

static uint32_t setting(const __u32 *value)
{
	return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static bool agent_away(void)
{
	uint64_t away = setting(&state.settings.away_ms) * 1000ULL;

	return away && commit_now() - __atomic_load_n(&state.heard, __ATOMIC_RELAXED) > away;
}

uint64_t link_heard(void)
{
	return setting(&state.settings.away_ms) ? __atomic_load_n(&state.heard, __ATOMIC_RELAXED)
						: commit_now();
}

bool link_silent(void)
{
	if (!__atomic_load_n(&state.known, __ATOMIC_ACQUIRE) || !setting(&state.settings.away_ms))
		return false;
	return !__atomic_load_n(&state.taken, __ATOMIC_ACQUIRE) || agent_away();
}

bool link_secret(uint8_t *ret)
{
	bool has;

	pthread_mutex_lock(&state.lock);
	has = state.settings.has_secret;
	memcpy(ret, state.settings.qcd_secret, ESPALIER_IKE_SECRET);
	pthread_mutex_unlock(&state.lock);
	return has;
}

void link_wake(void)
{
	uint64_t one = 1;

	if (write(wake, &one, sizeof(one)) < 0)
		return; /* it is full: it will wake */
}

/* Writing. */

/* False: there is no room, or no link. `parts` begin behind the header. */
static bool post(uint8_t type, const struct iovec *parts, int count)
{
	struct espalier_ike_header header = {.type = type, .version = ESPALIER_IKE_VERSION};
	struct iovec all[4] = {{&header, sizeof(header)}};
	struct msghdr message = {.msg_iov = all, .msg_iovlen = (size_t)count + 1};

	for (int i = 0; i < count; i++) {
		all[i + 1] = parts[i];
		header.length += parts[i].iov_len;
	}
	return fd >= 0 && sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static struct espalier_ike_name name_of(const struct known *known)
{
	return (struct espalier_ike_name){
		.spis = {known->spi[0], known->spi[1]},
		.version = known->version,
		.turn = known->turn,
		.flags = known->initiator ? ESPALIER_IKE_INITIATOR : 0,
	};
}

static bool post_gone(const struct known *known)
{
	struct espalier_ike_name name = name_of(known);

	return post(ESPALIER_IKE_GONE, &(struct iovec){&name, sizeof(name)}, 1);
}

static bool post_record(const struct known *known)
{
	struct espalier_ike_record record = {
		.spis = {known->spi[0], known->spi[1]},
		.version = known->version,
		.turn = known->turn,
		.flags = (known->initiator ? ESPALIER_IKE_INITIATOR : 0) |
			 (known->unsure ? ESPALIER_IKE_SYNC : 0) | ESPALIER_IKE_ESTABLISHED,
		.body_length = (uint32_t)known->body.len,
		.children = known->children_count,
	};
	struct iovec parts[] = {
		{&record, sizeof(record)},
		{known->children, known->children_count * sizeof(*known->children)},
		{known->body.ptr, known->body.len},
	};

	return post(ESPALIER_IKE_RECORD, parts, 3);
}

void link_tell(struct known *known)
{
	known->dirty = true;
	if (!link_up())
		return;
	if (!backlog && (known->gone ? post_gone(known) : post_record(known)))
		known->dirty = false;
	else
		backlog = true;
}

static void tell_dirty(struct known *known)
{
	if (!known->dirty || backlog)
		return;
	if (known->gone ? post_gone(known) : !known->body.len || post_record(known))
		known->dirty = false;
	else
		backlog = true;
}

/* False: there is still something. */
static bool tell_backlog(void)
{
	bool done;

	pthread_mutex_lock(&known_lock);
	backlog = false;
	known_each(tell_dirty);
	done = !backlog;
	pthread_mutex_unlock(&known_lock);
	return done;
}

/* False: the link is gone. */
static bool wait_for_room(void)
{
	struct pollfd room = {.fd = fd, .events = POLLOUT};

	return link_up() && poll(&room, 1, LINK_IDLE) >= 0 && !(room.revents & (POLLERR | POLLHUP));
}

bool link_tell_all(void)
{
	while (!tell_backlog())
		if (!wait_for_room())
			return false;
	return link_up();
}

static bool post_name(uint8_t type, const struct espalier_ike_name *name)
{
	return post(type, &(struct iovec){(void *)name, sizeof(*name)}, 1);
}

void link_answer(uint8_t type, const struct espalier_ike_name *name)
{
	while (!post_name(type, name) && wait_for_room())
		;
}

void link_ask(const struct espalier_ike_name *name)
{
	post_name(ESPALIER_IKE_NEED, name);
}

/* Reading. */

static bool is_root(int s)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == 0;
}

static const char *socket_path(void)
{
	return lib->settings->get_str(
		lib->settings, "%s.plugins.espalier.socket", ESPALIER_IKE_SOCKET, lib->ns);
}

static void say_hello(void)
{
	struct espalier_ike_hello hello = {.protocol = ESPALIER_IKE_VERSION};

	snprintf(hello.daemon, sizeof(hello.daemon), "strongSwan %s", CHARON_TEXT);
	post(ESPALIER_IKE_HELLO, &(struct iovec){&hello, sizeof(hello)}, 1);
}

static bool connect_agent(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int s, buffer = LINK_BUFFER;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path());
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return false;
	if (connect(s, (struct sockaddr *)&address, sizeof(address)) < 0 || !is_root(s)) {
		close(s);
		return false;
	}
	setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
	pthread_mutex_lock(&known_lock);
	fd = s;
	backlog = false;
	pthread_mutex_unlock(&known_lock);
	__atomic_store_n(&state.heard, commit_now(), __ATOMIC_RELAXED);
	say_hello();
	return true;
}

static void mark_dirty(struct known *known)
{
	known->dirty = true;
	known->committed = 0;
}

static void disconnect(void)
{
	bool was_up = link_up();

	pthread_mutex_lock(&known_lock);
	__atomic_store_n(&state.up, false, __ATOMIC_RELEASE);
	__atomic_store_n(&state.taken, false, __ATOMIC_RELEASE);
	close(fd);
	fd = -1;
	if (was_up && setting(&state.settings.away_ms))
		known_each(commit_discard);
	else if (was_up)
		known_each(commit_flush);
	known_each(mark_dirty);
	pthread_mutex_unlock(&known_lock);
	if (!was_up)
		return;
	if (setting(&state.settings.away_ms)) {
		SAY("the agent is away: no IKE until it is back");
		holder_freeze();
	} else {
		SAY("the agent is away");
	}
}

static bool on_settings(const void *data, size_t len)
{
	const struct espalier_ike_settings *settings = data;

	if (len != sizeof(*settings))
		return false;
	pthread_mutex_lock(&state.lock);
	state.settings = *settings;
	pthread_mutex_unlock(&state.lock);
	kernel_draw(settings->reqid_first, settings->reqid_last,
		settings->has_ranges ? settings->esp_spi_first : 0,
		settings->has_ranges ? settings->esp_spi_last : 0);
	__atomic_store_n(&state.known, true, __ATOMIC_RELEASE);
	if (link_up())
		return true;
	__atomic_store_n(&state.up, true, __ATOMIC_RELEASE);
	holder_record_all();
	if (!link_tell_all() || !post(ESPALIER_IKE_READY, NULL, 0))
		return false;
	SAY("member %u, with its agent", settings->member);
	return true;
}

static void on_committed(const struct espalier_ike_name *name)
{
	struct known *known;
	bool thaw = false;

	pthread_mutex_lock(&known_lock);
	known = known_get((const uint64_t *)&name->spis);
	if (known && name->turn == known->turn) {
		thaw = !known->live && !known->gone && known->body.len;
		commit_acknowledge(known, name->version);
	}
	pthread_mutex_unlock(&known_lock);
	if (thaw)
		holder_thaw(&name->spis);
}

static bool on_name(uint8_t type, const void *data, size_t len)
{
	const struct espalier_ike_name *name = data;

	if (len != sizeof(*name))
		return false;
	if (type == ESPALIER_IKE_COMMITTED) {
		on_committed(name);
	} else if (type == ESPALIER_IKE_NONE) {
		need_none(name);
	} else if (type == ESPALIER_IKE_RELEASE) {
		holder_release(name);
	} else {
		holder_drop(&name->spis);
	}
	return true;
}

static bool on_give(const uint8_t *data, size_t len)
{
	const struct espalier_ike_record *record = (const void *)data;

	if (len < sizeof(*record) || record->body_length != len - sizeof(*record))
		return false;
	holder_give(record, chunk_create((u_char *)data + sizeof(*record), record->body_length));
	need_met(&record->spis);
	return true;
}

static bool handle(const uint8_t *message, size_t len)
{
	const struct espalier_ike_header *header = (const void *)message;
	const uint8_t *data = message + sizeof(*header);

	if (len < sizeof(*header) || header->version != ESPALIER_IKE_VERSION ||
		header->length != len - sizeof(*header))
		return false;
	len = header->length;
	switch (header->type) {
	case ESPALIER_IKE_SETTINGS:
		return on_settings(data, len);
	case ESPALIER_IKE_COMMITTED:
	case ESPALIER_IKE_NONE:
	case ESPALIER_IKE_RELEASE:
	case ESPALIER_IKE_DROP:
		return on_name(header->type, data, len);
	case ESPALIER_IKE_GIVE:
		return on_give(data, len);
	case ESPALIER_IKE_TAKEN:
		__atomic_store_n(&state.taken, true, __ATOMIC_RELEASE);
		return len == 0;
	case ESPALIER_IKE_ALIVE:
		return len == 0;
	default:
		return false;
	}
}

/* False: the link is to end. */
static bool receive(void)
{
	static uint8_t buffer[ESPALIER_IKE_MESSAGE_MAX] __attribute__((aligned(8)));
	ssize_t len;
	bool good = true;

	while (good && (len = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
		__atomic_store_n(&state.heard, commit_now(), __ATOMIC_RELAXED);
		good = handle(buffer, (size_t)len);
		if (!good)
			SAY("a message of the agent (type %u, %zd bytes) is not understood",
				buffer[0], len);
		memwipe(buffer, (size_t)len);
	}
	return good && len < 0 && (errno == EAGAIN || errno == EINTR);
}

static bool serve(void)
{
	bool waits;
	struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = wake, .events = POLLIN}};
	uint64_t count;

	pthread_mutex_lock(&known_lock);
	waits = commit_waits() || backlog;
	pthread_mutex_unlock(&known_lock);
	waits |= holder_waits();
	if (poll(polled, 2, waits ? LINK_TICK : LINK_IDLE) < 0 && errno != EINTR)
		return false;
	if (polled[1].revents && read(wake, &count, sizeof(count)) < 0)
		count = 0;
	if (polled[0].revents && !receive())
		return false;
	if (!link_up())
		return true;
	if (agent_away())
		return false;
	tell_backlog();
	pthread_mutex_lock(&known_lock);
	commit_overdue(setting(&state.settings.commit_ms));
	pthread_mutex_unlock(&known_lock);
	holder_continue();
	holder_retry();
	need_forget_old();
	return true;
}

static void *run(void *unused)
{
	while (!__atomic_load_n(&ending, __ATOMIC_ACQUIRE)) {
		if (fd < 0 && !connect_agent())
			poll(&(struct pollfd){.fd = wake, .events = POLLIN}, 1, LINK_RETRY);
		else if (!serve())
			disconnect();
	}
	return NULL;
}

bool link_begin(void)
{
	wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake < 0)
		return false;
	thread = thread_create(run, NULL);
	return thread;
}

void link_end(void)
{
	__atomic_store_n(&ending, true, __ATOMIC_RELEASE);
	link_wake();
	if (thread)
		thread->join(thread);
	if (fd >= 0)
		close(fd);
	close(wake);
	fd = wake = -1;
	memwipe(&state.settings, sizeof(state.settings));
}

uint64_t link_draw_spi(void)
{
	uint64_t mask = 0, value = 0, spi = 0;
	rng_t *rng = lib->crypto->create_rng(lib->crypto, RNG_WEAK);

	pthread_mutex_lock(&state.lock);
	mask = state.settings.ike_spi_mask;
	value = state.settings.ike_spi_value;
	pthread_mutex_unlock(&state.lock);
	if (!rng || !rng->get_bytes(rng, sizeof(spi), (uint8_t *)&spi))
		spi = 0;
	DESTROY_IF(rng);
	return spi ? htobe64((be64toh(spi) & ~mask) | value) : 0;
}
