/* A batch is taken as a whole: all its facts and the position of its newest report are one
 * transaction, and its call is answered when that is on disk. So an agent that hears nothing sends
 * again, and what was taken is passed over (I5).
 *
 * A report may speak of a grant that ended long ago and is not in memory any more. Then the grants
 * it names are read from the disk first; later batches wait, because order matters. */
#include "server/fleet/inbox.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/core/grant.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"

void inbox_init(struct inbox *inbox)
{
	inbox->first = NULL;
	inbox->end = &inbox->first;
}

struct batch *batch_new(size_t count)
{
	struct batch *batch = calloc(1, sizeof *batch);
	if (!batch)
		return NULL;
	batch->reports = calloc(count ? count : 1, sizeof *batch->reports);
	batch->count = count;
	if (batch->reports)
		return batch;
	free(batch);
	return NULL;
}

void batch_free(struct batch *batch)
{
	for (size_t i = 0; i < batch->found_count; i++)
		grant_release(batch->found[i]);
	for (size_t i = 0; i < batch->count; i++)
		free(batch->reports[i].failures);
	free(batch->found);
	free(batch->reports);
	free(batch);
}

/* Answers, and frees unless a read still points to it. */
static void batch_end(struct batch *batch, const struct error *err)
{
	if (batch->done)
		batch->done(batch->arg, batch->last, err);
	batch->done = NULL;
	if (batch->lookups == 0)
		batch_free(batch);
}

static void abandon(struct inbox *inbox, const char *why)
{
	struct error err;
	struct batch *batch = inbox->first;
	error_set(&err, STATUS_UNAVAILABLE, "%s", why);
	inbox_init(inbox);
	for (struct batch *next; batch; batch = next) {
		next = batch->next;
		batch->abandoned = true;
		batch_end(batch, &err);
	}
}

void inbox_fini(struct inbox *inbox)
{
	abandon(inbox, "the server is stopping");
}

void inbox_abandon(struct gateway *gateway)
{
	abandon(&gateway->inbox, "another connection has joined");
}

/* ---- what a report says ---- */

static void gateway_entry(const struct gateway *gateway, const struct report *report,
	enum entry_kind kind, struct facts *facts)
{
	struct entry entry;
	core_entry(&entry, kind, gateway->record.name);
	copy_text(entry.gateway, sizeof entry.gateway, gateway->record.name);
	entry.count = report->count;
	entry.time_us = report->at_us;
	store_txn_entry(facts->txn, &entry);
}

static void uses_missed(struct gateway *gateway, const struct report *report, struct facts *facts)
{
	struct grant *grant = grant_find(gateway->core, &report->grant);
	struct entry entry;
	if (report->count == 0 || report->count > UINT32_MAX)
		return;
	if (!grant || grant->gateway != gateway) {
		log_warn("%s: uses of a grant that is not its own were reported",
			gateway->record.name);
		return;
	}
	grant_fill_entry(grant, ENTRY_USES_RECOVERED, &entry);
	entry.count = report->count;
	entry.time_us = report->at_us;
	store_txn_entry(facts->txn, &entry);
	grant_used(grant, report->count, facts);
}

static void applied(struct gateway *gateway, const struct report *report, struct facts *facts)
{
	for (size_t i = 0; i < report->failure_count; i++) {
		const struct report_failure *failure = &report->failures[i];
		struct grant *grant = grant_find(gateway->core, &failure->grant);
		if (!grant || grant->gateway != gateway)
			continue;
		if (!failure->external_taken)
			grant_refused(grant, failure->cause);
		else if (wanted_drop(&gateway->sync.doors, &grant->door, report->sync_sequence))
			grant_external_taken(grant, failure->cause);
	}
	gateway_applied(gateway, report->sync_sequence, report->kernel_us, facts);
	gateway_obeys(gateway, report->revision);
}

static void take(struct gateway *gateway, const struct report *report, struct facts *facts)
{
	struct flows *flows = &gateway->flows;
	switch (report->kind) {
	case REPORT_NONSENSE:
		return;
	case REPORT_APPLIED:
		applied(gateway, report, facts);
		return;
	case REPORT_FLOW_OPENED:
	case REPORT_INVENTORY_FLOW:
		flow_opened(flows, &report->grant, &report->told, report->at_us,
			report->kind == REPORT_INVENTORY_FLOW, facts);
		return;
	case REPORT_FLOW_CLOSED:
		flow_closed(flows, &report->grant, &report->told, report->at_us, facts);
		return;
	case REPORT_USES_MISSED:
		uses_missed(gateway, report, facts);
		return;
	case REPORT_INVENTORY_BEGIN:
		flows_inventory_begin(flows);
		return;
	case REPORT_INVENTORY_END:
		flows_inventory_end(flows);
		return;
	case REPORT_TABLE_REBUILT:
		gateway_entry(gateway, report, ENTRY_TABLE_REBUILT, facts);
		return;
	case REPORT_EVENTS_OVERRUN:
		gateway_entry(gateway, report, ENTRY_EVENTS_OVERRUN, facts);
		return;
	case REPORT_PRIMARY_ENDED:
		session_primary_ended(gateway, &report->session);
		return;
	}
}

/* ---- a batch ---- */

static void on_taken(void *arg, uint64_t sequence, const struct error *err)
{
	(void)sequence;
	batch_end(arg, err);
}

