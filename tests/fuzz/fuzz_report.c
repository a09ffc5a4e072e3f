/* link: postern_server */
/* What an agent reports: bounded, or nonsense that is passed over; and each flow of it can be
 * written into the journal, whichever way its grant turns it, and be read again. */
#include "server/grants/tuple.h"
#include "server/service/report_wire.h"
#include "tests/fuzz/message.h"

#define NOW_US 1790000000000000LL
#define AGE_MAX_US (7 * 86400 * 1000000LL)
#define FAILURES_MAX 512

static void check_journal(const struct flow *flow)
{
	struct entry entry = {.kind = ENTRY_CLOSED, .flow = *flow}, again;
	struct error err;
	uint8_t *body = NULL;
	size_t size = 0;
	check(entry_encode(&entry, &body, &size, &err) == STATUS_OK);
	check(entry_decode(body, size, &again, &err) == STATUS_OK);
	check(endpoint_equal(&again.flow.client, &flow->client));
	check(endpoint_equal(&again.flow.remote, &flow->remote));
	check(endpoint_equal(&again.flow.external, &flow->external));
	check(again.flow.id == flow->id && again.flow.transport == flow->transport);
	check(again.flow.bytes_sent == flow->bytes_sent);
	check(again.flow.bytes_received == flow->bytes_received);
	entry_fini(&again);
	free(body);
}

static void check_turned(const struct told_flow *told, bool inbound)
{
	struct flow flow = flow_turn(told, inbound);
	uint8_t family = flow.client.addr.family;
	check_addr(&flow.client.addr);
	check_addr(&flow.remote.addr);
	check_addr(&flow.external.addr);
	check(family != ADDR_NONE && flow.remote.addr.family == family);
	check(flow.external.addr.family == ADDR_NONE || flow.external.addr.family == family);
	check(flow.bytes_sent + flow.bytes_received ==
		told->flow.bytes_sent + told->flow.bytes_received);
	check_journal(&flow);
}

static bool has_flow(enum report_kind kind)
{
	return kind == REPORT_FLOW_OPENED || kind == REPORT_FLOW_CLOSED ||
		kind == REPORT_INVENTORY_FLOW;
}

static void check_report(const struct report *report)
{
	check(report->sequence > 0 && report->sequence <= INT64_MAX);
	check(report->kind >= REPORT_NONSENSE && report->kind <= REPORT_PRIMARY_ENDED);
	check(report->failure_count <= FAILURES_MAX);
	for (size_t i = 0; i < report->failure_count; i++)
		check(memchr(report->failures[i].cause, '\0', sizeof report->failures[i].cause));
	if (report->kind == REPORT_NONSENSE)
		return;
	check(report->at_us <= NOW_US && report->at_us >= NOW_US - AGE_MAX_US);
	if (!has_flow(report->kind))
		return;
	check(report->told.flow.id != 0);
	check(report->told.flow.transport == 6 || report->told.flow.transport == 17);
	check_turned(&report->told, false);
	check_turned(&report->told, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message =
		message_unpack(&postern__v1__report_request__descriptor, data, size);
	const Postern__V1__ReportRequest *input = (const Postern__V1__ReportRequest *)message;
	struct batch *batch = NULL;
	struct error err;
	if (!message)
		return 0;
	enum status status = batch_from_wire(input, NOW_US, &batch, &err);
	check((status == STATUS_OK) == (batch != NULL));
	if (batch) {
		check(batch->count == input->n_reports);
		for (size_t i = 0; i < batch->count; i++)
			check_report(&batch->reports[i]);
		batch_free(batch);
	} else {
		check_refusal(status, &err);
	}
	message_free(message);
	return 0;
}
