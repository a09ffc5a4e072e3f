#include "tests/unit/client/fake_internal.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/file.h"
#include "common/id.h"
#include "common/loop.h"
#include "postern/v1/events.pb-c.h"
#include "postern/v1/sessions.pb-c.h"
#include "proto/rpc/rpc.h"

#define ENTRIES_MAX 100000
#define BATCH 7

struct fake *the_fake;

/* ---- doing things on the server's thread ---- */

struct errand {
	struct loop_task task;
	void (*run)(struct fake *fake, void *arg);
	struct fake *fake;
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_errand(void *arg)
{
	struct errand *errand = arg;

	errand->run(errand->fake, errand->arg);
	pthread_mutex_lock(&errand->lock);
	errand->done = true;
	pthread_cond_signal(&errand->cond);
	pthread_mutex_unlock(&errand->lock);
}

static void fake_do(struct fake *fake, void (*run)(struct fake *fake, void *arg), void *arg)
{
	struct errand errand = {.run = run, .fake = fake, .arg = arg};

	pthread_mutex_init(&errand.lock, NULL);
	pthread_cond_init(&errand.cond, NULL);
	loop_post(fake->loop, &errand.task, run_errand, &errand);
	pthread_mutex_lock(&errand.lock);
	while (!errand.done)
		pthread_cond_wait(&errand.cond, &errand.lock);
	pthread_mutex_unlock(&errand.lock);
	pthread_cond_destroy(&errand.cond);
	pthread_mutex_destroy(&errand.lock);
}

/* ---- sessions ---- */

static void on_open(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionOpenRequest *input, Postern__V1__Session_Closure closure,
	void *closure_data)
{
	Postern__V1__Session session = POSTERN__V1__SESSION__INIT;
	char text[ID_TEXT_SIZE];
	struct id id = id_new();

	(void)service, (void)closure;
	the_fake->counts.opens++;
	the_fake->counts.last_primary_port = input->primary ? input->primary->remote_port : 0;
	snprintf(the_fake->counts.last_session_user, sizeof(the_fake->counts.last_session_user),
		"%s", input->user);
	id_format(&id, text);
	session.id = text;
	rpc_reply(closure_data, &session.base);
}

static void on_close(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionCloseRequest *input, Postern__V1__Session_Closure closure,
	void *closure_data)
{
	Postern__V1__Session session = POSTERN__V1__SESSION__INIT;
	struct error err;

	(void)service, (void)closure;
	the_fake->counts.closes++;
	if (strcmp(input->id, "unknown") == 0) {
		error_set(&err, STATUS_NOT_FOUND, "no session \"unknown\"");
		rpc_fail(closure_data, &err);
		return;
	}
	session.id = input->id;
	rpc_reply(closure_data, &session.base);
}

static void on_list_sessions(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionListRequest *input, Postern__V1__Session_Closure closure,
	void *closure_data)
{
	(void)service, (void)input, (void)closure;
	rpc_end(closure_data);
}

/* ---- events ---- */

static void fill_entry(
	struct fake *fake, uint64_t sequence, Postern__V1__Entry *entry, Postern__V1__Flow *flow)
{
	const struct entry *source = &fake->entries[sequence - 1];

