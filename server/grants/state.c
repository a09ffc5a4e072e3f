#include "server/grants/state.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "server/journal/entry.h"

#define MAX_CONNECTIONS 13000
/* The kernel's limit gives one use back after a week. */
#define COUNTED_MAX_US (7 * 86400 * 1000000LL)
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
	[GRANT_RESERVED] = BIT(GRANT_PENDING) | ENDS,
};

bool grant_is_live(enum grant_state state)
{
	return state == GRANT_PENDING || state == GRANT_ACTIVE || state == GRANT_RESERVED;
}

bool grant_may_become(enum grant_state from, enum grant_state to)
{
	return from >= GRANT_PENDING && from <= GRANT_RESERVED && (allowed[from] & BIT(to)) != 0;
}

enum grant_state grant_end_state(enum end_reason reason)
{
	switch (reason) {
	case END_USED_UP:
		return GRANT_USED;
	case END_UNUSED_TIMEOUT:
	case END_LIFETIME:
	case END_RESERVATION_TIMEOUT:
		return GRANT_EXPIRED;
	case END_CANCELLED_BY_FILTER:
	case END_SESSION_ENDED:
	case END_REVOKED_BY_OPERATOR:
	case END_POLICY_CHANGED:
	case END_BUNDLE_FAILED:
		return GRANT_CANCELLED;
	case END_GATEWAY_REFUSED:
	case END_DEADLINE_MISSED:
		return GRANT_FAILED;
	case END_DENIED_PROTOCOL_RULES:
	case END_DENIED_SITE_AND_CONTENT_RULES:
		return GRANT_DENIED;
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
	case END_DENIED_PROTOCOL_RULES:
		return "denied-protocol-rules";
	case END_DENIED_SITE_AND_CONTENT_RULES:
		return "denied-site-and-content-rules";
	case END_RESERVATION_TIMEOUT:
		return "reservation-timeout";
	case END_BUNDLE_FAILED:
		return "bundle-failed";
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
	case GRANT_RESERVED:
		return "reserved";
	}
	return "unknown";
}

static enum status check_far(const struct grant_record *grant, const struct addr *addr,
	const char *field, struct error *err)
{
	if (!addr_is_forwardable(addr))
		return error_field(
			err, field, "%s: not a unicast address that a gateway forwards", field);
	if (grant->client.family != addr->family)
		return error_field(err, field,
			"%s: it and the client must both be IPv4 or both be IPv6", field);
	return STATUS_OK;
}

static enum status check_outbound(const struct grant_record *grant, struct error *err)
{
	enum status status = check_far(grant, &grant->remote.addr, "remote", err);
	if (status)
		return status;
	if (grant->remote.port == 0)
		return error_field(
			err, "remote_port", "remote_port: a port from 1 to 65535 is needed");
	if (grant->remote_port_last && grant->remote_port_last < grant->remote.port)
		return error_field(err, "remote_port_last",
			"remote_port_last: %u is below remote_port %u", grant->remote_port_last,
			grant->remote.port);
	if (grant->remote_count > 0)
		return error_field(err, "remotes",
			"remotes: an outbound grant has one remote: ask for a bundle of grants");
	if (grant->client_port)
		return error_field(err, "client_port",
			"client_port: it belongs to inbound grants: the client chooses its own");
	return STATUS_OK;
}

static int compare_addrs(const void *a, const void *b)
{
	return addr_compare(a, b);
}

/* Sorts them, so that a retry may name them in another order. */
static enum status check_remotes(struct grant_record *grant, struct error *err)
{
	enum status status = STATUS_OK;
	if (grant->remote_count > ENTRY_REMOTES_MAX)
		return error_field(err, "remotes", "remotes: %zu addresses, at most %d",
			grant->remote_count, ENTRY_REMOTES_MAX);
	if (grant->remote_count > 0 && grant->remote.addr.family != ADDR_NONE)
		return error_field(err, "remotes", "remotes: give either remote or remotes");
	for (size_t i = 0; i < grant->remote_count && !status; i++)
		status = check_far(grant, &grant->remotes[i], "remotes", err);
	if (status || grant->remote_count == 0)
		return status;
	qsort(grant->remotes, grant->remote_count, sizeof *grant->remotes, compare_addrs);
	for (size_t i = 1; i < grant->remote_count; i++)
		if (addr_equal(&grant->remotes[i - 1], &grant->remotes[i]))
			return error_field(
				err, "remotes", "remotes: an address stands there twice");
	if (grant->remote_count == 1) {
		grant->remote.addr = grant->remotes[0];
		grant->remote_count = 0;
	}
	return STATUS_OK;
}

