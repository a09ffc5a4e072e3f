/* Which primary connections an agent is told of, in the items that also carry its doors: by hand,
 * and random sequences against a simple agent. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/fleet/sync.h"

static struct sync sync_state;
static struct watch watches[2000];
static struct sync_door doors[1000];
static struct sync_item item;

static void setup(void)
{
	sync_init(&sync_state, 1000);
	memset(watches, 0, sizeof watches);
	memset(doors, 0, sizeof doors);
}

TestSuite(watch, .init = setup);

static void tell_all(void)
{
	while (sync_has_item(&sync_state))
		sync_next(&sync_state, 0, &item);
}

Test(watch, nothing_is_told_without_a_stream)
{
	watches_add(&sync_state.watches, &watches[0]);
	cr_expect_not(sync_has_item(&sync_state));
	cr_expect(watches_remove(&sync_state.watches, &watches[0]));
	cr_expect_eq(watches[0].place, WATCH_OUT);
}

Test(watch, is_followed_when_its_item_is_acknowledged)
{
	sync_open(&sync_state);
	tell_all();
	watches_add(&sync_state.watches, &watches[0]);
	watches_add(&sync_state.watches, &watches[1]);
	cr_assert(sync_has_item(&sync_state));
	sync_next(&sync_state, 0, &item);
	cr_expect_not(item.snapshot);
	cr_expect_eq(item.sequence, 1002);
	cr_expect_eq(item.watches.added_count, 2);
	cr_expect_eq(item.watches.added[1], &watches[1]);
	cr_expect_not(sync_has_item(&sync_state));
	cr_expect_null(watches_pop_held(&sync_state.watches, 1001));
	cr_expect_eq(watches_pop_held(&sync_state.watches, 1002), &watches[0]);
	cr_expect_eq(watches_pop_held(&sync_state.watches, 1002), &watches[1]);
	cr_expect_null(watches_pop_held(&sync_state.watches, 1002));
	cr_expect_not(watches_remove(&sync_state.watches, &watches[0]));
	cr_expect_not(watches_remove(&sync_state.watches, &watches[0]), "it is leaving already");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.watches.removed_count, 1);
	cr_expect_eq(item.watches.removed[0], &watches[0]);
	cr_expect_null(watches_pop_gone(&sync_state.watches, 1002));
	cr_expect_eq(watches_pop_gone(&sync_state.watches, 1003), &watches[0]);
	cr_expect_eq(watches[0].place, WATCH_OUT);
}

/* The snapshot ends when both doors and primaries are told, whichever are more. */
Test(watch, a_snapshot_comes_in_pieces)
{
	for (size_t i = 0; i < WATCHES_MAX * 2 + 1; i++)
		watches_add(&sync_state.watches, &watches[i]);
	sync_add(&sync_state, &doors[0]);
	sync_open(&sync_state);
	for (int piece = 0; piece < 3; piece++) {
		cr_assert(sync_has_item(&sync_state));
		sync_next(&sync_state, 0, &item);
		cr_expect(item.snapshot);
		cr_expect_eq(item.snapshot_end, piece == 2);
		cr_expect_eq(item.watches.added_count, piece == 2 ? 1 : WATCHES_MAX);
		cr_expect_eq(item.door_count, piece == 0);
		watches_add(&sync_state.watches, &watches[1000 + piece]);
	}
	cr_expect_not(watches_remove(&sync_state.watches, &watches[0]));
	sync_next(&sync_state, 0, &item);
	cr_expect_not(item.snapshot);
	cr_expect_eq(item.watches.added_count, 3, "what came meanwhile");
	cr_expect_eq(item.watches.removed_count, 1);
	cr_expect_not(sync_has_item(&sync_state));
}

Test(watch, waits_for_a_snapshot_of_many_doors)
{
	for (size_t i = 0; i < SYNC_DOORS_MAX + 1; i++)
		sync_add(&sync_state, &doors[i]);
	watches_add(&sync_state.watches, &watches[0]);
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot && !item.snapshot_end);
	cr_expect_eq(item.watches.added_count, 1);
	cr_expect_not(watches_remove(&sync_state.watches, &watches[0]));
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot_end);
	cr_expect_eq(item.watches.removed_count, 0, "a snapshot has no removals");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.watches.removed_count, 1);
}

Test(watch, many_leave_in_pieces)
{
	sync_open(&sync_state);
	for (size_t i = 0; i < WATCHES_REMOVED_MAX + 1; i++)
		watches_add(&sync_state.watches, &watches[i]);
	tell_all();
	for (size_t i = 0; i < WATCHES_REMOVED_MAX + 1; i++)
		cr_expect_not(watches_remove(&sync_state.watches, &watches[i]));
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.watches.removed_count, WATCHES_REMOVED_MAX);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.watches.removed_count, 1);
	cr_expect_not(sync_has_item(&sync_state));
}

