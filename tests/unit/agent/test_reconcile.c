/* Desired against actual. I2: nothing stays that nobody wants. I4: nothing is armed again. I7: what
 * is right is not touched. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/reconcile.h"

#define SLACK_MS 1500

static struct id grant(unsigned n)
{
	struct id id = {{0}};
	id.bytes[15] = (uint8_t)n;
	return id;
}

/* Key k: client 10.0.0.k, remote 10.1.0.1:1000+k */
static struct door door(unsigned id, unsigned key, uint64_t most, uint64_t made)
{
	struct door door = {.grant = grant(id),
		.transport = IPPROTO_TCP,
		.timeout_ms = 1000,
		.max_connections = most,
		.connections = made};
	door.from = (struct addr){ADDR_IPV4, {10, 0, 0, (uint8_t)key}};
	door.to = (struct endpoint){{ADDR_IPV4, {10, 1, 0, 1}}, (uint16_t)(1000 + key)};
	return door;
}

static struct held_door held(unsigned id, unsigned key, uint64_t uses, uint64_t counter)
{
	struct held_door held = {.door = door(id, key, 0, 0), .counter = counter};
	held.door.uses = uses;
	return held;
}

static struct door timed(struct door door, uint64_t timeout_ms)
{
	door.timeout_ms = timeout_ms;
	return door;
}

static struct held_door held_for(unsigned id, uint64_t timeout_ms)
{
	struct held_door one = held(id, id, 3, 0);
	one.door.timeout_ms = timeout_ms;
	return one;
}

static struct held_door torn(struct held_door one, bool expired)
{
	one.expired = expired;
	one.incomplete = !expired;
	one.door.from = (struct addr){0}; /* only the grant can be relied on */
	return one;
}

static struct door snat(struct door door, uint8_t last, uint16_t port)
{
	door.nat = DOOR_SNAT;
	door.outside = (struct endpoint){{ADDR_IPV4, {10, 77, 2, last}}, port};
	return door;
}

static struct held_door as_held(struct door door)
{
	return (struct held_door){.door = door};
}

static const struct addr several[] = {
	{ADDR_IPV4, {10, 9, 0, 1}}, {ADDR_IPV4, {10, 9, 0, 2}}, {ADDR_IPV4, {10, 9, 0, 3}}};

static struct door from_several(unsigned id, size_t first, size_t count)
{
	struct door one = door(id, 1, 1, 0);
	one.from = (struct addr){0};
	one.froms = several + first;
	one.from_count = count;
	return one;
}

static struct door ranged(struct door door, uint16_t last)
{
	door.to_port_last = last;
	return door;
}

struct row {
	const char *what;
	struct door desired[4];
	struct held_door actual[4];
	unsigned add[4], remove[4], renew[4]; /* grants, sorted; 0 ends */
	uint64_t uses; /* of the first addition */
	size_t kept, mended;
};

static int by_grant(const void *a, const void *b)
{
	return memcmp(&((const struct door *)a)->grant, &((const struct door *)b)->grant, 16);
}

static void check_grants(const char *what, const char *list, struct door *doors, size_t count,
	const unsigned *wanted)
{
	size_t expected = 0;
	while (expected < 4 && wanted[expected])
		expected++;
	cr_assert_eq(count, expected, "%s: %zu to %s, not %zu", what, count, list, expected);
	qsort(doors, count, sizeof *doors, by_grant);
	for (size_t i = 0; i < count; i++)
		cr_assert_eq(doors[i].grant.bytes[15], wanted[i], "%s: %s", what, list);
}

static void check_row(struct row *row)
{
	struct reconciliation work;
	size_t desired = 0, actual = 0;
	while (desired < 4 && row->desired[desired].transport)
		desired++;
	while (actual < 4 && row->actual[actual].door.transport)
		actual++;
	cr_assert(reconcile(row->desired, desired, row->actual, actual, SLACK_MS, &work));
	check_grants(row->what, "add", work.add, work.add_count, row->add);
	check_grants(row->what, "remove", work.remove, work.remove_count, row->remove);
	check_grants(row->what, "renew", work.renew, work.renew_count, row->renew);
	cr_assert_eq(work.mend_count, row->mended, "%s: mended %zu", row->what, work.mend_count);
	cr_assert_eq(work.kept, row->kept, "%s: kept %zu", row->what, work.kept);
	if (row->uses)
		cr_assert_eq(work.add[0].uses, row->uses, "%s: uses", row->what);
	reconciliation_fini(&work);
}

