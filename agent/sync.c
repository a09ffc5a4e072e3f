/* Design.
 *
 * The books (doors.c) hold what the server wants. A delta goes into the books and the kernel in one
 * transaction. Everything else (a snapshot, a table that was lost, a transaction whose outcome is
 * not known) is a repair: the kernel's doors are dumped, compared with the books (reconcile.c) and
 * only the difference is applied, so that a restart of the agent or of the link disturbs nobody
 * (I7) and what nobody wants is closed (I2). A repair that fails is tried again until it succeeds.
 *
 * A snapshot becomes the books only when it is complete: a link that breaks in its midst changes
 * nothing. No door is added with more uses than are left: of those granted, less those that the
 * server or our own reports know of (I4).
 *
 * Audits read the counters: a moment after every snapshot, removal and overrun, and every now and
 * then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/reconcile.h"
#include "common/clock.h"
#include "common/log.h"

#define AUDIT_SOON_US 1000000
#define AUDIT_US 10000000
#define AUDIT_SHARE 100 /* an audit may take this part of the time */
#define REPAIR_AGAIN_US 1000000

/* ---- telling the server ---- */

/* Takes over `failures`. */
static void report_applied(struct agent *agent, uint64_t sequence, int64_t kernel_us,
	struct door_failure *failures, size_t count)
{
	struct report *report = reports_add(&agent->reports, REPORT_APPLIED, clock_mono_us());
	if (!report) {
		free(failures);
		return; /* the server's deadline withdraws what it asked for */
	}
	report->sync_sequence = sequence;
	report->kernel_us = kernel_us > 0 ? (uint64_t)kernel_us : 0;
	report->failures = failures;
	report->failure_count = count;
	link_wake(agent->link);
}

/* Doors that were refused are not wanted any more. */
static void forget_failures(struct agent *agent, const struct door_failure *failures, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct wish *wish = doors_find(&agent->doors, &failures[i].grant);
		char grant[ID_TEXT_SIZE];
		id_format(&failures[i].grant, grant);
		log_warn("%s: door refused: %s", grant, failures[i].cause);
		if (wish)
			doors_remove(&agent->doors, wish);
	}
}

/* ---- repair ---- */

/* What a repair needs and leaves; free with repair_fini. */
struct repair {
	struct door *desired;
	struct held_door *held;
	size_t desired_count, held_count, failure_count;
	struct reconciliation work;
	struct door_failure *failures;
	int64_t kernel_us;
};

static void repair_fini(struct repair *repair)
{
	free(repair->desired);
	free(repair->held);
	free(repair->work.add);
	free(repair->work.remove);
	free(repair->failures);
}

static enum status repair_once(struct agent *agent, struct repair *repair, struct error *err)
{
	size_t most = doors_count(&agent->doors);
	*repair = (struct repair){0};
	repair->desired = calloc(most + 1, sizeof *repair->desired);
	repair->failures = calloc(most + 1, sizeof *repair->failures);
	if (!repair->desired || !repair->failures)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	enum status status = nft_dump(agent->nft, &repair->held, &repair->held_count, err);
	if (status)
		return status;
	/* After the dump: what is known by now includes the flows that its counters show. */
	agent_drain_events(agent);
	repair->desired_count = doors_list(&agent->doors, repair->desired, clock_mono_us());
	if (!reconcile(repair->desired, repair->desired_count, repair->held, repair->held_count,
		    &repair->work))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < repair->work.add_count; i++) {
		struct wish *wish = doors_find(&agent->doors, &repair->work.add[i].grant);
		if (wish)
			wish->base = wish->known;
	}
	int64_t began = clock_mono_us();
	status =
		nft_apply(agent->nft, repair->work.add, repair->work.add_count, repair->work.remove,
			repair->work.remove_count, repair->failures, &repair->failure_count, err);
	repair->kernel_us = clock_mono_us() - began;
	return status;
}

