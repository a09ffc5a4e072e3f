#include "server/policy/policy.h"

#include <stdlib.h>
#include <string.h>

#include "server/policy/compiled.h"

static enum status memory(struct error *err)
{
	return error_set(err, STATUS_RESOURCE_EXHAUSTED,
		"the server is out of memory for this policy document");
}

static void policy_free(struct policy *policy)
{
	addresses_fini(&policy->clients);
	addresses_fini(&policy->destinations);
	policy_names_fini(&policy->protocols);
	policy_names_fini(&policy->gateways);
	policy_names_fini(&policy->labels);
	policy_names_fini(&policy->users);
	policy_names_fini(&policy->filters);
	policy_names_fini(&policy->definitions);
	arena_fini(&policy->arena);
	document_free(policy->document);
	free(policy);
}

static enum status name_parts(struct policy *policy, struct error *err)
{
	const struct document *document = policy->document;
	if (!policy_names_init(&policy->filters, &policy->arena, document->limit_count) ||
		!policy_names_init(&policy->definitions, &policy->arena, document->protocol_count))
		return memory(err);
	for (size_t i = 0; i < document->limit_count; i++)
		if (!policy_names_add(&policy->filters, document->limits[i].filter))
			return memory(err);
	for (size_t i = 0; i < document->protocol_count; i++)
		if (!policy_names_add(&policy->definitions, document->protocols[i].record.name))
			return memory(err);
	return STATUS_OK;
}

enum status policy_compile(
	const struct policy_input *input, struct policy **ret_policy, struct error *err)
{
	struct policy *policy = calloc(1, sizeof *policy);
	if (!policy)
		return memory(err);
	policy->holders = 1;
	policy->document = input->document;
	policy->revision = input->revision;
	enum status status = name_parts(policy, err);
	if (!status)
		status = atoms_build(policy, input, err);
	if (!status)
		status = index_build(policy, err);
	if (status) {
		policy->document = NULL; /* still the caller's */
		policy_free(policy);
		return status;
	}
	*ret_policy = policy;
	return STATUS_OK;
}

void policy_hold(struct policy *policy)
{
	atomic_fetch_add_explicit(&policy->holders, 1, memory_order_relaxed);
}

void policy_release(struct policy *policy)
{
	if (policy && atomic_fetch_sub_explicit(&policy->holders, 1, memory_order_acq_rel) == 1)
		policy_free(policy);
}

const struct document *policy_document(const struct policy *policy)
{
	return policy->document;
}

uint64_t policy_revision(const struct policy *policy)
{
	return policy->revision;
}

void policy_set_revision(struct policy *policy, uint64_t revision)
{
	policy->revision = revision;
}

const struct protocol_record *policy_find_protocol(
	const struct policy *policy, const char *name_or_guid)
{
	const struct document *document = policy->document;
	const struct policy_name *name = policy_names_find(&policy->definitions, name_or_guid);
	struct id guid;
	if (name)
		return &document->protocols[name->index].record;
	if (!id_parse(name_or_guid, &guid))
		return NULL;
	for (size_t i = 0; i < document->protocol_count; i++)
		if (id_equal(&document->protocols[i].record.guid, &guid))
			return &document->protocols[i].record;
	return NULL;
}

const struct document_limits *policy_find_limits(const struct policy *policy, const char *filter)
{
	const struct policy_name *name = policy_names_find(&policy->filters, filter);
	return name ? &policy->document->limits[name->index] : NULL;
}

int64_t policy_next_change(const struct policy *policy, int64_t at_us)
{
	const struct document *document = policy->document;
	int64_t next = INT64_MAX;
	for (size_t i = 0; i < document->schedule_count; i++) {
		int64_t change = schedule_next_change(&document->schedules[i].schedule, at_us);
		next = change < next ? change : next;
	}
	for (size_t i = 0; i < document->rule_count; i++) {
		int64_t expires = document->rules[i].expires_us;
		if (expires > at_us && expires < next)
			next = expires;
	}
	return next;
}