Test(reconcile, table)
{
	struct row rows[] = {
		{.what = "nothing at all"},
		{.what = "missing: added", .desired = {door(1, 1, 3, 0)}, .add = {1}, .uses = 3},
		{.what = "missing, partly used: added with what is left (I4)",
			.desired = {door(1, 1, 3, 2)},
			.add = {1},
			.uses = 1},
		{.what = "missing and used up: not added (I4)", .desired = {door(1, 1, 3, 3)}},
		{.what = "missing and more used than granted", .desired = {door(1, 1, 3, 9)}},
		{.what = "missing and unlimited", .desired = {door(1, 1, 0, 9)}, .add = {1}},
		{.what = "nobody wants it: removed (I2)",
			.actual = {held(1, 1, 1, 0)},
			.remove = {1}},
		{.what = "in place: kept, whatever its counter says (I7)",
			.desired = {door(1, 1, 1, 0)},
			.actual = {held(1, 1, 1, 1)},
			.kept = 1},
		{.what = "in place with fewer uses than asked: kept, not armed again",
			.desired = {door(1, 1, 5, 0)},
			.actual = {held(1, 1, 2, 2)},
			.kept = 1},
		{.what = "another grant under the same key: replaced",
			.desired = {door(2, 1, 2, 1)},
			.actual = {held(1, 1, 5, 0)},
			.add = {2},
			.remove = {1},
			.uses = 1},
		{.what = "the same grant under another key: what is left of it moves",
			.desired = {door(1, 2, 5, 1)},
			.actual = {held(1, 1, 5, 3)},
			.add = {1},
			.remove = {1},
			.uses = 2},
		{.what = "the same grant, used up under another key",
			.desired = {door(1, 2, 3, 0)},
			.actual = {held(1, 1, 3, 3)},
			.remove = {1}},
		{.what = "unsorted and mixed",
			.desired = {door(4, 4, 1, 0), door(2, 2, 1, 0), door(3, 3, 1, 0)},
			.actual = {held(5, 5, 1, 0), held(3, 3, 1, 1), held(1, 1, 1, 0)},
			.add = {2, 4},
			.remove = {1, 5},
			.uses = 1,
			.kept = 1},
		{.what = "longer than held: a renewal was missed",
			.desired = {timed(door(1, 1, 3, 0), 60000)},
			.actual = {held_for(1, 10000)},
			.renew = {1}},
		{.what = "shorter than held",
			.desired = {timed(door(1, 1, 3, 0), 1000)},
			.actual = {held_for(1, 10000)},
			.renew = {1}},
		{.what = "off by a second: that is the way things travel",
			.desired = {timed(door(1, 1, 3, 0), 60000), timed(door(2, 2, 3, 0), 60000)},
			.actual = {held_for(1, 61000), held_for(2, 59000)},
			.kept = 2},
		{.what = "used up: its time does not matter",
			.desired = {timed(door(1, 1, 3, 3), 60000)},
			.actual = {held_for(1, 10000)},
			.kept = 1},
		{.what = "incomplete: made whole, not removed",
			.desired = {door(1, 1, 3, 1)},
			.actual = {torn(held(1, 1, 3, 1), false)},
			.add = {1},
			.mended = 1,
			.uses = 2},
		{.what = "incomplete and not wanted",
			.actual = {torn(held(1, 1, 3, 1), false)},
			.remove = {1}},
		{.what = "incomplete and used up",
			.desired = {door(1, 1, 3, 3)},
			.actual = {torn(held(1, 1, 3, 3), false)},
			.remove = {1}},
		{.what = "expired, and a renewal was missed",
			.desired = {timed(door(1, 1, 3, 0), 9000)},
			.actual = {torn(held(1, 1, 3, 0), true)},
			.add = {1},
			.mended = 1},
		{.what = "expired: what it left is removed",
			.actual = {torn(held(1, 1, 3, 0), true)},
			.remove = {1}},
		{.what = "expired in the books too",
			.desired = {timed(door(1, 1, 3, 0), 0)},
			.actual = {torn(held(1, 1, 3, 0), true)},
			.remove = {1}},
		{.what = "translated as wanted",
			.desired = {snat(door(1, 1, 1, 0), 101, 4000)},
			.actual = {as_held(snat(door(1, 1, 1, 0), 101, 4000))},
			.kept = 1},
		{.what = "another external port",
			.desired = {snat(door(1, 1, 1, 0), 101, 4001)},
			.actual = {as_held(snat(door(1, 1, 1, 0), 101, 4000))},
			.add = {1},
			.remove = {1}},
		{.what = "translated and not",
			.desired = {door(1, 1, 1, 0), snat(door(2, 2, 1, 0), 101, 0)},
			.actual = {as_held(snat(door(1, 1, 1, 0), 101, 0)),
				as_held(door(2, 2, 1, 0))},
			.add = {1, 2},
			.remove = {1, 2}},
		{.what = "the same several remotes",
			.desired = {from_several(1, 0, 2)},
			.actual = {as_held(from_several(1, 0, 2))},
			.kept = 1},
		{.what = "other remotes, and fewer",
			.desired = {from_several(1, 0, 2), from_several(2, 0, 2)},
			.actual = {as_held(from_several(1, 1, 2)), as_held(from_several(2, 0, 3))},
			.add = {1, 2},
			.remove = {1, 2}},
		{.what = "a range",
			.desired = {ranged(door(1, 1, 1, 0), 1010), ranged(door(2, 2, 1, 0), 1010)},
			.actual = {as_held(ranged(door(1, 1, 1, 0), 1010)),
				as_held(ranged(door(2, 2, 1, 0), 1011))},
			.add = {2},
			.remove = {2},
			.kept = 1},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		check_row(&rows[i]);
}

Test(reconcile, mended_ones_come_last)
{
	struct door desired[] = {door(1, 1, 1, 0), door(2, 2, 1, 0)};
	struct held_door actual[] = {torn(held(1, 1, 1, 0), false)};
	struct reconciliation work;
	cr_assert(reconcile(desired, 2, actual, 1, SLACK_MS, &work));
	cr_assert_eq(work.add_count, 2);
	cr_assert_eq(work.mend_count, 1);
	cr_assert_eq(work.add[1].grant.bytes[15], 1);
	reconciliation_fini(&work);
}

Test(reconcile, expired_ones_are_not_added)
{
	struct door desired = door(1, 1, 1, 0);
	struct reconciliation work;
	desired.timeout_ms = 0;
	cr_assert(reconcile(&desired, 1, NULL, 0, SLACK_MS, &work));
	cr_assert_eq(work.add_count, 0);
	reconciliation_fini(&work);
}

Test(reconcile, send_only_and_not_are_different_doors)
{
	struct door desired = door(1, 1, 1, 0);
	struct held_door actual = held(1, 1, 1, 0);
	struct reconciliation work;
	desired.transport = actual.door.transport = IPPROTO_UDP;
	desired.oneway = true;
	cr_assert(reconcile(&desired, 1, &actual, 1, SLACK_MS, &work));
	cr_assert_eq(work.add_count, 1);
	cr_assert_eq(work.remove_count, 1);
	reconciliation_fini(&work);
}

/* A kernel of the simplest kind: at most one door a key, and what it has admitted for each grant.
 */
#define KEYS 6
#define GRANTS 12

struct model {
	struct held_door doors[KEYS];
	bool is_open[KEYS];
	uint64_t admitted[GRANTS], most[GRANTS];
};

static void model_apply(struct model *model, const struct reconciliation *work)
{
	for (size_t i = 0; i < work->remove_count; i++)
		model->is_open[work->remove[i].to.port - 1000] = false;
	for (size_t i = 0; i < work->add_count; i++) {
		unsigned key = work->add[i].to.port - 1000;
		cr_assert(!model->is_open[key], "two doors under one key");
		model->doors[key] = (struct held_door){.door = work->add[i]};
		model->is_open[key] = true;
	}
}

static size_t model_dump(const struct model *model, struct held_door *held)
{
	size_t count = 0;
	for (unsigned key = 0; key < KEYS; key++)
		if (model->is_open[key])
			held[count++] = model->doors[key];
	return count;
}

static void model_connect(struct model *model, unsigned key)
{
	struct held_door *held = &model->doors[key];
	if (!model->is_open[key] || (held->door.uses && held->counter >= held->door.uses))
		return;
	held->counter++;
	model->admitted[held->door.grant.bytes[15]]++;
}

/* Runs the reconciler once; returns how much it changed. */
static size_t model_reconcile(struct model *model, struct door *desired, size_t wishes)
{
	struct held_door actual[KEYS];
	struct reconciliation work;
	for (size_t i = 0; i < wishes; i++)
		desired[i].connections = model->admitted[desired[i].grant.bytes[15]];
	size_t count = model_dump(model, actual);
	cr_assert(reconcile(desired, wishes, actual, count, SLACK_MS, &work));
	model_apply(model, &work);
	size_t changes = work.add_count + work.remove_count;
	reconciliation_fini(&work);
	return changes;
}

/* Random wishes, connections and lost tables: never more flows than granted (I4), and a second run
 * changes nothing (I7). */
Test(reconcile, model)
{
	for (unsigned seed = 1; seed <= 200; seed++) {
		struct model model = {0};
		srandom(seed);
		for (unsigned i = 0; i < GRANTS; i++)
			model.most[i] = 1 + (uint64_t)random() % 4;
		for (int step = 0; step < 60; step++) {
			struct door desired[KEYS];
			size_t wishes = 0;
			for (unsigned key = 0; key < KEYS; key++) {
				unsigned id = key * 2 + (unsigned)random() % 2;
				if (random() % 4)
					desired[wishes++] = door(id, key, model.most[id], 0);
			}
			if (random() % 10 == 0)
				memset(model.is_open, 0, sizeof model.is_open);
			(void)model_reconcile(&model, desired, wishes);
			for (int i = 0; i < 5; i++)
				model_connect(&model, (unsigned)random() % KEYS);
			for (unsigned i = 0; i < GRANTS; i++)
				cr_assert_leq(model.admitted[i], model.most[i], "seed %u", seed);
			cr_assert_eq(model_reconcile(&model, desired, wishes), 0, "seed %u", seed);
		}
	}
}