static void repair_again(void *arg)
{
	sync_repair(arg);
}

/* The caller has prepared nothing and frees `repair` in any case. */
static enum status repair_now(struct agent *agent, struct repair *repair)
{
	struct error err = {0};
	enum nft_adoption adoption;
	enum status status = repair_once(agent, repair, &err);
	if (status == STATUS_NOT_FOUND && !nft_install(agent->nft, &adoption, &err)) {
		repair_fini(repair);
		status = repair_once(agent, repair, &err);
	}
	if (status) {
		log_err("datapath: doors could not be repaired, trying again: %s", err.text);
		loop_timer_set(agent->loop, &agent->repair, clock_mono_us() + REPAIR_AGAIN_US,
			repair_again, agent);
		return status;
	}
	forget_failures(agent, repair->failures, repair->failure_count);
	log_info("datapath: %zu doors wanted, %zu held: %zu kept, %zu added, %zu removed",
		repair->desired_count, repair->held_count, repair->work.kept,
		repair->work.add_count - repair->failure_count, repair->work.remove_count);
	return STATUS_OK;
}

void sync_repair(struct agent *agent)
{
	struct repair repair;
	bool done = repair_now(agent, &repair) == STATUS_OK;
	if (done && (agent->unapplied || repair.failure_count > 0)) {
		/* Sequence 0 acknowledges nothing and still tells of failures. */
		report_applied(agent, agent->unapplied, repair.kernel_us, repair.failures,
			repair.failure_count);
		repair.failures = NULL;
		agent->unapplied = 0;
	}
	repair_fini(&repair);
}

/* ---- deltas ---- */

struct delta {
	struct door *add, *remove;
	size_t add_count, remove_count, failure_count;
	struct door_failure *failures; /* first those of the item */
};

/* The last counter of a door that goes, if it may have more to tell than is known. */
static void retire(struct agent *agent, struct wish *wish)
{
	struct held_door held;
	uint64_t most = wish->door.max_connections;
	bool used_up = most > 0 && wish->known >= most;
	if (!used_up && nft_get(agent->nft, &wish->door, &held) &&
		id_equal(&held.door.grant, &wish->door.grant) &&
		doors_total(wish, &held) > wish->known) {
		wish->in_total = doors_total(wish, &held);
		wish->deficit = 0;
		wish->retired = true;
		sync_audit_soon(agent);
		return;
	}
	doors_remove(&agent->doors, wish);
}

static void delta_remove(struct agent *agent, struct delta *delta, const struct sync_item *item)
{
	for (size_t i = 0; i < item->removed_count; i++) {
		struct wish *wish = doors_find(&agent->doors, &item->removed[i]);
		if (!wish || wish->retired)
			continue;
		delta->remove[delta->remove_count++] = wish->door;
		retire(agent, wish);
	}
}

static void delta_add(struct agent *agent, struct delta *delta, const struct sync_item *item)
{
	int64_t now = clock_mono_us();
	for (size_t i = 0; i < item->door_count; i++) {
		bool is_new = !doors_find(&agent->doors, &item->doors[i].grant);
		struct wish *wish = doors_put(&agent->doors, &item->doors[i], now);
		if (!wish) {
			struct door_failure *failure = &delta->failures[delta->failure_count++];
			failure->grant = item->doors[i].grant;
			snprintf(failure->cause, sizeof failure->cause,
				"the agent is out of memory");
			continue;
		}
		struct door door = item->doors[i];
		door.connections = wish->known;
		if (is_new)
			wish->base = wish->known;
		if (door.timeout_ms > 0 && door_uses_left(&door, &door.uses))
			delta->add[delta->add_count++] = door;
	}
}

