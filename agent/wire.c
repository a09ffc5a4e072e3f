#include "agent/wire.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(
	(int)REPORT_PRIMARY_ENDED == (int)POSTERN__V1__REPORT_KIND__REPORT_KIND_PRIMARY_ENDED,
	"same numbers");

/* ---- doors ---- */

static bool is_port(uint32_t port)
{
	return port > 0 && port <= UINT16_MAX;
}

static int compare_addrs(const void *a, const void *b)
{
	return addr_compare(a, b);
}

/* Sorted, each once. */
static const char *read_froms(
	const Postern__V1__Door *message, struct addr *froms, struct door *door)
{
	size_t count = 0;
	if (message->n_remotes > DOOR_FROMS_MAX)
		return "it has more than 16 remote addresses";
	for (size_t i = 0; i < message->n_remotes; i++) {
		if (!addr_parse(message->remotes[i], &froms[i]))
			return "a remote address cannot be understood";
		if (froms[i].family != door->to.addr.family)
			return "client and remote are of different families";
	}
	qsort(froms, message->n_remotes, sizeof *froms, compare_addrs);
	for (size_t i = 0; i < message->n_remotes; i++)
		if (count == 0 || !addr_equal(&froms[i], &froms[count - 1]))
			froms[count++] = froms[i];
	if (count == 1) {
		door->from = froms[0];
	} else {
		door->froms = froms;
		door->from_count = count;
	}
	return NULL;
}

static const char *read_outbound(const Postern__V1__Door *message, struct door *door)
{
	uint32_t last = message->remote_port_last;
	if (!addr_parse(message->client, &door->from))
		return "the client's address cannot be understood";
	if (!addr_parse(message->remote, &door->to.addr))
		return "the remote address cannot be understood";
	if (door->from.family != door->to.addr.family)
		return "client and remote are of different families";
	if (!is_port(message->remote_port))
		return "the remote port is none";
	if (last != 0 &&
		(!is_port(last) || last < message->remote_port ||
			last - message->remote_port >= DOOR_PORTS_MAX))
		return "the range of ports is none, or has more than 1024";
	if (message->n_remotes > 0)
		return "an outbound door has one remote address";
	door->to.port = (uint16_t)message->remote_port;
	door->to_port_last = last == message->remote_port ? 0 : (uint16_t)last;
	return NULL;
}

static const char *read_inbound(
	const Postern__V1__Door *message, struct addr *froms, struct door *door)
{
	if (!addr_parse(message->client, &door->to.addr))
		return "the client's address cannot be understood";
	if (!is_port(message->client_port))
		return "the client's port is none";
	if (message->remote_port_last != 0)
		return "an inbound door has one port";
	door->to.port = (uint16_t)message->client_port;
	if (message->n_remotes > 0)
		return read_froms(message, froms, door);
	if (message->remote[0] == '\0')
		return NULL; /* anybody */
	if (!addr_parse(message->remote, &door->from))
		return "the remote address cannot be understood";
	return door->from.family == door->to.addr.family
		? NULL
		: "client and remote are of different families";
}

static const char *read_outside(const Postern__V1__Door *message, bool inbound, struct door *door)
{
	if (message->external[0] == '\0')
		return message->external_port ? "an external port needs an external address" : NULL;
	if (!addr_parse(message->external, &door->outside.addr))
		return "the external address cannot be understood";
	if (door->outside.addr.family != door->to.addr.family)
		return "client and external address are of different families";
	if (message->external_port > UINT16_MAX)
		return "the external port is none";
	if (inbound && message->external_port == 0)
		return "an external port was not chosen";
	door->nat = inbound ? DOOR_DNAT : DOOR_SNAT;
	door->outside.port = (uint16_t)message->external_port;
	return NULL;
}

const char *wire_read_door(
	const Postern__V1__Door *message, struct addr *froms, struct door *ret_door)
{
	bool inbound = message->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	const char *why = NULL;
	if (!inbound && message->direction != POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND)
		return "this agent knows outbound and inbound doors only";
	if (message->transport != POSTERN__V1__TRANSPORT__TRANSPORT_TCP &&
		message->transport != POSTERN__V1__TRANSPORT__TRANSPORT_UDP)
		return "this agent knows TCP and UDP only";
	if (message->flags & POSTERN__V1__GRANT_FLAG__GRANT_FLAG_NO_KERNEL_MODE)
		return "this agent has no user-mode relay (NO_KERNEL_MODE)";
	why = inbound ? read_inbound(message, froms, ret_door) : read_outbound(message, ret_door);
	if (!why)
		why = read_outside(message, inbound, ret_door);
	ret_door->transport = (uint8_t)message->transport;
	ret_door->oneway = message->transport == POSTERN__V1__TRANSPORT__TRANSPORT_UDP &&
		!(message->flags & POSTERN__V1__GRANT_FLAG__GRANT_FLAG_BIDIRECTIONAL);
	ret_door->timeout_ms = message->remaining_ms;
	ret_door->max_connections = message->max_connections;
	ret_door->connections = message->connections;
	return why;
}

