#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/service/service.h"

#define PAGE_ENTRIES 128

struct query {
	struct services *services;
	struct rpc_call *call;
	struct store_query query;
	uint32_t left; /* UINT32_MAX = no limit */
	bool reading, over;
};

static void query_free(struct query *query, const struct error *err)
{
	if (err && err->status)
		rpc_fail(query->call, err);
	else
		rpc_end(query->call);
	free(query);
}

static void over(void *arg, enum status why)
{
	struct query *query = arg;
	struct error err;
	query->over = true;
	if (query->reading)
		return; /* the page's callback ends it */
	error_set(&err, why, "the caller went away");
	query_free(query, &err);
}

static void pump(void *arg);

/* `wires` and `messages` are as many as entries. */
static enum status send_page(struct rpc_call *call, const struct entry *entries, size_t count)
{
	Postern__V1__AuditPage page = POSTERN__V1__AUDIT_PAGE__INIT;
	struct entry_wire *wires = calloc(count, sizeof *wires);
	Postern__V1__Entry **messages = calloc(count, sizeof(Postern__V1__Entry *));
	enum status status = STATUS_RESOURCE_EXHAUSTED;
	if (wires && messages) {
		for (size_t i = 0; i < count; i++) {
			entry_to_wire(&entries[i], &wires[i]);
			messages[i] = &wires[i].message;
		}
		page.n_entries = count;
		page.entries = messages;
		status = rpc_item(call, &page.base);
	}
	free(wires);
	free(messages);
	return status;
}

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	struct query *query = arg;
	struct error failure = *err;
	query->reading = false;
	if (query->over && !failure.status)
		error_set(&failure, STATUS_CANCELLED, "the caller went away");
	if (!failure.status && count > 0 && send_page(query->call, entries, count))
		error_set(&failure, STATUS_UNAVAILABLE, "the page could not be sent");
	if (failure.status) {
		query_free(query, &failure);
		return;
	}
	query->query.after = next_after;
	if (query->left != UINT32_MAX)
		query->left -= (uint32_t)count;
	if (at_end || query->left == 0)
		query_free(query, NULL);
	else
		pump(query);
}

static void pump(void *arg)
{
	struct query *query = arg;
	if (query->reading || rpc_credit(query->call) == 0)
		return;
	query->reading = true;
	query->query.limit = query->left < PAGE_ENTRIES ? query->left : PAGE_ENTRIES;
	store_read(query->services->core->store, &query->query, on_page, query);
}

/* The canonical text of an address, as the journal has it. */
static bool canonical(const char *text, char *to, size_t size)
{
	struct addr addr;
	char canon[ADDR_TEXT_SIZE];
	if (text[0] == '\0')
		return true;
	if (!addr_parse(text, &addr))
		return false;
	addr_format(&addr, canon);
	return copy_text(to, size, canon);
}

static enum status parse(
	const Postern__V1__AuditQuery *input, struct store_query *query, struct error *err)
{
	if (!copy_text(query->gateway, sizeof query->gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	if (input->grant[0] && !id_parse(input->grant, &query->grant))
		return error_field(err, "grant", "grant: \"%.60s\" is not a UUID", input->grant);
	if (input->session[0] && !id_parse(input->session, &query->session))
		return error_field(
			err, "session", "session: \"%.60s\" is not a UUID", input->session);
	if (!canonical(input->client, query->client, sizeof query->client))
		return error_field(err, "client",
			"client: \"%.60s\" is not an IPv4 or IPv6 address", input->client);
	if (!canonical(input->remote, query->remote, sizeof query->remote))
		return error_field(err, "remote",
			"remote: \"%.60s\" is not an IPv4 or IPv6 address", input->remote);
	for (size_t i = 0; i < input->n_kinds; i++) {
		if (input->kinds[i] <= 0 || (unsigned)input->kinds[i] > 62)
			return error_field(err, "kinds", "kinds: %d is not an entry kind",
				(int)input->kinds[i]);
		query->kinds |= 1ULL << (unsigned)input->kinds[i];
	}
	if (input->after > INT64_MAX)
		return error_field(err, "after", "after: not a sequence");
	query->since_us = input->since_us;
	query->until_us = input->until_us;
	query->after = input->after;
	return STATUS_OK;
}

static void handle_query(Postern__V1__Audit_Service *service, const Postern__V1__AuditQuery *input,
	Postern__V1__AuditPage_Closure closure, void *data)
{
	struct query *query = calloc(1, sizeof *query);
	struct error err;
	(void)closure;
	if (!query) {
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(data, &err);
		return;
	}
	query->services = SERVICES_OF(service, audit);
	query->call = data;
	query->left = input->limit ? input->limit : UINT32_MAX;
	if (parse(input, &query->query, &err)) {
		query_free(query, &err);
		return;
	}
	rpc_on_end(data, over, query);
	rpc_on_credit(data, pump, query);
	pump(query);
}

static void verified(void *arg, const struct store_verification *result, const struct error *err)
{
	struct rpc_call *call = arg;
	Postern__V1__AuditVerifyReply reply = POSTERN__V1__AUDIT_VERIFY_REPLY__INIT;
	if (err->status) {
		rpc_fail(call, err);
		return;
	}
	reply.intact = result->intact;
	reply.entries = result->entries;
	reply.head_sequence = result->head_sequence;
	reply.head_hash.data = (uint8_t *)(uintptr_t)result->head_hash;
	reply.head_hash.len = sizeof result->head_hash;
	reply.bad_sequence = result->bad_sequence;
	reply.fault = wire_text(result->fault);
	rpc_reply(call, &reply.base);
}

static void handle_verify(Postern__V1__Audit_Service *service,
	const Postern__V1__AuditVerifyRequest *input, Postern__V1__AuditVerifyReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, audit);
	struct error err;
	(void)closure;
	if (input->known_sequence > INT64_MAX ||
		(input->known_sequence > 0 && input->known_hash.len != ENTRY_HASH_SIZE)) {
		error_field(&err, "known_hash",
			"known_hash: a known head is a sequence and a hash of %d bytes",
			ENTRY_HASH_SIZE);
		rpc_fail(data, &err);
		return;
	}
	store_verify(services->core->store, input->known_sequence, input->known_hash.data, verified,
		data);
}

void audit_service_init(struct services *services)
{
	Postern__V1__Audit_Service service = POSTERN__V1__AUDIT__INIT(handle_);
	services->audit = service;
}
