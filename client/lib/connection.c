/* postern_connect and postern_close, and the library's thread.
 *
 * Design. Each struct postern has one thread that runs a loop with one rpc_client. Everything that
 * the comment in internal.h calls the thread's own is touched by it alone; the functions of the
 * header build an object on the caller's thread and post it (postern_post). The lock guards what
 * postern_connect waits for and the flag `closing`.
 *
 * Closing. postern_close sets `closing` under the lock, under which also every post is made:
 * whatever was accepted stands in the queue before the stop task, and nothing comes behind it. The
 * stop task ends loop_run(); then the thread closes the rpc_client (calls in flight end with
 * CANCELLED), ends the calls that the client does not know (waiting for their turn or for the next
 * try), and the watches. In a callback postern_close cannot wait for its own thread: it detaches
 * it, and the thread frees everything behind the callback.
 *
 * Signals. They are blocked while the thread is created, so it and the threads that nng creates
 * within inherit that. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/lib/internal.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/file.h"
#include "common/version.h"
#include "proto/rpc/rpc.h"

#define DEFAULT_CONNECT_MS 10000
/* Watches are not counted in `in_flight`; this many calls of the connection's limit are left to
 * them. */
#define CALLS_FOR_WATCHES 32

/* ---- the thread ---- */

bool postern_on_own_thread(const struct postern *postern)
{
	return loop_is_own_thread(postern->loop);
}

enum status postern_post(
	struct postern *postern, struct loop_task *task, loop_cb cb, void *arg, struct error *err)
{
	bool closing;

	pthread_mutex_lock(&postern->lock);
	closing = postern->closing;
	if (!closing)
		loop_post(postern->loop, task, cb, arg);
	pthread_mutex_unlock(&postern->lock);
	if (closing)
		return error_set(err, STATUS_CANCELLED, "the connection is being closed");
	return STATUS_OK;
}

static void decide_link(struct postern *postern, enum link_state link, const struct error *err)
{
	pthread_mutex_lock(&postern->lock);
	if (postern->link == LINK_STARTING) {
		postern->link = link;
		if (err)
			postern->link_error = *err;
		pthread_cond_signal(&postern->changed);
	}
	pthread_mutex_unlock(&postern->lock);
}

/* Tells a change once: lost, another cause, regained. The first connection is postern_connect's to
 * tell. */
static void tell_link(struct postern *postern, const struct error *err)
{
	struct postern_error told;

	if (postern->link_status == (enum postern_status)err->status || postern->ending)
		return;
	postern->link_status = (enum postern_status)err->status;
	error_publish(err, &told);
	if (postern->on_link)
		postern->on_link(postern->arg, told.status, &told);
}

static void on_ready(struct postern *postern, const struct rpc_welcome *welcome)
{
	static const struct error fine;
	size_t calls = welcome->max_calls;

	postern->max_in_flight =
		calls > 2 * CALLS_FOR_WATCHES ? calls - CALLS_FOR_WATCHES : calls / 2 + 1;
	if (postern->link == LINK_STARTING)
		decide_link(postern, LINK_READY, NULL);
	else
		tell_link(postern, &fine);
	/* In this order: a watch from now on misses nothing that the calls behind it cause. */
	watches_resume(postern);
	calls_resume(postern);
}

/* A wrong token, URL or certificate stays wrong; the rest may be a server that is just starting. */
static bool is_final(enum status status)
{
	return status == STATUS_UNAUTHENTICATED || status == STATUS_INVALID_ARGUMENT ||
		status == STATUS_PERMISSION_DENIED || status == STATUS_UNIMPLEMENTED;
}

static void on_lost(struct postern *postern, const struct error *err)
{
	if (postern->link == LINK_READY) {
		tell_link(postern, err);
		return;
	}
	if (is_final(err->status)) {
		decide_link(postern, LINK_FAILED, err);
		return;
	}
	pthread_mutex_lock(&postern->lock);
	postern->link_error = *err;
	pthread_mutex_unlock(&postern->lock);
}

static void on_state(void *arg, enum rpc_client_state state, const struct rpc_welcome *welcome,
	const struct error *err)
{
	struct postern *postern = arg;

	switch (state) {
	case RPC_CLIENT_READY:
		on_ready(postern, welcome);
		break;
	case RPC_CLIENT_CONNECTING:
		if (err && err->status != STATUS_OK)
			on_lost(postern, err);
		break;
	case RPC_CLIENT_CLOSED:
		break;
	}
}

static enum status start_client(struct postern *postern, struct error *err)
{
	struct rpc_client_config config = {
		.loop = postern->loop,
		.limits = rpc_default_limits,
		.url = postern->server,
		.token = postern->token,
		.name = postern->name,
		.ca_file = postern->ca_file,
		.server_name = postern->server_name,
		.reconnect = true,
		.arg = postern,
		.on_state = on_state,
	};
	enum status status = rpc_client_new(&config, &postern->client, err);

	if (status == STATUS_OK)
		rpc_client_start(postern->client);
	return status;
}

static void free_postern(struct postern *postern)
{
	loop_free(postern->loop);
	pthread_cond_destroy(&postern->changed);
	pthread_mutex_destroy(&postern->lock);
	file_free_secret(postern->token);
	free(postern->server);
	free(postern->ca_file);
	free(postern->server_name);
	free(postern->name);
	free(postern);
}

