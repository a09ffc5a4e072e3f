/* libpostern's callbacks come on its own thread; each ask carries a task that brings the answer to
 * the loop. An ask is freed on the loop when its answer has arrived, wanted or not, so neither side
 * frees under the other's hands. */
#include "client/inspectors/ftp/gate.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/version.h"

#include <postern/postern.h>

#define CONNECT_MS 5000
#define RETRY_MS 1000

struct gate {
	struct loop *loop;
	const struct ftp_config *config;
	pthread_t connector;
	bool connector_runs;
	pthread_mutex_t mutex;
	pthread_cond_t stop_wanted;
	bool stopping; /* under the mutex */
	_Atomic(struct postern *) postern; /* NULL until connected */
	struct postern_watch *watch;
	unsigned asks;
};

struct gate_ask {
	struct gate *gate;
	struct gate_session *session; /* NULL = forgotten */
	struct endpoint remote;
	gate_cb cb;
	void *arg;
	struct loop_task task;
	struct postern_session opened;
	struct postern_error err;
};

/* ---- connecting ---- */

static void on_event(void *arg, const struct postern_event *event)
{
	(void)arg;
	if (event->kind == POSTERN_EVENT_ESTABLISHED)
		log_info("%s: connected: %s port %u to %s port %u", event->grant, event->client,
			event->client_port, event->remote, event->remote_port);
	else if (event->kind == POSTERN_EVENT_CLOSED)
		log_info("%s: ended: %s to %s: %llu bytes sent, %llu received", event->grant,
			event->client, event->remote, (unsigned long long)event->bytes_sent,
			(unsigned long long)event->bytes_received);
}

static void on_link(void *arg, enum postern_status status, const struct postern_error *err)
{
	(void)arg;
	if (status)
		log_warn("policy server: %s", err->text);
	else
		log_info("policy server: connected again");
}

/* True when it is time to stop. */
static bool wait_a_while(struct gate *gate)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RETRY_MS / 1000;
	pthread_mutex_lock(&gate->mutex);
	if (!gate->stopping)
		pthread_cond_timedwait(&gate->stop_wanted, &gate->mutex, &until);
	bool stop = gate->stopping;
	pthread_mutex_unlock(&gate->mutex);
	return stop;
}

static void *connect_main(void *arg)
{
	struct gate *gate = arg;
	struct postern_options options = {.server = gate->config->server,
		.token_file = gate->config->token_file,
		.ca_file = gate->config->ca_file,
		.server_name = gate->config->server_name,
		.name = "postern-ftp " POSTERN_VERSION,
		.connect_ms = CONNECT_MS,
		.on_link = on_link};
	struct postern *postern = NULL;
	struct postern_error err;
	while (postern_connect(&options, &postern, &err)) {
		log_warn("policy server: %s", err.text);
		if (wait_a_while(gate))
			return NULL;
	}
	log_info("policy server: connected");
	if (postern_watch_start(postern, POSTERN_FROM_NOW, on_event, gate, &gate->watch, &err))
		log_warn("policy server: no events: %s", err.text);
	atomic_store(&gate->postern, postern);
	return NULL;
}

enum status gate_start(struct loop *loop, const struct ftp_config *config, struct gate **ret_gate,
	struct error *err)
{
	struct gate *gate = calloc(1, sizeof *gate);
	sigset_t all, old;
	if (!gate)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	gate->loop = loop;
	gate->config = config;
	pthread_mutex_init(&gate->mutex, NULL);
	pthread_cond_init(&gate->stop_wanted, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&gate->connector, NULL, connect_main, gate);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	gate->connector_runs = rc == 0;
	if (rc != 0) {
		gate_stop(gate);
		return error_errno(err, STATUS_RESOURCE_EXHAUSTED, rc, "cannot start a thread");
	}
	*ret_gate = gate;
	return STATUS_OK;
}

void gate_stop(struct gate *gate)
{
	if (!gate)
		return;
	pthread_mutex_lock(&gate->mutex);
	gate->stopping = true;
	pthread_cond_signal(&gate->stop_wanted);
	pthread_mutex_unlock(&gate->mutex);
	if (gate->connector_runs)
		pthread_join(gate->connector, NULL);
	postern_watch_stop(gate->watch);
	postern_close(atomic_load(&gate->postern));
	/* Every call has been answered by now; the answers wait on the loop. */
	while (gate->asks > 0)
		loop_step(gate->loop, 0);
	pthread_cond_destroy(&gate->stop_wanted);
	pthread_mutex_destroy(&gate->mutex);
	free(gate);
}

/* ---- asking ---- */

