#include "server/grants/state.h"

#include <netinet/in.h>
#include <string.h>

#include "server/journal/entry.h"

#define BIT(state) (1U << (state))
#define ENDS (BIT(GRANT_USED) | BIT(GRANT_EXPIRED) | BIT(GRANT_CANCELLED) | BIT(GRANT_FAILED))

static const unsigned allowed[] = {
	[GRANT_PENDING] = BIT(GRANT_ACTIVE) | ENDS,
	[GRANT_ACTIVE] = ENDS,
	[GRANT_USED] = 0,
	[GRANT_EXPIRED] = 0,
	[GRANT_CANCELLED] = 0,
	[GRANT_FAILED] = 0,
	[GRANT_DENIED] = 0,
};

bool grant_is_live(enum grant_state state)
{
	return state == GRANT_PENDING || state == GRANT_ACTIVE;
}

bool grant_may_become(enum grant_state from, enum grant_state to)
{
	return from >= GRANT_PENDING && from <= GRANT_DENIED && (allowed[from] & BIT(to)) != 0;
}

enum grant_state grant_end_state(enum end_reason reason)
{
	switch (reason) {
	case END_USED_UP:
		return GRANT_USED;
	case END_UNUSED_TIMEOUT:
	case END_LIFETIME:
		return GRANT_EXPIRED;
	case END_CANCELLED_BY_FILTER:
	case END_SESSION_ENDED:
	case END_REVOKED_BY_OPERATOR:
	case END_POLICY_CHANGED:
		return GRANT_CANCELLED;
	case END_GATEWAY_REFUSED:
	case END_DEADLINE_MISSED:
		return GRANT_FAILED;
	}
	return GRANT_FAILED;
}

const char *end_reason_name(enum end_reason reason)
{
	switch (reason) {
	case END_USED_UP:
		return "used-up";
	case END_UNUSED_TIMEOUT:
		return "unused-timeout";
	case END_LIFETIME:
		return "lifetime";
	case END_CANCELLED_BY_FILTER:
		return "cancelled-by-filter";
	case END_SESSION_ENDED:
		return "session-ended";
	case END_REVOKED_BY_OPERATOR:
		return "revoked-by-operator";
	case END_POLICY_CHANGED:
		return "policy-changed";
	case END_GATEWAY_REFUSED:
		return "gateway-refused";
	case END_DEADLINE_MISSED:
		return "deadline-missed";
	}
	return "unknown";
}

const char *grant_state_name(enum grant_state state)
{
	switch (state) {
	case GRANT_PENDING:
		return "pending";
	case GRANT_ACTIVE:
		return "active";
	case GRANT_USED:
		return "used";
	case GRANT_EXPIRED:
		return "expired";
	case GRANT_CANCELLED:
		return "cancelled";
	case GRANT_FAILED:
		return "failed";
	case GRANT_DENIED:
		return "denied";
	}
	return "unknown";
}

static enum status check_addresses(const struct grant_record *grant, struct error *err)
{
	if (!addr_is_forwardable(&grant->client))
		return error_field(
			err, "client", "client: not a unicast address that a gateway forwards");
	if (!addr_is_forwardable(&grant->remote.addr))
		return error_field(
			err, "remote", "remote: not a unicast address that a gateway forwards");
	if (grant->client.family != grant->remote.addr.family)
		return error_field(err, "remote",
			"remote: client and remote must both be IPv4 or both be IPv6");
	if (grant->remote.port == 0)
		return error_field(
			err, "remote_port", "remote_port: a port from 1 to 65535 is needed");
	if (grant->transport != IPPROTO_TCP && grant->transport != IPPROTO_UDP)
		return error_field(err, "transport", "transport: tcp or udp");
	if (grant->external.addr.family != ADDR_NONE || grant->external.port != 0)
		return error_set(err, STATUS_UNIMPLEMENTED,
			"external: this server cannot choose external addresses yet: leave it out");
	return STATUS_OK;
}

static enum status check_flags(const struct grant_record *grant, struct error *err)
{
	bool multiple = grant->flags & GRANT_ALLOW_MULTIPLE;
	if (grant->flags & ~(uint32_t)GRANT_ALL_FLAGS)
		return error_field(err, "flags", "flags: unknown bits 0x%x",
			grant->flags & ~(uint32_t)GRANT_ALL_FLAGS);
	if (multiple && (grant->flags & GRANT_TIMEOUT))
		return error_field(err, "flags",
			"flags: TIMEOUT and ALLOW_MULTIPLE exclude each other: use a lifetime "
			"instead of TIMEOUT");
	if ((grant->flags & GRANT_BIDIRECTIONAL) && grant->transport == IPPROTO_TCP)
		return error_field(err, "flags",
			"flags: BIDIRECTIONAL is for UDP: answers of TCP always pass");
	if (grant->flags & GRANT_NO_KERNEL_MODE)
		return error_set(err, STATUS_UNIMPLEMENTED,
			"flags: NO_KERNEL_MODE needs the relay, which this release does not have: "
			"leave it out");
	if (grant->max_connections > UINT32_MAX)
		return error_field(
			err, "max_connections", "max_connections: at most %u", UINT32_MAX);
	if (grant->max_connections == 1 && multiple)
		return error_field(err, "max_connections",
			"max_connections: one connection contradicts ALLOW_MULTIPLE: leave one of "
			"them out");
	return STATUS_OK;
}

enum status grant_complete(
	struct grant_record *grant, const struct grant_limits *limits, struct error *err)
{
	enum status status = check_addresses(grant, err);
	if (!status)
		status = check_flags(grant, err);
	if (status)
		return status;
	if (grant->context_size > ENTRY_CONTEXT_MAX)
		return error_field(err, "context", "context: %zu bytes, at most %d",
			grant->context_size, ENTRY_CONTEXT_MAX);
	if (grant->flags & GRANT_TIMEOUT) {
		if (grant->lifetime_ms == 0 || grant->lifetime_ms > limits->unused_timeout_ms)
			grant->lifetime_ms = limits->unused_timeout_ms;
	} else if (grant->lifetime_ms == 0) {
		grant->lifetime_ms = limits->default_lifetime_ms;
	}
	if (grant->lifetime_ms > limits->max_lifetime_ms)
		grant->lifetime_ms = limits->max_lifetime_ms;
	if (grant->max_connections == 0 && !(grant->flags & GRANT_ALLOW_MULTIPLE))
		grant->max_connections = 1;
	return STATUS_OK;
}

bool grant_same_request(const struct grant_record *a, const struct grant_record *b)
{
	return strcmp(a->gateway, b->gateway) == 0 && id_equal(&a->session, &b->session) &&
		addr_equal(&a->client, &b->client) && endpoint_equal(&a->remote, &b->remote) &&
		endpoint_equal(&a->external, &b->external) && a->transport == b->transport &&
		a->flags == b->flags && strcmp(a->protocol, b->protocol) == 0 &&
		a->notify == b->notify && a->lifetime_ms == b->lifetime_ms &&
		a->max_connections == b->max_connections && a->context_size == b->context_size &&
		(a->context_size == 0 || memcmp(a->context, b->context, a->context_size) == 0);
}
