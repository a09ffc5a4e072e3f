/* Journal entries: struct, hashed body and wire message say the same (I9 rests on it). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/journal/entry.h"
#include "server/journal/wire.h"

static struct addr address(const char *text)
{
	struct addr addr = {0};
	cr_assert(addr_parse(text, &addr), "%s", text);
	return addr;
}

static void fill(char *text, size_t size, char with)
{
	memset(text, with, size - 1);
	text[size - 1] = '\0';
}

static uint8_t context[ENTRY_CONTEXT_MAX + 1];

static struct entry whole(const char *client, const char *remote)
{
	struct entry entry = {.time_us = 1700000000123456,
		.kind = ENTRY_CLOSED,
		.actor = "ftp",
		.gateway = "gw1",
		.filter = "ftp",
		.protocol = "ftp-data",
		.rule = "rule",
		.session = id_new(),
		.grant = id_new(),
		.request_id = id_new(),
		.client = address(client),
		.remote = {address(remote), 1046},
		.external = {address(client), 65535},
		.bundle = id_new(),
		.inbound = true,
		.client_port = 65535,
		.remote_port_last = 2000,
		.transport = 6,
		.flags = 31,
		.lifetime_ms = UINT64_MAX,
		.max_connections = 1,
		.count = UINT64_MAX,
		.reason = 9,
		.flow = {.id = UINT64_MAX,
			.client = {address(client), 1},
			.remote = {address(remote), 65535},
			.external = {address(remote), 7},
			.transport = 17,
			.accounted = true,
			.packets_sent = 1,
			.bytes_sent = 2,
			.packets_received = 3,
			.bytes_received = UINT64_MAX,
			.duration_us = 5},
		.detail = "text \xc3\xa9",
		.revision = UINT64_MAX,
		.user = "zo\xc3\xab",
		.site_rule = "all sites",
		.staged_rule = "next month",
		.document_hash = {[0] = 0xff, [31] = 1},
		.notify = true,
		.context = context,
		.context_size = 3};
	return entry;
}

static void expect_equal(const struct entry *a, const struct entry *b)
{
	cr_expect_eq(a->time_us, b->time_us);
	cr_expect_eq(a->kind, b->kind);
	cr_expect_str_eq(a->actor, b->actor);
	cr_expect_str_eq(a->gateway, b->gateway);
	cr_expect_str_eq(a->filter, b->filter);
	cr_expect_str_eq(a->protocol, b->protocol);
	cr_expect_str_eq(a->rule, b->rule);
	cr_expect_str_eq(a->detail, b->detail);
	cr_expect_eq(a->revision, b->revision);
	cr_expect_str_eq(a->user, b->user);
	cr_expect_str_eq(a->site_rule, b->site_rule);
	cr_expect_str_eq(a->staged_rule, b->staged_rule);
	cr_expect_eq(memcmp(a->document_hash, b->document_hash, sizeof a->document_hash), 0);
	cr_expect(id_equal(&a->session, &b->session));
	cr_expect(id_equal(&a->grant, &b->grant));
	cr_expect(id_equal(&a->request_id, &b->request_id));
	cr_expect(addr_equal(&a->client, &b->client));
	cr_expect(endpoint_equal(&a->remote, &b->remote));
	cr_expect(endpoint_equal(&a->external, &b->external));
	cr_expect(id_equal(&a->bundle, &b->bundle));
	cr_expect_eq(a->inbound, b->inbound);
	cr_expect_eq(a->client_port, b->client_port);
	cr_expect_eq(a->remote_port_last, b->remote_port_last);
	cr_assert_eq(a->remote_count, b->remote_count);
	for (size_t i = 0; i < a->remote_count; i++)
		cr_expect(addr_equal(&a->remotes[i], &b->remotes[i]));
	cr_expect(endpoint_equal(&a->flow.external, &b->flow.external));
	cr_expect_eq(a->transport, b->transport);
	cr_expect_eq(a->flags, b->flags);
	cr_expect_eq(a->lifetime_ms, b->lifetime_ms);
	cr_expect_eq(a->max_connections, b->max_connections);
	cr_expect_eq(a->count, b->count);
	cr_expect_eq(a->reason, b->reason);
	cr_expect_eq(a->notify, b->notify);
	cr_expect_eq(a->flow.id, b->flow.id);
	cr_expect(endpoint_equal(&a->flow.client, &b->flow.client));
	cr_expect(endpoint_equal(&a->flow.remote, &b->flow.remote));
	cr_expect_eq(a->flow.transport, b->flow.transport);
	cr_expect_eq(a->flow.accounted, b->flow.accounted);
	cr_expect_eq(a->flow.packets_sent, b->flow.packets_sent);
	cr_expect_eq(a->flow.bytes_sent, b->flow.bytes_sent);
	cr_expect_eq(a->flow.packets_received, b->flow.packets_received);
	cr_expect_eq(a->flow.bytes_received, b->flow.bytes_received);
	cr_expect_eq(a->flow.duration_us, b->flow.duration_us);
	cr_expect_eq(a->context_size, b->context_size);
	cr_expect(a->context_size == 0 || memcmp(a->context, b->context, a->context_size) == 0);
}

Test(entry, round_trips)
{
	struct entry table[] = {
		{.kind = ENTRY_SERVER_STARTED},
		{.time_us = INT64_MIN, .kind = ENTRY_USES_RECOVERED, .gateway = "g", .count = 3},
		whole("10.77.1.2", "198.105.232.1"),
		whole("fd77:1::2", "2001:db8::1"),
		whole("10.77.1.2", "10.77.2.2"),
	};
	struct entry *longest = &table[4];
	fill(longest->actor, sizeof longest->actor, 'a');
	fill(longest->gateway, sizeof longest->gateway, 'g');
	fill(longest->filter, sizeof longest->filter, 'f');
	fill(longest->protocol, sizeof longest->protocol, 'p');
	fill(longest->rule, sizeof longest->rule, 'r');
	fill(longest->detail, sizeof longest->detail, 'd');
	fill(longest->user, sizeof longest->user, 'u');
	fill(longest->site_rule, sizeof longest->site_rule, 's');
	fill(longest->staged_rule, sizeof longest->staged_rule, 't');
	longest->context_size = ENTRY_CONTEXT_MAX;
	struct addr remotes[ENTRY_REMOTES_MAX];
	for (size_t i = 0; i < ENTRY_REMOTES_MAX; i++) {
		remotes[i] = address("2001:db8:1111:2222:3333:4444:5555:6600");
		remotes[i].bytes[15] = (uint8_t)i;
	}
	longest->remotes = remotes;
	longest->remote_count = ENTRY_REMOTES_MAX;
	for (size_t i = 0; i < sizeof context; i++)
		context[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		uint8_t *body, *again;
		size_t size, again_size;
		struct entry decoded;
		struct error err;
		cr_assert_eq(entry_encode(&table[i], &body, &size, &err), STATUS_OK);
		cr_assert_eq(entry_decode(body, size, &decoded, &err), STATUS_OK, "%zu: %s", i,
			err.text);
		expect_equal(&table[i], &decoded);
		cr_assert_eq(entry_encode(&decoded, &again, &again_size, &err), STATUS_OK);
		cr_expect_eq(size, again_size);
		cr_expect_eq(memcmp(body, again, size), 0);
		free(body);
		free(again);
		entry_fini(&decoded);
		entry_fini(&decoded);
	}
}

/* The place in the chain is hashed beside the body, not in it. */
Test(entry, body_has_neither_sequence_nor_hash)
{
	struct entry entry = whole("10.77.1.2", "10.77.2.2"), decoded;
	uint8_t *plain, *placed;
	size_t plain_size, placed_size;
	cr_assert_eq(entry_encode(&entry, &plain, &plain_size, NULL), STATUS_OK);
	entry.sequence = 77;
	memset(entry.hash, 0xaa, sizeof entry.hash);
	cr_assert_eq(entry_encode(&entry, &placed, &placed_size, NULL), STATUS_OK);
	cr_assert_eq(plain_size, placed_size);
	cr_expect_eq(memcmp(plain, placed, plain_size), 0);
	cr_assert_eq(entry_decode(placed, placed_size, &decoded, NULL), STATUS_OK);
	cr_expect_eq(decoded.sequence, 0);
	entry_fini(&decoded);
	free(plain);
	free(placed);
}

