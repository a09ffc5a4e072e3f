/* The fake server's revisions and feeds. It keeps the documents that are applied and finds two
 * faults: a protocol rule "bad", whose first client it does not know, and a test "fails". */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postern/v1/feeds.pb-c.h"
#include "postern/v1/revisions.pb-c.h"
#include "tests/unit/client/fake_internal.h"

#define REVISIONS_MAX 32
#define SHOW_PIECE (256 * 1024)

/* The server's thread only, but for fake_revisions_reset. */
static struct kept {
	uint8_t *bytes;
	size_t size;
	uint64_t rolled_back_to;
	char message[64];
} revisions[REVISIONS_MAX + 1];
static uint64_t current;
static struct kept uploaded;
static char upload_id[40];

static struct fake_policy_asked *asked(void)
{
	return &the_fake->counts.policy;
}

void fake_revisions_reset(void)
{
	for (uint64_t i = 0; i <= current; i++)
		free(revisions[i].bytes);
	free(uploaded.bytes);
	memset(revisions, 0, sizeof(revisions));
	memset(&uploaded, 0, sizeof(uploaded));
	upload_id[0] = '\0';
	current = 0;
}

static void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

static void fail(struct rpc_call *call, enum status status, enum reason reason, const char *field,
	const char *text)
{
	struct error err = {0};

	error_reason(&err, status, reason, "%s%s%s", field, field[0] != '\0' ? ": " : "", text);
	copy(err.field, sizeof(err.field), field);
	rpc_fail(call, &err);
}

/* ---- documents ---- */

static struct kept resolve(const Postern__V1__DocumentSource *source)
{
	struct kept none = {.bytes = (uint8_t *)"", .size = 0};

	if (source != NULL && source->document.len != 0)
		return (struct kept){.bytes = source->document.data, .size = source->document.len};
	if (source != NULL && source->upload[0] != '\0') {
		assert(strcmp(source->upload, upload_id) == 0);
		return uploaded;
	}
	return current != 0 ? revisions[current] : none;
}

static Postern__V1__PolicyDocument *unpack(struct kept kept)
{
	Postern__V1__PolicyDocument *document =
		postern__v1__policy_document__unpack(NULL, kept.size, kept.bytes);

	assert(document != NULL);
	asked()->document_size = kept.size;
	return document;
}

static void fill(Postern__V1__Revision *revision, uint64_t number)
{
	postern__v1__revision__init(revision);
	revision->number = number;
	revision->author = (char *)"tester";
	revision->time_us = 1795516464656926;
	if (number > current)
		return;
	revision->message = revisions[number].message;
	revision->rolled_back_to = revisions[number].rolled_back_to;
	revision->current = number == current;
	revision->document_size = revisions[number].size;
}

/* True: a fault was found, and the call failed with it. */
static bool is_faulty(struct rpc_call *call, const Postern__V1__PolicyDocument *document)
{
	char field[96];

	for (size_t i = 0; i < document->n_protocol_rules; i++) {
		if (strcmp(document->protocol_rules[i]->name, "bad") != 0)
			continue;
		snprintf(field, sizeof(field), "protocol_rules[%zu].clients[0]", i);
		fail(call, STATUS_INVALID_ARGUMENT, REASON_NONE, field,
			"no client set \"staf\": did you mean \"staff\"?");
		return true;
	}
	for (size_t i = 0; i < document->n_tests; i++) {
		if (strcmp(document->tests[i]->name, "fails") != 0)
			continue;
		snprintf(field, sizeof(field), "tests[%zu]", i);
		fail(call, STATUS_FAILED_PRECONDITION, REASON_POLICY_TEST_FAILED, field,
			"expected to be allowed, but no rule allows it");
		return true;
	}
	return false;
}