	postern__v1__entry__init(entry);
	entry->sequence = sequence;
	entry->time_us = 1000;
	entry->kind = (Postern__V1__EntryKind)source->kind;
	entry->grant = (char *)source->grant;
	entry->gateway = "gw1";
	entry->client = "10.77.1.2";
	entry->remote = "fd77:2::2";
	entry->remote_port = 1046;
	entry->transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	entry->context.data = (uint8_t *)"ctx";
	entry->context.len = 3;
	if (source->kind == POSTERN_EVENT_ENDED)
		entry->reason = POSTERN__V1__END_REASON__END_REASON_RESERVATION_TIMEOUT;
	if (source->kind == POSTERN_EVENT_EXTERNAL_CHANGED) {
		entry->direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
		entry->client_port = 2000;
		entry->external = (char *)"10.77.2.101";
		entry->external_port = 50001;
		entry->bundle = (char *)"b1";
	}
	if (source->kind == POSTERN_EVENT_CLOSED) {
		postern__v1__flow__init(flow);
		flow->client_port = 40000;
		flow->remote_port = 1046;
		flow->accounted = true;
		flow->external = (char *)"10.77.2.101";
		flow->external_port = 61000;
		flow->bytes_sent = 11;
		flow->bytes_received = 12;
		flow->packets_sent = 13;
		flow->packets_received = 14;
		flow->duration_us = 15;
		entry->flow = flow;
	}
}

static void pump(void *arg)
{
	struct stream *stream = arg;
	struct fake *fake = stream->fake;
	Postern__V1__Entry entries[BATCH], *pointers[BATCH];
	Postern__V1__Flow flows[BATCH];

	while (rpc_credit(stream->call) > 0 &&
		(stream->cursor < fake->entry_count || !stream->told)) {
		Postern__V1__EventBatch batch = POSTERN__V1__EVENT_BATCH__INIT;

		while (batch.n_entries < BATCH && stream->cursor < fake->entry_count) {
			pointers[batch.n_entries] = &entries[batch.n_entries];
			fill_entry(fake, ++stream->cursor, &entries[batch.n_entries],
				&flows[batch.n_entries]);
			batch.n_entries++;
		}
		batch.entries = pointers;
		batch.cursor = stream->cursor;
		batch.caught_up = stream->cursor == fake->entry_count;
		stream->told = true;
		rpc_item(stream->call, &batch.base);
	}
}

static void on_stream_end(void *arg, enum status why)
{
	struct stream *stream = arg, **link = &stream->fake->streams;
	struct error err;

	while (*link != stream)
		link = &(*link)->next;
	*link = stream->next;
	error_set(&err, why, "stream ended");
	rpc_fail(stream->call, &err);
	free(stream);
}

static void on_watch(Postern__V1__Events_Service *service, const Postern__V1__WatchRequest *input,
	Postern__V1__EventBatch_Closure closure, void *closure_data)
{
	struct fake *fake = the_fake;
	struct stream *stream;
	struct error err;

	(void)service, (void)closure;
	fake->counts.watches++;
	fake->counts.last_watch_cursor = input->cursor;
	fake->counts.last_watch_from_now = input->from_now;
	if (fake->refuse_watches) {
		error_set(&err, STATUS_PERMISSION_DENIED, "not for you");
		rpc_fail(closure_data, &err);
		return;
	}
	stream = calloc(1, sizeof(*stream));
	stream->fake = fake;
	stream->call = closure_data;
	stream->cursor = input->from_now ? fake->entry_count : input->cursor;
	stream->next = fake->streams;
	fake->streams = stream;
	rpc_on_credit(stream->call, pump, stream);
	rpc_on_end(stream->call, on_stream_end, stream);
	pump(stream);
}

static Postern__V1__Events_Service events_service = POSTERN__V1__EVENTS__INIT(on_);
static Postern__V1__Sessions_Service sessions_service = {
	POSTERN__V1__SESSIONS__BASE_INIT, on_open, on_close, on_list_sessions};

/* ---- life ---- */

static enum status authenticate(void *arg, const char *token, const char *name,
	struct rpc_principal *ret_principal, struct error *err)
{
	(void)arg, (void)name;
	if (strcmp(token, "pst_filter_good") != 0)
		return error_set(err, STATUS_UNAUTHENTICATED, "unknown token");
	memset(ret_principal, 0, sizeof(*ret_principal));
	ret_principal->role = RPC_ROLE_FILTER;
	snprintf(ret_principal->name, sizeof(ret_principal->name), "tester");
	return STATUS_OK;
}

static enum status authorise(
	void *arg, const struct rpc_principal *principal, const char *method, struct error *err)
{
	(void)arg, (void)principal, (void)method, (void)err;
	return STATUS_OK;
}

static void up_now(struct fake *fake, void *arg)
{
	struct rpc_server_config config = {
		.loop = fake->loop,
		.limits = rpc_default_limits,
		.identity = "fake 0",
		.authenticate = authenticate,
		.authorise = authorise,
	};
	struct error err = {0};
	enum status status;

	(void)arg;
	config.limits.max_calls = 128;
	status = rpc_server_new(&config, &fake->server, &err);
	if (status == STATUS_OK)
		status = rpc_server_add(fake->server, fake_grants_service, &err);
	if (status == STATUS_OK)
		status = rpc_server_add(fake->server, fake_policy_service, &err);
	if (status == STATUS_OK)
		status = rpc_server_add(fake->server, fake_gateways_service, &err);
	if (status == STATUS_OK)
		status = rpc_server_add(fake->server, fake_revisions_service, &err);
	if (status == STATUS_OK)
		status = rpc_server_add(fake->server, fake_feeds_service, &err);
	if (status == STATUS_OK)
		status = rpc_server_add(fake->server, &sessions_service.base, &err);
	if (status == STATUS_OK)
		status = rpc_server_add(fake->server, &events_service.base, &err);
	if (status == STATUS_OK)
		status = rpc_server_listen(fake->server, fake->url, &err);
	if (status != STATUS_OK)
		fprintf(stderr, "fake server: %s\n", err.text);
	assert(status == STATUS_OK);
}

static void down_now(struct fake *fake, void *arg)
{
	(void)arg;
	if (!fake->server)
		return;
	rpc_server_close(fake->server);
	rpc_server_free(fake->server);
	fake->server = NULL;
}

static void stop_now(struct fake *fake, void *arg)
{
	down_now(fake, arg);
	fake->stopping = true;
}

static _Thread_local bool is_own_thread;

bool fake_is_own_thread(void)
{
	return is_own_thread;
}

static void publish(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	if (memcmp(&fake->published, &fake->counts, sizeof(fake->counts)) != 0) {
		memcpy(&fake->published, &fake->counts, sizeof(fake->counts));
		pthread_cond_broadcast(&fake->changed);
	}
	pthread_mutex_unlock(&fake->lock);
}

static void *run(void *arg)
{
	struct fake *fake = arg;

	is_own_thread = true;
	while (!fake->stopping) {
		loop_step(fake->loop, -1);
		publish(fake);
	}
	return NULL;
}

static void init_changed(pthread_cond_t *changed)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

struct fake *fake_start(void)
{
	static const char good[] = "pst_filter_good\n", bad[] = "pst_filter_bad\n";
	struct fake *fake = calloc(1, sizeof(*fake));

