/* The queue of reports: in order, acknowledged, sent again, bounded (I5). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/reports.h"

static struct reports reports;

static void setup(void)
{
	reports_init(&reports, 5);
}

static void teardown(void)
{
	reports_fini(&reports);
}

TestSuite(reports, .init = setup, .fini = teardown);

static void expect(uint64_t last, size_t most, const char *sequences)
{
	const struct report *taken[16];
	char text[64] = "";
	size_t used = 0, count = reports_take(&reports, last, taken, most);
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%llu", i ? " " : "",
			(unsigned long long)taken[i]->sequence);
	cr_assert_str_eq(text, sequences);
}

static void add(int count, enum report_kind kind)
{
	for (int i = 0; i < count; i++)
		reports_add(&reports, kind, 0);
}

Test(reports, go_in_order_and_once)
{
	add(4, REPORT_FLOW_OPENED);
	expect(UINT64_MAX, 3, "1 2 3");
	add(1, REPORT_FLOW_OPENED);
	expect(UINT64_MAX, 9, "4 5");
	expect(UINT64_MAX, 9, "");
}

Test(reports, none_past_the_last)
{
	add(4, REPORT_FLOW_OPENED);
	expect(2, 9, "1 2");
	expect(2, 9, "");
	expect(UINT64_MAX, 9, "3 4");
}

Test(reports, stay_until_they_are_on_disk)
{
	add(4, REPORT_FLOW_OPENED);
	expect(UINT64_MAX, 9, "1 2 3 4");
	reports_acknowledge(&reports, 2);
	cr_assert_eq(reports.count, 2);
	reports_again(&reports);
	expect(UINT64_MAX, 9, "3 4");
	reports_acknowledge(&reports, 1); /* late */
	reports_acknowledge(&reports, 99);
	cr_assert_eq(reports.count, 0);
	add(1, REPORT_FLOW_OPENED);
	expect(UINT64_MAX, 9, "5");
}

Test(reports, a_new_connection_forgets_what_spoke_of_the_old_one)
{
	add(1, REPORT_FLOW_OPENED);
	add(1, REPORT_APPLIED);
	add(1, REPORT_INVENTORY_BEGIN);
	add(1, REPORT_INVENTORY_FLOW);
	add(1, REPORT_INVENTORY_END);
	expect(UINT64_MAX, 9, "1 2 3 4 5");
	reports_rewind(&reports);
	expect(UINT64_MAX, 9, "1");
	add(1, REPORT_FLOW_OPENED);
	expect(UINT64_MAX, 9, "6");
	cr_assert_eq(reports.count, 2);
}

Test(reports, ends_of_primaries_survive_a_connection)
{
	add(1, REPORT_PRIMARY_ENDED);
	expect(UINT64_MAX, 9, "1");
	reports_rewind(&reports);
	expect(UINT64_MAX, 9, "1");
}

Test(reports, acknowledging_the_unsent_moves_on)
{
	add(3, REPORT_FLOW_OPENED);
	reports_acknowledge(&reports, 2); /* a restart of the link: the server had them */
	expect(UINT64_MAX, 9, "3");
}

Test(reports, are_bounded_and_losses_counted)
{
	add(5, REPORT_FLOW_OPENED);
	cr_assert_null(reports_add(&reports, REPORT_FLOW_CLOSED, 0));
	cr_assert_eq(reports.dropped, 1);
	cr_assert_not_null(reports_add(&reports, REPORT_APPLIED, 0), "deadlines depend on it");
	cr_assert_not_null(reports_add(&reports, REPORT_INVENTORY_FLOW, 0), "it makes good");
	cr_assert_not_null(
		reports_add(&reports, REPORT_PRIMARY_ENDED, 0), "APPLIED must not overtake it");
	cr_assert_eq(reports.next_sequence, 9, "no gaps");
}

Test(reports, own_their_failures)
{
	struct report *report = reports_add(&reports, REPORT_APPLIED, 0);
	report->failures = calloc(2, sizeof *report->failures);
	report->failure_count = 2;
	reports_acknowledge(&reports, 1); /* freed: the leak checker sees to it */
}
