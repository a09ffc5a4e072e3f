/* link: postern_objects */
/* Journal entries as the server sends them to a watch: no string of the event is NULL, none of its
 * ports is another one than the server wrote, and its context is the entry's. */
#include "client/lib/event.h"
#include "postern/v1/events.pb-c.h"
#include "tests/fuzz/message.h"

/* What does not fit is none. */
static uint16_t port_of(uint32_t number)
{
	return number <= UINT16_MAX ? (uint16_t)number : 0;
}

static void check_ports(const struct postern_event *event, const Postern__V1__Entry *entry)
{
	const Postern__V1__Flow *flow = entry->flow;
	uint16_t remote = flow ? port_of(flow->remote_port) : 0;
	check(event->client_port == port_of(flow ? flow->client_port : entry->client_port));
	check(event->remote_port == (remote ? remote : port_of(entry->remote_port)));
	check(event->external_port ==
		port_of(flow && *flow->external ? flow->external_port : entry->external_port));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message =
		message_unpack(&postern__v1__event_batch__descriptor, data, size);
	const Postern__V1__EventBatch *batch = (const Postern__V1__EventBatch *)message;
	if (!message)
		return 0;
	for (size_t i = 0; i < batch->n_entries; i++) {
		const Postern__V1__Entry *entry = batch->entries[i];
		struct postern_event event;
		event_read(entry, &event);
		check(event.gateway && event.session && event.grant && event.client &&
			event.remote && event.external && event.bundle);
		check(event.end_reason && (event.end_reason[0] == '\0') == (entry->reason == 0));
		check(event.sequence == entry->sequence && event.kind == (int)entry->kind);
		check(event.context == entry->context.data);
		check(event.context_size == entry->context.len);
		check_ports(&event, entry);
	}
	message_free(message);
	return 0;
}