static void *run(void *arg)
{
	struct postern *postern = arg;
	bool frees_self;
	struct error err;

	if (start_client(postern, &err) != STATUS_OK)
		decide_link(postern, LINK_FAILED, &err);
	loop_run(postern->loop);

	postern->ending = true;
	if (postern->client)
		rpc_client_close(postern->client);
	calls_end(postern);
	watches_end(postern);
	rpc_client_free(postern->client);

	pthread_mutex_lock(&postern->lock);
	frees_self = postern->frees_self;
	pthread_mutex_unlock(&postern->lock);
	if (frees_self)
		free_postern(postern);
	return NULL;
}

static enum status start_thread(struct postern *postern, struct error *err)
{
	sigset_t all, before;
	int failed;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&postern->thread, NULL, run, postern);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		return error_errno(
			err, STATUS_RESOURCE_EXHAUSTED, failed, "cannot create a thread");
	return STATUS_OK;
}

/* ---- connect ---- */

static const char *option_or_environment(const char *option, const char *variable)
{
	const char *value = option ? option : getenv(variable);

	return value && *value ? value : NULL;
}

static bool copy_text(const char *text, char **ret_copy)
{
	if (!text)
		return true;
	*ret_copy = strdup(text);
	return *ret_copy != NULL;
}

static enum status read_token(const char *path, char **ret_token, struct error *err)
{
	struct error cause;
	enum status status;

	if (!path)
		return error_field(
			err, "token_file", "no token file; set POSTERN_TOKEN_FILE or give one");
	status = file_read_secret(path, ret_token, &cause);
	if (status == STATUS_OK)
		return STATUS_OK;
	error_field(err, "token_file", "token: %s", cause.text);
	if (err)
		err->status = status;
	return status;
}

static enum status apply_options(
	struct postern *postern, const struct postern_options *options, struct error *err)
{
	const char *server = option_or_environment(options->server, "POSTERN_SERVER");
	const char *token_file = option_or_environment(options->token_file, "POSTERN_TOKEN_FILE");
	const char *ca_file = option_or_environment(options->ca_file, "POSTERN_CA_FILE");

	if (!server)
		return error_field(err, "server", "no server; set POSTERN_SERVER or give one");
	if (strncmp(server, "tls+tcp", 7) == 0 && !ca_file)
		return error_field(err, "ca_file",
			"%s needs the certificate of its authority; set POSTERN_CA_FILE or give "
			"one",
			server);
	postern->on_link = options->on_link;
	postern->arg = options->arg;
	if (!copy_text(server, &postern->server) || !copy_text(ca_file, &postern->ca_file) ||
		!copy_text(options->server_name, &postern->server_name) ||
		!copy_text(options->name ? options->name : "libpostern " POSTERN_VERSION,
			&postern->name))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	return read_token(token_file, &postern->token, err);
}

static struct postern *new_postern(void)
{
	struct postern *postern = calloc(1, sizeof(*postern));
	pthread_condattr_t attributes;

	if (!postern)
		return NULL;
	postern->waiting_end = &postern->waiting;
	postern->max_in_flight = CALLS_FOR_WATCHES;
	pthread_mutex_init(&postern->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&postern->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return postern;
}

static enum status wait_for_link(struct postern *postern, uint32_t connect_ms, struct error *err)
{
	int64_t due_us = clock_mono_us() + (int64_t)connect_ms * 1000;
	struct timespec due = {.tv_sec = due_us / 1000000, .tv_nsec = due_us % 1000000 * 1000};
	char waited[32];
	int late = 0;

	pthread_mutex_lock(&postern->lock);
	while (postern->link == LINK_STARTING && late != ETIMEDOUT)
		late = pthread_cond_timedwait(&postern->changed, &postern->lock, &due);
	if (postern->link == LINK_STARTING) {
		format_duration(connect_ms, waited, sizeof(waited));
		if (*postern->link_error.text) /* begins with the URL */
			error_set(err, STATUS_UNAVAILABLE, "no connection within %s: %s", waited,
				postern->link_error.text);
		else
			error_set(err, STATUS_UNAVAILABLE, "%s: no answer within %s",
				postern->server, waited);
	} else if (postern->link == LINK_FAILED) {
		*err = postern->link_error;
	} else {
		err->status = STATUS_OK;
	}
	pthread_mutex_unlock(&postern->lock);
	return err->status;
}

enum postern_status postern_connect(const struct postern_options *options,
	struct postern **ret_postern, struct postern_error *ret_err)
{
	struct postern *postern = new_postern();
	struct error err = {.status = STATUS_RESOURCE_EXHAUSTED, .text = "out of memory"};
	uint32_t connect_ms = options->connect_ms ? options->connect_ms : DEFAULT_CONNECT_MS;

	if (!postern)
		return error_give(&err, ret_err);
	if (apply_options(postern, options, &err) != STATUS_OK ||
		loop_new(&postern->loop, &err) != STATUS_OK ||
		start_thread(postern, &err) != STATUS_OK) {
		free_postern(postern);
		return error_give(&err, ret_err);
	}
	if (wait_for_link(postern, connect_ms, &err) != STATUS_OK) {
		postern_close(postern);
		return error_give(&err, ret_err);
	}
	*ret_postern = postern;
	return POSTERN_OK;
}

/* ---- close ---- */

static void stop(void *arg)
{
	loop_stop(arg);
}

void postern_close(struct postern *postern)
{
	bool in_callback;

	if (!postern)
		return;
	in_callback = postern_on_own_thread(postern);
	if (in_callback)
		pthread_detach(postern->thread);
	pthread_mutex_lock(&postern->lock);
	postern->closing = true;
	postern->frees_self = in_callback;
	loop_post(postern->loop, &postern->stop_task, stop, postern->loop);
	pthread_mutex_unlock(&postern->lock);
	if (in_callback)
		return;
	pthread_join(postern->thread, NULL);
	free_postern(postern);
}
