/* link: postern_agent_lib */
/* Messages of conntrack, as far as conntrack_parse promises: attributes are the kernel's, whole and
 * of the sizes that it gives them, but in any selection, order and number and with any values; the
 * header and the size may be anything. The input says what to build:
 *
 *   1 byte of how (IPV6, RAW_HEADER, CUT), with RAW_HEADER 20 bytes of header, with CUT 2 bytes of
 *   size, then attributes: 1 byte of which, then its value, zeros where the input ends. */
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/datapath/conntrack.h"

#define MARK 0x80000000U
#define MARK_SESSION 0x20000000U
#define HEADER_SIZE (NLMSG_HDRLEN + sizeof(struct nfgenmsg))
#define ATTRS_MOST 24

enum how { IPV6 = 1, RAW_HEADER = 2, CUT = 4 };
enum which {
	ORIG,
	REPLY,
	LABELS,
	COUNT_ORIG,
	COUNT_REPLY,
	TIMESTAMP,
	PROTOINFO,
	U32S,
	WHICH_COUNT
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

static union {
	struct nlmsghdr header;
	uint8_t bytes[8192];
} message;
static size_t used;

static void check(bool truth)
{
	if (!truth)
		abort();
}

static void take(struct input *input, void *to, size_t size)
{
	size_t taken = size < input->left ? size : input->left;
	memset(to, 0, size);
	if (taken == 0)
		return;
	memcpy(to, input->data, taken);
	input->data += taken;
	input->left -= taken;
}

/* ---- building ---- */

static size_t align(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

static void put(uint16_t type, struct input *input, size_t size)
{
	struct nlattr attr = {.nla_len = (uint16_t)(sizeof attr + size), .nla_type = type};
	check(used + sizeof attr + align(size) <= sizeof message);
	memcpy(message.bytes + used, &attr, sizeof attr);
	take(input, message.bytes + used + sizeof attr, size);
	used += sizeof attr + align(size);
}

static size_t nest(uint16_t type)
{
	size_t at = used;
	put(type | NLA_F_NESTED, &(struct input){0}, 0);
	return at;
}

static void nest_end(size_t at)
{
	uint16_t size = (uint16_t)(used - at);
	memcpy(message.bytes + at, &size, sizeof size);
}

static void put_tuple(uint16_t type, struct input *input, bool ipv6)
{
	size_t tuple = nest(type), inner = nest(CTA_TUPLE_IP);
	put(ipv6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, input, ipv6 ? 16 : 4);
	put(ipv6 ? CTA_IP_V6_DST : CTA_IP_V4_DST, input, ipv6 ? 16 : 4);
	nest_end(inner);
	inner = nest(CTA_TUPLE_PROTO);
	put(CTA_PROTO_NUM, input, 1);
	put(CTA_PROTO_SRC_PORT, input, 2);
	put(CTA_PROTO_DST_PORT, input, 2);
	nest_end(inner);
	nest_end(tuple);
}

static void put_pair(uint16_t type, struct input *input, uint16_t first, uint16_t second)
{
	size_t outer = nest(type);
	put(first, input, 8);
	put(second, input, 8);
	nest_end(outer);
}

static void put_protoinfo(struct input *input)
{
	size_t outer = nest(CTA_PROTOINFO), inner = nest(CTA_PROTOINFO_TCP);
	put(CTA_PROTOINFO_TCP_STATE, input, 1);
	nest_end(inner);
	nest_end(outer);
}

static void put_attr(struct input *input, bool ipv6)
{
	static const uint16_t u32s[] = {CTA_MARK, CTA_ID, CTA_STATUS, CTA_TIMEOUT, CTA_USE};
	uint8_t byte;
	take(input, &byte, 1);
	switch ((enum which)(byte % WHICH_COUNT)) {
	case ORIG:
		put_tuple(CTA_TUPLE_ORIG, input, ipv6);
		return;
	case REPLY:
		put_tuple(CTA_TUPLE_REPLY, input, ipv6);
		return;
	case LABELS:
		put(CTA_LABELS, input, 16);
		return;
	case COUNT_ORIG:
		put_pair(CTA_COUNTERS_ORIG, input, CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES);
		return;
	case COUNT_REPLY:
		put_pair(CTA_COUNTERS_REPLY, input, CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES);
		return;
	case TIMESTAMP:
		put_pair(CTA_TIMESTAMP, input, CTA_TIMESTAMP_START, CTA_TIMESTAMP_STOP);
		return;
	case PROTOINFO:
		put_protoinfo(input);
		return;
	case U32S:
		put(u32s[byte / WHICH_COUNT % 5], input, 4);
		return;
	case WHICH_COUNT:
		return;
	}
}

/* Returns how much of the message is there. */
static size_t build(struct input *input)
{
	struct nfgenmsg family = {0};
	uint8_t how, raw[HEADER_SIZE];
	uint16_t cut = UINT16_MAX;
	take(input, &how, 1);
	family.nfgen_family = how & IPV6 ? AF_INET6 : AF_INET;
	memset(&message, 0, sizeof message);
	message.header.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	memcpy(message.bytes + NLMSG_HDRLEN, &family, sizeof family);
	if (how & RAW_HEADER) {
		take(input, raw, sizeof raw);
		memcpy(message.bytes, raw, sizeof raw);
	}
	if (how & CUT)
		take(input, &cut, sizeof cut);
	used = HEADER_SIZE;
	for (unsigned i = 0; i < ATTRS_MOST && input->left > 0; i++)
		put_attr(input, how & IPV6);
	/* No attribute is torn: the header says less than there is only in tests of its own size.
	 */
	if (!(how & RAW_HEADER) || message.header.nlmsg_len < used)
		message.header.nlmsg_len = (uint32_t)used;
	return cut < used ? cut : used;
}

/* ---- what callers rely on ---- */

static void check_endpoint(const struct endpoint *endpoint, uint8_t family)
{
	static const uint8_t zeros[16];
	size_t length = addr_length(&endpoint->addr);
	check(endpoint->addr.family == family);
	check(memcmp(endpoint->addr.bytes + length, zeros, 16 - length) == 0);
}

static void check_flow(enum track_event event, const struct tracked *flow)
{
	uint8_t family = flow->client.addr.family;
	check(event == TRACK_NEW || event == TRACK_UPDATE || event == TRACK_DESTROY);
	check(flow->is_granted || flow->is_primary);
	check(flow->id != 0);
	check(flow->transport == IPPROTO_TCP || flow->transport == IPPROTO_UDP);
	check(!flow->is_over || flow->transport == IPPROTO_TCP);
	check(family == ADDR_IPV4 || family == ADDR_IPV6);
	check_endpoint(&flow->client, family);
	check_endpoint(&flow->remote, family);
	if (tracked_is_translated(flow)) {
		check_endpoint(&flow->reply_from, family);
		check_endpoint(&flow->reply_to, family);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	enum track_event event;
	struct tracked flow;
	size_t there = build(&input);
	/* In a block of its own size, so that a step beyond it is seen. */
	uint8_t *exact = malloc(there ? there : 1);
	check(exact != NULL);
	memcpy(exact, &message, there);
	if (conntrack_parse(exact, there, MARK, MARK_SESSION, &event, &flow)) {
		check(message.header.nlmsg_len <= there);
		check_flow(event, &flow);
	}
	free(exact);
	return 0;
}