static void on_upload(Postern__V1__Revisions_Service *service,
	const Postern__V1__UploadRequest *input, Postern__V1__UploadReply_Closure closure,
	void *call)
{
	Postern__V1__UploadReply reply = POSTERN__V1__UPLOAD_REPLY__INIT;

	(void)service, (void)closure;
	asked()->pieces++;
	assert(input->data.len <= 512 * 1024);
	if (strcmp(upload_id, input->upload) != 0) {
		asked()->uploads++;
		free(uploaded.bytes);
		memset(&uploaded, 0, sizeof(uploaded));
		copy(upload_id, sizeof(upload_id), input->upload);
	}
	if (input->offset != uploaded.size) {
		fail(call, STATUS_INVALID_ARGUMENT, REASON_NONE, "offset", "a piece is missing");
		return;
	}
	uploaded.bytes = realloc(uploaded.bytes, uploaded.size + input->data.len);
	memcpy(uploaded.bytes + uploaded.size, input->data.data, input->data.len);
	uploaded.size += input->data.len;
	reply.size = uploaded.size;
	if (input->offset == 0 || !fake_is_cut(the_fake, call))
		rpc_reply(call, &reply.base);
}

/* ---- apply, confirm, rollback ---- */

static void keep(struct kept from, const char *message, uint64_t rolled_back_to)
{
	struct kept *kept = &revisions[++current];

	assert(current <= REVISIONS_MAX);
	kept->bytes = malloc(from.size + 1);
	memcpy(kept->bytes, from.bytes, from.size);
	kept->size = from.size;
	kept->rolled_back_to = rolled_back_to;
	copy(kept->message, sizeof(kept->message), message);
}

static void answer_apply(struct rpc_call *call, Postern__V1__ApplyReply *reply, uint64_t number,
	uint64_t confirm_ms, uint64_t rules)
{
	Postern__V1__Revision revision;
	Postern__V1__ChangeEffects effects = POSTERN__V1__CHANGE_EFFECTS__INIT;
	Postern__V1__GatewayEffect gateway = POSTERN__V1__GATEWAY_EFFECT__INIT;
	Postern__V1__Grant grant = POSTERN__V1__GRANT__INIT;
	Postern__V1__GatewayEffect *gateways[] = {&gateway};
	Postern__V1__Grant *grants[] = {&grant};
	char *warnings[] = {(char *)"rule \"x\" can never match"};

	fill(&revision, number);
	revision.rules = rules;
	revision.confirm_until_us =
		confirm_ms == 0 ? 0 : revision.time_us + (int64_t)confirm_ms * 1000;
	gateway.gateway = (char *)"gw1";
	gateway.grants = 2;
	gateway.flows = 1;
	grant.id = (char *)"G1";
	grant.gateway = (char *)"gw1";
	grant.client = (char *)"10.77.1.2";
	grant.remote = (char *)"fd77:2::2";
	grant.remote_port = 1046;
	grant.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	grant.rule = (char *)"no evil";
	effects.judged = 7;
	effects.ended = 2;
	effects.kept = 1;
	effects.flows = 1;
	effects.gateways = gateways;
	effects.n_gateways = 1;
	effects.grants = grants;
	effects.n_grants = 1;
	reply->revision = &revision;
	reply->effects = &effects;
	reply->warnings = warnings;
	reply->n_warnings = 1;
	rpc_reply(call, &reply->base);
}

static bool is_stale(struct rpc_call *call, uint64_t if_revision)
{
	asked()->if_revision = if_revision;
	if (if_revision == 0 || if_revision == current)
		return false;
	fail(call, STATUS_ABORTED, REASON_REVISION_CHANGED, "", "revision 9 is in force");
	return true;
}

