/* Design.
 *
 * Four sockets: events (subscribed to new, update and destroy; a socket filter lets only our marks
 * through, so that the other connections of a busy gateway cost us nothing), dumps, single reads,
 * and changes. The event socket never blocks and its buffer is large; when it overflows all the
 * same (ENOBUFS) it grows, up to a cap, and the caller is told to dump.
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
#include <linux/filter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

#define EVENTS_A_READ 256
#define EVENT_BYTES 8192 /* a message is some hundred */

struct conntrack {
	struct nfct_handle *events, *dump, *single;
	int changes;
	struct conntrack_config config;
	size_t buffer_bytes;
	track_cb cb;
	void *arg;
	struct tracked answer; /* of `single` */
	bool found;
};

static bool is_one(int fd)
{
	char text[8] = "";
	return pread(fd, text, sizeof text - 1, 0) > 0 && text[0] == '1' && text[1] == '\n';
}

void conntrack_prepare(char *problems, size_t size)
{
	static const char *const names[] = {
		"nf_conntrack_acct", "nf_conntrack_timestamp", "nf_conntrack_events"};
	size_t used = 0;
	problems[0] = '\0';
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[128];
		snprintf(path, sizeof path, "/proc/sys/net/netfilter/%s", names[i]);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		int cause = errno;
		if (fd < 0)
			fd = open(path, O_RDONLY | O_CLOEXEC);
		bool set = fd >= 0 && is_one(fd);
		if (!set && fd >= 0) {
			set = pwrite(fd, "1\n", 2, 0) == 2;
			cause = errno;
		}
		if (fd >= 0)
			close(fd);
		if (set)
			continue;
		int n = snprintf(problems + used, size - used,
			"%ssysctl net.netfilter.%s could not be set to 1: %s: set it in sysctl.d",
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

static void read_endpoints(const struct nf_conntrack *ct, bool ipv6, struct tracked *flow)
{
	struct endpoint from = {0}, to = {0};
	read_addr(ct, ipv6, ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC, &flow->client.addr);
	read_addr(ct, ipv6, ATTR_ORIG_IPV4_DST, ATTR_ORIG_IPV6_DST, &flow->remote.addr);
	flow->client.port = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_SRC));
	flow->remote.port = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_DST));
	if (nfct_attr_is_set(ct, ATTR_REPL_PORT_SRC) <= 0)
		return;
	read_addr(ct, ipv6, ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV6_SRC, &from.addr);
	read_addr(ct, ipv6, ATTR_REPL_IPV4_DST, ATTR_REPL_IPV6_DST, &to.addr);
	from.port = ntohs(nfct_get_attr_u16(ct, ATTR_REPL_PORT_SRC));
	to.port = ntohs(nfct_get_attr_u16(ct, ATTR_REPL_PORT_DST));
	if (endpoint_equal(&from, &flow->remote) && endpoint_equal(&to, &flow->client))
		return;
	flow->reply_from = from;
	flow->reply_to = to;
}

static bool read_flow(
	const struct nf_conntrack *ct, const struct conntrack_config *config, struct tracked *flow)
{
	uint8_t family = nfct_get_attr_u8(ct, ATTR_L3PROTO);
	memset(flow, 0, sizeof *flow);
	if (family != AF_INET && family != AF_INET6)
		return false;
	flow->id = nfct_get_attr_u32(ct, ATTR_ID);
	flow->transport = nfct_get_attr_u8(ct, ATTR_L4PROTO);
	if (flow->id == 0 || (flow->transport != IPPROTO_TCP && flow->transport != IPPROTO_UDP))
		return false;
	read_endpoints(ct, family == AF_INET6, flow);
	flow->is_granted = nfct_get_attr_u32(ct, ATTR_MARK) & config->mark;
	flow->is_primary = nfct_get_attr_u32(ct, ATTR_MARK) & config->mark_session;
	read_label(ct, &flow->grant);
	read_figures(ct, flow);
	if (flow->transport == IPPROTO_TCP && nfct_attr_is_set(ct, ATTR_TCP_STATE) > 0) {
		uint8_t state = nfct_get_attr_u8(ct, ATTR_TCP_STATE);
		flow->is_over = state == TCP_CONNTRACK_TIME_WAIT || state == TCP_CONNTRACK_CLOSE;
	}
	return true;
}