static enum status check_inbound(struct grant_record *grant, struct error *err)
{
	if (grant->client_port == 0)
		return error_field(err, "client_port",
			"client_port: where the client listens, 1 to 65535, is needed");
	if (grant->remote.port || grant->remote_port_last)
		return error_field(err, "remote_port",
			"remote_port: an inbound grant has none: the remote chooses its own");
	enum status status = check_remotes(grant, err);
	if (!status && grant->remote.addr.family != ADDR_NONE)
		status = check_far(grant, &grant->remote.addr, "remote", err);
	return status;
}

static enum status check_addresses(struct grant_record *grant, struct error *err)
{
	if (!addr_is_forwardable(&grant->client))
		return error_field(
			err, "client", "client: not a unicast address that a gateway forwards");
	if (grant->transport != IPPROTO_TCP && grant->transport != IPPROTO_UDP)
		return error_field(err, "transport", "transport: tcp or udp");
	enum status status =
		grant->inbound ? check_inbound(grant, err) : check_outbound(grant, err);
	if (!status && grant->external.addr.family != ADDR_NONE)
		return check_far(grant, &grant->external.addr, "external", err);
	if (!status && grant->external.port != 0)
		return error_field(err, "external",
			"external: name the gateway's address that external_port %u is of",
			grant->external.port);
	return status;
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
	/* The kernel's limit expression counts exactly up to here, also through renewals: a week
	 * and a day in nanoseconds, times the uses, in 63 bits (it computes with a sign). */
	if (grant->max_connections > MAX_CONNECTIONS)
		return error_field(err, "max_connections",
			"max_connections: at most %d, or ALLOW_MULTIPLE for no limit",
			MAX_CONNECTIONS);
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
	if (grant->remote_port_last == grant->remote.port)
		grant->remote_port_last = 0;
	grant->lifetime_ms =
		grant_lifetime(grant->flags, grant->lifetime_ms, limits, &grant->clamped);
	if (grant->max_connections == 0 && !(grant->flags & GRANT_ALLOW_MULTIPLE))
		grant->max_connections = 1;
	return STATUS_OK;
}

uint64_t grant_lifetime(
	uint32_t flags, uint64_t asked_ms, const struct grant_limits *limits, bool *ret_clamped)
{
	uint64_t most = limits->max_lifetime_ms;
	uint64_t lifetime = asked_ms ? asked_ms : limits->default_lifetime_ms;
	if ((flags & GRANT_TIMEOUT) && limits->unused_timeout_ms < most)
		most = limits->unused_timeout_ms;
	if ((flags & GRANT_TIMEOUT) && !asked_ms)
		lifetime = most;
	*ret_clamped = asked_ms > most;
	return lifetime > most ? most : lifetime;
}

int64_t grant_renewed_until(const struct grant_record *grant, const struct grant_limits *limits,
	uint64_t asked_ms, int64_t now_us, bool *ret_clamped)
{
	uint64_t lifetime = grant_lifetime(
		grant->flags, asked_ms ? asked_ms : grant->lifetime_ms, limits, ret_clamped);
	int64_t until = now_us + (int64_t)lifetime * 1000;
	int64_t last = grant->created_us + COUNTED_MAX_US;
	if (grant->max_connections && until > last) {
		until = last;
		*ret_clamped = true;
	}
	return until > grant->expires_us ? until : grant->expires_us;
}

static bool same_remotes(const struct grant_record *a, const struct grant_record *b)
{
	if (a->remote_count != b->remote_count || a->remote_port_last != b->remote_port_last ||
		!endpoint_equal(&a->remote, &b->remote))
		return false;
	for (size_t i = 0; i < a->remote_count; i++)
		if (!addr_equal(&a->remotes[i], &b->remotes[i]))
			return false;
	return true;
}

/* What was asked for: a grant may have got a port that it did not name. */
static uint16_t asked_port(const struct grant_record *grant)
{
	return grant->external_chosen ? 0 : grant->external.port;
}