static void on_apply(Postern__V1__Revisions_Service *service,
	const Postern__V1__ApplyRequest *input, Postern__V1__ApplyReply_Closure closure, void *call)
{
	Postern__V1__ApplyReply reply = POSTERN__V1__APPLY_REPLY__INIT;
	struct kept kept = resolve(input->source);

	(void)service, (void)closure;
	asked()->applies++;
	asked()->dry_run = input->dry_run;
	asked()->confirm_ms = input->confirm_ms;
	copy(asked()->message, sizeof(asked()->message), input->message);
	if (is_stale(call, input->if_revision))
		return;
	Postern__V1__PolicyDocument *document = unpack(kept);
	uint64_t rules = document->n_protocol_rules + document->n_site_and_content_rules;
	if (!is_faulty(call, document)) {
		reply.follows = current;
		reply.unchanged = current != 0 && revisions[current].size == kept.size &&
			memcmp(revisions[current].bytes, kept.bytes, kept.size) == 0;
		if (!reply.unchanged && !input->dry_run)
			keep(kept, input->message, 0);
		if (!fake_is_cut(the_fake, call))
			answer_apply(call, &reply, input->dry_run ? current + 1 : current,
				input->confirm_ms, rules);
	}
	postern__v1__policy_document__free_unpacked(document, NULL);
}

static void on_confirm(Postern__V1__Revisions_Service *service,
	const Postern__V1__ConfirmRequest *input, Postern__V1__Revision_Closure closure, void *call)
{
	Postern__V1__Revision revision;

	(void)service, (void)closure;
	asked()->confirms++;
	asked()->confirmed = input->revision;
	fill(&revision, input->revision == 0 ? current : input->revision);
	rpc_reply(call, &revision.base);
}

static void on_rollback(Postern__V1__Revisions_Service *service,
	const Postern__V1__RollbackRequest *input, Postern__V1__ApplyReply_Closure closure,
	void *call)
{
	Postern__V1__ApplyReply reply = POSTERN__V1__APPLY_REPLY__INIT;

	(void)service, (void)closure;
	asked()->rollbacks++;
	asked()->rolled_back = input->revision;
	copy(asked()->message, sizeof(asked()->message), input->message);
	if (is_stale(call, input->if_revision))
		return;
	if (input->revision > current) {
		fail(call, STATUS_NOT_FOUND, REASON_NONE, "revision", "no such revision");
		return;
	}
	reply.follows = current;
	keep(revisions[input->revision], input->message, input->revision);
	answer_apply(call, &reply, current, 0, 1);
}

/* ---- reads ---- */

static void on_list(Postern__V1__Revisions_Service *service,
	const Postern__V1__RevisionListRequest *input, Postern__V1__Revision_Closure closure,
	void *call)
{
	Postern__V1__Revision revision;
	uint32_t limit = input->limit == 0 ? 100 : input->limit;

	(void)service, (void)closure;
	for (uint64_t number = current; number > 0 && limit-- > 0; number--) {
		fill(&revision, number);
		rpc_item(call, &revision.base);
	}
	rpc_end(call);
}

static void on_show(Postern__V1__Revisions_Service *service,
	const Postern__V1__RevisionShowRequest *input, Postern__V1__DocumentPiece_Closure closure,
	void *call)
{
	uint64_t number = input->revision == 0 ? current : input->revision;
	Postern__V1__Revision revision;

	(void)service, (void)closure;
	if (number > current) {
		fail(call, STATUS_NOT_FOUND, REASON_NONE, "revision", "no such revision");
		return;
	}
	fill(&revision, number);
	for (size_t at = 0; at == 0 || at < revisions[number].size; at += SHOW_PIECE) {
		Postern__V1__DocumentPiece piece = POSTERN__V1__DOCUMENT_PIECE__INIT;
		size_t left = revisions[number].size - at;

		piece.revision = at == 0 ? &revision : NULL;
		piece.data.data = revisions[number].bytes + at;
		piece.data.len = left < SHOW_PIECE ? left : SHOW_PIECE;
		rpc_item(call, &piece.base);
	}
	rpc_end(call);
}

/* By the protocol: "ftp" is allowed, "evil" denied by a site rule, "wide" outside its bounds, and
 * anything else not allowed by any rule. */
