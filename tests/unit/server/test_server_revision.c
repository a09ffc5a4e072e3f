/* Revisions of the policy document and what they do to live grants, with the core in this process,
 * a real database and scripted agents. */
#include "postern/v1/document.pb-c.h"
#include "server/core/core.h"
#include "server/core/revision.h"
#include "tests/unit/server/world_with_agents.h"

/* ---- documents ---- */

struct doc {
	Postern__V1__PolicyDocument message;
	Postern__V1__ProtocolRule rules[8], *rule_pointers[8];
	Postern__V1__SiteAndContentRule site, *site_pointers[1];
	Postern__V1__FilterLimits limits, *limit_pointers[1];
	Postern__V1__PolicyTest test, *test_pointers[1];
	Postern__V1__UserSet users, *user_pointers[1];
	char *names[8][1], *clients[8][1], *user_names[1], *user_lists[8][1], *labels[8][1];
};

/* One site rule that allows all. */
static void doc_init(struct doc *doc)
{
	memset(doc, 0, sizeof *doc);
	postern__v1__policy_document__init(&doc->message);
	postern__v1__site_and_content_rule__init(&doc->site);
	doc->site.name = TEXT("all sites");
	doc->site.action = POSTERN__V1__ACTION__ACTION_ALLOW;
	doc->site_pointers[0] = &doc->site;
	doc->message.site_and_content_rules = doc->site_pointers;
	doc->message.n_site_and_content_rules = 1;
	doc->message.protocol_rules = doc->rule_pointers;
}

static Postern__V1__ProtocolRule *doc_rule(
	struct doc *doc, const char *name, bool deny, const char *protocol)
{
	size_t i = doc->message.n_protocol_rules++;
	Postern__V1__ProtocolRule *rule = doc->rule_pointers[i] = &doc->rules[i];
	postern__v1__protocol_rule__init(rule);
	rule->name = TEXT(name);
	rule->action = deny ? POSTERN__V1__ACTION__ACTION_DENY : POSTERN__V1__ACTION__ACTION_ALLOW;
	doc->names[i][0] = TEXT(protocol);
	rule->protocols = doc->names[i];
	rule->n_protocols = 1;
	return rule;
}

static void doc_clients(struct doc *doc, Postern__V1__ProtocolRule *rule, const char *clients)
{
	size_t i = (size_t)(rule - doc->rules);
	doc->clients[i][0] = TEXT(clients);
	rule->clients = doc->clients[i];
	rule->n_clients = 1;
}

/* ---- calls of the core ---- */

struct outcome {
	unsigned done;
	struct error err;
	struct revision_result result; /* without what it points to */
	char rule[RECORD_NAME_SIZE]; /* of the first grant listed */
};

static void on_outcome(void *arg, const struct revision_result *answer, const struct error *err)
{
	struct outcome *outcome = arg;
	outcome->done++;
	outcome->err = *err;
	cr_assert_eq(answer == NULL, err->status != STATUS_OK);
	if (!answer)
		return;
	outcome->result = *answer;
	if (answer->effects.grant_count > 0)
		snprintf(outcome->rule, sizeof outcome->rule, "%s", answer->effects.grants[0].rule);
}

static struct core *core_of_world(void)
{
	return server_core(world.server);
}

static uint64_t current(void)
{
	return revision_current(core_of_world())->number;
}

static void start_apply(const struct doc *doc, struct revision_ask *ask, struct outcome *outcome)
{
	memset(outcome, 0, sizeof *outcome);
	if (doc) {
		ask->packed_size = protobuf_c_message_get_packed_size(&doc->message.base);
		ask->packed = malloc(ask->packed_size + 1);
		protobuf_c_message_pack(&doc->message.base, ask->packed);
	}
	snprintf(ask->author, sizeof ask->author, "admin");
	revision_apply(core_of_world(), ask, on_outcome, outcome);
}

static struct outcome apply_with(const struct doc *doc, struct revision_ask ask)
{
	struct outcome outcome;
	start_apply(doc, &ask, &outcome);
	WAIT_UNTIL(&world, outcome.done);
	return outcome;
}

