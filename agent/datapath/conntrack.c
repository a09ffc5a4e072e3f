/* Design.
 *
 * Three netlink handles: events (subscribed to new, update and destroy; a socket filter lets only
 * our mark through, so that the other connections of a busy gateway cost us nothing), dumps, and
 * single reads. The event socket never blocks and its buffer is large; when it overflows all the
 * same (ENOBUFS) the caller is told to dump once.
 *
 * NEW events carry the label (the grant's id) and the mark; UPDATE and DESTROY the mark and the
 * conntrack id only. Counters come with DESTROY and in dumps; when TCP ends (TIME_WAIT, CLOSE) the
 * entry is read once for them, because DESTROY follows two minutes later. */
#include "agent/datapath/conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

#define EVENT_BYTES (16 * 1024 * 1024)
#define EVENTS_A_READ 256

struct conntrack {
	struct nfct_handle *events, *dump, *single;
	uint32_t mark;
	track_cb cb;
	void *arg;
	unsigned handled;
	struct tracked *figures; /* of conntrack_figures */
	bool found;
};

void conntrack_prepare(char *problems, size_t size)
{
	static const char *const names[] = {
		"nf_conntrack_acct", "nf_conntrack_timestamp", "nf_conntrack_events"};
	size_t used = 0;
	problems[0] = '\0';
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[128];
		snprintf(path, sizeof path, "/proc/sys/net/netfilter/%s", names[i]);
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		bool set = fd >= 0 && write(fd, "1\n", 2) == 2;
		int cause = errno;
		if (fd >= 0)
			close(fd);
		if (set)
			continue;
		int n = snprintf(problems + used, size - used,
			"%ssysctl net.netfilter.%s could not be set to 1: %s: set it by sysctl.d",
			used ? "\n" : "", names[i], strerror(cause));
		if (n > 0 && (size_t)n < size - used)
			used += (size_t)n;
	}
}

/* ---- reading a message ---- */

static void read_addr(const struct nf_conntrack *ct, bool ipv6, enum nf_conntrack_attr v4,
	enum nf_conntrack_attr v6, struct addr *ret_addr)
{
	memset(ret_addr, 0, sizeof *ret_addr);
	ret_addr->family = ipv6 ? ADDR_IPV6 : ADDR_IPV4;
	const void *bytes = nfct_get_attr(ct, ipv6 ? v6 : v4);
	if (bytes)
		memcpy(ret_addr->bytes, bytes, ipv6 ? 16 : 4);
}

/* The label's bits are 32-bit words in the CPU's order, as the kernel copied them from the map's
 * data. */
static void read_label(const struct nf_conntrack *ct, struct id *ret_id)
{
	const struct nfct_bitmask *mask = nfct_attr_is_set(ct, ATTR_CONNLABELS) > 0
		? nfct_get_attr(ct, ATTR_CONNLABELS)
		: NULL;
	uint32_t words[4] = {0};
	memset(ret_id, 0, sizeof *ret_id);
	if (!mask || nfct_bitmask_maxbit(mask) < 127)
		return;
	for (unsigned bit = 0; bit < 128; bit++)
		if (nfct_bitmask_test_bit(mask, bit))
			words[bit / 32] |= 1U << (bit % 32);
	memcpy(ret_id->bytes, words, sizeof words);
}

static void read_figures(const struct nf_conntrack *ct, struct tracked *flow)
{
	if (nfct_attr_is_set(ct, ATTR_ORIG_COUNTER_BYTES) <= 0)
		return;
	flow->accounted = true;
	flow->packets_sent = nfct_get_attr_u64(ct, ATTR_ORIG_COUNTER_PACKETS);
	flow->bytes_sent = nfct_get_attr_u64(ct, ATTR_ORIG_COUNTER_BYTES);
	flow->packets_received = nfct_get_attr_u64(ct, ATTR_REPL_COUNTER_PACKETS);
	flow->bytes_received = nfct_get_attr_u64(ct, ATTR_REPL_COUNTER_BYTES);
	if (nfct_attr_is_set(ct, ATTR_TIMESTAMP_START) > 0) {
		uint64_t start = nfct_get_attr_u64(ct, ATTR_TIMESTAMP_START) / 1000;
		uint64_t stop = nfct_attr_is_set(ct, ATTR_TIMESTAMP_STOP) > 0
			? nfct_get_attr_u64(ct, ATTR_TIMESTAMP_STOP) / 1000
			: (uint64_t)clock_real_us();
		flow->duration_us = stop > start ? stop - start : 0;
	}
}