Test(watch, an_end_forgets_what_was_leaving)
{
	sync_open(&sync_state);
	for (int i = 0; i < 3; i++)
		watches_add(&sync_state.watches, &watches[i]);
	tell_all();
	watches_remove(&sync_state.watches, &watches[0]);
	sync_next(&sync_state, 0, &item);
	watches_remove(&sync_state.watches, &watches[1]);
	sync_close(&sync_state);
	cr_expect_eq(watches_pop_gone(&sync_state.watches, 0), &watches[0]);
	cr_expect_eq(watches_pop_gone(&sync_state.watches, 0), &watches[1]);
	cr_expect_null(watches_pop_gone(&sync_state.watches, 0));
	cr_expect(watches_remove(&sync_state.watches, &watches[2]), "nobody needs to be told");
}

/* ---- against a model ---- */

enum { COUNT = 60 };

struct model {
	bool wanted[COUNT], followed[COUNT], building[COUNT];
	bool open;
	uint64_t received;
};

static size_t number(const struct watch *watch)
{
	return (size_t)(watch - watches);
}

static void receive(struct model *model)
{
	sync_next(&sync_state, 0, &item);
	cr_assert_gt(item.sequence, model->received);
	model->received = item.sequence;
	cr_assert(!item.snapshot || item.watches.removed_count == 0);
	for (size_t i = 0; i < item.watches.removed_count; i++)
		model->followed[number(item.watches.removed[i])] = false;
	for (size_t i = 0; i < item.watches.added_count; i++)
		(item.snapshot ? model->building : model->followed)[number(item.watches.added[i])] =
			true;
	if (item.snapshot_end) {
		memcpy(model->followed, model->building, sizeof model->followed);
		memset(model->building, 0, sizeof model->building);
	}
}

static void acknowledge(struct model *model, uint64_t sequence)
{
	struct watch *watch;
	while ((watch = watches_pop_held(&sync_state.watches, sequence)))
		cr_assert(model->followed[number(watch)] || model->building[number(watch)]);
	while ((watch = watches_pop_gone(&sync_state.watches, sequence)))
		cr_assert_not(model->followed[number(watch)]);
	while (sync_pop_held(&sync_state, sequence) || sync_pop_gone(&sync_state, sequence))
		;
}

static void close_stream(struct model *model)
{
	sync_close(&sync_state);
	while (watches_pop_gone(&sync_state.watches, 0) || sync_pop_gone(&sync_state, 0))
		;
	model->open = false;
	memset(model->building, 0, sizeof model->building);
}

static void change(struct model *model, size_t i)
{
	if (watches[i].place == WATCH_OUT) {
		watches_add(&sync_state.watches, &watches[i]);
		model->wanted[i] = true;
	} else if (model->wanted[i]) {
		watches_remove(&sync_state.watches, &watches[i]);
		model->wanted[i] = false;
	}
}

static void step(struct model *model, unsigned *seed)
{
	switch (rand_r(seed) % 9) {
	case 0:
	case 1:
	case 2:
		change(model, (size_t)rand_r(seed) % COUNT);
		return;
	case 3:
	case 4:
		if (sync_has_item(&sync_state))
			receive(model);
		return;
	case 5:
		if (model->open)
			acknowledge(model, model->received - (uint64_t)(rand_r(seed) % 3));
		return;
	case 6:
		if (!model->open)
			sync_open(&sync_state);
		model->open = true;
		return;
	case 7:
		if (doors[0].place == SYNC_OUT)
			sync_add(&sync_state, &doors[0]);
		else
			sync_remove(&sync_state, &doors[0]);
		return;
	default:
		if (model->open && rand_r(seed) % 4 == 0)
			close_stream(model);
	}
}

Test(watch, any_sequence_ends_in_agreement)
{
	for (unsigned run = 1; run <= 300; run++) {
		struct model model = {0};
		unsigned seed = run;
		setup();
		for (int i = 0; i < 400; i++)
			step(&model, &seed);
		if (!model.open)
			sync_open(&sync_state);
		while (sync_has_item(&sync_state))
			receive(&model);
		acknowledge(&model, model.received);
		for (size_t i = 0; i < COUNT; i++) {
			cr_assert_eq(model.followed[i], model.wanted[i], "run %u, %zu", run, i);
			cr_assert_eq(watches[i].place, model.wanted[i] ? WATCH_HELD : WATCH_OUT);
		}
	}
}
