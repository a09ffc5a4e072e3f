/* Random lives of grants against a small model. The model's kernel holds what the agent was told,
 * admits flows as often as its doors say, and remembers every flow; callers, agent and server come
 * and go at any moment. When everything is quiet again the books of all three must agree: nobody
 * was let in twice, no flow is missing or told twice, no door is open that the journal does not
 * know, no bundle is half there, no flow survived its cut, and no
 * door that the last revision forbids is open (I1, I2, I4, I5, I6, I7, I9). */
#include "tests/unit/server/random_policy.h"

enum { ASKS = 60, FLOWS = 400, PORTS = 6, STEPS = 250, BUNDLES = 8, MEMBERS = 3, LIVES = 100 };

/* Of single grants: a bundle would be journalled with the denied member alone. */
#define FORBIDDEN "1046-1048"

struct asked {
	Postern__V1__GrantRequest request;
	char request_id[ID_TEXT_SIZE], session[ID_TEXT_SIZE], id[ID_TEXT_SIZE];
	struct result result;
	bool under_way;
};

struct asked_bundle {
	struct bundle bundle;
	char id[ID_TEXT_SIZE], first[ID_TEXT_SIZE];
	struct result result;
	bool under_way;
};

struct made_flow {
	char grant[ID_TEXT_SIZE];
	uint64_t id;
	uint64_t opened, closed; /* sequences of their reports, 0 = not reported */
	bool is_closed;
};

static struct asked asks[ASKS];
static struct made_flow flows[FLOWS];
static struct asked_bundle bundles[BUNDLES];
static char cuts[LIVES][ID_TEXT_SIZE]; /* grants whose cut was promised */
static size_t ask_count, flow_count, bundle_count, promised_cuts;
static char session[ID_TEXT_SIZE];

/* ---- callers ---- */

static void settle_ask(struct asked *asked)
{
	if (!asked->under_way || !asked->result.done)
		return;
	asked->under_way = false;
	if (asked->result.err.status == STATUS_OK) {
		const char *id = granted(&asked->result)->id;
		cr_assert(!asked->id[0] || strcmp(asked->id, id) == 0, "two grants for one id");
		snprintf(asked->id, sizeof asked->id, "%s", id);
	}
	result_clear(&asked->result);
}

static void settle_bundle(struct asked_bundle *asked)
{
	if (!asked->under_way || !asked->result.done)
		return;
	asked->under_way = false;
	if (asked->result.err.status == STATUS_OK) {
		const Postern__V1__BundleReply *reply = bundle_of(&asked->result);
		cr_assert_eq(reply->n_grants, MEMBERS);
		const char *id = reply->grants[0]->grant->id;
		cr_assert(!asked->first[0] || strcmp(asked->first, id) == 0, "two for one id");
		snprintf(asked->first, sizeof asked->first, "%s", id);
	}
	result_clear(&asked->result);
}

static void settle_asks(void)
{
	for (size_t i = 0; i < ask_count; i++)
		settle_ask(&asks[i]);
	for (size_t i = 0; i < bundle_count; i++)
		settle_bundle(&bundles[i]);
}

static void send_ask(struct asked *asked)
{
	if (asked->under_way)
		return;
	asked->under_way = true;
	start_request(world.ftp, &asked->request, roll(4) ? 2000 : 20, &asked->result);
}

static void new_ask(void)
{
	struct asked *asked = &asks[ask_count];
	struct id id = id_new();
	if (ask_count == ASKS)
		return;
	ask_count++;
	memset(asked, 0, sizeof *asked);
	asked->request = grant_request();
	asked->request.remote_port = 1046 + roll(PORTS);
	if (roll(3) == 0) {
		asked->request = accept_request();
		asked->request.client_port = 4000 + roll(PORTS);
		asked->request.remote = roll(2) ? asked->request.remote : TEXT("");
		asked->request.external = roll(3) ? TEXT(EXTERNAL) : TEXT("");
	}
	asked->request.reserve = roll(5) == 0;
	if (roll(3) == 0) {
		asked->request.flags = GRANT_ALLOW_MULTIPLE;
		asked->request.max_connections = 2 + roll(3);
	}
	if (session[0] && roll(2)) {
		snprintf(asked->session, sizeof asked->session, "%s", session);
		asked->request.session = asked->session;
		asked->request.flags |= roll(3) == 0 ? GRANT_ADDRESS_BASED : 0;
	}
	id_format(&id, asked->request_id);
	asked->request.request_id = asked->request_id;
	send_ask(asked);
}

static void cancel_some(void)
{
	struct asked *asked = ask_count ? &asks[roll((unsigned)ask_count)] : NULL;
	if (!asked || !asked->id[0])
		return;
	enum status status = cancel(&world, world.ftp, asked->id, &result);
	cr_assert(status == STATUS_OK || result.err.reason == REASON_ALREADY_ENDED, "%s",
		result.err.text);
	result_clear(&result);
}

