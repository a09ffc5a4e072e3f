#include "client/lib/event.h"

static const char *end_reason_text(Postern__V1__EndReason reason)
{
	static const char *const texts[] = {"", "used-up", "unused-timeout", "lifetime",
		"cancelled-by-filter", "session-ended", "revoked-by-operator", "policy-changed",
		"gateway-refused", "deadline-missed", "denied-protocol-rules",
		"denied-site-and-content-rules", "reservation-timeout", "bundle-failed"};

	return (size_t)reason < sizeof(texts) / sizeof(texts[0]) ? texts[reason] : "unknown";
}

/* What is no port is none: it must not look like another one. */
static uint16_t port_of(uint32_t number)
{
	return number <= UINT16_MAX ? (uint16_t)number : 0;
}

static void add_flow(struct postern_event *event, const Postern__V1__Flow *flow)
{
	if (!*event->client)
		event->client = flow->client;
	if (!*event->remote)
		event->remote = flow->remote;
	if (*flow->external) {
		event->external = flow->external;
		event->external_port = port_of(flow->external_port);
	}
	event->client_port = port_of(flow->client_port);
	if (port_of(flow->remote_port))
		event->remote_port = port_of(flow->remote_port);
	event->accounted = flow->accounted;
	event->packets_sent = flow->packets_sent;
	event->bytes_sent = flow->bytes_sent;
	event->packets_received = flow->packets_received;
	event->bytes_received = flow->bytes_received;
	event->duration_us = flow->duration_us;
}

void event_read(const Postern__V1__Entry *entry, struct postern_event *ret_event)
{
	*ret_event = (struct postern_event){
		.sequence = entry->sequence,
		.time_us = entry->time_us,
		.kind = (int)entry->kind,
		.gateway = entry->gateway,
		.session = entry->session,
		.grant = entry->grant,
		.client = entry->client,
		.remote = entry->remote,
		.end_reason = end_reason_text(entry->reason),
		.client_port = port_of(entry->client_port),
		.remote_port = port_of(entry->remote_port),
		.transport = (enum postern_transport)entry->transport,
		.context = entry->context.data,
		.context_size = entry->context.len,
		.inbound = entry->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND,
		.external = entry->external,
		.external_port = port_of(entry->external_port),
		.bundle = entry->bundle,
	};
	if (entry->flow)
		add_flow(ret_event, entry->flow);
}
