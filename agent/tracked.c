#include "agent/tracked.h"

#include <string.h>

void tracked_key(const struct tracked *tracked, struct tracked_key *ret_key)
{
	memset(ret_key, 0, sizeof *ret_key);
	ret_key->id = tracked->id;
	memcpy(ret_key->client, tracked->client.addr.bytes, sizeof ret_key->client);
	memcpy(ret_key->remote, tracked->remote.addr.bytes, sizeof ret_key->remote);
	ret_key->client_port = tracked->client.port;
	ret_key->remote_port = tracked->remote.port;
	ret_key->transport = tracked->transport;
	ret_key->family = tracked->client.addr.family;
}

bool tracked_is_translated(const struct tracked *tracked)
{
	return tracked->reply_from.addr.family != ADDR_NONE;
}
