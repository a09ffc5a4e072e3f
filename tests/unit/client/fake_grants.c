/* The fake server's grants. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/id.h"
#include "postern/v1/grants.pb-c.h"
#include "tests/unit/client/fake_internal.h"

struct answer { /* a GrantReply and what it points to */
	Postern__V1__GrantReply reply;
	Postern__V1__Grant body;
	Postern__V1__GrantTiming timing;
};

static void fill_answer(struct answer *answer, const struct fake_grant *grant)
{
	postern__v1__grant_reply__init(&answer->reply);
	postern__v1__grant__init(&answer->body);
	postern__v1__grant_timing__init(&answer->timing);
	answer->body.id = (char *)grant->id;
	answer->body.request_id = (char *)grant->request_id;
	answer->body.left_ms = 60000;
	answer->body.lifetime_ms = 60000;
	answer->body.state = grant->reserved ? POSTERN__V1__GRANT_STATE__GRANT_STATE_RESERVED
					     : POSTERN__V1__GRANT_STATE__GRANT_STATE_ACTIVE;
	answer->body.direction = grant->inbound ? POSTERN__V1__DIRECTION__DIRECTION_INBOUND
						: POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND;
	answer->body.external = (char *)grant->external;
	answer->body.external_port = grant->external_port;
	answer->body.lifetime_clamped = grant->clamped;
	answer->body.rule = (char *)"ftp for staff";
	answer->body.site_rule = (char *)"all sites";
	answer->body.user = (char *)"bob";
	answer->body.revision = 14;
	answer->timing.decide_us = 1;
	answer->timing.commit_us = 2;
	answer->timing.push_us = 3;
	answer->timing.kernel_us = 4;
	answer->reply.grant = &answer->body;
	answer->reply.timing = &answer->timing;
}

static void answer_grant(struct rpc_call *call, const struct fake_grant *grant)
{
	struct answer answer;

	fill_answer(&answer, grant);
	rpc_reply(call, &answer.reply.base);
}

static struct fake_grant *find_grant(struct fake *fake, const char *request_id)
{
	for (unsigned i = fake->counts.grants; i-- > 0;) {
		if (strcmp(fake->grants[i].request_id, request_id) == 0)
			return &fake->grants[i];
	}
	return NULL;
}

static struct fake_grant *make_grant(struct fake *fake, const char *request_id)
{
	struct fake_grant *grant = find_grant(fake, request_id);
	struct id id;

	if (grant)
		return grant;
	assert(fake->counts.grants < GRANTS_MAX);
	grant = &fake->grants[fake->counts.grants++];
	id = id_new();
	id_format(&id, grant->id);
	snprintf(grant->request_id, sizeof(grant->request_id), "%s", request_id);
	return grant;
}

static void on_held_end(void *arg, enum status why)
{
	struct held *held = arg, **link = &held->fake->held;
	struct error err;

	while (*link != held)
		link = &(*link)->next;
	*link = held->next;
	held->fake->counts.held--;
	error_set(&err, why, "no longer wanted");
	rpc_fail(held->call, &err);
	free(held);
}

static void hold(struct fake *fake, struct rpc_call *call)
{
	struct held *held = calloc(1, sizeof(*held));

	held->fake = fake;
	held->call = call;
	held->next = fake->held;
	fake->held = held;
	fake->counts.held++;
	rpc_on_end(call, on_held_end, held);
}

static void cut_soon(void *arg)
{
	fake_cut_now(the_fake, NULL);
	free(arg);
}

/* True: the script has answered, or keeps the call. */
static bool is_scripted(struct fake *fake, struct rpc_call *call)
{
	struct error err;

	switch (fake->mode) {
	case FAKE_GRANT:
	case FAKE_GRANT_THEN_CUT:
	case FAKE_NONSENSE:
		return false;
	case FAKE_DENY:
		error_reason(&err, STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES,
			"denied by rule no-ftp");
		snprintf(err.rule, sizeof(err.rule), "no-ftp");
		snprintf(err.grant, sizeof(err.grant), "denied-1");
		err.revision = 14;
		break;
	case FAKE_HOLD:
		hold(fake, call);
		return true;
	case FAKE_GATEWAY_DOWN:
		error_reason(&err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN, "gw1 is down");
		break;
	case FAKE_BUSY_ONCE:
		fake->mode = FAKE_GRANT;
		error_set(&err, STATUS_ABORTED, "ask again");
		break;
	case FAKE_UNAVAILABLE_ONCE:
		fake->mode = FAKE_GRANT;
		error_set(&err, STATUS_UNAVAILABLE, "just starting");
		break;
	}
	rpc_fail(call, &err);
	return true;
}