/* A grant of a single ask, NULL = none yet. */
static const char *some_grant(void)
{
	const struct asked *asked = ask_count ? &asks[roll((unsigned)ask_count)] : NULL;
	return asked && asked->id[0] ? asked->id : NULL;
}

/* The agent may be away, or on its way: nobody waits for long. */
static void cut_some(void)
{
	const char *id = some_grant();
	if (!id || promised_cuts == LIVES)
		return;
	start_cut(world.ftp, id, 30, &result);
	WAIT_UNTIL(&world, result.done);
	bool begun = result.err.status == STATUS_OK || result.err.reason == REASON_DEADLINE;
	cr_assert(begun || result.err.status == STATUS_DEADLINE_EXCEEDED ||
			result.err.reason == REASON_ALREADY_ENDED,
		"%s", result.err.text);
	if (begun)
		memcpy(cuts[promised_cuts++], id, ID_TEXT_SIZE);
	result_clear(&result);
}

static void renew_some(void)
{
	Postern__V1__GrantRenewRequest request = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	const char *id = some_grant();
	if (!id)
		return;
	request.id = TEXT(id);
	start_grants_call(world.ftp, "Renew", &request.base, 30, &result);
	WAIT_UNTIL(&world, result.done);
	cr_assert(result.err.status == STATUS_OK || result.err.status == STATUS_DEADLINE_EXCEEDED ||
			result.err.status == STATUS_FAILED_PRECONDITION ||
			result.err.status == STATUS_ABORTED,
		"%s", result.err.text);
	result_clear(&result);
}

static void commit_some(void)
{
	const char *id = some_grant();
	if (!id)
		return;
	Postern__V1__GrantCommitRequest request = commit_request(id);
	request.wait =
		roll(2) ? POSTERN__V1__WAIT__WAIT_DECIDED : POSTERN__V1__WAIT__WAIT_INSTALLED;
	start_grants_call(world.ftp, "Commit", &request.base, 30, &result);
	WAIT_UNTIL(&world, result.done);
	cr_assert(result.err.status == STATUS_OK || result.err.status == STATUS_DEADLINE_EXCEEDED ||
			result.err.status == STATUS_FAILED_PRECONDITION ||
			result.err.status == STATUS_ABORTED ||
			result.err.reason == REASON_GATEWAY_DOWN,
		"%s: %s", status_name(result.err.status), result.err.text);
	result_clear(&result);
}

static void send_bundle(struct asked_bundle *asked)
{
	if (asked->under_way)
		return;
	asked->under_way = true;
	start_grants_call(world.ftp, "RequestBundle", &asked->bundle.request.base,
		roll(4) ? 2000 : 20, &asked->result);
}

static void new_bundle(void)
{
	struct asked_bundle *asked = &bundles[bundle_count];
	struct id id = id_new();
	if (bundle_count == BUNDLES)
		return;
	bundle_count++;
	memset(asked, 0, sizeof *asked);
	bundle_init(&asked->bundle, MEMBERS);
	for (uint32_t i = 0; i < MEMBERS; i++)
		asked->bundle.grants[i].remote_port = 2000 + MEMBERS * (uint32_t)bundle_count + i;
	id_format(&id, asked->id);
	asked->bundle.request.bundle = asked->id;
	send_bundle(asked);
}

static void change_bundle(void)
{
	struct asked_bundle *asked = bundle_count ? &bundles[roll((unsigned)bundle_count)] : NULL;
	if (!asked || roll(2)) {
		new_bundle();
		return;
	}
	if (roll(3)) {
		send_bundle(asked);
		return;
	}
	enum status status = cancel_bundle(&world, world.ftp, asked->id, false, &result);
	cr_assert(status == STATUS_OK || status == STATUS_NOT_FOUND ||
			result.err.reason == REASON_ALREADY_ENDED,
		"%s", result.err.text);
	result_clear(&result);
}

static void change_session(void)
{
	if (!session[0]) {
		get_session(&world, session);
		return;
	}
	cr_assert_eq(close_session(&world, world.ftp, session, &result), STATUS_OK, "%s",
		result.err.text);
	result_clear(&result);
	session[0] = '\0';
}

/* ---- the gateway ---- */

static uint64_t uses(const char *grant)
{
	uint64_t count = 0;
	for (size_t i = 0; i < flow_count; i++)
		count += strcmp(flows[i].grant, grant) == 0;
	return count;
}