bool wire_read_primary(const Postern__V1__Flow *message, struct tracked *ret_wanted)
{
	struct tracked wanted = {0};
	if (!message || !addr_parse(message->client, &wanted.client.addr) ||
		!addr_parse(message->remote, &wanted.remote.addr) ||
		wanted.client.addr.family != wanted.remote.addr.family ||
		!is_port(message->client_port) || !is_port(message->remote_port) ||
		(message->transport != POSTERN__V1__TRANSPORT__TRANSPORT_TCP &&
			message->transport != POSTERN__V1__TRANSPORT__TRANSPORT_UDP))
		return false;
	wanted.client.port = (uint16_t)message->client_port;
	wanted.remote.port = (uint16_t)message->remote_port;
	wanted.transport = (uint8_t)message->transport;
	*ret_wanted = wanted;
	return true;
}

/* ---- reports ---- */

static void write_flow(const struct tracked *flow, struct wire_report *wire)
{
	postern__v1__flow__init(&wire->flow);
	addr_format(&flow->client.addr, wire->client);
	addr_format(&flow->remote.addr, wire->remote);
	wire->flow.id = flow->id;
	wire->flow.client = wire->client;
	wire->flow.client_port = flow->client.port;
	wire->flow.remote = wire->remote;
	wire->flow.remote_port = flow->remote.port;
	wire->flow.transport = (Postern__V1__Transport)flow->transport;
	wire->flow.accounted = flow->accounted;
	wire->flow.packets_sent = flow->packets_sent;
	wire->flow.bytes_sent = flow->bytes_sent;
	wire->flow.packets_received = flow->packets_received;
	wire->flow.bytes_received = flow->bytes_received;
	wire->flow.duration_us = flow->duration_us;
	wire->message.flow = &wire->flow;
	if (!tracked_is_translated(flow))
		return;
	postern__v1__reply_tuple__init(&wire->reply);
	addr_format(&flow->reply_from.addr, wire->source);
	addr_format(&flow->reply_to.addr, wire->destination);
	wire->reply.source = wire->source;
	wire->reply.source_port = flow->reply_from.port;
	wire->reply.destination = wire->destination;
	wire->reply.destination_port = flow->reply_to.port;
	wire->message.reply = &wire->reply;
}

void wire_write_report(const struct report *report, int64_t now_us, struct wire_report *wire)
{
	int64_t age = now_us - report->at_us;
	postern__v1__report__init(&wire->message);
	wire->message.sequence = report->sequence;
	wire->message.kind = (Postern__V1__ReportKind)report->kind;
	wire->message.age_ms = age > 0 ? (uint64_t)age / 1000 : 0;
	wire->message.count = report->count;
	wire->message.sync_sequence = report->sync_sequence;
	wire->message.kernel_us = report->kernel_us;
	wire->message.revision = report->revision;
	if (!id_is_zero(&report->grant)) {
		id_format(&report->grant, wire->grant);
		wire->message.grant = wire->grant;
	}
	if (!id_is_zero(&report->session)) {
		id_format(&report->session, wire->session);
		wire->message.session = wire->session;
	}
	if (report->flow.id)
		write_flow(&report->flow, wire);
}

bool wire_failures_init(struct wire_failures *wire, size_t count)
{
	*wire = (struct wire_failures){0};
	if (count == 0)
		return true;
	wire->messages = calloc(count, sizeof *wire->messages);
	wire->pointers = calloc(count, sizeof *wire->pointers);
	wire->texts = calloc(count, sizeof *wire->texts);
	return wire->messages && wire->pointers && wire->texts;
}

void wire_failures_fini(struct wire_failures *wire)
{
	free(wire->messages);
	free(wire->pointers);
	free(wire->texts);
}

void wire_write_failures(
	struct wire_failures *wire, const struct report *report, Postern__V1__Report *message)
{
	message->failures = wire->pointers + wire->used;
	message->n_failures = report->failure_count;
	for (size_t i = 0; i < report->failure_count; i++, wire->used++) {
		Postern__V1__DoorFailure *failure = &wire->messages[wire->used];
		postern__v1__door_failure__init(failure);
		id_format(&report->failures[i].grant, wire->texts[wire->used]);
		failure->grant = wire->texts[wire->used];
		failure->cause = report->failures[i].cause;
		failure->external_taken = report->failures[i].external_taken;
		wire->pointers[wire->used] = failure;
	}
}
