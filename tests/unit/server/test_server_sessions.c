/* Sessions and what their end does to grants. */
#include "tests/unit/server/world_with_agents.h"

static char session[ID_TEXT_SIZE], tied[ID_TEXT_SIZE], based[ID_TEXT_SIZE];

static Postern__V1__GrantRequest session_request(uint32_t port, uint32_t flags)
{
	Postern__V1__GrantRequest request = grant_request();
	request.gateway = TEXT("");
	request.client = TEXT("");
	request.session = session;
	request.remote_port = port;
	request.flags = flags;
	return request;
}

static void two_grants(void)
{
	get_session(&world, session);
	Postern__V1__GrantRequest request = session_request(1046, 0);
	get_grant(&world, &request, tied);
	request = session_request(1047, GRANT_ADDRESS_BASED);
	get_grant(&world, &request, based);
	cr_expect_eq(gw1.door_count, 2);
	cr_expect_str_eq(gw1.doors[0].client, "10.77.1.2");
}

/* The answer means that its doors are shut; what is bound to the address outlives it. */
Test(server_sessions, its_end_ends_its_grants)
{
	begin("");
	two_grants();
	gw1.holds_acks = true;
	Postern__V1__SessionCloseRequest message = POSTERN__V1__SESSION_CLOSE_REQUEST__INIT;
	message.id = session;
	start_call(
		world.ftp, &postern__v1__sessions__descriptor, "Close", &message.base, 0, &result);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, tied) == 1);
	cr_expect_eq(COUNT(&world, SESSION_CLOSED, NULL), 1);
	cr_expect_eq(result.done, 0);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq(result.err.status, STATUS_OK, "%s", result.err.text);
	cr_expect_gt(((Postern__V1__Session *)result.reply)->closed_us, 0);
	result_clear(&result);
	expect_state(&world, tied, GRANT_CANCELLED, END_SESSION_ENDED);
	expect_state(&world, based, GRANT_ACTIVE, 0);
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_NOT_FOUND);
	result_clear(&result);
	Postern__V1__GrantRequest request = session_request(1048, 0);
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(result.err.field, "session");
	result_clear(&result);
	/* The grant that outlives it ends on its own. */
	gw1.holds_acks = false;
	cr_expect_eq(cancel(&world, world.ftp, based, &result), STATUS_OK);
	result_clear(&result);
	end();
}

/* A request that is under way when its session ends gets no door. */
Test(server_sessions, its_end_catches_requests_under_way)
{
	static struct result close;
	begin("");
	get_session(&world, session);
	Postern__V1__GrantRequest request = session_request(1046, 0);
	Postern__V1__SessionCloseRequest message = POSTERN__V1__SESSION_CLOSE_REQUEST__INIT;
	message.id = session;
	start_request(world.ftp, &request, 0, &result);
	start_call(
		world.ftp, &postern__v1__sessions__descriptor, "Close", &message.base, 0, &close);
	WAIT_UNTIL(&world, result.done && close.done);
	cr_expect_eq(close.err.status, STATUS_OK);
	cr_expect(result.err.status == STATUS_ABORTED || result.err.status == STATUS_OK);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	cr_expect_eq(COUNT(&world, ENDED, NULL), 1);
	result_clear(&result);
	result_clear(&close);
	end();
}

Test(server_sessions, belongs_to_its_filter)
{
	begin("");
	get_session(&world, session);
	cr_expect_eq(close_session(&world, world.sip, session, &result), STATUS_NOT_FOUND);
	result_clear(&result);
	Postern__V1__GrantRequest request = session_request(1046, 0);
	cr_expect_eq(ask(&world, world.sip, &request, &result), STATUS_INVALID_ARGUMENT);
	result_clear(&result);
	request.client = TEXT("10.77.1.3");
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(result.err.field, "client");
	result_clear(&result);
	cr_expect_eq(open_session(&world, world.sip, &result), STATUS_PERMISSION_DENIED);
	cr_expect_eq(result.err.reason, REASON_OUT_OF_SCOPE);
	result_clear(&result);
	cr_expect_eq(close_session(&world, world.admin, session, &result), STATUS_OK);
	result_clear(&result);
	end();
}

Test(server_sessions, an_idle_one_ends)
{
	begin("session_idle_limit = 1s");
	get_session(&world, session);
	WAIT_UNTIL(&world, COUNT(&world, SESSION_CLOSED, NULL) == 1);
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_NOT_FOUND);
	result_clear(&result);
	end();
}

/* I7: a restart keeps sessions; one that closed while a crash came between its end and its grants'
 * takes them along at the next start. */
Test(server_sessions, survive_a_restart)
{
	begin("");
	two_grants();
	restart();
	cr_expect_eq(gw1.door_count, 2);
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_OK);
	result_clear(&result);
	cr_expect_eq(gw1.door_count, 1);
	expect_state(&world, tied, GRANT_CANCELLED, END_SESSION_ENDED);
	end();
}

Test(server_sessions, a_quota_bounds_them)
{
	begin("max_open_sessions_per_filter = 1");
	get_session(&world, session);
	cr_expect_eq(open_session(&world, world.ftp, &result), STATUS_RESOURCE_EXHAUSTED);
	cr_expect_eq(result.err.reason, REASON_QUOTA);
	result_clear(&result);
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_OK);
	result_clear(&result);
	get_session(&world, session);
	end();
}