static bool read_flow(const struct nf_conntrack *ct, struct tracked *flow)
{
	uint8_t family = nfct_get_attr_u8(ct, ATTR_L3PROTO);
	memset(flow, 0, sizeof *flow);
	if (family != AF_INET && family != AF_INET6)
		return false;
	flow->id = nfct_get_attr_u32(ct, ATTR_ID);
	flow->transport = nfct_get_attr_u8(ct, ATTR_L4PROTO);
	if (flow->id == 0 || (flow->transport != IPPROTO_TCP && flow->transport != IPPROTO_UDP))
		return false;
	read_addr(
		ct, family == AF_INET6, ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC, &flow->client.addr);
	read_addr(
		ct, family == AF_INET6, ATTR_ORIG_IPV4_DST, ATTR_ORIG_IPV6_DST, &flow->remote.addr);
	flow->client.port = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_SRC));
	flow->remote.port = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_DST));
	read_label(ct, &flow->grant);
	read_figures(ct, flow);
	if (flow->transport == IPPROTO_TCP && nfct_attr_is_set(ct, ATTR_TCP_STATE) > 0) {
		uint8_t state = nfct_get_attr_u8(ct, ATTR_TCP_STATE);
		flow->is_over = state == TCP_CONNTRACK_TIME_WAIT || state == TCP_CONNTRACK_CLOSE;
	}
	return true;
}

static int on_message(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	struct conntrack *conntrack = data;
	struct tracked flow;
	conntrack->handled++;
	if (read_flow(ct, &flow) && (nfct_get_attr_u32(ct, ATTR_MARK) & conntrack->mark)) {
		switch (type) {
		case NFCT_T_NEW:
			conntrack->cb(conntrack->arg, TRACK_NEW, &flow);
			break;
		case NFCT_T_DESTROY:
			conntrack->cb(conntrack->arg, TRACK_DESTROY, &flow);
			break;
		default:
			conntrack->cb(conntrack->arg, TRACK_UPDATE, &flow);
			break;
		}
	}
	return conntrack->handled >= EVENTS_A_READ ? NFCT_CB_STOP : NFCT_CB_CONTINUE;
}

static int on_dump(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	struct conntrack *conntrack = data;
	struct tracked flow;
	(void)type;
	if (read_flow(ct, &flow) && (nfct_get_attr_u32(ct, ATTR_MARK) & conntrack->mark))
		conntrack->cb(conntrack->arg, TRACK_NEW, &flow);
	return NFCT_CB_CONTINUE;
}

static int on_single(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	struct conntrack *conntrack = data;
	struct tracked flow;
	(void)type;
	/* The same tuple may belong to a younger connection by now. */
	if (read_flow(ct, &flow) && flow.id == conntrack->figures->id) {
		read_figures(ct, conntrack->figures);
		conntrack->found = true;
	}
	return NFCT_CB_CONTINUE;
}

/* ---- handles ---- */

static struct nfct_handle *open_handle(unsigned groups,
	int (*cb)(enum nf_conntrack_msg_type, struct nf_conntrack *, void *),
	struct conntrack *conntrack, struct error *err)
{
	struct nfct_handle *handle = nfct_open(CONNTRACK, groups);
	if (!handle) {
		error_errno(err, STATUS_PERMISSION_DENIED, errno,
			"conntrack: cannot open netlink: CAP_NET_ADMIN is needed");
		return NULL;
	}
	(void)fcntl(nfct_fd(handle), F_SETFD, FD_CLOEXEC);
	nfct_callback_register(handle, NFCT_T_ALL, cb, conntrack);
	return handle;
}

/* Attaches the filter on our mark; without it the callback filters, at a cost. */
static enum status filter_events(struct conntrack *conntrack, struct error *err)
{
	struct nfct_filter *filter = nfct_filter_create();
	struct nfct_filter_dump_mark mark = {.val = conntrack->mark, .mask = conntrack->mark};
	if (!filter)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	nfct_filter_add_attr(filter, NFCT_FILTER_MARK, &mark);
	nfct_filter_set_logic(filter, NFCT_FILTER_MARK, NFCT_FILTER_LOGIC_POSITIVE);
	int rc = nfct_filter_attach(nfct_fd(conntrack->events), filter);
	nfct_filter_destroy(filter);
	return rc < 0 ? error_errno(err, STATUS_UNAVAILABLE, errno,
				"conntrack: cannot filter events by mark")
		      : STATUS_OK;
}