	snprintf(fake->folder, sizeof(fake->folder), "/tmp/postern-test-client-XXXXXX");
	if (!mkdtemp(fake->folder))
		abort();
	snprintf(fake->url, sizeof(fake->url), "ipc://%s/s", fake->folder);
	snprintf(fake->token_file, sizeof(fake->token_file), "%s/token", fake->folder);
	snprintf(fake->bad_token_file, sizeof(fake->bad_token_file), "%s/bad", fake->folder);
	file_write(fake->token_file, good, strlen(good), 0600, 1, NULL);
	file_write(fake->bad_token_file, bad, strlen(bad), 0600, 1, NULL);
	fake->grants = calloc(GRANTS_MAX, sizeof(*fake->grants));
	fake->entries = calloc(ENTRIES_MAX, sizeof(*fake->entries));
	pthread_mutex_init(&fake->lock, NULL);
	init_changed(&fake->changed);
	the_fake = fake;
	loop_new(&fake->loop, NULL);
	pthread_create(&fake->thread, NULL, run, fake);
	fake_up(fake);
	return fake;
}

void fake_stop(struct fake *fake)
{
	char socket[160];

	fake_do(fake, stop_now, NULL);
	pthread_join(fake->thread, NULL);
	loop_free(fake->loop);
	pthread_cond_destroy(&fake->changed);
	pthread_mutex_destroy(&fake->lock);
	fake_policy_reset();
	fake_revisions_reset();
	snprintf(socket, sizeof(socket), "%s/s", fake->folder);
	unlink(socket);
	unlink(fake->token_file);
	unlink(fake->bad_token_file);
	rmdir(fake->folder);
	free(fake->grants);
	free(fake->entries);
	free(fake);
}

void fake_up(struct fake *fake)
{
	fake_do(fake, up_now, NULL);
}

void fake_down(struct fake *fake)
{
	fake_do(fake, down_now, NULL);
}

void fake_cut_now(struct fake *fake, void *arg)
{
	(void)arg;
	rpc_server_disconnect(fake->server, "tester", "cut by the test");
}

void fake_cut(struct fake *fake)
{
	fake_do(fake, fake_cut_now, NULL);
}

const char *fake_url(const struct fake *fake)
{
	return fake->url;
}

const char *fake_token_file(const struct fake *fake)
{
	return fake->token_file;
}

const char *fake_bad_token_file(const struct fake *fake)
{
	return fake->bad_token_file;
}

struct postern_options fake_options(const struct fake *fake)
{
	return (struct postern_options){
		.server = fake->url, .token_file = fake->token_file, .name = "test 0"};
}

/* ---- scripting ---- */

struct mode_change {
	enum fake_request_mode mode;
	unsigned cuts;
};

static void set_mode_now(struct fake *fake, void *arg)
{
	struct mode_change *change = arg;

	fake->mode = change->mode;
	fake->cuts = change->cuts;
}

void fake_set_mode(struct fake *fake, enum fake_request_mode mode, unsigned cuts)
{
	struct mode_change change = {mode, cuts};

	fake_do(fake, set_mode_now, &change);
}

static void get_counts_now(struct fake *fake, void *arg)
{
	*(struct fake_counts *)arg = fake->counts;
}

struct fake_counts fake_counts(struct fake *fake)
{
	struct fake_counts counts;