static struct outcome apply(const struct doc *doc)
{
	return apply_with(doc, (struct revision_ask){0});
}

static struct outcome roll_back(uint64_t to)
{
	return apply_with(NULL, (struct revision_ask){.rolled_back_to = to});
}

static struct outcome confirm(uint64_t number)
{
	struct outcome outcome = {0};
	revision_confirm(core_of_world(), number, "admin", on_outcome, &outcome);
	WAIT_UNTIL(&world, outcome.done);
	return outcome;
}

#define GOOD(outcome) cr_assert_eq((outcome).err.status, STATUS_OK, "%s", (outcome).err.text)

static void expect_obeyed(uint64_t revision)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	request.name = TEXT("gw1");
	cr_assert_eq(call(&world, world.admin, &postern__v1__gateways__descriptor, "Show",
			     &request.base, &result),
		STATUS_OK);
	const Postern__V1__Gateway *gateway = (const Postern__V1__Gateway *)result.reply;
	cr_expect_eq(gateway->revision, revision, "%lu", (unsigned long)gateway->revision);
	cr_expect_eq(gateway->current_revision, current());
	result_clear(&result);
}

/* Of ftp, for the world's clients, or for those of another network. */
static void doc_others(struct doc *doc)
{
	doc_init(doc);
	doc_clients(doc, doc_rule(doc, "ftp for others", false, "ftp"), "192.0.2.0/24");
}

static void doc_all(struct doc *doc)
{
	doc_init(doc);
	doc_rule(doc, "allow ftp", false, "ftp");
}

/* ---- applied ---- */

Test(server_revision, a_revision_ends_what_it_no_longer_allows)
{
	struct doc doc;
	Postern__V1__Entry *entry;
	begin("");
	get(0, 0);
	doc_others(&doc);
	struct outcome outcome = apply(&doc);
	GOOD(outcome);
	cr_expect_eq(outcome.result.revision.number, 2);
	cr_expect_eq(outcome.result.follows, 1);
	cr_expect_eq(outcome.result.effects.judged, 1);
	cr_expect_eq(outcome.result.effects.ended, 1);
	cr_expect_eq(outcome.result.effects.gateway_count, 1);
	cr_expect_str_empty(outcome.rule, "no rule allows it");
	WAIT_UNTIL(&world, gw1.door_count == 0);
	agent_settle(&gw1);
	expect_state(&world, id, GRANT_CANCELLED, END_POLICY_CHANGED);
	expect_obeyed(2);
	cr_expect_eq(count_entries(&world, KIND(POLICY_APPLIED), NULL, &entry), 2);
	cr_expect_eq(entry->revision, 2);
	cr_expect_eq(entry->document_hash.len, 32);
	entry_free(entry);
	Postern__V1__GrantRequest request = grant_request();
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED);
	cr_expect_eq(result.err.revision, 2);
	result_clear(&result);
	end();
}

Test(server_revision, what_it_allows_stays_and_later_grants_name_it)
{
	struct doc doc;
	Postern__V1__Entry *entry;
	begin("");
	get(0, 0);
	doc_init(&doc);
	doc_rule(&doc, "another name", false, "ftp");
	struct outcome outcome = apply(&doc);
	GOOD(outcome);
	cr_expect_eq(outcome.result.effects.ended, 0);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	Postern__V1__GrantRequest request = grant_request();
	request.remote_port = 1047;
	get_grant(&world, &request, id);
	cr_assert_eq(count_entries(&world, KIND(GRANTED), id, &entry), 1);
	cr_expect_eq(entry->revision, 2);
	cr_expect_str_eq(entry->rule, "another name");
	cr_expect_str_eq(entry->site_rule, "all sites");
	entry_free(entry);
	end();
}

Test(server_revision, on_change_keep_and_cut)
{
	struct doc doc;
	begin("");
	get(0, 0);
	doc_others(&doc);
	doc.message.on_change = POSTERN__V1__ON_CHANGE__ON_CHANGE_KEEP;
	struct outcome outcome = apply(&doc);
	GOOD(outcome);
	cr_expect_eq(outcome.result.effects.kept, 1);
	cr_expect_eq(outcome.result.effects.ended, 0);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	doc.message.on_change = POSTERN__V1__ON_CHANGE__ON_CHANGE_CUT;
	Postern__V1__GrantRequest request = grant_request();
	request.remote_port = 1047;
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED);
	result_clear(&result);
	outcome = apply(&doc);
	GOOD(outcome);
	end();
}