/* True: done, but the answer is lost. */
bool fake_is_cut(struct fake *fake, struct rpc_call *call)
{
	struct loop_task *task;

	if (fake->mode != FAKE_GRANT_THEN_CUT || fake->cuts == 0)
		return false;
	fake->cuts--;
	hold(fake, call);
	/* Not in the handler: the connection is still reading. */
	task = calloc(1, sizeof(*task));
	loop_post(fake->loop, task, cut_soon, task);
	return true;
}

static void note_asked(struct fake *fake, const Postern__V1__GrantRequest *input)
{
	struct fake_asked *asked = &fake->counts.asked;

	memset(asked, 0, sizeof(*asked));
	asked->inbound = input->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	asked->reserve = input->reserve;
	asked->remote_count = (unsigned)input->n_remotes;
	snprintf(asked->client, sizeof(asked->client), "%s", input->client);
	snprintf(asked->remote, sizeof(asked->remote), "%s", input->remote);
	if (input->n_remotes > 0)
		snprintf(asked->last_remote, sizeof(asked->last_remote), "%s",
			input->remotes[input->n_remotes - 1]);
	snprintf(asked->external, sizeof(asked->external), "%s", input->external);
	asked->client_port = input->client_port;
	asked->remote_port = input->remote_port;
	asked->remote_port_last = input->remote_port_last;
	asked->external_port = input->external_port;
	asked->flags = input->flags;
	asked->lifetime_ms = input->lifetime_ms;
	asked->max_connections = input->max_connections;
	asked->reservation_ms = input->reservation_ms;
}

static struct fake_grant *grant_as_asked(
	struct fake *fake, const char *request_id, const Postern__V1__GrantRequest *input)
{
	struct fake_grant *grant = make_grant(fake, request_id);

	note_asked(fake, input);
	grant->inbound = fake->counts.asked.inbound;
	grant->reserved = input->reserve;
	grant->clamped = input->lifetime_ms > 3600000;
	snprintf(grant->external, sizeof(grant->external), "%s", input->external);
	grant->external_port = input->external_port;
	if (grant->inbound && *grant->external && !grant->external_port)
		grant->external_port = 50000;
	return grant;
}

static void on_request(Postern__V1__Grants_Service *service, const Postern__V1__GrantRequest *input,
	Postern__V1__GrantReply_Closure closure, void *closure_data)
{
	Postern__V1__GrantReply nonsense = POSTERN__V1__GRANT_REPLY__INIT;
	struct fake *fake = the_fake;
	struct fake_grant *grant;

	(void)service, (void)closure;
	fake->counts.requests++;
	fake->counts.last_context_size = input->context.len;
	fake->counts.last_wait_decided = input->wait == POSTERN__V1__WAIT__WAIT_DECIDED;
	snprintf(fake->counts.last_request_id, sizeof(fake->counts.last_request_id), "%s",
		input->request_id);
	if (is_scripted(fake, closure_data))
		return;
	if (fake->mode == FAKE_NONSENSE) {
		rpc_reply(closure_data, &nonsense.base);
		return;
	}
	grant = grant_as_asked(fake, input->request_id, input);
	if (!fake_is_cut(fake, closure_data))
		answer_grant(closure_data, grant);
}

#define BUNDLE_MAX 64

