#include "server/daemon.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "common/log.h"
#include "common/loop.h"
#include "server/config.h"
#include "server/server.h"

struct daemon {
	const struct daemon_options *options;
	struct loop *loop;
	struct server *server;
	struct server_config *config; /* the one in use */
};

static struct server_config *config_new(const char *path, struct error *err)
{
	struct server_config *config = calloc(1, sizeof *config);
	if (!config) {
		error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (server_config_read(path, config, err) == STATUS_OK)
		return config;
	free(config);
	return NULL;
}

static void config_free(struct server_config *config)
{
	if (config)
		server_config_fini(config);
	free(config);
}

static enum log_level level_of(const struct daemon *daemon)
{
	return daemon->options->verbose ? LOG_LEVEL_DEBUG : server_config_log_level(daemon->config);
}

static void on_stop(void *arg)
{
	loop_stop(((struct daemon *)arg)->loop);
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool needs_restart(const struct server_config *old, const struct server_config *new)
{
	bool same = is_same(old->database, new->database) &&
		is_same(old->tls_cert_file, new->tls_cert_file) &&
		is_same(old->tls_key_file, new->tls_key_file) &&
		is_same(old->tls_client_ca_file, new->tls_client_ca_file) &&
		old->listen.count == new->listen.count &&
		old->max_connections == new->max_connections &&
		old->max_calls_per_connection == new->max_calls_per_connection &&
		old->max_queued_bytes_per_connection == new->max_queued_bytes_per_connection;
	for (size_t i = 0; same && i < old->listen.count; i++)
		same = is_same(old->listen.items[i], new->listen.items[i]);
	return !same;
}

static void on_reload(void *arg)
{
	struct daemon *daemon = arg;
	struct error err;
	sd_notify(0, "RELOADING=1");
	struct server_config *config = config_new(daemon->options->path, &err);
	if (!config || server_reload(daemon->server, config, &err)) {
		log_err("reload: nothing was changed: %s", err.text);
		config_free(config);
		sd_notify(0, "READY=1");
		return;
	}
	if (needs_restart(daemon->config, config))
		log_warn("reload: listen, database, tls_*, max_connections, "
			 "max_calls_per_connection and max_queued_bytes_per_connection change with "
			 "a restart only");
	config_free(daemon->config);
	daemon->config = config;
	log_set_level(level_of(daemon));
	log_info("reload: %s is in use", daemon->options->path);
	sd_notify(0, "READY=1");
}

static enum status start(struct daemon *daemon, struct error *err)
{
	enum status status = loop_new(&daemon->loop, err);
	if (!status)
		status = loop_signal(daemon->loop, SIGTERM, on_stop, daemon, err);
	if (!status)
		status = loop_signal(daemon->loop, SIGINT, on_stop, daemon, err);
	if (!status)
		status = loop_signal(daemon->loop, SIGHUP, on_reload, daemon, err);
	if (!status)
		status = server_start(daemon->loop, daemon->config, &daemon->server, err);
	return status;
}

enum status daemon_run(const struct daemon_options *options, struct error *err)
{
	struct daemon daemon = {.options = options};
	daemon.config = config_new(options->path, err);
	if (!daemon.config)
		return err->status;
	log_init("posternd", level_of(&daemon));
	if (options->for_people)
		log_human();
	signal(SIGPIPE, SIG_IGN);
	enum status status = start(&daemon, err);
	if (status == STATUS_OK) {
		for (size_t i = 0; server_url(daemon.server, i); i++)
			log_info("listening: %s", server_url(daemon.server, i));
		sd_notify(0, "READY=1");
		loop_run(daemon.loop);
		sd_notify(0, "STOPPING=1");
		log_info("stopping");
		if (server_is_broken(daemon.server))
			status = error_set(err, STATUS_RESOURCE_EXHAUSTED,
				"memory ran out: start again to go on from what is on disk");
		server_stop(daemon.server);
	}
	loop_free(daemon.loop);
	config_free(daemon.config);
	return status;
}
