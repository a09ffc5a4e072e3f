#include "server/server.h"

#include <stdlib.h>

#include "common/loop.h"
#include "common/version.h"
#include "server/core/core.h"
#include "server/service/service.h"

struct server {
	struct loop *loop;
	struct store *store;
	struct core core;
	struct rpc_server *rpc;
	struct services services;
};

static enum status authenticate(void *arg, const char *token, const char *name,
	struct rpc_principal *ret_principal, struct error *err)
{
	struct server *server = arg;
	struct principal *principal = principals_by_token(&server->core.principals, token);
	(void)name;
	if (!principal)
		return error_set(err, STATUS_UNAUTHENTICATED,
			"the token is not known to this server: check the token file");
	ret_principal->role = (enum rpc_role)principal->record.role;
	copy_text(ret_principal->name, sizeof ret_principal->name, principal->record.name);
	copy_text(ret_principal->gateway, sizeof ret_principal->gateway, principal->record.gateway);
	return STATUS_OK;
}

static enum status authorise(
	void *arg, const struct rpc_principal *principal, const char *method, struct error *err)
{
	(void)arg;
	return access_check(principal, method, err);
}

static struct rpc_limits limits_of(const struct server_config *config)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.max_connections = config->max_connections;
	limits.max_calls = config->max_calls_per_connection;
	limits.max_queued_bytes = config->max_queued_bytes_per_connection;
	return limits;
}

static enum status start_rpc(
	struct server *server, const struct server_config *config, struct error *err)
{
	struct rpc_server_config rpc = {.loop = server->loop,
		.limits = limits_of(config),
		.identity = "posternd " POSTERN_VERSION,
		.tls_cert_file = config->tls_cert_file,
		.tls_key_file = config->tls_key_file,
		.tls_client_ca_file = config->tls_client_ca_file,
		.arg = server,
		.authenticate = authenticate,
		.authorise = authorise};
	enum status status = rpc_server_new(&rpc, &server->rpc, err);
	if (!status)
		status = services_init(&server->services, &server->core, server->rpc, err);
	for (size_t i = 0; i < config->listen.count && !status; i++)
		status = rpc_server_listen(server->rpc, config->listen.items[i], err);
	return status;
}

enum status server_start(struct loop *loop, const struct server_config *config,
	struct server **ret_server, struct error *err)
{
	struct server *server = calloc(1, sizeof *server);
	if (!server)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	server->loop = loop;
	enum status status = store_open(config->database, loop, &server->store, err);
	if (!status)
		status = core_init(&server->core, loop, config, server->store, err);
	if (!status)
		status = start_rpc(server, config, err);
	if (status) {
		server->core.stopping = true;
		server_stop(server);
		return status;
	}
	core_begin(&server->core);
	*ret_server = server;
	return STATUS_OK;
}

enum status server_reload(
	struct server *server, const struct server_config *config, struct error *err)
{
	enum status status = rpc_server_reload_tls(server->rpc, err);
	if (!status)
		server->core.config = config;
	return status;
}

void server_stop(struct server *server)
{
	if (!server)
		return;
	core_stop(&server->core);
	/* Handlers end their calls while the store still runs their completions. */
	if (server->rpc)
		rpc_server_close(server->rpc);
	store_close(server->store);
	services_fini(&server->services);
	rpc_server_free(server->rpc);
	core_fini(&server->core);
	free(server);
}

bool server_is_broken(const struct server *server)
{
	return server->core.broken;
}

struct core *server_core(struct server *server)
{
	return &server->core;
}

const char *server_url(const struct server *server, size_t i)
{
	return rpc_server_url(server->rpc, i);
}
