#include "agent/reconcile.h"

#include <stdlib.h>
#include <string.h>

static int compare_desired(const void *a, const void *b)
{
	return memcmp(&((const struct door *)a)->grant, &((const struct door *)b)->grant,
		sizeof(struct id));
}

static int compare_actual(const void *a, const void *b)
{
	return memcmp(&((const struct held_door *)a)->door.grant,
		&((const struct held_door *)b)->door.grant, sizeof(struct id));
}

static bool same_froms(const struct door *a, const struct door *b)
{
	if (a->from_count != b->from_count || !addr_equal(&a->from, &b->from))
		return false;
	for (size_t i = 0; i < a->from_count; i++)
		if (!addr_equal(&a->froms[i], &b->froms[i]))
			return false;
	return true;
}

bool door_same(const struct door *a, const struct door *b)
{
	return a->transport == b->transport && a->oneway == b->oneway && same_froms(a, b) &&
		endpoint_equal(&a->to, &b->to) && a->to_port_last == b->to_port_last &&
		a->nat == b->nat &&
		(a->nat == DOOR_AS_IS || endpoint_equal(&a->outside, &b->outside));
}

bool door_uses_left(const struct door *door, uint64_t *ret_uses)
{
	if (door->max_connections == 0) {
		*ret_uses = 0;
		return true;
	}
	if (door->connections >= door->max_connections)
		return false;
	*ret_uses = door->max_connections - door->connections;
	return true;
}

static void want(const struct door *door, struct door *list, size_t *count)
{
	uint64_t uses;
	if (!door_uses_left(door, &uses) || door->timeout_ms == 0)
		return;
	list[*count] = *door;
	list[(*count)++].uses = uses;
}

static bool is_off(uint64_t wanted_ms, uint64_t held_ms, uint64_t slack_ms)
{
	return wanted_ms > held_ms ? wanted_ms - held_ms > slack_ms
				   : held_ms - wanted_ms > slack_ms;
}

/* What is being found out; `mend` is appended to the additions in the end. */
struct work {
	struct reconciliation result;
	struct door *mend;
	uint64_t slack_ms;
};

/* Both speak of the same grant. */
static void compare(struct work *work, const struct door *desired, const struct held_door *held)
{
	struct reconciliation *result = &work->result;
	struct door door = *desired;
	uint64_t uses;
	if (held->incomplete || held->expired) {
		size_t before = result->mend_count;
		want(desired, work->mend, &result->mend_count);
		if (result->mend_count == before) /* used up, or its time is over */
			result->remove[result->remove_count++] = held->door;
	} else if (!door_same(desired, &held->door)) {
		/* The same id for another door: not ours to explain, but never more than what is
		 * left. */
		if (held->counter > door.connections)
			door.connections = held->counter;
		result->remove[result->remove_count++] = held->door;
		want(&door, result->add, &result->add_count);
	} else if (is_off(desired->timeout_ms, held->door.timeout_ms, work->slack_ms) &&
		door_uses_left(desired, &uses)) {
		door.uses = uses;
		result->renew[result->renew_count++] = door;
	} else {
		result->kept++;
	}
}

static void merge(struct work *work, const struct door *desired, size_t desired_count,
	const struct held_door *actual, size_t actual_count)
{
	size_t i = 0, j = 0;
	while (i < desired_count || j < actual_count) {
		int order = i == desired_count ? 1
			: j == actual_count
			? -1
			: memcmp(&desired[i].grant, &actual[j].door.grant, sizeof(struct id));
		if (order < 0) {
			want(&desired[i++], work->result.add, &work->result.add_count);
		} else if (order > 0) {
			work->result.remove[work->result.remove_count++] = actual[j++].door;
		} else {
			compare(work, &desired[i++], &actual[j++]);
		}
	}
}

bool reconcile(struct door *desired, size_t desired_count, struct held_door *actual,
	size_t actual_count, uint64_t slack_ms, struct reconciliation *ret_reconciliation)
{
	struct work work = {.slack_ms = slack_ms};
	struct reconciliation *result = &work.result;
	result->add = calloc(desired_count + 1, sizeof *result->add);
	result->renew = calloc(desired_count + 1, sizeof *result->renew);
	result->remove = calloc(actual_count + 1, sizeof *result->remove);
	work.mend = calloc(desired_count + 1, sizeof *work.mend);
	bool done = result->add && result->renew && result->remove && work.mend;
	if (done) {
		if (desired_count > 0)
			qsort(desired, desired_count, sizeof *desired, compare_desired);
		if (actual_count > 0)
			qsort(actual, actual_count, sizeof *actual, compare_actual);
		merge(&work, desired, desired_count, actual, actual_count);
		memcpy(result->add + result->add_count, work.mend,
			result->mend_count * sizeof *work.mend);
		result->add_count += result->mend_count;
		*ret_reconciliation = *result;
	} else {
		reconciliation_fini(result);
	}
	free(work.mend);
	return done;
}

void reconciliation_fini(struct reconciliation *reconciliation)
{
	free(reconciliation->add);
	free(reconciliation->renew);
	free(reconciliation->remove);
}
