/* A parsed request on its way to the decision: what the core relies on of it. */
#ifndef POSTERN_TESTS_FUZZ_REQUEST_H
#define POSTERN_TESTS_FUZZ_REQUEST_H

#include "agent/wire.h"
#include "server/policy/bounds.h"
#include "server/policy/network.h"
#include "server/service/door_wire.h"
#include "server/service/grants.h"
#include "tests/fuzz/message.h"

static const struct grant_limits limits = {
	.default_lifetime_ms = 60000, .max_lifetime_ms = 86400000, .unused_timeout_ms = 60000};

static inline bool is_terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

/* As grant_ask_from_wire leaves it. */
static inline void check_parsed(const struct grant_ask *ask, const Postern__V1__GrantRequest *input)
{
	const struct grant_record *record = &ask->record;
	check(is_terminated(record->gateway, sizeof record->gateway));
	check(record->remote_count <= ENTRY_REMOTES_MAX && record->remotes == ask->remotes);
	check(record->context_size <= ENTRY_CONTEXT_MAX);
	check(record->context_size == input->context.len);
	check(record->lifetime_ms <= LIFETIME_MAX_MS);
	check(record->transport == 6 || record->transport == 17);
	check(record->remote.port == input->remote_port);
	check(record->client_port == input->client_port);
	check(record->external.port == input->external_port);
	check(record->remote_port_last == input->remote_port_last);
	check(record->client.family != ADDR_NONE || !id_is_zero(&record->session));
	check(ask->protocol[0] != '\0');
	for (size_t i = 0; i < record->remote_count; i++)
		check_addr(&ask->remotes[i]);
}

static inline void check_directions(const struct grant_record *record)
{
	uint8_t family = record->client.family;
	check(addr_is_forwardable(&record->client));
	check(record->remote.addr.family == ADDR_NONE || record->remote.addr.family == family);
	check(record->external.addr.family == family ||
		(record->external.addr.family == ADDR_NONE && record->external.port == 0));
	check(record->remote_count != 1);
	check(record->remote_count == 0 || record->remote.addr.family == ADDR_NONE);
	check_sorted(record->remotes, record->remote_count, family);
	if (record->inbound) {
		check(record->client_port > 0);
		check(record->remote.port == 0 && record->remote_port_last == 0);
	} else {
		check(record->remote.addr.family == family && record->remote.port > 0);
		check(record->client_port == 0 && record->remote_count == 0);
		check(!record->remote_port_last || record->remote_port_last > record->remote.port);
	}
}

/* The grant that it becomes is sound, and the same request asked again is found to be the same. */
static inline void check_grant(const struct grant_record *record)
{
	struct grant_record grant = *record, again = *record;
	struct error err;
	bool clamped;
	check(record->lifetime_ms > 0 && record->lifetime_ms <= limits.max_lifetime_ms);
	check(!(record->flags & GRANT_TIMEOUT) || record->lifetime_ms <= limits.unused_timeout_ms);
	check((record->max_connections == 0) <= ((record->flags & GRANT_ALLOW_MULTIPLE) != 0));
	check(!(record->flags & GRANT_BIDIRECTIONAL) || record->transport == 17);
	grant.state = GRANT_PENDING;
	grant.created_us = 1000000;
	grant.expires_us = grant.created_us + (int64_t)record->lifetime_ms * 1000;
	check(grant_flaw(&grant) == NULL);
	check(grant_verdict(&grant, &err) == STATUS_OK);
	int64_t until = grant_renewed_until(&grant, &limits, 0, grant.created_us + 5, &clamped);
	check(until >= grant.expires_us);
	check(grant_complete(&again, &limits, &err) == STATUS_OK);
	check(grant_same_request(&grant, &again, true));
}

