/* Desired against actual (I2: what nobody wants goes; I4: what is used is never armed again; I7:
 * what fits is left alone). */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "agent/reconcile.h"

static struct door door(uint8_t id, uint16_t port, uint64_t most, uint64_t made)
{
	struct door result = {.grant = {{id}},
		.transport = IPPROTO_TCP,
		.timeout_ms = 1000,
		.max_connections = most,
		.connections = made};
	cr_assert(addr_parse("10.77.1.2", &result.client));
	cr_assert(addr_parse("10.77.2.2", &result.remote.addr));
	result.remote.port = port;
	return result;
}

static struct held_door held(uint8_t id, uint16_t port, uint64_t counter)
{
	struct held_door result = {.door = door(id, port, 0, 0), .counter = counter};
	return result;
}

Test(reconcile, only_the_difference)
{
	struct door desired[] = {door(3, 30, 1, 0), door(1, 10, 1, 0)};
	struct held_door actual[] = {held(2, 20, 0), held(1, 10, 1)};
	struct reconciliation work;
	cr_assert(reconcile(desired, 2, actual, 2, &work));
	cr_expect_eq(work.kept, 1);
	cr_assert_eq(work.add_count, 1);
	cr_expect_eq(work.add[0].grant.bytes[0], 3);
	cr_expect_eq(work.add[0].uses, 1);
	cr_assert_eq(work.remove_count, 1);
	cr_expect_eq(work.remove[0].grant.bytes[0], 2);
	free(work.add);
	free(work.remove);
}

Test(reconcile, a_used_door_is_not_armed_again)
{
	struct door desired[] = {door(1, 10, 3, 2), door(2, 20, 1, 1), door(3, 31, 3, 0)};
	struct held_door actual[] = {held(3, 30, 2)};
	struct reconciliation work;
	cr_assert(reconcile(desired, 3, actual, 1, &work));
	cr_assert_eq(work.add_count, 2);
	cr_expect_eq(work.add[0].uses, 1, "three less two");
	cr_expect_eq(work.add[1].uses, 1, "its counter says two were made");
	cr_expect_eq(work.remove_count, 1);
	free(work.add);
	free(work.remove);
}

Test(reconcile, nothing_wanted_and_nothing_held)
{
	struct reconciliation work;
	cr_assert(reconcile(NULL, 0, NULL, 0, &work));
	cr_expect_eq(work.add_count + work.remove_count + work.kept, 0);
	free(work.add);
	free(work.remove);
}
