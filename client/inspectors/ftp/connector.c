#include "client/inspectors/ftp/connector.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/inspectors/ftp/config.h"
#include "common/loop.h"
#include "common/version.h"

#define PAUSE_S 2

struct connector {
	struct connector_options options;
	char *server, *token_file, *ca_file, *server_name;
	pthread_t thread;
	struct loop_task task;
	bool posted; /* loop: the task has not run; read there behind the thread's end only */
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	bool stop;
	struct postern *fresh;
};

/* True when it should try again. */
static bool pause_connecting(struct connector *connector)
{
	struct timespec due;
	bool again;

	clock_gettime(CLOCK_MONOTONIC, &due);
	due.tv_sec += PAUSE_S;
	pthread_mutex_lock(&connector->lock);
	while (!connector->stop &&
		pthread_cond_timedwait(&connector->changed, &connector->lock, &due) != ETIMEDOUT)
		;
	again = !connector->stop;
	pthread_mutex_unlock(&connector->lock);
	return again;
}

static struct postern *take_fresh(struct connector *connector)
{
	struct postern *fresh;

	pthread_mutex_lock(&connector->lock);
	fresh = connector->fresh;
	connector->fresh = NULL;
	pthread_mutex_unlock(&connector->lock);
	return fresh;
}

static void on_task(void *arg)
{
	struct connector *connector = arg;
	struct postern *fresh = take_fresh(connector);

	connector->posted = false;
	if (fresh)
		connector->options.on_connected(connector->options.arg, fresh);
}

static void *connect_thread(void *arg)
{
	struct connector *connector = arg;
	struct postern_options options = {
		.server = connector->server,
		.token_file = connector->token_file,
		.ca_file = connector->ca_file,
		.server_name = connector->server_name,
		.name = "postern-ftp " POSTERN_VERSION,
		.connect_ms = CONNECTOR_TRY_MS,
		.on_link = connector->options.on_link,
		.arg = connector->options.arg,
	};
	enum postern_status told = POSTERN_OK;
	struct postern_error err;
	struct postern *postern = NULL;

	while (postern_connect(&options, &postern, &err) != POSTERN_OK) {
		if (err.status != told)
			options.on_link(options.arg, err.status, &err);
		told = err.status;
		if (!pause_connecting(connector))
			return NULL;
	}
	pthread_mutex_lock(&connector->lock);
	connector->fresh = postern;
	pthread_mutex_unlock(&connector->lock);
	connector->posted = true;
	loop_post(connector->options.loop, &connector->task, on_task, connector);
	return NULL;
}

static enum status start_thread(struct connector *connector, struct error *err)
{
	sigset_t all, before;
	int failed;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&connector->thread, NULL, connect_thread, connector);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		return error_errno(
			err, STATUS_RESOURCE_EXHAUSTED, failed, "cannot create a thread");
	return STATUS_OK;
}

static bool copy_text(const char *text, char **ret_copy)
{
	if (!text)
		return true;
	*ret_copy = strdup(text);
	return *ret_copy != NULL;
}

enum status connector_new(const struct connector_options *options, struct connector **ret_connector,
	struct error *err)
{
	const struct ftp_config *config = options->config;
	struct connector *connector = calloc(1, sizeof(*connector));
	pthread_condattr_t attributes;
	enum status status;

	if (!connector)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	connector->options = *options;
	connector->options.config = NULL;
	pthread_mutex_init(&connector->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&connector->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	if (!copy_text(config->server, &connector->server) ||
		!copy_text(config->token_file, &connector->token_file) ||
		!copy_text(config->ca_file, &connector->ca_file) ||
		!copy_text(config->server_name, &connector->server_name))
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	else
		status = start_thread(connector, err);
	if (status != STATUS_OK) {
		connector_free(connector);
		return status;
	}
	*ret_connector = connector;
	return STATUS_OK;
}

struct postern *connector_stop(struct connector *connector)
{
	pthread_mutex_lock(&connector->lock);
	connector->stop = true;
	pthread_cond_signal(&connector->changed);
	pthread_mutex_unlock(&connector->lock);
	pthread_join(connector->thread, NULL);
	return take_fresh(connector);
}

bool connector_is_idle(const struct connector *connector)
{
	return !connector->posted;
}

void connector_free(struct connector *connector)
{
	if (!connector)
		return;
	pthread_cond_destroy(&connector->changed);
	pthread_mutex_destroy(&connector->lock);
	free(connector->server);
	free(connector->token_file);
	free(connector->ca_file);
	free(connector->server_name);
	free(connector);
}
