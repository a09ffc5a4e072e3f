/* No journal, no permission: the whole server on a disk that refuses writes for a while. */
#include "tests/unit/server/world_with_agents.h"

static void expect_unavailable(void)
{
	cr_expect_eq(result.err.status, STATUS_UNAVAILABLE, "%s: %s",
		status_name(result.err.status), result.err.text);
	cr_expect_eq(result.err.reason, REASON_JOURNAL_UNAVAILABLE, "%s", result.err.text);
	result_clear(&result);
}

/* Decisions are refused at once and change nothing; facts wait, in order, and their reports are not
 * acknowledged before (I1, I5). */
Test(server_disk, decisions_are_refused_and_facts_wait, .timeout = 60)
{
	char kept[ID_TEXT_SIZE], used[ID_TEXT_SIZE], brief[ID_TEXT_SIZE], session[ID_TEXT_SIZE];
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_session(&world, session);
	request.session = session;
	get_grant(&world, &request, kept);
	request.session = TEXT("");
	request.remote_port = 1047;
	get_grant(&world, &request, used);
	request.remote_port = 1048;
	request.lifetime_ms = 1000;
	get_grant(&world, &request, brief);
	agent_settle(&gw1);
	break_disk(true);
	request.remote_port = 1049;
	(void)ask(&world, world.ftp, &request, &result);
	expect_unavailable();
	(void)cancel(&world, world.ftp, kept, &result);
	expect_unavailable();
	(void)close_session(&world, world.ftp, session, &result);
	expect_unavailable();
	(void)open_session(&world, world.ftp, &result);
	expect_unavailable();
	expect_state(&world, kept, GRANT_ACTIVE, 0);
	cr_expect_eq(gw1.door_count, 3);
	uint64_t before = gw1.acknowledged;
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), used, 7, 0, 0);
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), used, 7, 4711, 0);
	WAIT_UNTIL(&world, gw1.door_count == 1); /* used up; the lifetime is over */
	world_idle(&world, 1200);
	cr_expect_eq(gw1.acknowledged, before);
	(void)ask(&world, world.ftp, &request, &result); /* still, though facts are being tried */
	expect_unavailable();
	break_disk(false);
	agent_settle(&gw1);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, brief) == 1);
	cr_expect_eq(gw1.acknowledged, gw1.reported);
	expect_state(&world, used, GRANT_USED, END_USED_UP);
	expect_state(&world, brief, GRANT_EXPIRED, END_LIFETIME);
	expect_state(&world, kept, GRANT_ACTIVE, 0);
	cr_expect_eq(COUNT(&world, ESTABLISHED, used), 1);
	cr_expect_eq(COUNT(&world, CLOSED, used), 1);
	cr_expect_eq(COUNT(&world, ENDED, used), 1);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 3);
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_OK, "%s",
		result.err.text);
	result_clear(&result);
	expect_state(&world, kept, GRANT_CANCELLED, END_SESSION_ENDED);
	end();
}

/* An agent cannot join, is told so, and joins when the disk works again; meanwhile its doors stay.
 */
Test(server_disk, a_join_is_refused_and_repeated, .timeout = 60)
{
	struct error err;
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	agent_settle(&gw1);
	agent_die(&gw1);
	WAIT_UNTIL(&world, COUNT(&world, GATEWAY_LOST, NULL) == 1);
	break_disk(true);
	cr_expect_eq(agent_join(&gw1, &err), STATUS_UNAVAILABLE);
	cr_expect_eq(err.reason, REASON_JOURNAL_UNAVAILABLE);
	agent_disconnect(&gw1);
	break_disk(false);
	agent_start(&gw1, NULL, 0);
	cr_expect_eq(gw1.door_count, 1);
	end();
}