/* The outcome is not known, or the table is gone: look, and put right. */
static void delta_by_repair(
	struct agent *agent, struct delta *delta, const struct error *cause, int64_t *kernel_us)
{
	struct repair repair;
	log_warn("datapath: a transaction failed, looking at the kernel's doors: %s", cause->text);
	bool repaired = repair_now(agent, &repair) == STATUS_OK;
	for (size_t i = 0; i < delta->add_count; i++) {
		const struct id *grant = &delta->add[i].grant;
		if (repaired && doors_find(&agent->doors, grant))
			continue;
		struct door_failure *failure = &delta->failures[delta->failure_count++];
		failure->grant = *grant;
		snprintf(failure->cause, sizeof failure->cause, "%.127s", cause->text);
		for (size_t j = 0; repaired && j < repair.failure_count; j++)
			if (id_equal(&repair.failures[j].grant, grant))
				*failure = repair.failures[j];
	}
	*kernel_us = repair.kernel_us;
	repair_fini(&repair);
}

static void delta_commit(struct agent *agent, struct delta *delta, uint64_t sequence)
{
	struct error err = {0};
	size_t refused = 0;
	int64_t began = clock_mono_us();
	enum status status = nft_apply(agent->nft, delta->add, delta->add_count, delta->remove,
		delta->remove_count, delta->failures + delta->failure_count, &refused, &err);
	int64_t kernel_us = clock_mono_us() - began;
	if (status)
		delta_by_repair(agent, delta, &err, &kernel_us);
	else
		delta->failure_count += refused;
	forget_failures(agent, delta->failures, delta->failure_count);
	report_applied(agent, sequence, kernel_us, delta->failures, delta->failure_count);
	delta->failures = NULL;
}

static void apply_delta(struct agent *agent, const struct sync_item *item)
{
	struct delta delta = {.add = calloc(item->door_count + 1, sizeof *delta.add),
		.remove = calloc(item->removed_count + 1, sizeof *delta.remove),
		.failures =
			calloc(item->failure_count + item->door_count + 1, sizeof *delta.failures)};
	if (delta.add && delta.remove && delta.failures) {
		if (item->failure_count > 0)
			memcpy(delta.failures, item->failures,
				item->failure_count * sizeof *item->failures);
		delta.failure_count = item->failure_count;
		delta_remove(agent, &delta, item);
		delta_add(agent, &delta, item);
		delta_commit(agent, &delta, item->sequence);
	} else {
		/* Not acknowledged: the server's deadlines withdraw it, and a snapshot repairs. */
		log_err("datapath: out of memory: item %llu was not applied",
			(unsigned long long)item->sequence);
	}
	free(delta.add);
	free(delta.remove);
	free(delta.failures);
}

/* ---- snapshots ---- */

void sync_begin(struct agent *agent)
{
	agent->snapshot_count = 0;
	agent->snapshot_is_short = false;
	agent->unapplied = 0;
}

static bool snapshot_add(struct agent *agent, const struct door *door)
{
	if (agent->snapshot_count == agent->snapshot_capacity) {
		size_t capacity = agent->snapshot_capacity ? agent->snapshot_capacity * 2 : 256;
		struct door *grown = realloc(agent->snapshot, capacity * sizeof *grown);
		if (!grown)
			return false;
		agent->snapshot = grown;
		agent->snapshot_capacity = capacity;
	}
	agent->snapshot[agent->snapshot_count++] = *door;
	return true;
}

static void snapshot_remove(struct agent *agent, const struct id *grant)
{
	for (size_t i = agent->snapshot_count; i > 0; i--) {
		if (id_equal(&agent->snapshot[i - 1].grant, grant)) {
			agent->snapshot[i - 1] = agent->snapshot[--agent->snapshot_count];
			return;
		}
	}
}

/* Reports of flows that wait since before the books knew their grant: the server's count does not
 * include them yet. (The link sends none between its inventory and the snapshot's end.) */
static void count_waiting_reports(struct agent *agent)
{
	for (struct report *report = agent->reports.first; report; report = report->next) {
		bool is_use =
			report->kind == REPORT_FLOW_OPENED || report->kind == REPORT_USES_MISSED;
		if (!is_use || report->is_known)
			continue;
		doors_told(&agent->doors, &report->grant,
			report->kind == REPORT_USES_MISSED ? report->count : 1);
		report->is_known = true;
	}
}

