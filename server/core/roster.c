#include "server/core/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "proto/rpc/rpc.h"
#include "server/core/core.h"
#include "server/fleet/gateway.h"

static int compare_gateways(const void *a, const void *b)
{
	return strcmp(
		((const struct gateway_record *)a)->name, ((const struct gateway_record *)b)->name);
}

static int compare_protocols(const void *a, const void *b)
{
	return strcmp(((const struct protocol_record *)a)->name,
		((const struct protocol_record *)b)->name);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static bool is_filter(const struct principal *principal)
{
	return principal->record.role == RPC_ROLE_FILTER;
}

static void count(const struct core *core, struct roster *roster)
{
	for (const struct gateway *gateway = core->first_gateway; gateway; gateway = gateway->next)
		roster->gateway_count++;
	for (const struct principal *principal = core->principals.first; principal;
		principal = principal->next)
		roster->filter_count += is_filter(principal);
	roster->protocol_count = core->protocols.count;
}

static void fill(const struct core *core, struct roster *roster)
{
	size_t at = 0;
	for (const struct gateway *gateway = core->first_gateway; gateway; gateway = gateway->next)
		roster->gateways[at++] = gateway->record;
	at = 0;
	for (const struct registered *registered = core->protocols.first; registered;
		registered = registered->next)
		roster->protocols[at++] = registered->record;
	at = 0;
	for (const struct principal *principal = core->principals.first; principal;
		principal = principal->next)
		if (is_filter(principal))
			copy_text(roster->filters[at++], RECORD_NAME_SIZE, principal->record.name);
	qsort(roster->gateways, roster->gateway_count, sizeof *roster->gateways, compare_gateways);
	qsort(roster->protocols, roster->protocol_count, sizeof *roster->protocols,
		compare_protocols);
	qsort(roster->filters, roster->filter_count, sizeof *roster->filters, compare_names);
	for (size_t i = 0; i < roster->gateway_count; i++)
		roster->policy_gateways[i] = (struct policy_gateway){
			roster->gateways[i].name, roster->gateways[i].labels};
}

struct roster *roster_new(const struct core *core)
{
	struct roster *roster = calloc(1, sizeof *roster);
	if (!roster)
		return NULL;
	count(core, roster);
	roster->gateways = calloc(roster->gateway_count + 1, sizeof *roster->gateways);
	roster->policy_gateways =
		calloc(roster->gateway_count + 1, sizeof *roster->policy_gateways);
	roster->protocols = calloc(roster->protocol_count + 1, sizeof *roster->protocols);
	roster->filters = calloc(roster->filter_count + 1, sizeof *roster->filters);
	if (!roster->gateways || !roster->policy_gateways || !roster->protocols ||
		!roster->filters) {
		roster_free(roster);
		return NULL;
	}
	fill(core, roster);
	return roster;
}

void roster_free(struct roster *roster)
{
	if (!roster)
		return;
	free(roster->gateways);
	free(roster->policy_gateways);
	free(roster->protocols);
	free(roster->filters);
	free(roster);
}

/* ---- references ---- */

const struct protocol_record *roster_find_protocol(void *arg, const char *name)
{
	const struct roster *roster = arg;
	struct protocol_record key = {0};
	if (!copy_text(key.name, sizeof key.name, name))
		return NULL;
	return bsearch(
		&key, roster->protocols, roster->protocol_count, sizeof key, compare_protocols);
}

static bool has_protocol(void *arg, const char *name)
{
	return roster_find_protocol(arg, name) != NULL;
}

static bool has_gateway(void *arg, const char *name)
{
	const struct roster *roster = arg;
	struct gateway_record key = {0};
	return copy_text(key.name, sizeof key.name, name) &&
		bsearch(&key, roster->gateways, roster->gateway_count, sizeof key,
			compare_gateways);
}

static bool has_filter(void *arg, const char *name)
{
	const struct roster *roster = arg;
	char key[RECORD_NAME_SIZE];
	return copy_text(key, sizeof key, name) &&
		bsearch(key, roster->filters, roster->filter_count, sizeof key, compare_names);
}

/* For errors only: a walk over all. */
static const char *nearest_protocol(void *arg, const char *name)
{
	const struct roster *roster = arg;
	const char *best = NULL;
	for (size_t i = 0; i < roster->protocol_count; i++)
		best = nearest_word(
			name, (const char *const[]){roster->protocols[i].name, best, NULL});
	return best;
}

static const char *nearest_gateway(void *arg, const char *name)
{
	const struct roster *roster = arg;
	const char *best = NULL;
	for (size_t i = 0; i < roster->gateway_count; i++)
		best = nearest_word(
			name, (const char *const[]){roster->gateways[i].name, best, NULL});
	return best;
}

/* A GUID says which definition a request means: none has that of a registered one of another name.
 */
static enum status check_guids(
	const struct roster *roster, const struct document *document, struct error *err)
{
	for (size_t i = 0; i < document->protocol_count; i++) {
		const struct protocol_record *record = &document->protocols[i].record;
		char field[48];
		if (id_is_zero(&record->guid))
			continue;
		for (size_t j = 0; j < roster->protocol_count; j++) {
			const struct protocol_record *other = &roster->protocols[j];
			if (!id_equal(&record->guid, &other->guid) ||
				strcmp(record->name, other->name) == 0)
				continue;
			snprintf(field, sizeof field, "protocols[%zu].guid", i);
			return error_field(err, field,
				"%s: the GUID of protocol %s belongs to the registered definition "
				"%s: give it another one, or none",
				field, record->name, other->name);
		}
	}
	return STATUS_OK;
}

enum status roster_check(
	const struct roster *roster, const struct document *document, struct error *err)
{
	const struct document_world world = {.arg = (void *)(uintptr_t)roster,
		.has_protocol = has_protocol,
		.has_gateway = has_gateway,
		.has_filter = has_filter,
		.nearest_protocol = nearest_protocol,
		.nearest_gateway = nearest_gateway};
	enum status status = document_check_world(document, &world, err);
	return status ? status : check_guids(roster, document, err);
}
