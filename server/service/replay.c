/* Recorded requests, decided again: the journal is read in pages, beside the writer; a page is
 * decided in one turn of the loop. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/revision.h"
#include "server/service/policy_questions.h"
#include "server/service/uploads.h"

#define PAGE_ENTRIES STORE_PAGE_MAX
#define PROGRESS_US 1000000

struct replay {
	struct core *core;
	struct rpc_call *call;
	struct policy *policy; /* NULL = on its way */
	struct store_query query;
	char filter[RECORD_NAME_SIZE];
	uint64_t judged, changed;
	int64_t told_us;
	/* Entries of a page that are still to be sent, packed: credit may be short. */
	struct pending *first, **end;
	bool reading, at_end, over;
};

struct pending {
	struct pending *next;
	size_t size;
	uint8_t bytes[];
};

static void replay_free(struct replay *replay, const struct error *err)
{
	if (err)
		rpc_fail(replay->call, err);
	else
		rpc_end(replay->call);
	while (replay->first) {
		struct pending *next = replay->first->next;
		free(replay->first);
		replay->first = next;
	}
	policy_release(replay->policy);
	free(replay);
}

static void gone(void *arg, enum status why)
{
	struct replay *replay = arg;
	struct error err;
	replay->over = true;
	if (replay->reading || !replay->policy)
		return; /* what is under way ends it */
	error_set(&err, why, "the caller went away");
	replay_free(replay, &err);
}

static bool put(struct replay *replay, Postern__V1__ReplayItem *item)
{
	item->judged = replay->judged;
	item->changed = replay->changed;
	size_t size = postern__v1__replay_item__get_packed_size(item);
	struct pending *pending = malloc(sizeof *pending + size);
	if (!pending)
		return false;
	pending->next = NULL;
	pending->size = size;
	postern__v1__replay_item__pack(item, pending->bytes);
	*replay->end = pending;
	replay->end = &pending->next;
	return true;
}

static void question_of_entry(const struct entry *entry, struct policy_question *question)
{
	*question = (struct policy_question){.at_us = entry->time_us,
		.gateway = entry->gateway,
		.protocol = entry->protocol,
		.user = entry->user,
		.client = entry->client};
	if (entry->remote_count > 0) {
		question->remotes = entry->remotes;
		question->remote_count = entry->remote_count;
	} else if (entry->remote.addr.family != ADDR_NONE) {
		question->remotes = &entry->remote.addr;
		question->remote_count = 1;
	}
	question->port_first = entry->inbound ? entry->client_port : entry->remote.port;
	question->port_last = !entry->inbound && entry->remote_port_last ? entry->remote_port_last
									 : question->port_first;
}

static enum policy_verdict recorded(const struct entry *entry)
{
	if (entry->kind != ENTRY_DENIED)
		return POLICY_ALLOWED;
	return entry->reason == POSTERN__V1__END_REASON__END_REASON_DENIED_PROTOCOL_RULES
		? POLICY_DENIED_BY_PROTOCOL_RULES
		: POLICY_DENIED_BY_SITE_AND_CONTENT_RULES;
}

/* False: out of memory. */
static bool judge(struct replay *replay, const struct entry *entry)
{
	Postern__V1__ReplayItem item = POSTERN__V1__REPLAY_ITEM__INIT;
	Postern__V1__Verdict verdict;
	struct policy_question question;
	struct policy_answer answer;
	struct entry_wire wire;
	if (replay->filter[0] && strcmp(replay->filter, entry->filter) != 0)
		return true;
	replay->judged++;
	question_of_entry(entry, &question);
	policy_decide(replay->policy, &question, &answer);
	if (answer.verdict == recorded(entry))
		return true;
	replay->changed++;
	entry_to_wire(entry, &wire);
	verdict_to_wire(replay->policy, &answer, &verdict);
	item.entry = &wire.message;
	item.verdict = &verdict;
	return put(replay, &item);
}

static void pump(void *arg);

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	struct replay *replay = arg;
	struct error failure = *err;
	Postern__V1__ReplayItem item = POSTERN__V1__REPLAY_ITEM__INIT;
	bool done = true;
	replay->reading = false;
	for (size_t i = 0; i < count && !failure.status && done; i++)
		done = judge(replay, &entries[i]);
	replay->query.after = next_after;
	replay->at_end = at_end;
	item.done = at_end;
	if (done && (at_end || clock_mono_us() - replay->told_us >= PROGRESS_US)) {
		done = put(replay, &item);
		replay->told_us = clock_mono_us();
	}
	if (!failure.status && !done)
		error_set(&failure, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (!failure.status && replay->over)
		error_set(&failure, STATUS_CANCELLED, "the caller went away");
	if (failure.status)
		replay_free(replay, &failure);
	else
		pump(replay);
}

static void pump(void *arg)
{
	struct replay *replay = arg;
	while (replay->first) {
		struct pending *pending = replay->first;
		if (rpc_item_packed(replay->call, pending->bytes, pending->size))
			return; /* more credit, or the call's end, comes */
		replay->first = pending->next;
		if (!replay->first)
			replay->end = &replay->first;
		free(pending);
	}
	if (replay->at_end) {
		replay_free(replay, NULL);
	} else if (!replay->reading) {
		replay->reading = true;
		store_read(replay->core->store, &replay->query, on_page, replay);
	}
}

static void on_candidate(void *arg, struct policy *policy, const struct error *err)
{
	struct replay *replay = arg;
	struct error failure = *err;
	if (!failure.status && replay->over)
		error_set(&failure, STATUS_CANCELLED, "the caller went away");
	if (failure.status) {
		replay_free(replay, &failure);
		return;
	}
	policy_hold(policy);
	replay->policy = policy;
	replay->told_us = clock_mono_us();
	rpc_on_credit(replay->call, pump, replay);
	pump(replay);
}

static enum status parse(
	const Postern__V1__ReplayRequest *input, struct replay *replay, struct error *err)
{
	struct store_query *query = &replay->query;
	if (!copy_text(query->gateway, sizeof query->gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	if (!copy_text(replay->filter, sizeof replay->filter, input->filter))
		return error_field(err, "filter", "filter: the name is too long");
	if (input->since_us < 0 || (input->until_us && input->until_us <= input->since_us))
		return error_field(err, "until_us", "until_us: not later than since_us");
	query->since_us = input->since_us;
	query->until_us = input->until_us ? input->until_us : clock_real_us() + 1;
	query->kinds = 1ULL << ENTRY_GRANTED | 1ULL << ENTRY_RESERVED | 1ULL << ENTRY_DENIED;
	query->limit = PAGE_ENTRIES;
	return STATUS_OK;
}

void handle_replay(Postern__V1__Revisions_Service *service, const Postern__V1__ReplayRequest *input,
	Postern__V1__ReplayItem_Closure closure, void *data)
{
	struct services *services = SERVICES_OF(service, revisions);
	struct replay *replay = call_state_new(data, sizeof *replay, gone);
	struct error err;
	uint8_t *packed;
	size_t size;
	(void)closure;
	if (!replay)
		return;
	replay->core = services->core;
	replay->call = data;
	replay->end = &replay->first;
	enum status status = parse(input, replay, &err);
	if (!status)
		status = uploads_take(services->uploads, rpc_call_principal(data)->name,
			input->source, &packed, &size, &err);
	if (status)
		replay_free(replay, &err);
	else
		revision_candidate(services->core, packed, size, on_candidate, replay);
}
