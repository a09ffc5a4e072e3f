/* Design.
 *
 * The books (doors.c) hold what the server wants. A delta goes into the books and the kernel in one
 * transaction (commit.c): a door that the books have already is renewed, never armed again.
 * Everything else (a snapshot, a table that was lost, a transaction whose outcome is not known) is
 * a repair (repair.c).
 *
 * A snapshot becomes the books only when it is complete: a link that breaks in its midst changes
 * nothing. No door is added with more uses than are left: of those granted, less those that the
 * server or our own reports know of (I4).
 *
 * Of one item first the doors, then the flows that are to be cut (they could come back through
 * doors), then the primaries; then it is acknowledged.
 *
 * Audits read the counters: a moment after every snapshot, removal and overrun, and every now and
 * then. They also take away what expired doors have left behind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/repair.h"
#include "common/clock.h"
#include "common/log.h"

#define AUDIT_SOON_US 1000000
#define AUDIT_US 10000000
#define AUDIT_SHARE 100 /* an audit may take this part of the time */

/* ---- telling the server ---- */

void sync_report_applied(struct agent *agent, uint64_t sequence, uint64_t revision,
	int64_t kernel_us, struct door_failure *failures, size_t count)
{
	struct report *report = reports_add(&agent->reports, REPORT_APPLIED, clock_mono_us());
	if (!report) {
		free(failures);
		return; /* the server's deadline withdraws what it asked for */
	}
	report->sync_sequence = sequence;
	report->revision = revision;
	report->kernel_us = kernel_us > 0 ? (uint64_t)kernel_us : 0;
	report->failures = failures;
	report->failure_count = count;
	link_wake(agent->link);
}

void sync_forget_failures(struct agent *agent, const struct door_failure *failures, size_t count)
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

/* Copies of doors outlive the books' own. */
static bool own_froms(struct door *door)
{
	size_t size = door->from_count * sizeof *door->froms;
	if (size == 0)
		return true;
	struct addr *froms = malloc(size);
	if (!froms)
		return false;
	memcpy(froms, door->froms, size);
	door->froms = froms;
	return true;
}

static void free_froms(const struct door *doors, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (doors[i].from_count > 0)
			free((struct addr *)(uintptr_t)doors[i].froms);
}

/* ---- deltas ---- */

struct delta {
	struct commit commit;
	bool is_short; /* memory ran out */
};

static void delta_fini(struct delta *delta)
{
	free_froms(delta->commit.remove, delta->commit.remove_count);
	free(delta->commit.remove);
	free(delta->commit.add);
	free(delta->commit.renew);
	free(delta->commit.failures);
}

static bool delta_init(struct delta *delta, const struct sync_item *item)
{
	size_t doors = item->door_count, failures = item->failure_count;
	struct commit *commit = &delta->commit;
	*delta = (struct delta){0};
	commit->remove = calloc(item->removed_count + doors + 1, sizeof *commit->remove);
	commit->add = calloc(doors + 1, sizeof *commit->add);
	commit->renew = calloc(doors + 1, sizeof *commit->renew);
	commit->failures = calloc(failures + doors + 1, sizeof *commit->failures);
	if (!commit->remove || !commit->add || !commit->renew || !commit->failures)
		return false;
	if (failures > 0)
		memcpy(commit->failures, item->failures, failures * sizeof *item->failures);
	commit->failure_count = failures;
	return true;
}

/* What its element has let in, if that can be read and is more than is known. */
static uint64_t count_uses(struct agent *agent, const struct wish *wish, const struct door *door)
{
	struct held_door held;
	if (!nft_get(agent->nft, door, &held) || !id_equal(&held.door.grant, &wish->grant))
		return wish->known;
	uint64_t total = doors_total(wish, &held);
	return total > wish->known ? total : wish->known;
}

