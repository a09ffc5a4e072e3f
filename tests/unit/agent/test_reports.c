/* The queue of reports: nothing is lost before the server has it on disk (I5), and nothing grows
 * without bound. */
#include <criterion/criterion.h>

#include "agent/reports.h"

Test(reports, acknowledged_ones_go_and_the_rest_is_sent_again)
{
	struct reports reports;
	const struct report *batch[8];
	reports_init(&reports, 100);
	for (int i = 0; i < 5; i++)
		cr_assert_not_null(reports_add(&reports, REPORT_FLOW_OPENED, 0));
	cr_expect_eq(reports_take(&reports, batch, 8), 5);
	cr_expect_eq(reports_take(&reports, batch, 8), 0);
	reports_acknowledge(&reports, 2);
	reports_rewind(&reports);
	cr_expect_eq(reports_take(&reports, batch, 8), 3);
	cr_expect_eq(batch[0]->sequence, 3, "with its old sequence");
	reports_acknowledge(&reports, 5);
	cr_expect_eq(reports.count, 0);
	cr_assert_not_null(reports_add(&reports, REPORT_FLOW_CLOSED, 0));
	cr_expect_eq(reports_take(&reports, batch, 8), 1);
	cr_expect_eq(batch[0]->sequence, 6);
	reports_fini(&reports);
}

Test(reports, what_speaks_of_an_old_connection_is_dropped)
{
	struct reports reports;
	const struct report *batch[8];
	reports_init(&reports, 100);
	reports_add(&reports, REPORT_APPLIED, 0);
	reports_add(&reports, REPORT_FLOW_OPENED, 0);
	reports_add(&reports, REPORT_INVENTORY_END, 0);
	reports_rewind(&reports);
	cr_assert_eq(reports_take(&reports, batch, 8), 1);
	cr_expect_eq(batch[0]->kind, REPORT_FLOW_OPENED);
	reports_fini(&reports);
}

Test(reports, the_bound_holds_and_is_counted)
{
	struct reports reports;
	reports_init(&reports, 2);
	cr_assert_not_null(reports_add(&reports, REPORT_FLOW_OPENED, 0));
	cr_assert_not_null(reports_add(&reports, REPORT_FLOW_OPENED, 0));
	cr_expect_null(reports_add(&reports, REPORT_FLOW_OPENED, 0));
	cr_expect_eq(reports.dropped, 1);
	cr_expect_not_null(reports_add(&reports, REPORT_APPLIED, 0));
	reports_fini(&reports);
}