Test(server_revision, on_change_cut_ends_flows)
{
	struct doc doc;
	begin("");
	get(0, GRANT_ALLOW_MULTIPLE);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	doc_others(&doc);
	doc.message.on_change = POSTERN__V1__ON_CHANGE__ON_CHANGE_CUT;
	struct outcome outcome = apply(&doc);
	GOOD(outcome);
	cr_expect_eq(outcome.result.effects.flows, 1);
	WAIT_UNTIL(&world, gw1.cut_count == 1);
	cr_expect_str_eq(gw1.cut[0], id);
	agent_settle(&gw1);
	expect_state(&world, id, GRANT_CANCELLED, END_POLICY_CHANGED);
	cr_expect_eq(COUNT(&world, CUT, id), 1);
	expect_obeyed(2);
	end();
}

Test(server_revision, a_dry_run_tells_and_changes_nothing)
{
	struct doc doc;
	begin("");
	get(0, 0);
	doc_others(&doc);
	doc_rule(&doc, "no ftp", true, "ftp");
	struct outcome outcome = apply_with(&doc, (struct revision_ask){.dry_run = true});
	GOOD(outcome);
	cr_expect_eq(outcome.result.effects.ended, 1);
	cr_expect_str_eq(outcome.rule, "no ftp");
	cr_expect_eq(current(), 1);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	cr_expect_eq(COUNT(&world, POLICY_APPLIED, NULL), 1);
	end();
}

Test(server_revision, the_same_document_is_no_revision)
{
	struct doc doc;
	begin("");
	doc_all(&doc);
	GOOD(apply(&doc));
	struct outcome outcome = apply(&doc);
	GOOD(outcome);
	cr_expect(outcome.result.unchanged);
	cr_expect_eq(current(), 2);
	end();
}

Test(server_revision, if_revision_guards)
{
	struct doc doc;
	begin("");
	doc_all(&doc);
	struct outcome outcome = apply_with(&doc, (struct revision_ask){.if_revision = 7});
	cr_expect_eq(outcome.err.status, STATUS_ABORTED);
	cr_expect_eq(outcome.err.reason, REASON_REVISION_CHANGED);
	GOOD(apply_with(&doc, (struct revision_ask){.if_revision = 1}));
	end();
}

Test(server_revision, one_change_at_a_time)
{
	struct doc doc;
	struct outcome first, second;
	begin("");
	doc_all(&doc);
	start_apply(&doc, &(struct revision_ask){0}, &first);
	start_apply(&doc, &(struct revision_ask){0}, &second);
	cr_expect(!first.done && !second.done, "never inside the call");
	WAIT_UNTIL(&world, first.done && second.done);
	GOOD(first);
	cr_expect_eq(second.err.status, STATUS_ABORTED, "%s", second.err.text);
	end();
}

Test(server_revision, who_forgets_hears_nothing_and_the_change_goes_on)
{
	struct doc doc;
	struct outcome outcome;
	begin("");
	doc_all(&doc);
	start_apply(&doc, &(struct revision_ask){0}, &outcome);
	revision_forget(core_of_world(), &outcome);
	WAIT_UNTIL(&world, current() == 2);
	world_idle(&world, 50);
	cr_expect_eq(outcome.done, 0);
	end();
}