/* The attributes of a message must lie within it: the library trusts their lengths. */
static bool is_sound(const struct nlmsghdr *message, size_t size)
{
	return size >= NLMSG_SPACE(sizeof(struct nfgenmsg)) &&
		message->nlmsg_len >= NLMSG_SPACE(sizeof(struct nfgenmsg)) &&
		message->nlmsg_len <= size && message->nlmsg_type >> 8 == NFNL_SUBSYS_CTNETLINK;
}

bool conntrack_parse(const void *bytes, size_t size, uint32_t mark, uint32_t mark_session,
	enum track_event *ret_event, struct tracked *ret_flow)
{
	const struct conntrack_config config = {.mark = mark, .mark_session = mark_session};
	const struct nlmsghdr *message = bytes;
	struct tracked flow;
	if (!is_sound(message, size))
		return false;
	struct nf_conntrack *ct = nfct_new();
	bool ours = ct && nfct_nlmsg_parse(message, ct) >= 0 && read_flow(ct, &config, &flow) &&
		(flow.is_granted || flow.is_primary);
	if (ct)
		nfct_destroy(ct);
	if (!ours)
		return false;
	bool is_new = (message->nlmsg_type & 0xff) == IPCTNL_MSG_CT_NEW;
	*ret_event = !is_new                                         ? TRACK_DESTROY
		: message->nlmsg_flags & (NLM_F_CREATE | NLM_F_EXCL) ? TRACK_NEW
								     : TRACK_UPDATE;
	*ret_flow = flow;
	return true;
}

static int on_dump(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	struct conntrack *conntrack = data;
	struct tracked flow;
	(void)type;
	if (read_flow(ct, &conntrack->config, &flow) && flow.is_granted)
		conntrack->cb(conntrack->arg, TRACK_NEW, &flow);
	return NFCT_CB_CONTINUE;
}

static int on_single(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	struct conntrack *conntrack = data;
	(void)type;
	conntrack->found = read_flow(ct, &conntrack->config, &conntrack->answer);
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
	if (cb)
		nfct_callback_register(handle, NFCT_T_ALL, cb, conntrack);
	return handle;
}

/* Keeps what has one of our bits in its CTA_MARK; the kernel finds the attribute for us. Classic
 * BPF loads big-endian words, and that is how the mark travels. */
static enum status filter_events(int fd, uint32_t mark, struct error *err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_IMM, NLMSG_SPACE(sizeof(struct nfgenmsg))),
		BPF_STMT(BPF_LDX | BPF_IMM, CTA_MARK),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_NLATTR)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_IND, sizeof(struct nlattr)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mark, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "conntrack: cannot filter events by mark");
	return STATUS_OK;
}

static enum status open_changes(struct conntrack *conntrack, struct error *err)
{
	/* The kernel answers before send() returns; the time limit is for what cannot happen. */
	const struct timeval limit = {.tv_sec = 5};
	conntrack->changes = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (conntrack->changes < 0 ||
		setsockopt(conntrack->changes, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "conntrack: cannot open netlink");
	return STATUS_OK;
}

static void set_buffer(struct conntrack *conntrack, size_t bytes)
{
	int fd = nfct_fd(conntrack->events), size = (int)bytes;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	conntrack->buffer_bytes = bytes;
}

enum status conntrack_open(
	const struct conntrack_config *config, struct conntrack **ret_conntrack, struct error *err)
{
	struct conntrack *conntrack = calloc(1, sizeof *conntrack);
	const unsigned groups = NF_NETLINK_CONNTRACK_NEW | NF_NETLINK_CONNTRACK_UPDATE |
		NF_NETLINK_CONNTRACK_DESTROY;
	if (!conntrack)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	conntrack->config = *config;
	conntrack->changes = -1;
	enum status status = STATUS_OK;
	conntrack->events = open_handle(groups, NULL, conntrack, err);
	conntrack->dump = conntrack->events ? open_handle(0, on_dump, conntrack, err) : NULL;
	conntrack->single = conntrack->dump ? open_handle(0, on_single, conntrack, err) : NULL;
	if (!conntrack->single)
		status = STATUS_PERMISSION_DENIED;
	else
		status = open_changes(conntrack, err);
	if (!status)
		status = filter_events(
			nfct_fd(conntrack->events), config->mark | config->mark_session, err);
	if (status) {
		conntrack_close(conntrack);
		return status;
	}
	int fd = nfct_fd(conntrack->events);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	set_buffer(conntrack, config->buffer_bytes);
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
	if (conntrack->changes >= 0)
		close(conntrack->changes);
	free(conntrack);
}

int conntrack_fd(const struct conntrack *conntrack)
{
	return nfct_fd(conntrack->events);
}

/* ---- reading ---- */

static enum conntrack_read lost(struct conntrack *conntrack)
{
	size_t wanted = conntrack->buffer_bytes * 2;
	if (wanted <= conntrack->config.buffer_most_bytes)
		set_buffer(conntrack, wanted);
	return CONNTRACK_LOST;
}

enum conntrack_read conntrack_read(struct conntrack *conntrack, track_cb cb, void *arg)
{
	_Alignas(struct nlmsghdr) char bytes[EVENT_BYTES];
	for (int i = 0; i < EVENTS_A_READ; i++) {
		struct sockaddr_nl from = {0};
		socklen_t from_size = sizeof from;
		enum track_event event;
		struct tracked flow;
		ssize_t size = recvfrom(conntrack_fd(conntrack), bytes, sizeof bytes, 0,
			(struct sockaddr *)&from, &from_size);
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0)
			return errno == ENOBUFS ? lost(conntrack) : CONNTRACK_DRAINED;
		/* Only the kernel's word counts; a datagram of events holds one message. */
		if (from.nl_pid == 0 &&
			conntrack_parse(bytes, (size_t)size, conntrack->config.mark,
				conntrack->config.mark_session, &event, &flow))
			cb(arg, event, &flow);
	}
	return CONNTRACK_MORE;
}

