/* Why: the client's connection and ours towards the server are two connections of one gateway. With
 * the same source port they would be one and the same tuple to the gateway's connection tracking,
 * and every packet of one would be taken for the other's. The range that we pick from therefore
 * lies below the ephemeral ports of the usual systems by default, and what is in use there is never
 * picked. Random ports keep a successor of a killed postern-ftp away from its old connections. */
#include "client/inspectors/ftp/ports.h"

#include <string.h>
#include <sys/random.h>

#define TRIES 64

struct key {
	struct addr client, server;
	uint16_t client_port, server_port;
};

static struct key key_of(const struct endpoint *client, const struct endpoint *server)
{
	struct key key;

	memset(&key, 0, sizeof(key)); /* padding is hashed too */
	key.client = client->addr;
	key.server = server->addr;
	key.client_port = client->port;
	key.server_port = server->port;
	return key;
}

static bool match(const struct table_node *node, const void *key, size_t size)
{
	const struct port_use *use = TABLE_OWNER(node, struct port_use, node);
	struct key own = key_of(&use->client, &use->server);

	return size == sizeof(own) && memcmp(&own, key, size) == 0;
}

void ports_init(struct ports *ports)
{
	table_init(&ports->table, match);
}

void ports_fini(struct ports *ports)
{
	table_fini(&ports->table);
}

bool ports_take(struct ports *ports, struct port_use *use, const struct endpoint *client,
	const struct endpoint *server)
{
	struct key key = key_of(client, server);

	if (table_find(&ports->table, &key, sizeof(key)))
		return false;
	use->client = *client;
	use->server = *server;
	use->used = table_insert(&ports->table, &use->node, &key, sizeof(key));
	return use->used;
}

void ports_give_back(struct ports *ports, struct port_use *use)
{
	if (!use->used)
		return;
	table_remove(&ports->table, &use->node);
	use->used = false;
}

bool ports_pick(struct ports *ports, struct port_use *use, const struct endpoint *client,
	const struct endpoint *server, uint16_t lowest, uint16_t highest)
{
	uint32_t choices = (uint32_t)(highest - lowest) + 1, random;
	struct endpoint wanted = *client;

	for (int i = 0; i < TRIES; i++) {
		if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return false;
		wanted.port = (uint16_t)(lowest + random % choices);
		if (ports_take(ports, use, &wanted, server))
			return true;
	}
	return false;
}