/* The last counter of a door that goes, if it may have more to tell than is known. */
static void retire(struct agent *agent, struct wish *wish, const struct door *door)
{
	bool used_up = wish->max_connections > 0 && wish->known >= wish->max_connections;
	uint64_t total = used_up ? wish->known : count_uses(agent, wish, door);
	if (!used_up)
		agent->open_removed_us = clock_mono_us();
	if (total == wish->known) {
		doors_remove(&agent->doors, wish);
		return;
	}
	wish->in_total = total;
	wish->deficit = 0;
	wish->retired = true;
	sync_audit_soon(agent);
}

static bool delta_remove_door(struct delta *delta, const struct wish *wish, struct door *ret_door)
{
	doors_key(wish, ret_door);
	struct door owned = *ret_door;
	if (!own_froms(&owned)) {
		delta->is_short = true;
		return false;
	}
	delta->commit.remove[delta->commit.remove_count++] = owned;
	return true;
}

static void delta_remove(struct agent *agent, struct delta *delta, const struct sync_item *item)
{
	for (size_t i = 0; i < item->removed_count; i++) {
		struct wish *wish = doors_find(&agent->doors, &item->removed[i]);
		struct door door;
		if (wish && !wish->retired && delta_remove_door(delta, wish, &door))
			retire(agent, wish, &door);
	}
}

static void delta_out_of_memory(struct delta *delta, const struct id *grant)
{
	struct door_failure *failure = &delta->commit.failures[delta->commit.failure_count++];
	failure->grant = *grant;
	snprintf(failure->cause, sizeof failure->cause, "the agent is out of memory");
}

/* The server's words on one door. The books know its grant, and it is the same door: a renewal. */
static void delta_add_door(
	struct agent *agent, struct delta *delta, const struct door *wanted, int64_t now)
{
	struct commit *commit = &delta->commit;
	struct wish *wish = doors_find(&agent->doors, &wanted->grant);
	bool is_held = wish && !wish->retired;
	struct door old, door = *wanted;
	uint64_t made = wish && wish->retired ? wish->in_total : 0;
	if (is_held)
		doors_key(wish, &old);
	bool is_same = is_held && door_same(&old, wanted);
	if (is_held && !is_same) {
		made = count_uses(agent, wish, &old);
		agent->open_removed_us = now;
		if (!delta_remove_door(delta, wish, &old))
			return;
	}
	wish = doors_put(&agent->doors, wanted, now);
	if (!wish) {
		delta_out_of_memory(delta, &wanted->grant);
		return;
	}
	door.connections = made > wish->known ? made : wish->known;
	if (!is_same)
		wish->base = door.connections;
	if (door.timeout_ms == 0 || !door_uses_left(&door, &door.uses))
		return;
	if (is_same)
		commit->renew[commit->renew_count++] = door;
	else
		commit->add[commit->add_count++] = door;
}

static bool has_failed(const struct door_failure *failures, size_t count, const struct id *grant)
{
	for (size_t i = 0; i < count; i++)
		if (id_equal(&failures[i].grant, grant))
			return true;
	return false;
}

/* The outcome is not known, or the table is gone: look, and put right. False: not even that. */
static bool delta_by_repair(struct agent *agent, struct delta *delta, const struct error *cause)
{
	struct commit *commit = &delta->commit;
	struct repair repair;
	size_t told = commit->failure_count;
	log_warn("datapath: a transaction failed, looking at the kernel's doors: %s", cause->text);
	sync_forget_failures(agent, commit->failures, told);
	bool repaired = repair_now(agent, &repair) == STATUS_OK;
	for (size_t i = 0; i < commit->add_count; i++) {
		const struct id *grant = &commit->add[i].grant;
		if ((repaired && doors_find(&agent->doors, grant)) ||
			has_failed(commit->failures, told, grant))
			continue;
		struct door_failure *failure = &commit->failures[commit->failure_count++];
		failure->grant = *grant;
		snprintf(failure->cause, sizeof failure->cause, "%.127s", cause->text);
		for (size_t j = 0; repaired && j < repair.commit.failure_count; j++)
			if (id_equal(&repair.commit.failures[j].grant, grant))
				*failure = repair.commit.failures[j];
	}
	sync_forget_failures(agent, commit->failures + told, commit->failure_count - told);
	commit->kernel_us = repair.commit.kernel_us;
	repair_fini(&repair);
	return repaired;
}