Test(server_revision, bad_documents_change_nothing)
{
	struct doc doc;
	begin("");
	doc_init(&doc);
	doc_rule(&doc, "allow ftpp", false, "ftpp");
	struct outcome outcome = apply(&doc);
	cr_expect_eq(outcome.err.status, STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(outcome.err.field, "protocol_rules[0].protocols[0]");
	cr_expect(strstr(outcome.err.text, "ftp\""), "did you mean: %s", outcome.err.text);
	doc_all(&doc);
	doc.test_pointers[0] = &doc.test;
	postern__v1__policy_test__init(&doc.test);
	doc.test.name = TEXT("ftp is closed");
	doc.test.client = TEXT("10.77.1.2");
	doc.test.to = TEXT("10.77.2.2:1046");
	doc.test.protocol = TEXT("ftp");
	doc.test.expect = POSTERN__V1__ACTION__ACTION_DENY;
	doc.message.tests = doc.test_pointers;
	doc.message.n_tests = 1;
	outcome = apply(&doc);
	cr_expect_eq(outcome.err.reason, REASON_POLICY_TEST_FAILED, "%s", outcome.err.text);
	cr_expect_str_eq(outcome.err.field, "tests[0]");
	cr_expect_eq(current(), 1);
	doc.test.expect = POSTERN__V1__ACTION__ACTION_ALLOW;
	GOOD(apply(&doc));
	end();
}

Test(server_revision, a_disk_that_refuses_changes_nothing)
{
	struct doc doc;
	begin("");
	get(0, 0);
	doc_others(&doc);
	break_disk(true);
	struct outcome outcome = apply(&doc);
	break_disk(false);
	cr_expect_eq(outcome.err.reason, REASON_JOURNAL_UNAVAILABLE, "%s", outcome.err.text);
	cr_expect_eq(current(), 1);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	GOOD(apply(&doc));
	end();
}

/* ---- looking back ---- */

Test(server_revision, a_rollback_is_a_revision_of_an_older_document)
{
	struct doc doc;
	Postern__V1__GrantRequest request = grant_request();
	begin("");
	doc_others(&doc);
	GOOD(apply(&doc));
	struct outcome outcome = roll_back(1);
	GOOD(outcome);
	cr_expect_eq(outcome.result.revision.number, 3);
	cr_expect_eq(outcome.result.revision.rolled_back_to, 1);
	get_grant(&world, &request, id);
	cr_expect_eq(COUNT(&world, POLICY_ROLLED_BACK, NULL), 1);
	outcome = roll_back(9);
	cr_expect_eq(outcome.err.status, STATUS_NOT_FOUND);
	restart();
	cr_expect_eq(current(), 3);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	end();
}

Test(server_revision, confirmed_in_time)
{
	struct doc doc;
	begin("");
	doc_all(&doc);
	GOOD(apply_with(&doc, (struct revision_ask){.confirm_ms = 60000}));
	cr_expect_neq(revision_current(core_of_world())->confirm_until_us, 0);
	doc_others(&doc);
	cr_expect_eq(apply(&doc).err.status, STATUS_FAILED_PRECONDITION);
	cr_expect_eq(confirm(1).err.status, STATUS_FAILED_PRECONDITION);
	GOOD(confirm(0));
	cr_expect_eq(revision_current(core_of_world())->confirm_until_us, 0);
	cr_expect_eq(confirm(0).err.status, STATUS_FAILED_PRECONDITION);
	cr_expect_eq(COUNT(&world, POLICY_CONFIRMED, NULL), 1);
	restart();
	cr_expect_eq(revision_current(core_of_world())->confirm_until_us, 0);
	GOOD(apply(&doc));
	end();
}

Test(server_revision, unconfirmed_it_is_rolled_back)
{
	struct doc doc;
	begin("");
	doc_others(&doc);
	GOOD(apply_with(&doc, (struct revision_ask){.confirm_ms = 200}));
	WAIT_UNTIL(&world, current() == 3);
	cr_expect_eq(revision_current(core_of_world())->rolled_back_to, 1);
	cr_expect_eq(revision_current(core_of_world())->confirm_until_us, 0);
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	end();
}

Test(server_revision, unconfirmed_it_is_rolled_back_by_the_next_server)
{
	struct doc doc;
	begin("");
	doc_others(&doc);
	GOOD(apply_with(&doc, (struct revision_ask){.confirm_ms = 300}));
	agent_disconnect(&gw1);
	world_stop(&world);
	int64_t until = clock_mono_us() + 400000;
	while (clock_mono_us() < until)
		loop_step(world.loop, 50);
	world_start(&world);
	agent_start(&gw1, NULL, 0);
	WAIT_UNTIL(&world, current() == 3);
	cr_expect_eq(revision_current(core_of_world())->rolled_back_to, 1);
	end();
}

/* ---- time ---- */

Test(server_revision, a_rule_that_expires_ends_its_grants)
{
	struct doc doc;
	char text[CLOCK_TEXT_SIZE];
	begin("");
	doc_all(&doc);
	clock_format(clock_real_us() + 2000000, text);
	snprintf(text + 19, sizeof text - 19, "Z");
	doc.rules[0].expires = text;
	GOOD(apply(&doc));
	get(0, 0);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	expect_state(&world, id, GRANT_CANCELLED, END_POLICY_CHANGED);
	end();
}

/* ---- what a request brings ---- */

Test(server_revision, staged_rules_are_journalled_only)
{
	struct doc doc;
	Postern__V1__Entry *entry;
	begin("");
	doc_all(&doc);
	doc_rule(&doc, "soon", true, "ftp")->staged = true;
	GOOD(apply(&doc));
	get(0, 0);
	cr_assert_eq(count_entries(&world, KIND(GRANTED), id, &entry), 1);
	cr_expect_str_eq(entry->staged_rule, "soon");
	entry_free(entry);
	end();
}

Test(server_revision, limits_of_the_document)
{
	struct doc doc;
	Postern__V1__GrantRequest request = grant_request();
	begin("");
	doc_all(&doc);
	postern__v1__filter_limits__init(&doc.limits);
	doc.limit_pointers[0] = &doc.limits;
	doc.limits.filter = TEXT("ftp-filter");
	doc.limits.max_grants = 1;
	doc.limits.max_lifetime = TEXT("60s");
	doc.message.filters = doc.limit_pointers;
	doc.message.n_filters = 1;
	GOOD(apply(&doc));
	request.lifetime_ms = 600000;
	cr_assert_eq(ask(&world, world.ftp, &request, &result), STATUS_OK, "%s", result.err.text);
	cr_expect_eq(granted(&result)->lifetime_ms, 60000);
	result_clear(&result);
	request.remote_port = 1047;
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_RESOURCE_EXHAUSTED);
	expect_error(&result, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, NULL);
	end();
}