static bool same_external(const struct grant_record *a, const struct grant_record *b)
{
	return addr_equal(&a->external.addr, &b->external.addr) && asked_port(a) == asked_port(b);
}

bool grant_same_request(
	const struct grant_record *known, const struct grant_record *asked, bool lifetime_given)
{
	const struct grant_record *a = known, *b = asked;
	return strcmp(a->gateway, b->gateway) == 0 && id_equal(&a->session, &b->session) &&
		a->inbound == b->inbound && addr_equal(&a->client, &b->client) &&
		a->client_port == b->client_port && same_remotes(a, b) && same_external(a, b) &&
		a->transport == b->transport && id_equal(&a->bundle, &b->bundle) &&
		a->flags == b->flags && strcmp(a->protocol, b->protocol) == 0 &&
		a->notify == b->notify && (!lifetime_given || a->lifetime_ms == b->lifetime_ms) &&
		a->max_connections == b->max_connections && a->context_size == b->context_size &&
		(a->context_size == 0 || memcmp(a->context, b->context, a->context_size) == 0);
}

static enum status denial(const struct grant_record *grant, struct error *err)
{
	bool by_protocol = grant->reason == END_DENIED_PROTOCOL_RULES;
	enum reason reason =
		by_protocol ? REASON_DENIED_PROTOCOL_RULES : REASON_DENIED_SITE_AND_CONTENT_RULES;
	const char *type = by_protocol ? "protocol rules" : "site-and-content rules";
	if (grant->rule[0])
		error_reason(err, STATUS_PERMISSION_DENIED, reason,
			"denied by %s: rule \"%s\" denies %s", type, grant->rule, grant->protocol);
	else if (by_protocol)
		error_reason(err, STATUS_PERMISSION_DENIED, reason,
			"denied by %s: no rule allows %s: an administrator can, with `postern "
			"policy "
			"allow-protocol %s`",
			type, grant->protocol, grant->protocol);
	else
		error_reason(err, STATUS_PERMISSION_DENIED, reason,
			"denied by %s: no rule allows %s", type, grant->protocol);
	memcpy(err->rule, grant->rule, sizeof err->rule);
	err->revision = grant->revision;
	return err->status;
}

enum status grant_verdict(const struct grant_record *grant, struct error *err)
{
	enum status status = STATUS_OK;
	switch ((enum grant_state)grant->state) {
	case GRANT_PENDING:
	case GRANT_ACTIVE:
	case GRANT_RESERVED:
	case GRANT_USED:
	case GRANT_EXPIRED:
	case GRANT_CANCELLED:
		return STATUS_OK;
	case GRANT_FAILED:
		if (grant->reason == END_GATEWAY_REFUSED)
			status = error_reason(err, STATUS_FAILED_PRECONDITION,
				REASON_GATEWAY_REFUSED, "gateway %s refused the door",
				grant->gateway);
		else
			status = error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
				"gateway %s did not acknowledge the door before the deadline: it "
				"was withdrawn",
				grant->gateway);
		break;
	case GRANT_DENIED:
		status = denial(grant, err);
		break;
	}
	id_format(&grant->id, err->grant);
	return status;
}

const char *grant_flaw(const struct grant_record *grant)
{
	enum grant_state state = (enum grant_state)grant->state;
	if (state < GRANT_PENDING || state > GRANT_RESERVED)
		return "no such state";
	if (grant_is_live(state) != (grant->reason == 0))
		return "a reason belongs to ended grants, and to every one of them";
	if (!grant_is_live(state) && grant_end_state((enum end_reason)grant->reason) != state)
		return "the reason does not lead to the state";
	if (grant_is_live(state) != (grant->ended_us == 0))
		return "a time of end belongs to ended grants, and to every one of them";
	if (grant->expires_us < grant->created_us)
		return "it expires before it was created";
	if (state == GRANT_DENIED && grant->connections > 0)
		return "a denied grant was used";
	if (state == GRANT_USED && grant->connections < grant->max_connections)
		return "used up with connections left";
	if (grant->max_connections == 0 && !(grant->flags & GRANT_ALLOW_MULTIPLE))
		return "unlimited without ALLOW_MULTIPLE";
	return NULL;
}
