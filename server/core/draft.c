/*   draft_begin ──▶ worker: add rule, hash, unpack, check ──▶ sources ──▶ worker: compile, test
 *
 * Between two steps the draft belongs to the thread that works on it. */
#include "server/core/draft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/core.h"
#include "server/core/roster.h"
#include "server/feeds/feeds.h"
#include "server/journal/digest.h"
#include "server/worker.h"

static const struct error memory = {
	.status = STATUS_RESOURCE_EXHAUSTED, .text = "the server is out of memory"};
static const struct error stopping = {
	.status = STATUS_UNAVAILABLE, .text = "the server is stopping"};

/* ---- bytes ---- */

struct packed *packed_new(uint8_t *bytes, size_t size)
{
	struct packed *packed = calloc(1, sizeof *packed);
	if (!packed)
		return NULL;
	*packed = (struct packed){.holds = 1, .size = size, .bytes = bytes};
	return packed;
}

struct packed *packed_hold(struct packed *packed)
{
	packed->holds++;
	return packed;
}

void packed_release(struct packed *packed)
{
	if (!packed || --packed->holds > 0)
		return;
	free(packed->bytes);
	free(packed);
}

/* ---- the steps, on the worker ---- */

static enum status add_rule(struct draft *draft)
{
	return draft->adds_rule
		? document_pack_with_rules(draft->packed->bytes, draft->packed->size, &draft->added,
			  1, &draft->fresh, &draft->fresh_size, &draft->err)
		: STATUS_OK;
}

static void read_document(void *arg)
{
	struct draft *draft = arg;
	enum status status = add_rule(draft);
	const uint8_t *bytes = draft->fresh ? draft->fresh : draft->packed->bytes;
	size_t size = draft->fresh ? draft->fresh_size : draft->packed->size;
	if (status)
		return;
	digest_of(bytes, size, draft->hash);
	draft->is_same =
		draft->compares && memcmp(draft->hash, draft->unlike, sizeof draft->hash) == 0;
	if (draft->is_same)
		return;
	status = document_unpack(bytes, size, &draft->document, &draft->err);
	if (!status && !draft->is_known)
		(void)roster_check(draft->roster, draft->document, &draft->err);
}

static const char *verdict_text(const struct policy_answer *answer)
{
	switch (answer->verdict) {
	case POLICY_ALLOWED:
		return "allow";
	case POLICY_DENIED_BY_PROTOCOL_RULES:
		return "deny by protocol rules";
	case POLICY_DENIED_BY_SITE_AND_CONTENT_RULES:
		return "deny by site-and-content rules";
	}
	return "unknown";
}

static enum status run_test(const struct draft *draft, const struct policy *policy, size_t i,
	int64_t now_us, struct error *err)
{
	const struct document_test *test = &policy_document(policy)->tests[i];
	struct policy_query query;
	struct policy_answer answer;
	struct error cause = {0};
	char field[96];
	enum status status = policy_query_parse(
		policy, test, roster_find_protocol, draft->roster, now_us, &query, &cause);
	if (status) {
		snprintf(field, sizeof field, "tests[%zu]%s%.60s", i, cause.field[0] ? "." : "",
			cause.field);
		return error_field(err, field, "%s: %.220s", field, cause.text);
	}
	policy_decide(policy, &query.question, &answer);
	if (policy_test_passes(test, &answer))
		return STATUS_OK;
	snprintf(field, sizeof field, "tests[%zu]", i);
	error_reason(err, STATUS_FAILED_PRECONDITION, REASON_POLICY_TEST_FAILED,
		"%s: %.63s: expected %s%s%.63s, but the answer is %s%s%.63s", field, test->name,
		test->expect_deny ? "deny" : "allow", test->rule[0] ? " by rule " : "", test->rule,
		verdict_text(&answer), answer.rule[0] ? ", rule " : ", no rule allows",
		answer.rule);
	copy_text(err->field, sizeof err->field, field);
	copy_text(err->rule, sizeof err->rule, answer.rule);
	return err->status;
}

static void run_tests(struct draft *draft)
{
	int64_t now = clock_real_us();
	size_t count = policy_document(draft->policy)->test_count;
	enum status status = STATUS_OK;
	for (size_t i = 0; i < count && !status; i++)
		status = run_test(draft, draft->policy, i, now,
			draft->tests_warn ? &draft->test_warning : &draft->err);
}

