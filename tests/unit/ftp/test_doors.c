/* Sessions and doors on the policy server, both kinds of door at once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "client/inspectors/ftp/doors.h"
#include "tests/unit/ftp/rig.h"

struct fixture {
	struct fake fake;
	struct doors doors;
	char verdicts[256];
	unsigned settled;
};

static void on_verdict(void *arg, enum door_kind kind, const struct gatekeeper_answer *answer,
	const struct error *err)
{
	struct fixture *f = arg;
	size_t used = strlen(f->verdicts);

	snprintf(f->verdicts + used, sizeof(f->verdicts) - used, "%s%s ",
		kind == DOOR_TO_CLIENT ? "<" : ">", answer ? answer->id : status_name(err->status));
}

static void on_settled(void *arg)
{
	((struct fixture *)arg)->settled++;
}

static void begin(struct fixture *f)
{
	struct doors_options options = {
		.gatekeeper = &f->fake.base,
		.arg = f,
		.on_verdict = on_verdict,
		.on_settled = on_settled,
	};

	memset(f, 0, sizeof(*f));
	fake_start(&f->fake);
	options.loop = f->fake.loop;
	cr_assert(endpoint_parse("10.77.1.2:5001", true, &options.client));
	cr_assert(endpoint_parse("10.77.2.2:21", true, &options.server));
	doors_init(&f->doors, &options);
}

static void end(struct fixture *f)
{
	doors_fini(&f->doors);
	fake_stop(&f->fake);
}

static void ask(struct fixture *f, enum door_kind kind)
{
	struct door_wish wish = {"EPRT", {.port = 2000}};
	struct error err;

	wish.to.addr = kind == DOOR_TO_CLIENT ? f->doors.options.client.addr
					      : f->doors.options.server.addr;
	cr_assert_eq(doors_ask(&f->doors, kind, &wish, 1000, &err), STATUS_OK);
}

static void settle(struct fixture *f)
{
	while (f->fake.pending > 0)
		loop_step(f->fake.loop, 10);
}

Test(doors, both_wait_for_one_session)
{
	struct fixture f;

	begin(&f);
	ask(&f, DOOR_TO_SERVER);
	ask(&f, DOOR_TO_CLIENT);
	settle(&f);
	cr_expect_eq(f.fake.opens, 1);
	cr_expect_str_eq(f.verdicts, ">grant-1 <grant-2 ");
	cr_expect_eq(f.settled, 3); /* opened, and two answers */
	cr_expect_eq(f.doors.to_client_count, 1);
	end(&f);
	cr_expect_eq(f.fake.closes, 1);
	cr_expect_str_eq(f.fake.cancelled, "", "doors end with the session");
}

Test(doors, both_fail_with_the_session)
{
	struct fixture f;

	begin(&f);
	error_reason(&f.fake.open_fails, STATUS_FAILED_PRECONDITION, REASON_NO_SUCH_CONNECTION,
		"not there");
	ask(&f, DOOR_TO_SERVER);
	ask(&f, DOOR_TO_CLIENT);
	settle(&f);
	cr_expect_eq(f.fake.opens, 1, "it will not appear");
	cr_expect_str_eq(f.verdicts, ">FAILED_PRECONDITION <FAILED_PRECONDITION ");
	memset(f.verdicts, 0, sizeof(f.verdicts));
	error_set(&f.fake.open_fails, STATUS_UNAVAILABLE, "away");
	ask(&f, DOOR_TO_SERVER);
	ask(&f, DOOR_TO_CLIENT);
	settle(&f);
	cr_expect_eq(f.fake.opens, 3, "one more try for both");
	cr_expect_str_eq(f.verdicts, ">UNAVAILABLE <UNAVAILABLE ");
	end(&f);
	cr_expect_eq(f.fake.closes, 0);
}

Test(doors, a_lost_session_is_opened_once_for_both)
{
	struct fixture f;

	begin(&f);
	doors_open(&f.doors, 1000);
	settle(&f);
	error_set(&f.fake.ask_fails, STATUS_NOT_FOUND, "no such session");
	ask(&f, DOOR_TO_SERVER);
	ask(&f, DOOR_TO_CLIENT);
	memset(&f.fake.ask_fails, 0, sizeof(f.fake.ask_fails));
	settle(&f);
	cr_expect_eq(f.fake.opens, 2);
	cr_expect_eq(f.fake.closes, 1);
	cr_expect_str_eq(f.verdicts, ">grant-3 <grant-4 ");
	end(&f);
	cr_expect_eq(f.fake.closes, 2);
}

Test(doors, to_the_client_in_order)
{
	struct fixture f;

	begin(&f);
	for (int i = 0; i < 4; i++) {
		ask(&f, DOOR_TO_CLIENT);
		settle(&f);
	}
	doors_cancel_one(&f.doors, 2);
	cr_expect_str_eq(f.fake.cancelled, "grant-2 ");
	doors_cancel_one(&f.doors, 3); /* there are three only */
	doors_cancel_older(&f.doors, 5);
	cr_expect_str_eq(f.fake.cancelled, "grant-2 ");
	doors_forget_older(&f.doors, 2);
	doors_cancel_older(&f.doors, 1);
	cr_expect_str_eq(f.fake.cancelled, "grant-2 grant-3 ");
	doors_cancel_older(&f.doors, 0);
	cr_expect_str_eq(f.fake.cancelled, "grant-2 grant-3 grant-4 ");
	cr_expect_eq(f.doors.to_client_count, 0);
	memset(f.fake.cancelled, 0, sizeof(f.fake.cancelled));
	for (int i = 0; i < DOORS_TRACKED + 2; i++) {
		ask(&f, DOOR_TO_CLIENT);
		settle(&f);
	}
	doors_cancel_older(&f.doors, 0);
	cr_expect_str_eq(f.fake.cancelled, "grant-7 grant-8 grant-9 grant-10 ");
	end(&f);
}