enum status conntrack_dump(struct conntrack *conntrack, track_cb cb, void *arg, struct error *err)
{
	struct nfct_filter_dump *filter = nfct_filter_dump_create();
	struct nfct_filter_dump_mark mark = {
		.val = conntrack->config.mark, .mask = conntrack->config.mark};
	if (!filter)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	conntrack->cb = cb;
	conntrack->arg = arg;
	nfct_filter_dump_set_attr(filter, NFCT_FILTER_DUMP_MARK, &mark);
	nfct_filter_dump_set_attr_u8(filter, NFCT_FILTER_DUMP_L3NUM, AF_UNSPEC);
	int rc = nfct_query(conntrack->dump, NFCT_Q_DUMP_FILTER, filter);
	int cause = errno;
	nfct_filter_dump_destroy(filter);
	return rc < 0 ? error_errno(err, STATUS_UNAVAILABLE, cause, "conntrack: cannot dump")
		      : STATUS_OK;
}

/* ---- single entries ---- */

static void set_tuple(struct nf_conntrack *ct, const struct endpoint *from,
	const struct endpoint *to, uint8_t transport)
{
	bool ipv6 = from->addr.family == ADDR_IPV6;
	nfct_set_attr_u8(ct, ATTR_L3PROTO, ipv6 ? AF_INET6 : AF_INET);
	nfct_set_attr(ct, ipv6 ? ATTR_IPV6_SRC : ATTR_IPV4_SRC, from->addr.bytes);
	nfct_set_attr(ct, ipv6 ? ATTR_IPV6_DST : ATTR_IPV4_DST, to->addr.bytes);
	nfct_set_attr_u8(ct, ATTR_L4PROTO, transport);
	nfct_set_attr_u16(ct, ATTR_PORT_SRC, htons(from->port));
	nfct_set_attr_u16(ct, ATTR_PORT_DST, htons(to->port));
}

/* The entry that has this tuple in either direction: that is how the kernel looks. */
static bool look_up(struct conntrack *conntrack, const struct endpoint *from,
	const struct endpoint *to, uint8_t transport, struct tracked *ret_flow)
{
	struct nf_conntrack *ct = nfct_new();
	if (!ct)
		return false;
	set_tuple(ct, from, to, transport);
	conntrack->found = false;
	(void)nfct_query(conntrack->single, NFCT_Q_GET, ct);
	nfct_destroy(ct);
	if (conntrack->found)
		*ret_flow = conntrack->answer;
	return conntrack->found;
}

bool conntrack_get(struct conntrack *conntrack, struct tracked *flow)
{
	struct tracked found;
	/* The same tuple may belong to a younger connection by now. */
	if (!look_up(conntrack, &flow->client, &flow->remote, flow->transport, &found) ||
		found.id != flow->id)
		return false;
	*flow = found;
	return true;
}

