#include "server/service/policy_questions.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/revision.h"
#include "server/fleet/gateway.h"
#include "server/policy/protocols.h"
#include "server/service/uploads.h"

#define SLICE 500 /* rules, or tests, in one turn of the loop */

void verdict_to_wire(const struct policy *policy, const struct policy_answer *answer,
	Postern__V1__Verdict *message)
{
	postern__v1__verdict__init(message);
	message->allowed = answer->verdict == POLICY_ALLOWED;
	if (answer->verdict == POLICY_DENIED_BY_PROTOCOL_RULES)
		message->reason = POSTERN__V1__END_REASON__END_REASON_DENIED_PROTOCOL_RULES;
	if (answer->verdict == POLICY_DENIED_BY_SITE_AND_CONTENT_RULES)
		message->reason = POSTERN__V1__END_REASON__END_REASON_DENIED_SITE_AND_CONTENT_RULES;
	message->rule = wire_text(answer->rule);
	message->site_rule = wire_text(answer->site_rule);
	message->staged_rule = wire_text(answer->staged_rule);
	message->revision = policy_revision(policy);
}

/* ---- one question, or one document's tests, in slices ---- */

struct asking {
	struct core *core;
	struct rpc_call *call;
	struct policy *policy; /* NULL = still on its way */
	struct outbox *outbox;
	struct loop_timer turn;
	Postern__V1__ExplainRequest *question; /* NULL: tests */
	struct policy_query query;
	struct document_test texts;
	size_t next;
	bool all, over;
};

static const struct protocol_record *registered(void *arg, const char *name)
{
	const struct core *core = arg;
	return protocols_find(&core->protocols, name);
}

static void asking_free(struct asking *asking)
{
	loop_timer_clear(asking->core->loop, &asking->turn);
	policy_release(asking->policy);
	if (asking->question)
		postern__v1__explain_request__free_unpacked(asking->question, NULL);
	free(asking);
}

static void give_up(struct asking *asking, const struct error *err)
{
	if (asking->outbox)
		outbox_fail(asking->outbox, err);
	else
		rpc_fail(asking->call, err);
	asking_free(asking);
}

static void gone(void *arg, enum status why)
{
	struct asking *asking = arg;
	struct error err;
	error_set(&err, why, "the caller went away");
	if (asking->policy)
		give_up(asking, &err);
	else
		asking->over = true; /* the candidate comes, and ends it */
}

/* ---- explain ---- */

static Postern__V1__Action action_of(bool deny)
{
	return deny ? POSTERN__V1__ACTION__ACTION_DENY : POSTERN__V1__ACTION__ACTION_ALLOW;
}

static void on_rule(void *arg, const struct document_rule *rule, bool matched,
	const struct policy_condition *conditions, size_t count)
{
	struct asking *asking = arg;
	Postern__V1__ExplainItem item = POSTERN__V1__EXPLAIN_ITEM__INIT;
	Postern__V1__ExplainCondition wires[POLICY_CONDITIONS_MAX], *list[POLICY_CONDITIONS_MAX];
	for (size_t i = 0; i < count; i++) {
		postern__v1__explain_condition__init(&wires[i]);
		wires[i].field = wire_text(conditions[i].field);
		wires[i].matched = conditions[i].matched;
		wires[i].detail = wire_text(conditions[i].detail);
		list[i] = &wires[i];
	}
	item.type = (Postern__V1__RuleType)rule->type;
	item.rule = wire_text(rule->name);
	item.action = action_of(rule->deny);
	item.disabled = rule->disabled;
	item.staged = rule->staged;
	item.matched = matched && !rule->disabled;
	item.conditions = list;
	item.n_conditions = count;
	outbox_add(asking->outbox, &item.base);
}

static const char *problem_of(const struct asking *asking)
{
	const struct protocol_record *protocol =
		policy_find_protocol(asking->policy, asking->texts.protocol);
	const struct policy_question *question = &asking->query.question;
	if (!protocol || !protocol->secondary)
		return "";
	if (protocol->secondary->ports.count > 0 &&
		!ports_cover(
			&protocol->secondary->ports, question->port_first, question->port_last))
		return "the protocol definition's secondary_ports do not have this port: the "
		       "request is refused before any rule is asked";
	for (size_t i = 0; i < question->remote_count; i++)
		if (!ranges_is_empty(&protocol->secondary->addresses) &&
			!ranges_contain(&protocol->secondary->addresses, &question->remotes[i]))
			return "the protocol definition's secondary_addresses do not have this "
			       "remote: the request is refused before any rule is asked";
	return "";
}

static void finish(struct asking *asking)
{
	outbox_send(asking->outbox);
	asking_free(asking);
}

static void explain_more(void *arg)
{
	struct asking *asking = arg;
	Postern__V1__ExplainItem last = POSTERN__V1__EXPLAIN_ITEM__INIT;
	Postern__V1__Verdict verdict;
	struct policy_answer answer;
	asking->next = policy_explain(asking->policy, &asking->query.question, asking->next, SLICE,
		asking->all, on_rule, asking);
	if (asking->next < policy_document(asking->policy)->rule_count) {
		loop_timer_set(
			asking->core->loop, &asking->turn, clock_mono_us(), explain_more, asking);
		return;
	}
	policy_decide(asking->policy, &asking->query.question, &answer);
	verdict_to_wire(asking->policy, &answer, &verdict);
	verdict.problem = wire_text(problem_of(asking));
	last.verdict = &verdict;
	outbox_add(asking->outbox, &last.base);
	finish(asking);
}

static void texts_of(const Postern__V1__PolicyTest *from, struct document_test *to)
{
	*to = (struct document_test){.name = from->name,
		.gateway = from->gateway,
		.client = from->client,
		.to = from->to,
		.from = from->from,
		.protocol = from->protocol,
		.user = from->user,
		.at = from->at,
		.rule = from->rule};
}