static void take_batch(struct gateway *gateway, struct batch *batch)
{
	struct facts *facts = facts_new(gateway->core);
	bool in_no_hurry = true;
	struct error err;
	if (!facts) {
		error_set(&err, STATUS_UNAVAILABLE, "the server is stopping, or out of memory");
		batch_end(batch, &err);
		return;
	}
	for (size_t i = 0; i < batch->count; i++) {
		const struct report *report = &batch->reports[i];
		if (report->sequence <= gateway->record.last_report)
			continue; /* sent again: it is on disk or on its way there */
		take(gateway, report, facts);
		gateway->record.last_report = report->sequence;
		in_no_hurry &= report->kind == REPORT_APPLIED;
	}
	batch->last = gateway->record.last_report;
	store_txn_report_position(facts->txn, gateway->record.name, gateway->record.instance,
		gateway->record.last_report);
	facts_submit(facts, in_no_hurry, on_taken, batch);
}

/* ---- grants of the past ---- */

static void pump(struct gateway *gateway);

static void keep(struct gateway *gateway, struct batch *batch, const struct grant_record *record)
{
	if (strcmp(record->gateway, gateway->record.name) != 0 ||
		grant_is_live((enum grant_state)record->state) ||
		grant_find(gateway->core, &record->id))
		return;
	struct grant *grant = grant_load(gateway->core, record);
	if (!grant)
		return;
	grant_hold(grant);
	batch->found[batch->found_count++] = grant;
}

static void on_looked_up(
	void *arg, const struct grant_record *grants, size_t count, const struct error *err)
{
	struct batch *batch = arg;
	struct gateway *gateway = batch->gateway;
	batch->lookups--;
	if (batch->abandoned) {
		if (batch->lookups == 0)
			batch_free(batch);
		return;
	}
	if (err->status)
		log_warn("%s: a grant that its agent reports on cannot be read: %s",
			gateway->record.name, err->text);
	else if (count == 1)
		keep(gateway, batch, grants);
	if (batch->lookups == 0)
		pump(gateway);
}

static bool needs_lookup(const struct gateway *gateway, const struct report *report)
{
	if (report->sequence <= gateway->record.last_report ||
		grant_find(gateway->core, &report->grant))
		return false;
	switch (report->kind) {
	case REPORT_FLOW_OPENED:
	case REPORT_FLOW_CLOSED:
	case REPORT_INVENTORY_FLOW:
		return flow_needs_grant(&gateway->flows, &report->grant, report->told.flow.id);
	case REPORT_USES_MISSED:
		return true;
	case REPORT_NONSENSE:
	case REPORT_APPLIED:
	case REPORT_INVENTORY_BEGIN:
	case REPORT_INVENTORY_END:
	case REPORT_TABLE_REBUILT:
	case REPORT_EVENTS_OVERRUN:
	case REPORT_PRIMARY_ENDED:
		break;
	}
	return false;
}

static int compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct id));
}

/* The grants to be read, each once. NULL with *ret_count > 0: out of memory. */
static struct id *unknown_grants(
	const struct gateway *gateway, const struct batch *batch, size_t *ret_count)
{
	struct id *ids = NULL;
	size_t count = 0, distinct = 0;
	for (size_t i = 0; i < batch->count; i++) {
		if (!needs_lookup(gateway, &batch->reports[i]))
			continue;
		if (!ids)
			ids = calloc(batch->count, sizeof *ids);
		count++;
		if (ids)
			ids[count - 1] = batch->reports[i].grant;
	}
	*ret_count = count;
	if (!ids)
		return NULL;
	qsort(ids, count, sizeof *ids, compare_ids);
	for (size_t i = 0; i < count; i++)
		if (i == 0 || !id_equal(&ids[i], &ids[distinct - 1]))
			ids[distinct++] = ids[i];
	*ret_count = distinct;
	return ids;
}

/* False: out of memory. */
static bool look_up(struct gateway *gateway, struct batch *batch)
{
	size_t count;
	struct id *ids = unknown_grants(gateway, batch, &count);
	batch->looked_up = true;
	if (count == 0)
		return true;
	batch->found = ids ? calloc(count, sizeof(struct grant *)) : NULL;
	if (!batch->found) {
		free(ids);
		return false;
	}
	batch->lookups = 1; /* so that answers inside this loop do not find themselves the last */
	for (size_t i = 0; i < count; i++) {
		struct store_grant_query query = {.id = ids[i], .limit = 1};
		batch->lookups++;
		store_read_grants(gateway->core->store, &query, on_looked_up, batch);
	}
	batch->lookups--;
	free(ids);
	return true;
}

static void pump(struct gateway *gateway)
{
	struct inbox *inbox = &gateway->inbox;
	struct error err;
	while (inbox->first) {
		struct batch *batch = inbox->first;
		bool good = batch->looked_up || look_up(gateway, batch);
		if (batch->lookups > 0)
			return;
		inbox->first = batch->next;
		if (!inbox->first)
			inbox->end = &inbox->first;
		if (good) {
			take_batch(gateway, batch);
			continue;
		}
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		batch_end(batch, &err);
	}
}

void inbox_put(struct gateway *gateway, struct batch *batch)
{
	struct inbox *inbox = &gateway->inbox;
	batch->gateway = gateway;
	batch->next = NULL;
	*inbox->end = batch;
	inbox->end = &batch->next;
	if (inbox->first == batch)
		pump(gateway);
}
