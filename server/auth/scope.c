#include "server/auth/scope.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "server/auth/principals.h"

#define MILLION 1000000ULL

static bool compile(const char *name, const char *what, const char *text, struct networks *ret)
{
	size_t bad;
	if (!networks_compile(text, ret, &bad))
		return false;
	if (bad > 0)
		log_err("principal %s: %zu of its %s are no networks and cover nothing: the "
			"database is damaged",
			name, bad, what);
	return true;
}

bool scope_compile(const struct principal_record *record, struct scope *ret_scope)
{
	struct scope scope = {.level = record->grants_per_second * MILLION};
	bool done = compile(record->name, "clients", record->clients, &scope.clients) &&
		compile(record->name, "destinations", record->destinations, &scope.destinations);
	if (done)
		*ret_scope = scope;
	else
		scope_fini(&scope);
	return done;
}

void scope_fini(struct scope *scope)
{
	networks_fini(&scope->clients);
	networks_fini(&scope->destinations);
}

/* ---- may it ask this? ---- */

/* An empty list has everybody in it. */
static bool is_listed(const char *list, const char *name)
{
	size_t length = strlen(name);
	if (list[0] == '\0')
		return true;
	while (*list) {
		size_t item = strcspn(list, ",");
		if (item == length && memcmp(list, name, length) == 0)
			return true;
		list += item + (list[item] == ',');
	}
	return false;
}

static enum status out_of_scope(const struct principal *principal, const char *what,
	const char *limit, const char *list, struct error *err)
{
	return error_reason(err, STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE,
		"filter %s may not ask for %s: the %s of its scope are %.150s",
		principal->record.name, what, limit, list);
}

/* The same about an address. */
static enum status outside(const struct principal *principal, const char *what,
	const struct addr *addr, const char *limit, const char *list, struct error *err)
{
	char text[16 + ADDR_TEXT_SIZE], number[ADDR_TEXT_SIZE];
	addr_format(addr, number);
	snprintf(text, sizeof text, "%s %s", what, number);
	return out_of_scope(principal, text, limit, list, err);
}

static enum status check_name(const struct principal *principal, const char *what, const char *name,
	const char *limit, const char *list, struct error *err)
{
	char text[16 + RECORD_NAME_SIZE];
	if (is_listed(list, name))
		return STATUS_OK;
	snprintf(text, sizeof text, "%s %.63s", what, name);
	return out_of_scope(principal, text, limit, list, err);
}

enum status scope_check_gateway(
	const struct principal *principal, const char *gateway, struct error *err)
{
	if (!principal)
		return STATUS_OK;
	return check_name(
		principal, "gateway", gateway, "gateways", principal->record.gateways, err);
}

static enum status check_client(
	const struct principal *principal, const struct addr *client, struct error *err)
{
	if (networks_contain(&principal->scope.clients, client))
		return STATUS_OK;
	return outside(principal, "client", client, "clients", principal->record.clients, err);
}

static enum status check_protocol(
	const struct principal *principal, const char *protocol, struct error *err)
{
	return check_name(
		principal, "protocol", protocol, "protocols", principal->record.protocols, err);
}

static enum status check_remote(
	const struct principal *principal, const struct addr *remote, struct error *err)
{
	if (networks_contain(&principal->scope.destinations, remote))
		return STATUS_OK;
	return outside(
		principal, "remote", remote, "destinations", principal->record.destinations, err);
}

static enum status check_remotes(
	const struct principal *principal, const struct grant_record *grant, struct error *err)
{
	enum status status = STATUS_OK;
	if (!principal->scope.destinations.limited)
		return STATUS_OK;
	for (size_t i = 0; i < grant->remote_count && !status; i++)
		status = check_remote(principal, &grant->remotes[i], err);
	if (status || grant->remote_count > 0)
		return status;
	if (grant->remote.addr.family != ADDR_NONE)
		return check_remote(principal, &grant->remote.addr, err);
	return out_of_scope(principal, "doors for anybody", "destinations",
		principal->record.destinations, err);
}

enum status scope_check_grant(
	const struct principal *principal, const struct grant_record *grant, struct error *err)
{
	if (!principal)
		return STATUS_OK;
	enum status status = check_protocol(principal, grant->protocol, err);
	if (!status)
		status = check_client(principal, &grant->client, err);
	return status ? status : check_remotes(principal, grant, err);
}

enum status scope_check_session(
	const struct principal *principal, const struct session_record *session, struct error *err)
{
	if (!principal)
		return STATUS_OK;
	enum status status = session->protocol[0]
		? check_protocol(principal, session->protocol, err)
		: STATUS_OK;
	return status ? status : check_client(principal, &session->client, err);
}

/* ---- how much? ---- */

enum status scope_take(struct principal *principal, uint64_t most, uint64_t count, int64_t now_us,
	struct error *err)
{
	uint64_t rate = principal ? principal->record.grants_per_second : 0;
	if (principal && most && (rate == 0 || most < rate))
		rate = most;
	if (rate == 0)
		return STATUS_OK;
	struct scope *scope = &principal->scope;
	int64_t passed = now_us - scope->filled_us;
	uint64_t full = rate * MILLION;
	if (passed > 0) {
		scope->level += (passed > (int64_t)MILLION ? MILLION : (uint64_t)passed) * rate;
		scope->level = scope->level < full ? scope->level : full;
		scope->filled_us = now_us;
	}
	if (count > rate)
		return error_reason(err, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA,
			"filter %s may ask for %llu grants a second, its grants_per_second: %llu "
			"at once are more",
			principal->record.name, (unsigned long long)rate,
			(unsigned long long)count);
	if (scope->level < count * MILLION)
		return error_reason(err, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA,
			"filter %s may ask for %llu grants a second, its grants_per_second: try "
			"again in %llu ms",
			principal->record.name, (unsigned long long)rate,
			(unsigned long long)((count * MILLION - scope->level + rate * 1000 - 1) /
				(rate * 1000)));
	scope->level -= count * MILLION;
	return STATUS_OK;
}

uint64_t scope_max_lifetime(const struct principal *principal, uint64_t server_max_ms)
{
	uint64_t own = principal ? principal->record.max_lifetime_ms : 0;
	return own && own < server_max_ms ? own : server_max_ms;
}