static void report_flow(struct made_flow *flow)
{
	if (!gw1.client)
		return;
	if (!flow->opened) {
		agent_report_flow(&gw1, REPORT(FLOW_OPENED), flow->grant, flow->id, 0, 0);
		flow->opened = gw1.reported;
	}
	if (flow->is_closed && !flow->closed) {
		agent_report_flow(&gw1, REPORT(FLOW_CLOSED), flow->grant, flow->id, 1, 0);
		flow->closed = gw1.reported;
	}
}

/* I4 is the kernel's: it counts what it admitted, also when nobody reports. */
static void make_flow(void)
{
	if (gw1.door_count == 0 || flow_count == FLOWS)
		return;
	const struct fake_door *door = &gw1.doors[roll((unsigned)gw1.door_count)];
	if (door->max_connections && uses(door->grant) >= door->max_connections)
		return;
	struct made_flow *flow = &flows[flow_count++];
	memset(flow, 0, sizeof *flow);
	snprintf(flow->grant, sizeof flow->grant, "%s", door->grant);
	flow->id = 1000 + flow_count;
	report_flow(flow);
}

static void close_flow(void)
{
	struct made_flow *flow = flow_count ? &flows[roll((unsigned)flow_count)] : NULL;
	if (!flow || flow->is_closed)
		return;
	flow->is_closed = true;
	report_flow(flow);
}

/* What the agent was told to cut ends in the kernel. */
static void cut_flows(void)
{
	for (size_t i = 0; i < gw1.cut_count; i++)
		for (size_t j = 0; j < flow_count; j++)
			if (strcmp(flows[j].grant, gw1.cut[i]) == 0 && !flows[j].is_closed) {
				flows[j].is_closed = true;
				report_flow(&flows[j]);
			}
	gw1.cut_count = 0;
}

/* What was not acknowledged goes again, with its sequences and in their order. */
static void send_again(void)
{
	for (uint64_t sequence = gw1.acknowledged + 1; sequence <= gw1.reported; sequence++)
		for (size_t i = 0; i < flow_count; i++) {
			const struct made_flow *flow = &flows[i];
			if (flow->opened == sequence)
				agent_report_flow(&gw1, REPORT(FLOW_OPENED), flow->grant, flow->id,
					0, sequence);
			if (flow->closed == sequence)
				agent_report_flow(&gw1, REPORT(FLOW_CLOSED), flow->grant, flow->id,
					1, sequence);
		}
}

static void connect_agent(void)
{
	cr_assert_eq(agent_join(&gw1, NULL), STATUS_OK);
	send_again();
	agent_settle(&gw1);
	for (size_t i = 0; i < flow_count; i++) /* and what happened meanwhile */
		report_flow(&flows[i]);
	agent_report_simple(&gw1, REPORT(INVENTORY_BEGIN));
	for (size_t i = 0; i < flow_count; i++)
		if (!flows[i].is_closed || roll(2)) /* closed ones linger */
			agent_report_flow(
				&gw1, REPORT(INVENTORY_FLOW), flows[i].grant, flows[i].id, 0, 0);
	agent_report_simple(&gw1, REPORT(INVENTORY_END));
	agent_settle(&gw1);
	agent_sync(&gw1);
}

static void disconnect_agent(bool dies)
{
	agent_settle(&gw1);
	if (!dies && roll(2))
		make_flow(); /* under way when the connection breaks */
	if (!dies) {
		agent_disconnect(&gw1);
		return;
	}
	agent_die(&gw1);
	for (size_t i = 0; i < flow_count; i++)
		flows[i].opened = flows[i].opened ? UINT64_MAX : 0;
	for (size_t i = 0; i < flow_count; i++)
		flows[i].closed = flows[i].closed ? UINT64_MAX : 0;
}

static void toggle_agent(void)
{
	if (gw1.client)
		disconnect_agent(roll(2));
	else
		connect_agent();
}

static void restart_server(void)
{
	if (gw1.client)
		disconnect_agent(roll(2));
	world_stop(&world);
	settle_asks();
	world_start(&world);
}

/* ---- the end ---- */

static void expect_flows(void)
{
	cr_expect_eq(COUNT(&world, ESTABLISHED, NULL), flow_count);
	for (size_t i = 0; i < flow_count; i += 7) /* each is a query */
		cr_expect_eq(COUNT(&world, ESTABLISHED, flows[i].grant), uses(flows[i].grant));
	size_t closed = 0;
	for (size_t i = 0; i < flow_count; i++)
		closed += flows[i].is_closed;
	cr_expect_eq(COUNT(&world, CLOSED, NULL), closed);
	for (size_t i = 0; i < promised_cuts; i++)
		for (size_t j = 0; j < flow_count; j++)
			cr_expect(strcmp(flows[j].grant, cuts[i]) != 0 || flows[j].is_closed,
				"a flow survived its cut");
}