enum status conntrack_open(uint32_t mark, struct conntrack **ret_conntrack, struct error *err)
{
	struct conntrack *conntrack = calloc(1, sizeof *conntrack);
	if (!conntrack)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	conntrack->mark = mark;
	enum status status = STATUS_OK;
	conntrack->events = open_handle(NF_NETLINK_CONNTRACK_NEW | NF_NETLINK_CONNTRACK_UPDATE |
			NF_NETLINK_CONNTRACK_DESTROY,
		on_message, conntrack, err);
	conntrack->dump = conntrack->events ? open_handle(0, on_dump, conntrack, err) : NULL;
	conntrack->single = conntrack->dump ? open_handle(0, on_single, conntrack, err) : NULL;
	if (!conntrack->single)
		status = STATUS_PERMISSION_DENIED;
	if (!status)
		status = filter_events(conntrack, err);
	if (status) {
		conntrack_close(conntrack);
		return status;
	}
	int fd = nfct_fd(conntrack->events), size = EVENT_BYTES;
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	*ret_conntrack = conntrack;
	return STATUS_OK;
}

void conntrack_close(struct conntrack *conntrack)
{
	if (!conntrack)
		return;
	if (conntrack->events)
		nfct_close(conntrack->events);
	if (conntrack->dump)
		nfct_close(conntrack->dump);
	if (conntrack->single)
		nfct_close(conntrack->single);
	free(conntrack);
}

int conntrack_fd(const struct conntrack *conntrack)
{
	return nfct_fd(conntrack->events);
}

bool conntrack_read(struct conntrack *conntrack, track_cb cb, void *arg)
{
	conntrack->cb = cb;
	conntrack->arg = arg;
	conntrack->handled = 0;
	return nfct_catch(conntrack->events) < 0 && errno == ENOBUFS;
}

enum status conntrack_dump(struct conntrack *conntrack, track_cb cb, void *arg, struct error *err)
{
	struct nfct_filter_dump *filter = nfct_filter_dump_create();
	struct nfct_filter_dump_mark mark = {.val = conntrack->mark, .mask = conntrack->mark};
	if (!filter)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	conntrack->cb = cb;
	conntrack->arg = arg;
	nfct_filter_dump_set_attr(filter, NFCT_FILTER_DUMP_MARK, &mark);
	nfct_filter_dump_set_attr_u8(filter, NFCT_FILTER_DUMP_L3NUM, AF_UNSPEC);
	int rc = nfct_query(conntrack->dump, NFCT_Q_DUMP_FILTER, filter);
	nfct_filter_dump_destroy(filter);
	return rc < 0 ? error_errno(err, STATUS_UNAVAILABLE, errno, "conntrack: cannot dump")
		      : STATUS_OK;
}

bool conntrack_figures(struct conntrack *conntrack, struct tracked *flow)
{
	struct nf_conntrack *ct = nfct_new();
	bool ipv6 = flow->client.addr.family == ADDR_IPV6;
	if (!ct)
		return false;
	nfct_set_attr_u8(ct, ATTR_L3PROTO, ipv6 ? AF_INET6 : AF_INET);
	nfct_set_attr(ct, ipv6 ? ATTR_IPV6_SRC : ATTR_IPV4_SRC, flow->client.addr.bytes);
	nfct_set_attr(ct, ipv6 ? ATTR_IPV6_DST : ATTR_IPV4_DST, flow->remote.addr.bytes);
	nfct_set_attr_u8(ct, ATTR_L4PROTO, flow->transport);
	nfct_set_attr_u16(ct, ATTR_PORT_SRC, htons(flow->client.port));
	nfct_set_attr_u16(ct, ATTR_PORT_DST, htons(flow->remote.port));
	conntrack->figures = flow;
	conntrack->found = false;
	(void)nfct_query(conntrack->single, NFCT_Q_GET, ct);
	nfct_destroy(ct);
	return conntrack->found;
}