/* A door that could not be renewed is not wanted any more: what the kernel has of it goes too. */
static void drop_unrenewed(struct agent *agent, const struct commit *commit)
{
	for (size_t i = 0; i < commit->renew_count; i++)
		if (has_failed(commit->failures, commit->failure_count, &commit->renew[i].grant))
			repair_soon(agent, 0);
}

/* True: the kernel's doors are as the books say. */
static bool delta_commit(struct agent *agent, struct delta *delta)
{
	struct commit *commit = &delta->commit;
	struct error err = {0};
	if (commit->remove_count + commit->add_count + commit->renew_count > 0 &&
		commit_apply(agent, commit, &err))
		return delta_by_repair(agent, delta, &err);
	drop_unrenewed(agent, commit);
	sync_forget_failures(agent, commit->failures, commit->failure_count);
	return true;
}

static bool apply_delta(struct agent *agent, const struct sync_item *item)
{
	struct delta delta;
	struct error err = {.text = "out of memory"};
	int64_t now = clock_mono_us();
	bool done = delta_init(&delta, item) && cut_add(agent, item->cut, item->cut_count);
	if (done) {
		delta_remove(agent, &delta, item);
		for (size_t i = 0; i < item->door_count; i++)
			delta_add_door(agent, &delta, &item->doors[i], now);
		bool in_order = delta_commit(agent, &delta);
		bool must_be = item->cut_count > 0 || item->revision != 0;
		if (!in_order && must_be)
			snprintf(err.text, sizeof err.text, "its doors are not gone yet");
		done = !delta.is_short && (in_order || !must_be) &&
			(!in_order || !cut_flows(agent, &err)) &&
			sessions_follow(agent, item->primaries, item->primary_count);
	}
	if (done) {
		struct commit *commit = &delta.commit;
		sync_report_applied(agent, item->sequence, item->revision, commit->kernel_us,
			commit->failures, commit->failure_count);
		commit->failures = NULL;
	} else {
		log_err("link: item %llu was not applied: %s", (unsigned long long)item->sequence,
			err.text);
	}
	delta_fini(&delta);
	return done;
}

/* ---- snapshots ---- */

static void snapshot_clear(struct agent *agent)
{
	free_froms(agent->snapshot, agent->snapshot_count);
	free(agent->snapshot);
	agent->snapshot = NULL;
	agent->snapshot_count = agent->snapshot_capacity = 0;
}

void sync_begin(struct agent *agent)
{
	snapshot_clear(agent);
	cut_clear(agent); /* the snapshot orders again what was not done */
	primaries_snapshot_begin(&agent->primaries);
	agent->snapshot_began_us = clock_mono_us();
	agent->snapshot_is_short = false;
	agent->unapplied = agent->unapplied_revision = 0;
}

static bool snapshot_add(struct agent *agent, const struct door *door)
{
	struct door owned = *door;
	if (agent->snapshot_count == agent->snapshot_capacity) {
		size_t capacity = agent->snapshot_capacity ? agent->snapshot_capacity * 2 : 256;
		struct door *grown = realloc(agent->snapshot, capacity * sizeof *grown);
		if (!grown)
			return false;
		agent->snapshot = grown;
		agent->snapshot_capacity = capacity;
	}
	if (!own_froms(&owned))
		return false;
	/* A snapshot may travel for seconds: what is left of a door's time is left from now on. */
	uint64_t age_ms = (uint64_t)(clock_mono_us() - agent->snapshot_began_us) / 1000;
	owned.timeout_ms += owned.timeout_ms < UINT64_MAX - age_ms ? age_ms : 0;
	agent->snapshot[agent->snapshot_count++] = owned;
	return true;
}