static inline void check_allowed(const struct protocol_record *protocol, const struct addr *peer,
	const struct grant_record *record)
{
	uint16_t opened = record->inbound ? record->client_port : record->remote.port;
	unsigned width = record->remote_port_last
		? (unsigned)(record->remote_port_last - record->remote.port) + 1
		: 1;
	check(opened >= 1024 || protocol->low_ports);
	check(width <= 1 || width <= protocol->max_ports);
	if (protocol->remote_scope == REMOTE_ANY)
		return;
	check(record->remote.addr.family != ADDR_NONE || record->remote_count > 0);
	uint8_t bits = peer->family == ADDR_IPV4 ? 24 : 64;
	struct network network = network_of(peer,
		protocol->remote_scope == REMOTE_PEER ? (uint8_t)(addr_length(peer) * 8) : bits);
	check(record->remote_count > 0 || network_contains(&network, &record->remote.addr));
	for (size_t i = 0; i < record->remote_count; i++)
		check(network_contains(&network, &record->remotes[i]));
}

/* Every kind of definition, with a primary connection of either family and without one. */
static inline void check_bounds(const struct grant_record *record)
{
	static const uint16_t widths[] = {0, 1, 2, 1024};
	for (unsigned i = 0; i < 4 * 2 * 3 * 3; i++) {
		struct protocol_record protocol = {.name = "ftp",
			.transport = 6,
			.max_ports = widths[i & 3],
			.low_ports = (i >> 2) & 1,
			.remote_scope = (uint8_t)((i >> 3) % 3)};
		unsigned peer = (i >> 3) / 3;
		struct flow primary = {.transport = peer ? 6 : 0};
		struct error err;
		(void)addr_parse(peer == 2 ? "fd77:2::2" : "10.77.2.2", &primary.remote.addr);
		enum status status = bounds_check(&protocol, &primary, record, &err);
		if (status)
			check_refusal(status, &err);
		else
			check_allowed(&protocol, &primary.remote.addr, record);
		check(status == STATUS_OK || peer || protocol.remote_scope != REMOTE_ANY ||
			!protocol.low_ports || record->remote_port_last);
	}
}

/* What the server grants, an agent can open, and it is the same door. */
static inline void check_door(const struct grant_record *granted)
{
	struct grant_record record = *granted;
	struct addr froms[DOOR_FROMS_MAX];
	struct door_wire wire;
	struct door door = {0};
	if (record.inbound && record.external.addr.family != ADDR_NONE && !record.external.port)
		record.external.port = 61000; /* as the server chooses one */
	if (record.remote_port_last && record.remote_port_last - record.remote.port >= 1024)
		return; /* no definition allows it */
	door_to_wire(&record, record.lifetime_ms, &wire);
	check(wire_read_door(&wire.message, froms, &door) == NULL);
	const struct endpoint client = {.addr = record.client, .port = record.client_port};
	check(endpoint_equal(&door.to, record.inbound ? &client : &record.remote));
	check(addr_equal(&door.from, record.inbound ? &record.remote.addr : &record.client));
	check(door.to_port_last == record.remote_port_last);
	check(door.from_count == record.remote_count);
	for (size_t i = 0; i < door.from_count; i++)
		check(addr_equal(&door.froms[i], &record.remotes[i]));
	check(endpoint_equal(&door.outside, &record.external));
	check(door.oneway == (record.transport == 17 && !(record.flags & GRANT_BIDIRECTIONAL)));
	check(door.max_connections == record.max_connections);
}

static inline void check_request(struct grant_ask *ask, const Postern__V1__GrantRequest *input)
{
	struct grant_record *record = &ask->record;
	struct error err;
	check_parsed(ask, input);
	if (record->client.family == ADDR_NONE)
		(void)addr_parse("10.77.1.2", &record->client); /* its session's */
	enum status status = grant_complete(record, &limits, &err);
	if (status) {
		check_refusal(status, &err);
		return;
	}
	check_directions(record);
	check_grant(record);
	check_bounds(record);
	check_door(record);
}

#endif