Test(entry, too_long_a_context_is_refused)
{
	struct entry entry = whole("10.77.1.2", "10.77.2.2");
	struct error err;
	uint8_t *body = NULL;
	size_t size = 0;
	entry.context_size = ENTRY_CONTEXT_MAX + 1;
	cr_expect_eq(entry_encode(&entry, &body, &size, &err), STATUS_INVALID_ARGUMENT);
	cr_expect_null(body);
}

static void expect_refused(const Postern__V1__Entry *message, const char *what)
{
	uint8_t body[8192];
	struct entry decoded = {.sequence = 1};
	struct error err;
	cr_assert_leq(postern__v1__entry__get_packed_size(message), sizeof body);
	size_t size = postern__v1__entry__pack(message, body);
	cr_expect_eq(entry_decode(body, size, &decoded, &err), STATUS_DATA_LOSS, "%s", what);
	cr_expect_eq(decoded.sequence, 1, "%s: touched", what);
}

Test(entry, what_does_not_fit_is_refused)
{
	char name[ENTRY_NAME_SIZE + 1], detail[ENTRY_DETAIL_SIZE + 1];
	struct entry_wire wire;
	struct entry entry = whole("10.77.1.2", "10.77.2.2");
	fill(name, sizeof name, 'n');
	fill(detail, sizeof detail, 'd');
#define REFUSED(member, value)                                                                     \
	do {                                                                                       \
		entry_to_wire(&entry, &wire);                                                      \
		wire.message.member = value;                                                       \
		expect_refused(&wire.message, #member);                                            \
	} while (0)
	REFUSED(actor, name);
	REFUSED(gateway, name);
	REFUSED(filter, name);
	REFUSED(protocol, name);
	REFUSED(rule, name);
	REFUSED(detail, detail);
	REFUSED(user, name);
	REFUSED(site_rule, name);
	REFUSED(staged_rule, name);
	REFUSED(document_hash.len, ENTRY_HASH_SIZE - 1);
	REFUSED(client, "10.77.1");
	REFUSED(remote, "localhost");
	REFUSED(external, "::g");
	REFUSED(remote_port, 65536);
	REFUSED(external_port, 65536);
	REFUSED(session, "7");
	REFUSED(grant, "not-a-uuid");
	REFUSED(request_id, "x");
	REFUSED(context.len, ENTRY_CONTEXT_MAX + 1);
	REFUSED(flow->client, "nowhere");
	REFUSED(flow->remote_port, 70000);
	REFUSED(flow->transport, 1);
	struct entry decoded;
	cr_expect_eq(
		entry_decode((const uint8_t *)"\xff\xff\xff", 3, &decoded, NULL), STATUS_DATA_LOSS);
}

/* Computed with Python: hashlib.blake2b(bytes(32) + (1).to_bytes(8, "big") + b"body",
 * digest_size=32), and the next on top. */
Test(entry, hash_is_blake2b_of_previous_sequence_and_body)
{
	static const uint8_t first[ENTRY_HASH_SIZE] = {0x79, 0xe0, 0x7a, 0x90, 0xcf, 0x82, 0x18,
		0x84, 0xda, 0x40, 0x77, 0x37, 0xf1, 0x53, 0x79, 0x19, 0x1a, 0x52, 0xb6, 0x68, 0x61,
		0x09, 0x27, 0xb1, 0xfd, 0x32, 0xae, 0x30, 0xc1, 0x5a, 0x06, 0x98};
	static const uint8_t second[ENTRY_HASH_SIZE] = {0xcf, 0xc4, 0xf3, 0x04, 0xf7, 0x27, 0x79,
		0x6e, 0x3f, 0x9a, 0xf9, 0xda, 0xc4, 0xa4, 0xfd, 0x44, 0x03, 0xe9, 0x19, 0x20, 0x80,
		0x3a, 0xd9, 0xae, 0x2d, 0xff, 0x28, 0xb3, 0x9c, 0x97, 0x55, 0xdd};
	uint8_t zero[ENTRY_HASH_SIZE] = {0}, hash[ENTRY_HASH_SIZE], next[ENTRY_HASH_SIZE];
	entry_hash(zero, 1, (const uint8_t *)"body", 4, hash);
	cr_expect_eq(memcmp(hash, first, sizeof hash), 0);
	entry_hash(hash, 0x0102030405060708, (const uint8_t *)"", 0, next);
	cr_expect_eq(memcmp(next, second, sizeof next), 0);
}

Test(entry, every_kind_has_a_name_of_its_own)
{
	for (int a = 1; a < 64; a++) {
		const char *name = entry_kind_name((enum entry_kind)a);
		const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
			&postern__v1__entry_kind__descriptor, a);
		cr_expect_eq(
			strcmp(name, "unknown") == 0, value == NULL, "kind %d is \"%s\"", a, name);
		for (int b = 1; b < a && value; b++)
			cr_expect_str_neq(name, entry_kind_name((enum entry_kind)b));
	}
}

