/* posternd as one object: store, core, RPC and services on one loop. */
#ifndef POSTERN_SERVER_SERVER_H
#define POSTERN_SERVER_SERVER_H

#include <stdbool.h>

#include "server/config.h"

struct core;
struct loop;
struct server;

/* Opens the database, rebuilds what is live, listens. `config` must outlive the server. */
enum status server_start(struct loop *loop, const struct server_config *config,
	struct server **ret_server, struct error *err);
/* New certificate and, for new decisions, new limits. On failure the old ones stay. */
enum status server_reload(
	struct server *server, const struct server_config *config, struct error *err);
/* Journals the stop, tells peers goodbye, frees everything. Accepts NULL. */
void server_stop(struct server *server);
/* It stopped the loop by itself: what it knows is not what is on disk any more. */
bool server_is_broken(const struct server *server);
/* Its core, for tests that share its loop. */
struct core *server_core(struct server *server);
const char *server_url(const struct server *server, size_t i);

#endif
