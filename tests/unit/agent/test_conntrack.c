/* Messages of conntrack: which are ours, and what they say. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/datapath/conntrack.h"

#define MARK 0x80000000U
#define MARK_SESSION 0x20000000U

static union {
	struct nlmsghdr header;
	char bytes[1024];
} message;

static char *end_of_message(void)
{
	return message.bytes + NLMSG_ALIGN(message.header.nlmsg_len);
}

static void put(uint16_t type, const void *data, size_t size)
{
	struct nlattr attr = {.nla_len = (uint16_t)(sizeof attr + size), .nla_type = type};
	char *at = end_of_message();
	memcpy(at, &attr, sizeof attr);
	memcpy(at + sizeof attr, data, size);
	message.header.nlmsg_len = (uint32_t)(at - message.bytes) + attr.nla_len;
}

static void put_u32(uint16_t type, uint32_t value)
{
	value = htonl(value);
	put(type, &value, sizeof value);
}

static char *nest(uint16_t type)
{
	char *at = end_of_message();
	put((uint16_t)(type | NLA_F_NESTED), "", 0);
	return at;
}

static void nest_end(char *at)
{
	uint16_t size = (uint16_t)(end_of_message() - at);
	memcpy(at, &size, sizeof size);
	message.header.nlmsg_len = NLMSG_ALIGN(message.header.nlmsg_len);
}

static void put_tuple(uint16_t type, const char *from, uint16_t from_port, const char *to,
	uint16_t to_port, uint8_t transport)
{
	struct addr source, destination;
	uint16_t ports[2] = {htons(from_port), htons(to_port)};
	cr_assert(addr_parse(from, &source) && addr_parse(to, &destination));
	bool ipv6 = source.family == ADDR_IPV6;
	char *tuple = nest(type), *ip = nest(CTA_TUPLE_IP);
	put(ipv6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, source.bytes, addr_length(&source));
	put(ipv6 ? CTA_IP_V6_DST : CTA_IP_V4_DST, destination.bytes, addr_length(&destination));
	nest_end(ip);
	char *proto = nest(CTA_TUPLE_PROTO);
	put(CTA_PROTO_NUM, &transport, 1);
	put(CTA_PROTO_SRC_PORT, &ports[0], 2);
	put(CTA_PROTO_DST_PORT, &ports[1], 2);
	nest_end(proto);
	nest_end(tuple);
}

static void begin(uint16_t type, uint16_t flags, uint8_t family)
{
	struct nfgenmsg head = {.nfgen_family = family};
	memset(&message, 0, sizeof message);
	message.header.nlmsg_len = NLMSG_LENGTH(sizeof head);
	message.header.nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	message.header.nlmsg_flags = flags;
	memcpy(NLMSG_DATA(&message.header), &head, sizeof head);
}

static void whole(uint16_t type, uint16_t flags, uint32_t mark, const char *outside)
{
	begin(type, flags, AF_INET);
	put_tuple(CTA_TUPLE_ORIG, "10.0.0.1", 4000, "10.0.0.2", 21, IPPROTO_TCP);
	put_tuple(CTA_TUPLE_REPLY, "10.0.0.2", 21, outside, outside[3] == '0' ? 4000 : 5000,
		IPPROTO_TCP);
	put_u32(CTA_MARK, mark);
	put_u32(CTA_ID, 77);
}

static bool parse(enum track_event *ret_event, struct tracked *ret_flow)
{
	return conntrack_parse(
		&message, message.header.nlmsg_len, MARK, MARK_SESSION, ret_event, ret_flow);
}

Test(conntrack, marks_say_whose_it_is)
{
	static const struct {
		uint32_t mark;
		bool is_granted, is_primary;
	} rows[] = {{MARK, true, false}, {MARK_SESSION | 5, false, true},
		{MARK | MARK_SESSION | 0x40000000U, true, true}, {0x40000005U, false, false}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		enum track_event event;
		struct tracked flow;
		whole(IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL, rows[i].mark, "10.0.0.1");
		bool ours = parse(&event, &flow);
		cr_assert_eq(ours, rows[i].is_granted || rows[i].is_primary);
		if (!ours)
			continue;
		cr_assert_eq(flow.is_granted, rows[i].is_granted);
		cr_assert_eq(flow.is_primary, rows[i].is_primary);
	}
}

Test(conntrack, events)
{
	static const struct {
		uint16_t type, flags;
		enum track_event event;
	} rows[] = {{IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL, TRACK_NEW},
		{IPCTNL_MSG_CT_NEW, 0, TRACK_UPDATE}, {IPCTNL_MSG_CT_DELETE, 0, TRACK_DESTROY}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		enum track_event event;
		struct tracked flow;
		whole(rows[i].type, rows[i].flags, MARK, "10.0.0.1");
		cr_assert(parse(&event, &flow));
		cr_assert_eq(event, rows[i].event);
		cr_assert_eq(flow.id, 77);
		cr_assert_eq(flow.client.port, 4000);
		cr_assert_eq(flow.remote.port, 21);
	}
}

Test(conntrack, tcp_is_over_when_both_ended_it_or_one_reset_it)
{
	static const uint32_t marks[] = {MARK, MARK_SESSION};
	for (size_t i = 0; i < 2; i++) {
		for (uint8_t state = TCP_CONNTRACK_SYN_SENT; state <= TCP_CONNTRACK_CLOSE;
			state++) {
			enum track_event event;
			struct tracked flow;
			whole(IPCTNL_MSG_CT_NEW, 0, marks[i], "10.0.0.1");
			char *info = nest(CTA_PROTOINFO), *tcp = nest(CTA_PROTOINFO_TCP);
			put(CTA_PROTOINFO_TCP_STATE, &state, 1);
			nest_end(tcp);
			nest_end(info);
			cr_assert(parse(&event, &flow));
			cr_expect_eq(flow.is_over,
				state == TCP_CONNTRACK_TIME_WAIT || state == TCP_CONNTRACK_CLOSE,
				"state %u", state);
		}
	}
}

Test(conntrack, the_reply_tuple_is_told_when_addresses_are_translated)
{
	enum track_event event;
	struct tracked flow;
	whole(IPCTNL_MSG_CT_NEW, 0, MARK, "10.0.0.1");
	cr_assert(parse(&event, &flow));
	cr_assert_not(tracked_is_translated(&flow));
	whole(IPCTNL_MSG_CT_NEW, 0, MARK, "10.77.2.101");
	cr_assert(parse(&event, &flow));
	cr_assert(tracked_is_translated(&flow));
	cr_assert(endpoint_equal(&flow.reply_from, &flow.remote));
	cr_assert_eq(flow.reply_to.port, 5000);
	cr_assert_eq(flow.reply_to.addr.bytes[3], 101);
}

Test(conntrack, ipv6)
{
	enum track_event event;
	struct tracked flow;
	begin(IPCTNL_MSG_CT_NEW, 0, AF_INET6);
	put_tuple(CTA_TUPLE_ORIG, "fd77::9", 4000, "fd77:2::101", 61000, IPPROTO_UDP);
	put_tuple(CTA_TUPLE_REPLY, "fd77::10", 2121, "fd77::9", 4000, IPPROTO_UDP);
	put_u32(CTA_MARK, MARK);
	put_u32(CTA_ID, 78);
	cr_assert(parse(&event, &flow));
	cr_assert_eq(flow.transport, IPPROTO_UDP);
	cr_assert_eq(flow.reply_from.port, 2121, "where an inbound flow was led to");
	cr_assert_eq(flow.reply_from.addr.bytes[15], 0x10);
	cr_assert(endpoint_equal(&flow.reply_to, &flow.client));
}

/* Attributes are the kernel's, and the library leaves the process when it does not know their
 * sizes; headers and lengths are looked at here. The sanitizers watch. */
Test(conntrack, headers_of_any_kind)
{
	enum track_event event;
	struct tracked flow;
	for (unsigned seed = 1; seed <= 20000; seed++) {
		whole(IPCTNL_MSG_CT_NEW, 0, MARK, "10.77.2.101");
		size_t size = message.header.nlmsg_len;
		srandom(seed);
		if (seed % 2)
			size = (size_t)random() % size;
		else
			message.bytes[(size_t)random() % NLMSG_SPACE(sizeof(struct nfgenmsg))] =
				(char)random();
		if (message.header.nlmsg_len < size)
			message.header.nlmsg_len = (uint32_t)size; /* no attribute is torn */
		/* In a block of its own size, so that a step beyond it is seen. */
		char *exact = malloc(size ? size : 1);
		cr_assert_not_null(exact);
		memcpy(exact, &message, size);
		bool ours = conntrack_parse(exact, size, MARK, MARK_SESSION, &event, &flow);
		cr_assert(!ours || size >= message.header.nlmsg_len, "seed %u", seed);
		free(exact);
	}
}