Test(entry, texts_become_utf8_without_control_bytes)
{
	static const struct {
		const char *from, *to;
	} table[] = {
		{"plain", "plain"},
		{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\xaa",
			"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\xaa"},
		{"line\nbreak\ttab\x7f\x1b[31m", "line?break?tab??[31m"},
		{"\xff\xfe", "??"},
		{"\xc3", "?"},
		{"\xe2\x82", "??"},
		{"\xc0\xaf", "??"},
		{"\xed\xa0\x80", "???"},
		{"\xf4\x90\x80\x80", "????"},
		{"a\x80z", "a?z"},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct entry entry = {0};
		strcpy(entry.detail, table[i].from); /* allowed: a constant that fits */
		strcpy(entry.actor, table[i].from); /* allowed: a constant that fits */
		strcpy(entry.user, table[i].from); /* allowed: a constant that fits */
		strcpy(entry.site_rule, table[i].from); /* allowed: a constant that fits */
		strcpy(entry.staged_rule, table[i].from); /* allowed: a constant that fits */
		entry_clean(&entry);
		cr_expect_str_eq(entry.detail, table[i].to, "%zu", i);
		cr_expect_str_eq(entry.actor, table[i].to, "%zu", i);
		cr_expect_str_eq(entry.user, table[i].to, "%zu", i);
		cr_expect_str_eq(entry.site_rule, table[i].to, "%zu", i);
		cr_expect_str_eq(entry.staged_rule, table[i].to, "%zu", i);
	}
	struct entry cut = {0};
	memset(cut.rule, 'x', sizeof cut.rule);
	memcpy(cut.rule + sizeof cut.rule - 3, "\xe2\x82\xac", 3);
	entry_clean(&cut);
	cr_expect_eq(strlen(cut.rule), sizeof cut.rule - 1);
	cr_expect_str_eq(cut.rule + sizeof cut.rule - 3, "??");
}

Test(entry, wire_message_of_a_committed_entry_has_sequence_and_hash)
{
	struct entry entry = whole("fd77:1::2", "fd77:2::2");
	struct entry_wire wire;
	entry_to_wire(&entry, &wire);
	cr_expect_eq(wire.message.hash.len, 0);
	entry.sequence = 9;
	memset(entry.hash, 7, sizeof entry.hash);
	entry_to_wire(&entry, &wire);
	cr_expect_eq(wire.message.sequence, 9);
	cr_expect_eq(wire.message.hash.len, ENTRY_HASH_SIZE);
	cr_expect_str_eq(wire.message.client, "fd77:1::2");
	cr_expect_str_eq(wire.message.flow->remote, "fd77:2::2");
	struct flow flow;
	cr_assert(flow_from_wire(wire.message.flow, &flow));
	cr_expect_eq(flow.id, entry.flow.id);
}
