/* Random lives of sessions and of their primary connections against a small model. Connections come
 * and go on the gateway whether anybody hears of it or not; callers, agent and server come and go
 * at any moment. When everything is quiet the open sessions are those whose connections live (or
 * that have none), the agent follows exactly theirs, their grants alone have doors (those that no
 * revision ended), and each
 * session was opened and closed once. Only an answer that is lost on its way may leave a session
 * that nobody knows. */
#include "tests/unit/server/random_policy.h"

#define FORBIDDEN "5000-5019" /* the grants of a third of the sessions */

enum { OPENS = 60, STEPS = 250, FIRST_PORT = 40000 };

/* One attempt to open a session, with a connection of its own or none. */
struct opened {
	struct result result;
	char id[ID_TEXT_SIZE], grant[ID_TEXT_SIZE];
	bool watched, under_way, closed; /* closed by its filter */
	bool refused; /* for good: there is no such session */
	bool lost; /* its answer: the server stopped, or the caller did not wait for it; it may be
		      open */
};

static struct opened opens[OPENS];
static bool lives[OPENS]; /* its connection */
static size_t open_count;

static bool conntrack_has(const Postern__V1__Flow *primary)
{
	return lives[primary->client_port - FIRST_PORT];
}

/* ---- callers ---- */

static void settle_open(struct opened *opened)
{
	if (!opened->under_way || !opened->result.done)
		return;
	opened->under_way = false;
	if (opened->result.err.status == STATUS_OK)
		snprintf(opened->id, sizeof opened->id, "%s",
			((Postern__V1__Session *)opened->result.reply)->id);
	else
		opened->refused = opened->result.err.reason == REASON_NO_SUCH_CONNECTION ||
			opened->result.err.reason == REASON_GATEWAY_DOWN;
	/* Words of the caller's own side, not the server's. */
	opened->lost |= strstr(opened->result.err.text, "no answer from") ||
		strstr(opened->result.err.text, "the call was cancelled");
	result_clear(&opened->result);
}

static void settle_opens(void)
{
	for (size_t i = 0; i < open_count; i++)
		settle_open(&opens[i]);
}

static void new_open(void)
{
	Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	Postern__V1__Flow primary = POSTERN__V1__FLOW__INIT;
	if (open_count == OPENS)
		return;
	struct opened *opened = &opens[open_count];
	memset(opened, 0, sizeof *opened);
	lives[open_count] = roll(4) > 0;
	request.gateway = TEXT("gw1");
	request.client = TEXT("10.77.1.2");
	primary.client = TEXT("10.77.1.2");
	primary.client_port = FIRST_PORT + (uint32_t)open_count;
	primary.remote = TEXT("10.77.2.2");
	primary.remote_port = 21;
	primary.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	opened->watched = roll(4) > 0;
	if (opened->watched)
		request.primary = &primary;
	opened->under_way = true;
	open_count++;
	start_call(world.ftp, &postern__v1__sessions__descriptor, "Open", &request.base,
		roll(4) ? 2000 : 20, &opened->result);
	if (roll(6) == 0)
		rpc_client_cancel(world.ftp, opened->result.id);
}

static struct opened *some_open(void)
{
	struct opened *opened = open_count ? &opens[roll((unsigned)open_count)] : NULL;
	return opened && opened->id[0] && !opened->closed ? opened : NULL;
}

static void close_some(void)
{
	struct opened *opened = some_open();
	if (!opened)
		return;
	enum status status = close_session(&world, world.ftp, opened->id, &result);
	cr_assert(status == STATUS_OK || status == STATUS_NOT_FOUND, "%s", result.err.text);
	result_clear(&result);
	opened->closed = true;
}

static void ask_in_some(void)
{
	Postern__V1__GrantRequest request = grant_request();
	struct opened *opened = some_open();
	if (!opened || opened->grant[0] || !gw1.client)
		return;
	request.session = opened->id;
	request.remote_port = 5000 + (uint32_t)(opened - opens);
	request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	if (ask(&world, world.ftp, &request, &result) == STATUS_OK)
		snprintf(opened->grant, sizeof opened->grant, "%s", granted(&result)->id);
	result_clear(&result);
}

/* ---- the gateway ---- */

static void end_connection(void)
{
	size_t i = open_count ? roll((unsigned)open_count) : 0;
	if (i >= open_count || !lives[i])
		return;
	lives[i] = false;
	if (gw1.client && opens[i].watched && opens[i].id[0])
		agent_report_primary_ended(&gw1, opens[i].id);
}

/* Known to the agent, but its session's answer is still on the way. */
static void report_ended(void)
{
	for (size_t i = 0; i < open_count; i++)
		if (gw1.client && !lives[i] && agent_follows(&gw1, opens[i].id))
			agent_report_primary_ended(&gw1, opens[i].id);
}

