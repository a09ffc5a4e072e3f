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

bool door_same_key(const struct door *a, const struct door *b)
{
	return addr_equal(&a->from, &b->from) && endpoint_equal(&a->to, &b->to) &&
		a->transport == b->transport && a->oneway == b->oneway;
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

static void want(struct reconciliation *result, const struct door *door)
{
	uint64_t uses;
	if (!door_uses_left(door, &uses) || door->timeout_ms == 0)
		return;
	result->add[result->add_count] = *door;
	result->add[result->add_count++].uses = uses;
}

bool reconcile(struct door *desired, size_t desired_count, struct held_door *actual,
	size_t actual_count, struct reconciliation *ret_reconciliation)
{
	struct reconciliation result = {0};
	size_t i = 0, j = 0;
	result.add = calloc(desired_count + 1, sizeof *result.add);
	result.remove = calloc(actual_count + 1, sizeof *result.remove);
	if (!result.add || !result.remove) {
		free(result.add);
		free(result.remove);
		return false;
	}
	if (desired_count > 0)
		qsort(desired, desired_count, sizeof *desired, compare_desired);
	if (actual_count > 0)
		qsort(actual, actual_count, sizeof *actual, compare_actual);
	while (i < desired_count || j < actual_count) {
		int order = i == desired_count ? 1
			: j == actual_count
			? -1
			: memcmp(&desired[i].grant, &actual[j].door.grant, sizeof(struct id));
		if (order < 0) {
			want(&result, &desired[i++]);
		} else if (order > 0) {
			result.remove[result.remove_count++] = actual[j++].door;
		} else if (door_same_key(&desired[i], &actual[j].door)) {
			result.kept++;
			i++, j++;
		} else {
			/* The same id under another key: not ours to explain, but never more than
			 * what is left. */
			struct door door = desired[i++];
			if (actual[j].counter > door.connections)
				door.connections = actual[j].counter;
			result.remove[result.remove_count++] = actual[j++].door;
			want(&result, &door);
		}
	}
	*ret_reconciliation = result;
	return true;
}
