/* Which primary connections an agent is told of, in the items that also carry its doors. Random
 * sequences of both are test_sync.c's. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/fleet/sync.h"

static struct sync sync_state;
static struct wanted primaries[2000], doors[1000];
static struct sync_item item;

static void setup(void)
{
	sync_init(&sync_state, 1000);
	memset(primaries, 0, sizeof primaries);
	memset(doors, 0, sizeof doors);
}

TestSuite(sync_primaries, .init = setup);

static void tell_all(void)
{
	while (sync_has_item(&sync_state))
		sync_next(&sync_state, 0, &item);
}

Test(sync_primaries, nothing_is_told_without_a_stream)
{
	wanted_add(&sync_state.primaries, &primaries[0]);
	cr_expect_not(sync_has_item(&sync_state));
	cr_expect(wanted_remove(&sync_state.primaries, &primaries[0]));
	cr_expect_eq(primaries[0].place, WANTED_OUT);
}

Test(sync_primaries, is_followed_when_its_item_is_acknowledged)
{
	sync_open(&sync_state);
	tell_all();
	wanted_add(&sync_state.primaries, &primaries[0]);
	wanted_add(&sync_state.primaries, &primaries[1]);
	cr_assert(sync_has_item(&sync_state));
	sync_next(&sync_state, 0, &item);
	cr_expect_not(item.snapshot);
	cr_expect_eq(item.sequence, 1002);
	cr_expect_eq(item.primary_count, 2);
	cr_expect_eq(item.primaries[1], &primaries[1]);
	cr_expect_not(sync_has_item(&sync_state));
	cr_expect_null(wanted_pop_held(&sync_state.primaries, 1001));
	cr_expect_eq(wanted_pop_held(&sync_state.primaries, 1002), &primaries[0]);
	cr_expect_eq(wanted_pop_held(&sync_state.primaries, 1002), &primaries[1]);
	cr_expect_null(wanted_pop_held(&sync_state.primaries, 1002));
	cr_expect_not(wanted_remove(&sync_state.primaries, &primaries[0]));
	cr_expect_not(wanted_remove(&sync_state.primaries, &primaries[0]), "it is leaving already");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.primaries_removed_count, 1);
	cr_expect_eq(item.primaries_removed[0], &primaries[0]);
	cr_expect_null(wanted_pop_gone(&sync_state.primaries, 1002));
	cr_expect_eq(wanted_pop_gone(&sync_state.primaries, 1003), &primaries[0]);
	cr_expect_eq(primaries[0].place, WANTED_OUT);
}

/* The snapshot ends when both doors and primaries are told, whichever are more. */
Test(sync_primaries, a_snapshot_comes_in_pieces)
{
	for (size_t i = 0; i < SYNC_PRIMARIES_MAX * 2 + 1; i++)
		wanted_add(&sync_state.primaries, &primaries[i]);
	wanted_add(&sync_state.doors, &doors[0]);
	sync_open(&sync_state);
	for (int piece = 0; piece < 3; piece++) {
		cr_assert(sync_has_item(&sync_state));
		sync_next(&sync_state, 0, &item);
		cr_expect(item.snapshot);
		cr_expect_eq(item.snapshot_end, piece == 2);
		cr_expect_eq(item.primary_count, piece == 2 ? 1 : SYNC_PRIMARIES_MAX);
		cr_expect_eq(item.door_count, piece == 0);
		wanted_add(&sync_state.primaries, &primaries[1000 + piece]);
	}
	cr_expect_not(wanted_remove(&sync_state.primaries, &primaries[0]));
	sync_next(&sync_state, 0, &item);
	cr_expect_not(item.snapshot);
	cr_expect_eq(item.primary_count, 3, "what came meanwhile");
	cr_expect_eq(item.primaries_removed_count, 1);
	cr_expect_not(sync_has_item(&sync_state));
}

Test(sync_primaries, waits_for_a_snapshot_of_many_doors)
{
	for (size_t i = 0; i < SYNC_DOORS_MAX + 1; i++)
		wanted_add(&sync_state.doors, &doors[i]);
	wanted_add(&sync_state.primaries, &primaries[0]);
	sync_open(&sync_state);
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot && !item.snapshot_end);
	cr_expect_eq(item.primary_count, 1);
	cr_expect_not(wanted_remove(&sync_state.primaries, &primaries[0]));
	sync_next(&sync_state, 0, &item);
	cr_expect(item.snapshot_end);
	cr_expect_eq(item.primaries_removed_count, 0, "a snapshot has no removals");
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.primaries_removed_count, 1);
}

Test(sync_primaries, many_leave_in_pieces)
{
	sync_open(&sync_state);
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		wanted_add(&sync_state.primaries, &primaries[i]);
	tell_all();
	for (size_t i = 0; i < SYNC_REMOVED_MAX + 1; i++)
		cr_expect_not(wanted_remove(&sync_state.primaries, &primaries[i]));
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.primaries_removed_count, SYNC_REMOVED_MAX);
	sync_next(&sync_state, 0, &item);
	cr_expect_eq(item.primaries_removed_count, 1);
	cr_expect_not(sync_has_item(&sync_state));
}

Test(sync_primaries, an_end_forgets_what_was_leaving)
{
	sync_open(&sync_state);
	for (int i = 0; i < 3; i++)
		wanted_add(&sync_state.primaries, &primaries[i]);
	tell_all();
	wanted_remove(&sync_state.primaries, &primaries[0]);
	sync_next(&sync_state, 0, &item);
	wanted_remove(&sync_state.primaries, &primaries[1]);
	sync_close(&sync_state);
	cr_expect_eq(wanted_pop_gone(&sync_state.primaries, 0), &primaries[0]);
	cr_expect_eq(wanted_pop_gone(&sync_state.primaries, 0), &primaries[1]);
	cr_expect_null(wanted_pop_gone(&sync_state.primaries, 0));
	cr_expect(wanted_remove(&sync_state.primaries, &primaries[2]), "nobody needs to be told");
}