	fake_do(fake, get_counts_now, &counts);
	return counts;
}

bool fake_wait(struct fake *fake, unsigned (*pick)(const struct fake_counts *), unsigned least)
{
	struct timespec due;
	bool reached;
	int late = 0;

	clock_gettime(CLOCK_MONOTONIC, &due);
	due.tv_sec += 20; /* the client pauses for up to 15 s before it connects again */
	pthread_mutex_lock(&fake->lock);
	while (!(reached = pick(&fake->published) >= least) && !late)
		late = pthread_cond_timedwait(&fake->changed, &fake->lock, &due);
	pthread_mutex_unlock(&fake->lock);
	return reached;
}

struct append {
	int kind;
	const char *grant;
	uint64_t sequence;
};

static void append_now(struct fake *fake, void *arg)
{
	struct append *append = arg;
	struct entry *entry;
	struct stream *stream;

	assert(fake->entry_count < ENTRIES_MAX);
	entry = &fake->entries[fake->entry_count++];
	entry->kind = append->kind;
	snprintf(entry->grant, sizeof(entry->grant), "%s", append->grant);
	append->sequence = fake->entry_count;
	for (stream = fake->streams; stream; stream = stream->next)
		pump(stream);
}

uint64_t fake_append(struct fake *fake, int kind, const char *grant)
{
	struct append append = {.kind = kind, .grant = grant};

	fake_do(fake, append_now, &append);
	return append.sequence;
}

static void refuse_now(struct fake *fake, void *arg)
{
	fake->refuse_watches = *(bool *)arg;
}

void fake_refuse_watches(struct fake *fake, bool refuse)
{
	fake_do(fake, refuse_now, &refuse);
}