static void fill_verdict(Postern__V1__Verdict *verdict, const char *protocol)
{
	bool evil = strcmp(protocol, "evil") == 0;

	postern__v1__verdict__init(verdict);
	verdict->revision = 3;
	verdict->allowed = strcmp(protocol, "ftp") == 0 || strcmp(protocol, "wide") == 0;
	if (verdict->allowed) {
		verdict->rule = (char *)"ftp for staff";
		verdict->site_rule = (char *)"all sites";
		verdict->problem = strcmp(protocol, "wide") == 0 ? (char *)"port 80 is below 1024"
								 : (char *)"";
	} else {
		verdict->rule = evil ? (char *)"no evil" : (char *)"";
		verdict->reason = evil
			? POSTERN__V1__END_REASON__END_REASON_DENIED_SITE_AND_CONTENT_RULES
			: POSTERN__V1__END_REASON__END_REASON_DENIED_PROTOCOL_RULES;
	}
}

static void on_explain(Postern__V1__Revisions_Service *service,
	const Postern__V1__ExplainRequest *input, Postern__V1__ExplainItem_Closure closure,
	void *call)
{
	Postern__V1__ExplainItem rule = POSTERN__V1__EXPLAIN_ITEM__INIT;
	Postern__V1__ExplainItem last = POSTERN__V1__EXPLAIN_ITEM__INIT;
	Postern__V1__ExplainCondition condition = POSTERN__V1__EXPLAIN_CONDITION__INIT;
	Postern__V1__ExplainCondition *conditions[] = {&condition};
	Postern__V1__Verdict verdict;
	const Postern__V1__PolicyTest *question = input->question;

	(void)service, (void)closure;
	asked()->all = input->all;
	asked()->document_size = resolve(input->source).size;
	copy(asked()->client, sizeof(asked()->client), question->client);
	copy(asked()->to, sizeof(asked()->to), question->to);
	copy(asked()->from, sizeof(asked()->from), question->from);
	copy(asked()->user, sizeof(asked()->user), question->user);
	copy(asked()->at, sizeof(asked()->at), question->at);
	copy(asked()->gateway, sizeof(asked()->gateway), question->gateway);
	if (strcmp(question->client, "nobody") == 0) {
		fail(call, STATUS_INVALID_ARGUMENT, REASON_NONE, "question.client",
			"\"nobody\" is no address");
		return;
	}
	condition.field = (char *)"clients";
	condition.matched = true;
	condition.detail = (char *)"10.77.1.2 is in staff (10.77.1.0/24)";
	rule.type = POSTERN__V1__RULE_TYPE__RULE_TYPE_PROTOCOL;
	rule.rule = (char *)"ftp for staff";
	rule.action = POSTERN__V1__ACTION__ACTION_ALLOW;
	rule.staged = true;
	rule.matched = true;
	rule.conditions = conditions;
	rule.n_conditions = 1;
	rpc_item(call, &rule.base);
	fill_verdict(&verdict, question->protocol);
	last.verdict = &verdict;
	if (strcmp(question->protocol, "silence") != 0)
		rpc_item(call, &last.base);
	rpc_end(call);
}

static void on_test(Postern__V1__Revisions_Service *service,
	const Postern__V1__PolicyTestRequest *input, Postern__V1__PolicyTestResult_Closure closure,
	void *call)
{
	Postern__V1__PolicyDocument *document = unpack(resolve(input->source));

	(void)service, (void)closure;
	for (size_t i = 0; i < document->n_tests; i++) {
		Postern__V1__PolicyTestResult result = POSTERN__V1__POLICY_TEST_RESULT__INIT;
		Postern__V1__Verdict verdict;

		fill_verdict(&verdict, document->tests[i]->protocol);
		result.index = (uint32_t)i;
		result.test = document->tests[i];
		result.verdict = &verdict;
		result.passed = strcmp(document->tests[i]->name, "fails") != 0;
		rpc_item(call, &result.base);
	}
	rpc_end(call);
	postern__v1__policy_document__free_unpacked(document, NULL);
}

