#include "proto/rpc/rpc.h"

#include <string.h>

const struct rpc_limits rpc_default_limits = {
	.max_frame_bytes = 1024 * 1024,
	.max_connections = 8192,
	.max_unauthenticated = 1024,
	.max_calls = 1024,
	.max_queued_bytes = 4 * 1024 * 1024,
	.max_queued_bytes_total = 256 * 1024 * 1024,
	.hello_timeout_ms = 5000,
	.heartbeat_ms = 10000,
	.idle_timeout_ms = 30000,
};

static const char *const role_names[] = {
	[RPC_ROLE_ADMIN] = "admin",
	[RPC_ROLE_AUDITOR] = "auditor",
	[RPC_ROLE_FILTER] = "filter",
	[RPC_ROLE_AGENT] = "agent",
};

const char *rpc_role_name(enum rpc_role role)
{
	if (role < RPC_ROLE_ADMIN || role > RPC_ROLE_AGENT)
		return "unknown";
	return role_names[role];
}

bool rpc_role_parse(const char *text, enum rpc_role *ret_role)
{
	for (int role = RPC_ROLE_ADMIN; role <= RPC_ROLE_AGENT; role++) {
		if (strcmp(text, role_names[role]) == 0) {
			*ret_role = (enum rpc_role)role;
			return true;
		}
	}
	return false;
}