static void answer(void *arg)
{
	struct gate_ask *ask = arg;
	char line[400];
	ask->gate->asks--;
	if (ask->session) {
		const char *refusal = NULL;
		if (ask->err.status) {
			snprintf(line, sizeof line, "%s",
				ask->err.text[0] ? ask->err.text
						 : postern_status_name(ask->err.status));
			refusal = line;
		}
		ask->cb(ask->arg, refusal);
	}
	free(ask);
}

static void on_granted(
	void *arg, const struct postern_grant *grant, const struct postern_error *err)
{
	struct gate_ask *ask = arg;
	(void)grant;
	ask->err = *err;
	loop_post(ask->gate->loop, &ask->task, answer, ask);
}

static void ask_for_door(void *arg)
{
	struct gate_ask *ask = arg;
	struct gate *gate = ask->gate;
	char remote[ADDR_TEXT_SIZE], context[160], client[ENDPOINT_TEXT_SIZE],
		server[ENDPOINT_TEXT_SIZE];
	if (!ask->session || ask->err.status) {
		answer(ask);
		return;
	}
	addr_format(&ask->remote.addr, remote);
	endpoint_format(&ask->session->client, client);
	endpoint_format(&ask->session->server, server);
	snprintf(context, sizeof context, "ftp %s to %s", client, server);
	struct postern_grant_request request = {.session = ask->session->id,
		.remote = remote,
		.remote_port = ask->remote.port,
		.transport = POSTERN_TCP,
		.flags = POSTERN_TIMEOUT,
		.protocol = gate->config->protocol,
		.notify = 1,
		.context = context,
		.context_size = strlen(context),
		.deadline_ms = (uint32_t)gate->config->deadline_ms};
	if (postern_allow_future_connect_async(
		    atomic_load(&gate->postern), &request, on_granted, ask, &ask->err))
		answer(ask);
}

static void session_opened(void *arg)
{
	struct gate_ask *ask = arg;
	if (!ask->err.status && ask->session)
		snprintf(ask->session->id, sizeof ask->session->id, "%s", ask->opened.id);
	else if (!ask->err.status) /* the control connection ended meanwhile */
		(void)postern_session_close_async(
			atomic_load(&ask->gate->postern), ask->opened.id, NULL, NULL, NULL);
	ask_for_door(ask);
}

static void on_opened(
	void *arg, const struct postern_session *session, const struct postern_error *err)
{
	struct gate_ask *ask = arg;
	ask->err = *err;
	if (!err->status)
		ask->opened = *session;
	loop_post(ask->gate->loop, &ask->task, session_opened, ask);
}

static enum postern_status open_session(struct gate_ask *ask)
{
	struct gate_session *session = ask->session;
	char client[ADDR_TEXT_SIZE], server[ADDR_TEXT_SIZE];
	addr_format(&session->client.addr, client);
	addr_format(&session->server.addr, server);
	struct postern_connection primary = {.transport = POSTERN_TCP,
		.client = client,
		.client_port = session->client.port,
		.remote = server,
		.remote_port = session->server.port};
	struct postern_session_request request = {.gateway = ask->gate->config->gateway,
		.client = client,
		.protocol = ask->gate->config->protocol,
		.primary = &primary,
		.deadline_ms = (uint32_t)ask->gate->config->deadline_ms};
	return postern_session_open_async(
		atomic_load(&ask->gate->postern), &request, on_opened, ask, &ask->err);
}

struct gate_ask *gate_request(struct gate *gate, struct gate_session *session,
	const struct endpoint *remote, gate_cb cb, void *arg, const char **ret_why)
{
	if (!atomic_load(&gate->postern)) {
		*ret_why = "the policy server cannot be reached";
		return NULL;
	}
	struct gate_ask *ask = calloc(1, sizeof *ask);
	if (!ask) {
		*ret_why = "out of memory";
		return NULL;
	}
	*ask = (struct gate_ask){
		.gate = gate, .session = session, .remote = *remote, .cb = cb, .arg = arg};
	gate->asks++;
	if (session->id[0]) {
		/* From the loop, so that no callback runs inside this call. */
		loop_post(gate->loop, &ask->task, ask_for_door, ask);
	} else if (open_session(ask)) {
		gate->asks--;
		free(ask);
		*ret_why = "the policy server refused the session";
		return NULL;
	}
	return ask;
}

void gate_forget(struct gate_ask *ask)
{
	ask->session = NULL;
}

void gate_close_session(struct gate *gate, const struct gate_session *session)
{
	struct postern *postern = atomic_load(&gate->postern);
	if (postern && session->id[0])
		(void)postern_session_close_async(postern, session->id, NULL, NULL, NULL);
}