Test(server_revision, rules_with_users_ask_the_session)
{
	struct doc doc;
	Postern__V1__GrantRequest request = grant_request();
	Postern__V1__SessionOpenRequest open = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	Postern__V1__Entry *entry;
	begin("");
	doc_all(&doc);
	postern__v1__user_set__init(&doc.users);
	doc.user_pointers[0] = &doc.users;
	doc.users.name = TEXT("staff");
	doc.user_names[0] = TEXT("ada");
	doc.users.users = doc.user_names;
	doc.users.n_users = 1;
	doc.message.user_sets = doc.user_pointers;
	doc.message.n_user_sets = 1;
	doc.user_lists[0][0] = TEXT("staff");
	doc.rules[0].users = doc.user_lists[0];
	doc.rules[0].n_users = 1;
	GOOD(apply(&doc));
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED);
	result_clear(&result);
	open.gateway = TEXT("gw1");
	open.client = TEXT("10.77.1.2");
	open.user = TEXT("ada");
	cr_assert_eq(call(&world, world.ftp, &postern__v1__sessions__descriptor, "Open", &open.base,
			     &result),
		STATUS_OK);
	char session[ID_TEXT_SIZE];
	snprintf(session, sizeof session, "%s", ((Postern__V1__Session *)result.reply)->id);
	result_clear(&result);
	request.session = session;
	get_grant(&world, &request, id);
	cr_assert_eq(count_entries(&world, KIND(GRANTED), id, &entry), 1);
	cr_expect_str_eq(entry->user, "ada");
	entry_free(entry);
	GOOD(apply_with(NULL, (struct revision_ask){.rolled_back_to = 1}));
	end();
}

/* ---- what gateways obey ---- */

