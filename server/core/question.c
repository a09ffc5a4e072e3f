/* What requests and live grants ask of the policy. */
#include "server/core/revision.h"
#include "server/policy/protocols.h"

void question_of(
	const struct grant_record *record, int64_t at_us, struct policy_question *ret_question)
{
	struct policy_question question = {.at_us = at_us,
		.gateway = record->gateway,
		.protocol = record->protocol,
		.user = record->user,
		.client = record->client};
	if (record->remote_count > 0) {
		question.remotes = record->remotes;
		question.remote_count = record->remote_count;
	} else if (record->remote.addr.family != ADDR_NONE) {
		question.remotes = &record->remote.addr;
		question.remote_count = 1;
	}
	if (record->inbound) {
		question.port_first = question.port_last = record->client_port;
	} else {
		question.port_first = record->remote.port;
		question.port_last =
			record->remote_port_last ? record->remote_port_last : record->remote.port;
	}
	*ret_question = question;
}

const struct protocol_record *core_find_protocol(const struct core *core, const char *name_or_guid)
{
	const struct protocol_record *own =
		core->policy ? policy_find_protocol(core->policy, name_or_guid) : NULL;
	if (own)
		return own;
	const struct protocol_record *registered = protocols_find(&core->protocols, name_or_guid);
	if (!registered || !core->policy)
		return registered;
	own = policy_find_protocol(core->policy, registered->name);
	return own ? own : registered;
}