/* On gateway "gone" the stream ends early. */
static void on_replay(Postern__V1__Revisions_Service *service,
	const Postern__V1__ReplayRequest *input, Postern__V1__ReplayItem_Closure closure,
	void *call)
{
	Postern__V1__ReplayItem item = POSTERN__V1__REPLAY_ITEM__INIT;
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;
	Postern__V1__Verdict verdict;

	(void)service, (void)closure;
	asked()->since_us = input->since_us;
	asked()->document_size = resolve(input->source).size;
	item.judged = 100;
	rpc_item(call, &item.base); /* progress */
	fill_verdict(&verdict, "evil");
	verdict.revision = 0;
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_GRANTED;
	entry.grant = (char *)"G7";
	item.entry = &entry;
	item.verdict = &verdict;
	item.changed = 1;
	rpc_item(call, &item.base);
	item.entry = NULL;
	item.verdict = NULL;
	item.judged = 120;
	item.done = true;
	if (strcmp(input->gateway, "gone") != 0)
		rpc_item(call, &item.base);
	rpc_end(call);
}

/* ---- feeds ---- */

static void fill_state(Postern__V1__FeedState *state, const char *name)
{
	postern__v1__feed_state__init(state);
	state->name = (char *)name;
	state->url = (char *)"https://lists.example/bad.txt";
	state->addresses = 1200;
	state->fetched_us = 1795516464656926;
	if (strcmp(name, "broken") == 0)
		state->error = (char *)"connection refused";
	if (strcmp(name, "shrunk") == 0) {
		state->held = true;
		state->held_addresses = 3;
	}
}

static void feeds_list(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedListRequest *input, Postern__V1__FeedState_Closure closure,
	void *call)
{
	static const char *const names[] = {"bad-hosts", "broken", "shrunk"};
	Postern__V1__FeedState state;

	(void)service, (void)input, (void)closure;
	for (size_t i = 0; i < 3; i++) {
		fill_state(&state, names[i]);
		rpc_item(call, &state.base);
	}
	rpc_end(call);
}

static void feeds_show(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedShowRequest *input, Postern__V1__FeedPiece_Closure closure,
	void *call)
{
	Postern__V1__FeedPiece piece = POSTERN__V1__FEED_PIECE__INIT;
	Postern__V1__FeedState state;
	char *networks[] = {(char *)"192.0.2.0/24", (char *)"2001:db8::/32"};

	(void)service, (void)closure;
	asked()->held = input->held;
	copy(asked()->feed, sizeof(asked()->feed), input->name);
	fill_state(&state, input->name);
	piece.state = &state;
	piece.networks = networks;
	piece.n_networks = 2;
	rpc_item(call, &piece.base);
	piece.state = NULL;
	piece.n_networks = 1;
	rpc_item(call, &piece.base);
	rpc_end(call);
}

static void feeds_refresh(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedRefreshRequest *input, Postern__V1__FeedState_Closure closure,
	void *call)
{
	Postern__V1__FeedState state;

	(void)service, (void)closure;
	copy(asked()->feed, sizeof(asked()->feed), input->name);
	fill_state(&state, input->name);
	rpc_reply(call, &state.base);
}

static void feeds_confirm(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedConfirmRequest *input, Postern__V1__FeedState_Closure closure,
	void *call)
{
	Postern__V1__FeedState state;

	(void)service, (void)closure;
	copy(asked()->feed, sizeof(asked()->feed), input->name);
	fill_state(&state, "confirmed");
	rpc_reply(call, &state.base);
}

static Postern__V1__Revisions_Service revisions_service = POSTERN__V1__REVISIONS__INIT(on_);
static Postern__V1__Feeds_Service feeds_service = POSTERN__V1__FEEDS__INIT(feeds_);
ProtobufCService *const fake_revisions_service = &revisions_service.base;
ProtobufCService *const fake_feeds_service = &feeds_service.base;