Test(server_revision, a_gateway_obeys_when_its_agent_says_so)
{
	struct doc doc;
	begin("");
	get(0, 0);
	expect_obeyed(1);
	gw1.holds_acks = true;
	doc_others(&doc);
	GOOD(apply(&doc));
	WAIT_UNTIL(&world, gw1.door_count == 0 && gw1.revision == 2);
	expect_obeyed(1);
	agent_apply(&gw1, gw1.item);
	agent_settle(&gw1);
	expect_obeyed(2);
	gw1.holds_acks = false;
	restart();
	WAIT_UNTIL(&world, gw1.revision == 2);
	agent_settle(&gw1);
	expect_obeyed(2);
	end();
}

/* More than a turn of the loop judges, some of which end by themselves meanwhile. */
Test(server_revision, many_grants_are_judged_in_slices)
{
	struct doc doc;
	struct outcome outcome;
	char ids[1010][ID_TEXT_SIZE];
	Postern__V1__GrantRequest request = grant_request();
	begin("");
	for (uint32_t i = 0; i < 1010; i++) {
		request.remote_port = 2000 + i;
		request.flags = 0;
		if (i < 1000)
			get_grant(&world, &request, ids[i]);
	}
	agent_settle(&gw1);
	doc_others(&doc);
	start_apply(&doc, &(struct revision_ask){0}, &outcome);
	(void)cancel(&world, world.ftp, ids[999], &result);
	result_clear(&result);
	WAIT_UNTIL(&world, outcome.done);
	GOOD(outcome);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	agent_settle(&gw1);
	expect_obeyed(2);
	end();
}

/* Rules that name a label match a gateway from its first request on. */
Test(server_revision, a_gateway_that_is_added_has_its_labels)
{
	struct doc doc;
	Postern__V1__GatewayAddRequest add = POSTERN__V1__GATEWAY_ADD_REQUEST__INIT;
	Postern__V1__GrantRequest request = grant_request();
	char *labels[] = {TEXT("lab")};
	begin("");
	doc_all(&doc);
	Postern__V1__ProtocolRule *rule = doc_rule(&doc, "not in the lab", true, "ftp");
	doc.labels[1][0] = labels[0];
	rule->gateway_labels = doc.labels[1];
	rule->n_gateway_labels = 1;
	GOOD(apply(&doc));
	add.name = TEXT("gw3");
	add.labels = labels;
	add.n_labels = 1;
	cr_assert_eq(call(&world, world.admin, &postern__v1__gateways__descriptor, "Add", &add.base,
			     &result),
		STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	request.gateway = TEXT("gw3");
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED, "%s",
		result.err.text);
	cr_expect_str_eq(result.err.rule, "not in the lab");
	result_clear(&result);
	cr_expect_eq(current(), 2, "it is the same revision");
	get(0, 0);
	end();
}

/* What a grant's own decision delays, delays what its gateway obeys. */
Test(server_revision, a_renewal_under_way_does_not_save_a_grant)
{
	struct doc doc;
	struct outcome outcome;
	struct result renewal;
	Postern__V1__GrantRenewRequest request = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	begin("");
	get(0, 0);
	doc_others(&doc);
	request.id = id;
	start_apply(&doc, &(struct revision_ask){0}, &outcome);
	for (int i = 0; i < 30 && !outcome.done; i++) {
		start_grants_call(world.ftp, "Renew", &request.base, 0, &renewal);
		WAIT_UNTIL(&world, renewal.done);
		result_clear(&renewal);
	}
	WAIT_UNTIL(&world, outcome.done);
	GOOD(outcome);
	WAIT_UNTIL(&world, gw1.door_count == 0 && gw1.revision == 2);
	agent_settle(&gw1);
	expect_state(&world, id, GRANT_CANCELLED, END_POLICY_CHANGED);
	expect_obeyed(2);
	end();
}

Test(server_revision, an_empty_document_denies_everything)
{
	struct doc doc;
	Postern__V1__GrantRequest request = grant_request();
	begin("");
	doc_init(&doc);
	doc.message.n_site_and_content_rules = 0;
	GOOD(apply(&doc));
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED);
	result_clear(&result);
	restart();
	cr_expect_eq(current(), 2);
	end();
}