static enum status begin_explaining(struct asking *asking, struct error *err)
{
	texts_of(asking->question->question, &asking->texts);
	if (asking->texts.gateway[0] && !gateway_find(asking->core, asking->texts.gateway))
		return error_field(err, "question.gateway",
			"gateway: no gateway is called \"%.60s\": see `postern gateway list`",
			asking->texts.gateway);
	return policy_query_parse(asking->policy, &asking->texts, registered, asking->core,
		clock_real_us(), &asking->query, err);
}

/* ---- tests ---- */

static void add_result(
	struct asking *asking, size_t index, bool passed, const Postern__V1__Verdict *verdict)
{
	const struct document_test *test = &policy_document(asking->policy)->tests[index];
	Postern__V1__PolicyTestResult result = POSTERN__V1__POLICY_TEST_RESULT__INIT;
	Postern__V1__PolicyTest wire = POSTERN__V1__POLICY_TEST__INIT;
	wire.name = wire_text(test->name);
	wire.gateway = wire_text(test->gateway);
	wire.client = wire_text(test->client);
	wire.to = wire_text(test->to);
	wire.from = wire_text(test->from);
	wire.protocol = wire_text(test->protocol);
	wire.user = wire_text(test->user);
	wire.at = wire_text(test->at);
	wire.rule = wire_text(test->rule);
	wire.expect = action_of(test->expect_deny);
	result.index = (uint32_t)index;
	result.test = &wire;
	result.passed = passed;
	result.verdict = (Postern__V1__Verdict *)(uintptr_t)verdict;
	outbox_add(asking->outbox, &result.base);
}

static void run_test(struct asking *asking, size_t index, int64_t now_us)
{
	const struct document_test *test = &policy_document(asking->policy)->tests[index];
	Postern__V1__Verdict verdict = POSTERN__V1__VERDICT__INIT;
	struct policy_query query;
	struct policy_answer answer;
	struct error err;
	if (policy_query_parse(
		    asking->policy, test, registered, asking->core, now_us, &query, &err)) {
		verdict.problem = err.text;
		add_result(asking, index, false, &verdict);
		return;
	}
	policy_decide(asking->policy, &query.question, &answer);
	verdict_to_wire(asking->policy, &answer, &verdict);
	add_result(asking, index, policy_test_passes(test, &answer), &verdict);
}

static void test_more(void *arg)
{
	struct asking *asking = arg;
	size_t count = policy_document(asking->policy)->test_count;
	int64_t now = clock_real_us();
	for (size_t i = 0; i < SLICE && asking->next < count; i++)
		run_test(asking, asking->next++, now);
	if (asking->next < count)
		loop_timer_set(
			asking->core->loop, &asking->turn, clock_mono_us(), test_more, asking);
	else
		finish(asking);
}

/* ---- both ---- */

static void on_candidate(void *arg, struct policy *policy, const struct error *err)
{
	struct asking *asking = arg;
	struct error failure = *err;
	if (!failure.status && asking->over)
		error_set(&failure, STATUS_CANCELLED, "the caller went away");
	if (failure.status) {
		give_up(asking, &failure);
		return;
	}
	policy_hold(policy);
	asking->policy = policy;
	if (asking->question && begin_explaining(asking, &failure)) {
		give_up(asking, &failure);
		return;
	}
	asking->outbox = outbox_new(asking->call);
	if (!asking->outbox)
		asking_free(asking);
	else if (asking->question)
		explain_more(asking);
	else
		test_more(asking);
}

static void ask(struct services *services, struct rpc_call *call,
	const Postern__V1__DocumentSource *source, struct asking *asking)
{
	uint8_t *packed;
	size_t size;
	struct error err;
	if (uploads_take(services->uploads, rpc_call_principal(call)->name, source, &packed, &size,
		    &err))
		give_up(asking, &err);
	else
		revision_candidate(services->core, packed, size, on_candidate, asking);
}

/* The request outlives the handler. */
static Postern__V1__ExplainRequest *copy_of(const Postern__V1__ExplainRequest *input)
{
	Postern__V1__ExplainRequest slim = *input;
	slim.source = NULL;
	size_t size = postern__v1__explain_request__get_packed_size(&slim);
	uint8_t *packed = malloc(size + 1);
	if (!packed)
		return NULL;
	postern__v1__explain_request__pack(&slim, packed);
	Postern__V1__ExplainRequest *copy =
		postern__v1__explain_request__unpack(NULL, size, packed);
	free(packed);
	return copy;
}

static struct asking *asking_new(struct services *services, struct rpc_call *call)
{
	struct asking *asking = call_state_new(call, sizeof *asking, gone);
	if (!asking)
		return NULL;
	asking->core = services->core;
	asking->call = call;
	return asking;
}

void handle_explain(Postern__V1__Revisions_Service *service,
	const Postern__V1__ExplainRequest *input, Postern__V1__ExplainItem_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, revisions);
	struct error err;
	(void)closure;
	if (!input->question) {
		error_field(&err, "question", "question: say who asks for what");
		rpc_fail(data, &err);
		return;
	}
	struct asking *asking = asking_new(services, data);
	if (!asking)
		return;
	asking->all = input->all;
	asking->question = copy_of(input);
	if (!asking->question) {
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		give_up(asking, &err);
		return;
	}
	ask(services, data, input->source, asking);
}

void handle_test(Postern__V1__Revisions_Service *service,
	const Postern__V1__PolicyTestRequest *input, Postern__V1__PolicyTestResult_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, revisions);
	struct asking *asking = asking_new(services, data);
	(void)closure;
	if (asking)
		ask(services, data, input->source, asking);
}