static void compile(void *arg)
{
	struct draft *draft = arg;
	const struct policy_input input = {.document = draft->document,
		.sources = draft->sources->items,
		.source_count = draft->sources->count,
		.gateways = draft->roster->policy_gateways,
		.gateway_count = draft->roster->gateway_count};
	enum status status = policy_compile(&input, &draft->policy, &draft->err);
	feeds_sources_free(draft->sources);
	draft->sources = NULL;
	if (status)
		return;
	draft->document = NULL;
	if (draft->runs_tests)
		run_tests(draft);
}

/* ---- between them, on the loop ---- */

static void finish(struct draft *draft, const struct error *err)
{
	if (err->status) {
		policy_release(draft->policy);
		draft->policy = NULL;
	}
	draft->done(draft, err);
}

/* The worker repacked it. False: out of memory. */
static bool take_fresh(struct draft *draft)
{
	if (!draft->fresh)
		return true;
	struct packed *packed = packed_new(draft->fresh, draft->fresh_size);
	if (!packed)
		return false;
	draft->fresh = NULL;
	packed_release(draft->packed);
	draft->packed = packed;
	return true;
}

static void on_compiled(void *arg, bool ran)
{
	struct draft *draft = arg;
	finish(draft, ran ? &draft->err : &stopping);
}

static bool take_sources(struct draft *draft)
{
	roster_free(draft->roster); /* of now */
	draft->roster = roster_new(draft->core);
	draft->sources = draft->roster ? feeds_sources(draft->core->feeds, draft->document) : NULL;
	return draft->sources != NULL;
}

static void begin_compiling(struct draft *draft)
{
	if (!take_sources(draft) ||
		!worker_submit(draft->core->worker, compile, on_compiled, draft))
		finish(draft, &memory);
}

static void stop_waiting(struct draft *draft)
{
	struct draft **at = &draft->core->waiting_drafts;
	while (*at != draft)
		at = &(*at)->next;
	*at = draft->next;
}

static void on_sources(void *arg, const struct error *err)
{
	struct draft *draft = arg;
	stop_waiting(draft);
	if (err->status && draft->needs == SOURCES_NEEDED) {
		finish(draft, err);
		return;
	}
	draft->source_warning = *err;
	begin_compiling(draft);
}

static void wait_for_sources(struct draft *draft)
{
	draft->next = draft->core->waiting_drafts;
	draft->core->waiting_drafts = draft;
	feeds_need(draft->core->feeds, draft->document, on_sources, draft);
}

static void on_read(void *arg, bool ran)
{
	struct draft *draft = arg;
	if (!ran || draft->core->stopping)
		finish(draft, &stopping);
	else if (draft->err.status || draft->is_same)
		finish(draft, &draft->err);
	else if (!take_fresh(draft))
		finish(draft, &memory);
	else if (draft->needs == SOURCES_AS_THEY_ARE)
		begin_compiling(draft);
	else
		wait_for_sources(draft);
}

struct draft *draft_new(struct core *core, struct packed *packed)
{
	struct draft *draft = calloc(1, sizeof *draft);
	if (!draft)
		return NULL;
	draft->core = core;
	draft->roster = roster_new(core);
	if (!draft->roster) {
		free(draft);
		return NULL;
	}
	draft->packed = packed_hold(packed);
	return draft;
}

bool draft_begin(struct draft *draft)
{
	return worker_submit(draft->core->worker, read_document, on_read, draft);
}

void draft_free(struct draft *draft)
{
	if (!draft)
		return;
	if (draft->sources)
		feeds_sources_free(draft->sources);
	document_free(draft->document);
	policy_release(draft->policy);
	packed_release(draft->packed);
	roster_free(draft->roster);
	free(draft->fresh);
	free(draft);
}

enum status draft_now(struct draft *draft, struct error *err)
{
	read_document(draft);
	if (!draft->err.status && !draft->is_same) {
		if (take_fresh(draft) && take_sources(draft))
			compile(draft);
		else
			draft->err = memory;
	}
	*err = draft->err;
	return err->status;
}

void drafts_stop(struct core *core)
{
	while (core->waiting_drafts) {
		struct draft *draft = core->waiting_drafts;
		feeds_forget(core->feeds, draft);
		stop_waiting(draft);
		finish(draft, &stopping);
	}
}