/* All of its members were granted, or none. */
static void expect_bundles(void)
{
	Postern__V1__GrantListRequest request = POSTERN__V1__GRANT_LIST_REQUEST__INIT;
	request.all = true;
	cr_assert_eq(grants_call(&world, world.admin, "List", &request.base, &result), STATUS_OK);
	for (size_t i = 0; i < bundle_count; i++) {
		size_t members = 0;
		for (size_t j = 0; j < result.item_count; j++) {
			const Postern__V1__Grant *grant =
				((Postern__V1__GrantReply *)result.items[j])->grant;
			members += strcmp(grant->bundle, bundles[i].id) == 0;
		}
		cr_expect(members == 0 || members == MEMBERS, "%zu members", members);
	}
	result_clear(&result);
}

static void expect_distinct_ports(void)
{
	for (size_t i = 0; i < gw1.door_count; i++)
		for (size_t j = i + 1; j < gw1.door_count; j++)
			cr_expect(!gw1.doors[i].external_port ||
				gw1.doors[i].external_port != gw1.doors[j].external_port);
}

static void expect_doors(void)
{
	Postern__V1__GrantListRequest request = POSTERN__V1__GRANT_LIST_REQUEST__INIT;
	size_t active = 0;
	cr_assert_eq(call(&world, world.admin, &postern__v1__grants__descriptor, "List",
			     &request.base, &result),
		STATUS_OK);
	for (size_t i = 0; i < result.item_count; i++) {
		const Postern__V1__Grant *grant =
			((Postern__V1__GrantReply *)result.items[i])->grant;
		const struct fake_door *door = agent_door(&gw1, grant->id);
		cr_expect_eq(door != NULL, (int)grant->state == GRANT_ACTIVE);
		cr_expect_eq(grant->connections, uses(grant->id));
		active += door != NULL;
	}
	cr_expect_eq(gw1.door_count, active, "a door that the journal does not know");
	size_t live = result.item_count;
	result_clear(&result);
	cr_expect_eq(COUNT(&world, GRANTED, NULL) + COUNT(&world, RESERVED, NULL),
		COUNT(&world, ENDED, NULL) + live);
}

static void quieten(void)
{
	if (!gw1.client)
		connect_agent();
	for (size_t i = 0; i < ask_count; i++) {
		WAIT_UNTIL(&world, !asks[i].under_way || asks[i].result.done);
		settle_ask(&asks[i]);
	}
	for (size_t i = 0; i < bundle_count; i++) {
		WAIT_UNTIL(&world, !bundles[i].under_way || bundles[i].result.done);
		settle_bundle(&bundles[i]);
	}
	world_idle(&world, 50);
	cut_flows();
	agent_settle(&gw1);
}

/* The last revision forbids some of what is open, and the gateway obeys. */
static void forbid_some(void)
{
	settle_policy(true, FORBIDDEN);
	WAIT_UNTIL(&world, gw1.reports_under_way == 0);
	for (size_t i = 0; i < gw1.door_count; i++)
		cr_expect(gw1.doors[i].inbound || gw1.doors[i].port < 1046 ||
				gw1.doors[i].port > 1048,
			"a door that the policy forbids");
	cut_flows();
	agent_settle(&gw1);
}

static void run(unsigned number)
{
	ask_count = flow_count = bundle_count = promised_cuts = 0;
	session[0] = '\0';
	begin_lives(number, "");
	for (int i = 0; i < STEPS; i++) {
		unsigned what = roll(58);
		if (what < 14)
			new_ask();
		else if (what < 16 && ask_count)
			send_ask(&asks[roll((unsigned)ask_count)]); /* once more */
		else if (what < 24)
			make_flow();
		else if (what < 30)
			close_flow();
		else if (what < 33)
			cancel_some();
		else if (what < 35)
			change_session();
		else if (what < 38)
			toggle_agent();
		else if (what < 39)
			restart_server();
		else if (what < 42)
			cut_some();
		else if (what < 46)
			renew_some();
		else if (what < 50)
			commit_some();
		else if (what < 54)
			change_bundle();
		else if (what < 57)
			start_policy(roll(2), FORBIDDEN, roll(3));
		cut_flows();
		for (unsigned j = roll(4); j > 0; j--)
			loop_step(world.loop, 1);
		settle_asks();
	}
	quieten();
	for (size_t i = 0; i < ask_count; i++) /* I6: nobody gets a second grant by asking again */
		if (asks[i].id[0])
			send_ask(&asks[i]);
	for (size_t i = 0; i < bundle_count; i++)
		if (bundles[i].first[0])
			send_bundle(&bundles[i]);
	quieten();
	forbid_some();
	expect_flows();
	expect_bundles();
	expect_distinct_ports();
	expect_doors();
	end();
}

Test(server_model, the_books_agree, .timeout = 110)
{
	run_seeds(run);
}
