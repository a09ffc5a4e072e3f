/* Who may call what: one row for every method. A method without a row stops the server at its
 * start. */
#include <stdio.h>
#include <string.h>

#include "server/service/service.h"

#define ADMIN (1U << RPC_ROLE_ADMIN)
#define AUDITOR (1U << RPC_ROLE_AUDITOR)
#define FILTER (1U << RPC_ROLE_FILTER)
#define AGENT (1U << RPC_ROLE_AGENT)

static const struct {
	const char *method;
	unsigned roles;
} rows[] = {
	{"postern.v1.Grants/Request", ADMIN | FILTER},
	{"postern.v1.Grants/RequestBundle", ADMIN | FILTER},
	{"postern.v1.Grants/Renew", ADMIN | FILTER},
	{"postern.v1.Grants/Commit", ADMIN | FILTER},
	{"postern.v1.Grants/Cancel", ADMIN | FILTER},
	{"postern.v1.Grants/CancelBundle", ADMIN | FILTER},
	{"postern.v1.Grants/Show", ADMIN | AUDITOR | FILTER},
	{"postern.v1.Grants/List", ADMIN | AUDITOR | FILTER},
	{"postern.v1.Sessions/Open", ADMIN | FILTER},
	{"postern.v1.Sessions/Close", ADMIN | FILTER},
	{"postern.v1.Sessions/List", ADMIN | AUDITOR | FILTER},
	{"postern.v1.Events/Watch", ADMIN | AUDITOR | FILTER},
	{"postern.v1.Gateways/Add", ADMIN},
	{"postern.v1.Gateways/List", ADMIN | AUDITOR},
	{"postern.v1.Gateways/Show", ADMIN | AUDITOR},
	{"postern.v1.Agents/Join", AGENT},
	{"postern.v1.Agents/Report", AGENT},
	{"postern.v1.Agents/Sync", AGENT},
	{"postern.v1.Policy/RegisterProtocol", ADMIN | FILTER},
	{"postern.v1.Policy/ListProtocols", ADMIN | AUDITOR | FILTER},
	{"postern.v1.Policy/AllowProtocol", ADMIN},
	{"postern.v1.Policy/ListRules", ADMIN | AUDITOR},
	{"postern.v1.Policy/AddPrincipal", ADMIN},
	{"postern.v1.Policy/ListPrincipals", ADMIN | AUDITOR},
	{"postern.v1.Revisions/Upload", ADMIN | AUDITOR},
	{"postern.v1.Revisions/Apply", ADMIN},
	{"postern.v1.Revisions/Confirm", ADMIN},
	{"postern.v1.Revisions/Rollback", ADMIN},
	{"postern.v1.Revisions/List", ADMIN | AUDITOR},
	{"postern.v1.Revisions/Show", ADMIN | AUDITOR},
	{"postern.v1.Revisions/Explain", ADMIN | AUDITOR},
	{"postern.v1.Revisions/Test", ADMIN | AUDITOR},
	{"postern.v1.Revisions/Replay", ADMIN | AUDITOR},
	{"postern.v1.Feeds/List", ADMIN | AUDITOR},
	{"postern.v1.Feeds/Show", ADMIN | AUDITOR},
	{"postern.v1.Feeds/Refresh", ADMIN},
	{"postern.v1.Feeds/Confirm", ADMIN},
	{"postern.v1.Audit/Query", ADMIN | AUDITOR},
	{"postern.v1.Audit/Verify", ADMIN | AUDITOR},
};

static unsigned roles_of(const char *method)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (strcmp(rows[i].method, method) == 0)
			return rows[i].roles;
	return 0;
}

enum status access_check(
	const struct rpc_principal *principal, const char *method, struct error *err)
{
	if (roles_of(method) & (1U << principal->role))
		return STATUS_OK;
	return error_set(err, STATUS_PERMISSION_DENIED, "%s: not for role %s: use another token",
		method, rpc_role_name(principal->role));
}

static enum status each_method_has_a_row(
	const ProtobufCServiceDescriptor *service, size_t *ret_found, struct error *err)
{
	for (unsigned i = 0; i < service->n_methods; i++) {
		char method[128];
		snprintf(method, sizeof method, "%s/%s", service->name, service->methods[i].name);
		if (!roles_of(method))
			return error_set(
				err, STATUS_INTERNAL, "%s: nobody said who may call it", method);
		(*ret_found)++;
	}
	return STATUS_OK;
}

enum status access_complete(
	const ProtobufCServiceDescriptor *const *services, size_t count, struct error *err)
{
	size_t found = 0;
	for (size_t i = 0; i < count; i++) {
		enum status status = each_method_has_a_row(services[i], &found, err);
		if (status)
			return status;
	}
	if (found != sizeof rows / sizeof *rows)
		return error_set(err, STATUS_INTERNAL,
			"a method is named twice, or one that does not exist");
	return STATUS_OK;
}
