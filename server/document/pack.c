/* Documents that the server itself writes. */
#include <stdlib.h>
#include <string.h>

#include "postern/v1/document.pb-c.h"
#include "server/document/document.h"

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

struct made { /* a rule, with what it points to */
	Postern__V1__ProtocolRule protocol_rule;
	Postern__V1__SiteAndContentRule site_rule;
	char *protocol;
};

static void make_rule(struct made *made, const struct rule_record *record)
{
	Postern__V1__Action action =
		record->deny ? POSTERN__V1__ACTION__ACTION_DENY : POSTERN__V1__ACTION__ACTION_ALLOW;
	postern__v1__protocol_rule__init(&made->protocol_rule);
	postern__v1__site_and_content_rule__init(&made->site_rule);
	made->protocol_rule.name = made->site_rule.name = text_of(record->name);
	made->protocol_rule.action = made->site_rule.action = action;
	made->protocol = text_of(record->protocol);
	if (record->protocol[0]) {
		made->protocol_rule.protocols = &made->protocol;
		made->protocol_rule.n_protocols = 1;
	}
}

/* Packed fields may simply be appended to a packed message: repeated ones are added to. */
static enum status append(const uint8_t *packed, size_t size,
	const Postern__V1__PolicyDocument *more, uint8_t **ret_packed, size_t *ret_size,
	struct error *err)
{
	size_t added = postern__v1__policy_document__get_packed_size(more);
	uint8_t *bytes = malloc(size + added + 1);
	if (!bytes)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (size)
		memcpy(bytes, packed, size);
	(void)postern__v1__policy_document__pack(more, bytes + size);
	*ret_packed = bytes;
	*ret_size = size + added;
	return STATUS_OK;
}

enum status document_pack_with_rules(const uint8_t *packed, size_t size,
	const struct rule_record *rules, size_t count, uint8_t **ret_packed, size_t *ret_size,
	struct error *err)
{
	Postern__V1__PolicyDocument more = POSTERN__V1__POLICY_DOCUMENT__INIT;
	struct made *made = calloc(count + 1, sizeof *made);
	more.protocol_rules = calloc(count + 1, sizeof *more.protocol_rules);
	more.site_and_content_rules = calloc(count + 1, sizeof *more.site_and_content_rules);
	enum status status = STATUS_OK;
	if (!made || !more.protocol_rules || !more.site_and_content_rules)
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	for (size_t i = 0; i < count && !status; i++) {
		make_rule(&made[i], &rules[i]);
		if (rules[i].type == RULE_TYPE_PROTOCOL)
			more.protocol_rules[more.n_protocol_rules++] = &made[i].protocol_rule;
		else
			more.site_and_content_rules[more.n_site_and_content_rules++] =
				&made[i].site_rule;
	}
	if (!status)
		status = append(packed, packed ? size : 0, &more, ret_packed, ret_size, err);
	free(more.protocol_rules);
	free(more.site_and_content_rules);
	free(made);
	return status;
}