static bool snapshot_apply(struct agent *agent, uint64_t sequence)
{
	int64_t now = clock_mono_us();
	bool whole = !agent->snapshot_is_short;
	agent->unapplied = sequence;
	if (whole)
		doors_snapshot_begin(&agent->doors);
	for (size_t i = 0; i < agent->snapshot_count; i++)
		whole &= doors_put(&agent->doors, &agent->snapshot[i], now) != NULL;
	if (!agent->snapshot_is_short)
		doors_snapshot_end(&agent->doors);
	if (!whole) {
		/* Doors are missing from the books: removing them from the kernel would cut people
		 * off. */
		log_err("datapath: out of memory: a snapshot of %zu doors was not applied",
			agent->snapshot_count);
		agent->unapplied = 0;
		return false;
	}
	count_waiting_reports(agent);
	sync_repair(agent);
	sync_audit_soon(agent);
	free(agent->snapshot);
	agent->snapshot = NULL;
	agent->snapshot_count = agent->snapshot_capacity = 0;
	return true;
}

bool sync_apply(struct agent *agent, const struct sync_item *item)
{
	if (!item->snapshot) {
		apply_delta(agent, item);
		return true;
	}
	for (size_t i = 0; i < item->removed_count; i++)
		snapshot_remove(agent, &item->removed[i]);
	for (size_t i = 0; i < item->door_count; i++)
		agent->snapshot_is_short |= !snapshot_add(agent, &item->doors[i]);
	if (item->failure_count > 0) {
		struct door_failure *failures = calloc(item->failure_count, sizeof *failures);
		if (failures) {
			memcpy(failures, item->failures, item->failure_count * sizeof *failures);
			/* Acknowledges nothing: the snapshot's end does. */
			report_applied(agent, 0, 0, failures, item->failure_count);
		}
	}
	return !item->snapshot_end || snapshot_apply(agent, item->sequence);
}

/* ---- audits ---- */

static bool on_missed(void *arg, const struct id *grant, uint64_t count)
{
	struct agent *agent = arg;
	char text[ID_TEXT_SIZE];
	struct report *report = reports_add(&agent->reports, REPORT_USES_MISSED, clock_mono_us());
	if (!report)
		return false;
	report->grant = *grant;
	report->count = count;
	report->is_known = true; /* the audit counts it */
	id_format(grant, text);
	log_warn("%s: its counter shows %llu flows that no event told of", text,
		(unsigned long long)count);
	link_wake(agent->link);
	return true;
}

static void audit(void *arg)
{
	struct agent *agent = arg;
	struct held_door *held = NULL;
	size_t count = 0;
	int64_t began = clock_mono_us();
	bool again = false;
	if (nft_dump(agent->nft, &held, &count, NULL) == STATUS_OK) {
		agent_drain_events(agent);
		again = doors_audit(&agent->doors, held, count, clock_mono_us(), on_missed, agent);
	}
	free(held);
	int64_t now = clock_mono_us(), pause = (now - began) * AUDIT_SHARE;
	int64_t usual = again ? AUDIT_SOON_US : AUDIT_US;
	loop_timer_set(
		agent->loop, &agent->audit, now + (pause > usual ? pause : usual), audit, agent);
}

void sync_audit_soon(struct agent *agent)
{
	int64_t due = clock_mono_us() + AUDIT_SOON_US;
	if (!agent->audit.armed || agent->audit.due_us > due)
		loop_timer_set(agent->loop, &agent->audit, due, audit, agent);
}

void sync_stop(struct agent *agent)
{
	loop_timer_clear(agent->loop, &agent->audit);
	loop_timer_clear(agent->loop, &agent->repair);
	free(agent->snapshot);
	agent->snapshot = NULL;
}