static void on_request_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleRequest *input, Postern__V1__BundleReply_Closure closure,
	void *closure_data)
{
	Postern__V1__BundleReply reply = POSTERN__V1__BUNDLE_REPLY__INIT;
	struct answer answers[BUNDLE_MAX];
	Postern__V1__GrantReply *pointers[BUNDLE_MAX];
	struct fake *fake = the_fake;
	char request_id[64];

	(void)service, (void)closure;
	assert(input->n_grants <= BUNDLE_MAX);
	fake->counts.bundle_requests++;
	fake->counts.last_bundle_size = (unsigned)input->n_grants;
	fake->counts.last_wait_decided = input->wait == POSTERN__V1__WAIT__WAIT_DECIDED;
	snprintf(fake->counts.last_bundle, sizeof(fake->counts.last_bundle), "%s", input->bundle);
	if (is_scripted(fake, closure_data))
		return;
	for (size_t i = 0; i < input->n_grants; i++) {
		assert(!*input->grants[i]->request_id);
		snprintf(request_id, sizeof(request_id), "%.36s:%zu", input->bundle, i);
		fill_answer(&answers[i], grant_as_asked(fake, request_id, input->grants[i]));
		pointers[i] = &answers[i].reply;
	}
	if (fake_is_cut(fake, closure_data))
		return;
	reply.bundle = input->bundle;
	reply.grants = pointers;
	reply.n_grants = fake->mode == FAKE_NONSENSE ? input->n_grants - 1 : input->n_grants;
	rpc_reply(closure_data, &reply.base);
}

/* Acts on one grant by its id: the one that "ended" has, all others exist. */
static void act_on(struct rpc_call *call, const char *id)
{
	struct fake_grant grant = {.request_id = ""};
	struct error err;

	if (strcmp(id, "ended") == 0) {
		error_reason(&err, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, "ended");
		rpc_fail(call, &err);
		return;
	}
	snprintf(grant.id, sizeof(grant.id), "%s", id);
	if (!fake_is_cut(the_fake, call))
		answer_grant(call, &grant);
}

static void on_renew(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantRenewRequest *input, Postern__V1__GrantReply_Closure closure,
	void *closure_data)
{
	(void)service, (void)closure;
	the_fake->counts.renews++;
	the_fake->counts.last_renewal_ms = input->lifetime_ms;
	if (!is_scripted(the_fake, closure_data))
		act_on(closure_data, input->id);
}

static void on_commit(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantCommitRequest *input, Postern__V1__GrantReply_Closure closure,
	void *closure_data)
{
	(void)service, (void)closure;
	the_fake->counts.commits++;
	snprintf(the_fake->counts.last_commit, sizeof(the_fake->counts.last_commit), "%s",
		input->id);
	if (!is_scripted(the_fake, closure_data))
		act_on(closure_data, input->id);
}

static void on_cancel(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantCancelRequest *input, Postern__V1__GrantReply_Closure closure,
	void *closure_data)
{
	const char *withdrawn = *input->request_id ? input->request_id : NULL;

	(void)service, (void)closure;
	if (withdrawn) {
		the_fake->counts.withdrawals++;
		snprintf(the_fake->counts.last_withdrawn, sizeof(the_fake->counts.last_withdrawn),
			"%s", withdrawn);
	} else {
		the_fake->counts.cancels++;
		the_fake->counts.cuts += input->cut ? 1 : 0;
	}
	act_on(closure_data, withdrawn ? "withdrawn" : input->id);
}

static void on_cancel_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleCancelRequest *input, Postern__V1__BundleReply_Closure closure,
	void *closure_data)
{
	struct fake_grant grant = {.id = "member"};
	Postern__V1__BundleReply reply = POSTERN__V1__BUNDLE_REPLY__INIT;
	struct answer answer;
	Postern__V1__GrantReply *pointer = &answer.reply;

	(void)service, (void)closure;
	the_fake->counts.bundle_cancels++;
	the_fake->counts.cuts += input->cut ? 1 : 0;
	snprintf(the_fake->counts.last_bundle, sizeof(the_fake->counts.last_bundle), "%s",
		input->bundle);
	if (strcmp(input->bundle, "ended") == 0) {
		act_on(closure_data, input->bundle);
		return;
	}
	fill_answer(&answer, &grant);
	reply.bundle = input->bundle;
	reply.grants = &pointer;
	reply.n_grants = 1;
	if (!fake_is_cut(the_fake, closure_data))
		rpc_reply(closure_data, &reply.base);
}

static void on_show(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantShowRequest *input, Postern__V1__GrantReply_Closure closure,
	void *closure_data)
{
	(void)service, (void)closure;
	act_on(closure_data, input->id);
}

static void on_list(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantListRequest *input, Postern__V1__GrantReply_Closure closure,
	void *closure_data)
{
	(void)service, (void)input, (void)closure;
	rpc_end(closure_data);
}

static Postern__V1__Grants_Service grants_service = POSTERN__V1__GRANTS__INIT(on_);
ProtobufCService *const fake_grants_service = &grants_service.base;