static void toggle_agent(void)
{
	if (gw1.client) {
		if (roll(2))
			agent_settle(&gw1);
		if (roll(2))
			agent_die(&gw1);
		else
			agent_disconnect(&gw1);
		gw1.reports_under_way = 0;
	} else {
		agent_start(&gw1, NULL, 0);
	}
}

static void restart_server(void)
{
	if (gw1.client)
		toggle_agent();
	world_stop(&world);
	settle_opens();
	/* Or it was to be closed again, and the journal had ended. */
	for (size_t i = 0; i < open_count; i++)
		opens[i].lost |= !opens[i].id[0] && !opens[i].refused;
	world_start(&world);
}

/* ---- the end ---- */

static void quieten(void)
{
	if (!gw1.client)
		agent_start(&gw1, NULL, 0);
	for (size_t i = 0; i < open_count; i++) {
		WAIT_UNTIL(&world, !opens[i].under_way || opens[i].result.done);
		settle_open(&opens[i]);
	}
	report_ended();
	agent_settle(&gw1);
	world_idle(&world, 50);
	agent_settle(&gw1);
}

static struct opened *known(const char *id)
{
	for (size_t i = 0; i < open_count; i++)
		if (strcmp(opens[i].id, id) == 0)
			return &opens[i];
	return NULL;
}

static bool should_be_open(const struct opened *opened)
{
	return opened->id[0] && !opened->closed && (!opened->watched || lives[opened - opens]);
}

/* A session that was opened for somebody who did not hear of it. */
static void expect_lost(const Postern__V1__Session *session, size_t *left)
{
	if (session->primary) {
		size_t i = session->primary->client_port - FIRST_PORT;
		cr_expect(opens[i].lost && lives[i], "open %zu is open, but nobody knows", i);
		return;
	}
	cr_assert_gt(*left, 0, "a session that nobody knows");
	(*left)--;
}

/* A revision may have ended it, nobody else. */
static bool has_door(const char *grant)
{
	struct shown shown = show(&world, grant);
	cr_expect(shown.state == GRANT_ACTIVE || shown.reason == END_POLICY_CHANGED, "%u %u",
		shown.state, shown.reason);
	return shown.state == GRANT_ACTIVE;
}

static void expect_agreement(void)
{
	static struct result list;
	Postern__V1__SessionListRequest request = POSTERN__V1__SESSION_LIST_REQUEST__INIT;
	size_t open = 0, expected = 0, watched = 0, doors = 0, lost = 0;
	for (size_t i = 0; i < open_count; i++) {
		expected += should_be_open(&opens[i]);
		lost += opens[i].lost && !opens[i].watched;
	}
	cr_assert_eq(call(&world, world.admin, &postern__v1__sessions__descriptor, "List",
			     &request.base, &list),
		STATUS_OK);
	for (size_t i = 0; i < list.item_count; i++) {
		const Postern__V1__Session *session = (Postern__V1__Session *)list.items[i];
		const struct opened *opened = known(session->id);
		watched += session->primary != NULL;
		cr_expect_eq(session->primary != NULL, agent_follows(&gw1, session->id));
		if (!opened) {
			expect_lost(session, &lost);
			continue;
		}
		cr_expect(should_be_open(opened), "open %zu", (size_t)(opened - opens));
		open++;
		doors += opened->grant[0] && has_door(opened->grant);
	}
	cr_expect_eq(open, expected);
	cr_expect_eq(gw1.primary_count, watched);
	cr_expect_eq(gw1.door_count, doors);
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL),
		COUNT(&world, SESSION_CLOSED, NULL) + list.item_count);
	result_clear(&list);
}

static void run(unsigned number)
{
	open_count = 0;
	begin_lives(number, number % 3 ? "" : "session_linger = 5ms");
	gw1.conntrack_has = conntrack_has;
	for (int i = 0; i < STEPS; i++) {
		unsigned what = roll(40);
		if (what < 12)
			new_open();
		else if (what < 18)
			end_connection();
		else if (what < 21)
			close_some();
		else if (what < 28)
			ask_in_some();
		else if (what < 32)
			toggle_agent();
		else if (what < 33)
			restart_server();
		else if (what < 35)
			start_policy(roll(2), FORBIDDEN, POSTERN__V1__ON_CHANGE__ON_CHANGE_CANCEL);
		for (unsigned j = roll(4); j > 0; j--)
			loop_step(world.loop, 1);
		settle_opens();
	}
	quieten();
	settle_policy(true, FORBIDDEN);
	agent_settle(&gw1);
	expect_agreement();
	end();
}

Test(server_session_model, the_books_agree, .timeout = 110)
{
	run_seeds(run);
}