static void snapshot_remove(struct agent *agent, const struct id *grant)
{
	for (size_t i = agent->snapshot_count; i > 0; i--) {
		if (id_equal(&agent->snapshot[i - 1].grant, grant)) {
			free_froms(&agent->snapshot[i - 1], 1);
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

static bool snapshot_apply(struct agent *agent, const struct sync_item *item)
{
	bool whole = !agent->snapshot_is_short;
	agent->unapplied = item->sequence;
	agent->unapplied_revision = item->revision;
	if (whole)
		doors_snapshot_begin(&agent->doors);
	for (size_t i = 0; i < agent->snapshot_count; i++)
		whole &= doors_put(&agent->doors, &agent->snapshot[i], agent->snapshot_began_us) !=
			NULL;
	if (!agent->snapshot_is_short)
		doors_snapshot_end(&agent->doors);
	if (!whole) {
		/* Doors are missing from the books: removing them from the kernel would cut people
		 * off. */
		log_err("datapath: out of memory: a snapshot of %zu doors was not applied",
			agent->snapshot_count);
		agent->unapplied = agent->unapplied_revision = 0;
		return false;
	}
	count_waiting_reports(agent);
	primaries_snapshot_end(&agent->primaries);
	snapshot_clear(agent);
	sync_repair(agent);
	sync_audit_soon(agent);
	return true;
}

static bool snapshot_piece(struct agent *agent, const struct sync_item *item)
{
	for (size_t i = 0; i < item->removed_count; i++)
		snapshot_remove(agent, &item->removed[i]);
	for (size_t i = 0; i < item->door_count; i++)
		agent->snapshot_is_short |= !snapshot_add(agent, &item->doors[i]);
	agent->snapshot_is_short |= !cut_add(agent, item->cut, item->cut_count) ||
		!sessions_follow(agent, item->primaries, item->primary_count);
	if (item->failure_count > 0) {
		struct door_failure *failures = calloc(item->failure_count, sizeof *failures);
		if (failures) {
			memcpy(failures, item->failures, item->failure_count * sizeof *failures);
			/* Acknowledges nothing: the snapshot's end does. */
			sync_report_applied(agent, 0, 0, 0, failures, item->failure_count);
		}
	}
	return !item->snapshot_end || snapshot_apply(agent, item);
}

bool sync_apply(struct agent *agent, const struct sync_item *item)
{
	for (size_t i = 0; i < item->primaries_removed_count; i++)
		primaries_remove(&agent->primaries, &item->primaries_removed[i]);
	return item->snapshot ? snapshot_piece(agent, item) : apply_delta(agent, item);
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

/* Of doors that expired, and of those that others took apart. True: look again soon, for what
 * expired elements hold is free only when the kernel has collected them. */
static bool clear_remains(struct agent *agent, const struct held_door *held, size_t count)
{
	struct door *remains = calloc(count + 1, sizeof *remains), door;
	struct nft_change change = {.remove = remains};
	struct error err;
	size_t refused;
	bool some_are_wanted = false;
	for (size_t i = 0; remains && i < count; i++) {
		if (!held[i].expired && !held[i].incomplete)
			continue;
		const struct wish *wish = doors_find(&agent->doors, &held[i].door.grant);
		if (wish && doors_wanted(wish, clock_mono_us(), &door))
			some_are_wanted = true;
		else
			remains[change.remove_count++] = held[i].door;
	}
	if (change.remove_count > 0 && nft_apply(agent->nft, &change, NULL, &refused, &err))
		log_warn("datapath: remains of %zu doors could not be removed, trying again: %s",
			change.remove_count, err.text);
	free(remains);
	if (some_are_wanted)
		sync_repair(agent);
	return change.remove_count > 0;
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
		again |= clear_remains(agent, held, count);
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
	snapshot_clear(agent);
	cut_clear(agent);
}