bool conntrack_find(
	struct conntrack *conntrack, const struct tracked *wanted, struct tracked *ret_flow)
{
	const struct endpoint *client = &wanted->client, *remote = &wanted->remote;
	struct tracked found;
	/* As the client's side sees it. */
	if (look_up(conntrack, client, remote, wanted->transport, &found) &&
		endpoint_equal(&found.client, client) && endpoint_equal(&found.remote, remote)) {
		*ret_flow = found;
		return true;
	}
	/* As the remote's side sees it. */
	if (!look_up(conntrack, remote, client, wanted->transport, &found) ||
		!tracked_is_translated(&found) || !endpoint_equal(&found.reply_from, remote) ||
		!endpoint_equal(&found.reply_to, client))
		return false;
	*ret_flow = found;
	return true;
}

/* ---- changes ---- */

union change {
	struct nlmsghdr header;
	char bytes[1024];
};

static void change_put_u32(union change *change, uint16_t type, uint32_t value)
{
	struct {
		struct nlattr head;
		uint32_t value;
	} attr = {{.nla_len = sizeof attr, .nla_type = type}, htonl(value)};
	char *at = change->bytes + NLMSG_ALIGN(change->header.nlmsg_len);
	memcpy(at, &attr, sizeof attr);
	change->header.nlmsg_len = (uint32_t)(at - change->bytes) + (uint32_t)sizeof attr;
}

/* The message for the entry of this tuple; a whole one is some 100 bytes. */
static bool change_begin(union change *change, uint16_t type, const struct tracked *flow)
{
	struct nf_conntrack *ct = nfct_new();
	struct nfgenmsg *family = NLMSG_DATA(&change->header);
	if (!ct)
		return false;
	memset(change, 0, sizeof *change);
	change->header.nlmsg_len = NLMSG_LENGTH(sizeof *family);
	change->header.nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	change->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	family->nfgen_family = flow->client.addr.family == ADDR_IPV6 ? AF_INET6 : AF_INET;
	family->version = NFNETLINK_V0;
	set_tuple(ct, &flow->client, &flow->remote, flow->transport);
	bool done = nfct_nlmsg_build(&change->header, ct) >= 0;
	nfct_destroy(ct);
	return done;
}

/* 0, or the kernel's errno. */
static int change_send(struct conntrack *conntrack, union change *change)
{
	static uint32_t sequence;
	_Alignas(struct nlmsghdr) char bytes[4096];
	const struct nlmsghdr *answer = (const void *)bytes;
	change->header.nlmsg_seq = ++sequence;
	if (send(conntrack->changes, change->bytes, change->header.nlmsg_len, 0) < 0)
		return errno;
	for (;;) {
		ssize_t size = recv(conntrack->changes, bytes, sizeof bytes, 0);
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0)
			return errno;
		if ((size_t)size < NLMSG_LENGTH(sizeof(struct nlmsgerr)) ||
			answer->nlmsg_type != NLMSG_ERROR || answer->nlmsg_seq != sequence)
			continue; /* the answer to one that was given up */
		return -((const struct nlmsgerr *)NLMSG_DATA(answer))->error;
	}
}

enum status conntrack_mark_session(
	struct conntrack *conntrack, const struct tracked *flow, bool set, struct error *err)
{
	uint32_t bit = conntrack->config.mark_session;
	union change change;
	if (!change_begin(&change, IPCTNL_MSG_CT_NEW, flow))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	change_put_u32(&change, CTA_MARK, set ? bit : 0);
	change_put_u32(&change, CTA_MARK_MASK, bit);
	int cause = change_send(conntrack, &change);
	if (cause)
		return error_errno(err, cause == ENOENT ? STATUS_NOT_FOUND : STATUS_UNAVAILABLE,
			cause, "conntrack: cannot mark a session's primary connection");
	return STATUS_OK;
}

enum status conntrack_delete(
	struct conntrack *conntrack, const struct tracked *flow, struct error *err)
{
	union change change;
	if (!change_begin(&change, IPCTNL_MSG_CT_DELETE, flow))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	change_put_u32(&change, CTA_ID, (uint32_t)flow->id);
	int cause = change_send(conntrack, &change);
	return cause && cause != ENOENT
		? error_errno(err, STATUS_UNAVAILABLE, cause, "conntrack: cannot cut a flow")
		: STATUS_OK;
}
