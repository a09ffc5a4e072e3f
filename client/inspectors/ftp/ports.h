/* The ports of one client towards one server that must not be used twice: the client's own and
 * those that we connect with in its name. */
#ifndef POSTERN_FTP_PORTS_H
#define POSTERN_FTP_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/table.h"

/* Embedded in the session that uses the port. */
struct port_use {
	struct table_node node;
	struct endpoint client, server;
	bool used;
};

struct ports {
	struct table table;
};

void ports_init(struct ports *ports);
void ports_fini(struct ports *ports);
/* False when it is in use, or memory is out. */
bool ports_take(struct ports *ports, struct port_use *use, const struct endpoint *client,
	const struct endpoint *server);
void ports_give_back(struct ports *ports, struct port_use *use); /* no-op when not used */
/* Takes a random free port of [lowest, highest]; client->port is ignored. False when none was found
 * in a bounded number of tries. */
bool ports_pick(struct ports *ports, struct port_use *use, const struct endpoint *client,
	const struct endpoint *server, uint16_t lowest, uint16_t highest);

#endif
