#include "server/service/report_wire.h"

#include <stdlib.h>
#include <string.h>

#include "server/core/core.h"
#include "server/fleet/sync.h"
#include "server/journal/wire.h"

#define REPORTS_MAX 4096
#define FAILURES_MAX (2 * SYNC_DOORS_MAX)
#define AGE_MAX_MS (7ULL * 86400 * 1000)

_Static_assert(
	(int)REPORT_PRIMARY_ENDED == (int)POSTERN__V1__REPORT_KIND__REPORT_KIND_PRIMARY_ENDED,
	"same numbers");

static bool failures_from_wire(const Postern__V1__Report *message, struct report *ret_report)
{
	size_t count = message->n_failures < FAILURES_MAX ? message->n_failures : FAILURES_MAX;
	struct report_failure *failures = count ? calloc(count, sizeof *failures) : NULL;
	if (count && !failures)
		return false;
	ret_report->failures = failures;
	for (size_t i = 0; i < count; i++) {
		struct report_failure *failure = &failures[ret_report->failure_count];
		if (!id_parse(message->failures[i]->grant, &failure->grant))
			continue;
		copy_text(failure->cause, sizeof failure->cause, message->failures[i]->cause);
		failure->external_taken = message->failures[i]->external_taken;
		ret_report->failure_count++;
	}
	return true;
}

static bool reply_from_wire(const Postern__V1__ReplyTuple *reply, struct told_flow *told)
{
	uint8_t family = told->flow.client.addr.family;
	struct endpoint source = {.port = (uint16_t)reply->source_port};
	struct endpoint destination = {.port = (uint16_t)reply->destination_port};
	if (!addr_parse(reply->source, &source.addr) || source.addr.family != family ||
		!addr_parse(reply->destination, &destination.addr) ||
		destination.addr.family != family || reply->source_port > UINT16_MAX ||
		reply->destination_port > UINT16_MAX)
		return false;
	told->reply_source = source;
	told->reply_destination = destination;
	return true;
}

/* A reply that cannot be read says as little as none. */
static bool flow_from_report(const Postern__V1__Report *message, struct told_flow *ret_told)
{
	struct told_flow told = {0};
	if (!message->flow || !flow_from_wire(message->flow, &told.flow) || told.flow.id == 0 ||
		told.flow.client.addr.family == ADDR_NONE ||
		told.flow.client.addr.family != told.flow.remote.addr.family)
		return false;
	memset(&told.flow.external, 0, sizeof told.flow.external);
	told.translated = message->reply && reply_from_wire(message->reply, &told);
	*ret_told = told;
	return true;
}

/* What a kind of report must have. Unknown kinds are a newer agent's. */
static bool is_sensible(const Postern__V1__Report *message, struct report *ret_report)
{
	bool has_flow = false, has_grant = false, has_session = false;
	switch (message->kind) {
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_APPLIED:
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_INVENTORY_BEGIN:
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_INVENTORY_END:
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_TABLE_REBUILT:
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_EVENTS_OVERRUN:
		break;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_FLOW_OPENED:
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_FLOW_CLOSED:
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_INVENTORY_FLOW:
		has_flow = has_grant = true;
		break;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_USES_MISSED:
		has_grant = true;
		break;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_PRIMARY_ENDED:
		has_session = true;
		break;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_UNSPECIFIED:
	case _POSTERN__V1__REPORT_KIND_IS_INT_SIZE:
	default:
		return false;
	}
	if ((has_grant && !id_parse(message->grant, &ret_report->grant)) ||
		(has_session && !id_parse(message->session, &ret_report->session)))
		return false;
	return !has_flow || flow_from_report(message, &ret_report->told);
}

/* A report that makes no sense is taken as nonsense: it would make none the next time either.
 * False: memory is out. */
static bool report_from_wire(
	const Postern__V1__Report *message, int64_t now_us, struct report *ret_report)
{
	uint64_t age = message->age_ms > AGE_MAX_MS ? AGE_MAX_MS : message->age_ms;
	ret_report->sequence = message->sequence;
	if (!is_sensible(message, ret_report))
		return true;
	ret_report->kind = (enum report_kind)message->kind;
	ret_report->at_us = now_us - (int64_t)age * 1000;
	ret_report->count = message->count;
	ret_report->sync_sequence = message->sync_sequence;
	ret_report->kernel_us = message->kernel_us;
	ret_report->revision = message->revision;
	return failures_from_wire(message, ret_report);
}

/* One too large would make every later report a repeat. */
static bool sequences_are_sane(const Postern__V1__ReportRequest *input)
{
	for (size_t i = 0; i < input->n_reports; i++)
		if (input->reports[i]->sequence == 0 || input->reports[i]->sequence > INT64_MAX)
			return false;
	return true;
}

enum status batch_from_wire(const Postern__V1__ReportRequest *input, int64_t now_us,
	struct batch **ret_batch, struct error *err)
{
	if (input->n_reports > REPORTS_MAX)
		return error_field(err, "reports", "reports: at most %d at once", REPORTS_MAX);
	if (!sequences_are_sane(input))
		return error_field(err, "sequence", "sequence: from 1 to 2^63 - 1");
	struct batch *batch = batch_new(input->n_reports);
	bool done = batch != NULL;
	for (size_t i = 0; done && i < batch->count; i++)
		done = report_from_wire(input->reports[i], now_us, &batch->reports[i]);
	if (done) {
		*ret_batch = batch;
		return STATUS_OK;
	}
	if (batch)
		batch_free(batch);
	return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
}
