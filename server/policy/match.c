/* Whether a rule matches a question, condition by condition. An allow rule must cover the whole
 * door, a deny rule need only touch it. */
#include "server/policy/compiled.h"

bool atoms_meet(const struct atoms *a, const struct atoms *b)
{
	uint32_t i = 0, j = 0;
	while (i < a->count && j < b->count) {
		if (a->items[i] == b->items[j])
			return true;
		if (a->items[i] < b->items[j])
			i++;
		else
			j++;
	}
	return false;
}

static struct atoms atoms_of(const struct policy_names *names, const char *text)
{
	const struct policy_name *name = policy_names_find(names, text);
	return name ? name->atoms : (struct atoms){NULL, 0};
}

void asked_init(const struct policy *policy, const struct policy_question *question,
	struct asked *ret_asked)
{
	*ret_asked = (struct asked){.question = question};
	ret_asked->atoms[BY_CLIENT] = addresses_find(&policy->clients, &question->client);
	ret_asked->atoms[BY_PROTOCOL] = atoms_of(&policy->protocols, question->protocol);
	ret_asked->atoms[BY_GATEWAY] = atoms_of(&policy->gateways, question->gateway);
	if (question->user[0])
		ret_asked->atoms[BY_USER] = atoms_of(&policy->users, question->user);
}

void asked_set_remote(const struct policy *policy, const struct addr *remote, struct asked *asked)
{
	asked->remote = remote;
	asked->atoms[BY_DESTINATION] = remote ? addresses_find(&policy->destinations, remote)
		: asked->question->client.family == ADDR_IPV4 ? policy->anybody_v4
							      : policy->anybody_v6;
}

static bool ports_match(const struct document_rule *rule, const struct policy_question *question)
{
	return rule->deny ? ports_touch(&rule->ports, question->port_first, question->port_last)
			  : ports_cover(&rule->ports, question->port_first, question->port_last);
}

bool condition_is_stated(const struct policy *policy, uint32_t index, enum condition condition)
{
	const struct rule *rule = &policy->rules[index];
	const struct document_rule *text = &policy->document->rules[index];
	switch (condition) {
	case CONDITION_PROTOCOLS:
		return rule->stated & 1 << BY_PROTOCOL;
	case CONDITION_PROTOCOLS_EXCEPT:
		return rule->except[BY_PROTOCOL].count > 0;
	case CONDITION_DESTINATIONS:
		return rule->stated & 1 << BY_DESTINATION;
	case CONDITION_DESTINATIONS_EXCEPT:
		return rule->except[BY_DESTINATION].count > 0;
	case CONDITION_PORTS:
		return text->ports.count > 0;
	case CONDITION_CLIENTS:
		return rule->stated & 1 << BY_CLIENT;
	case CONDITION_CLIENTS_EXCEPT:
		return rule->except[BY_CLIENT].count > 0;
	case CONDITION_USERS:
		return rule->stated & 1 << BY_USER;
	case CONDITION_GATEWAYS:
		return rule->stated & 1 << BY_GATEWAY;
	case CONDITION_SCHEDULE:
		return text->schedule >= 0;
	case CONDITION_EXPIRES:
		return text->expires_us != INT64_MAX;
	case CONDITIONS:
		break;
	}
	return false;
}

bool condition_matches(const struct policy *policy, uint32_t index, enum condition condition,
	const struct asked *asked)
{
	const struct rule *rule = &policy->rules[index];
	const struct document_rule *text = &policy->document->rules[index];
	switch (condition) {
	case CONDITION_PROTOCOLS:
		return atoms_meet(&rule->any[BY_PROTOCOL], &asked->atoms[BY_PROTOCOL]);
	case CONDITION_PROTOCOLS_EXCEPT:
		return !atoms_meet(&rule->except[BY_PROTOCOL], &asked->atoms[BY_PROTOCOL]);
	case CONDITION_DESTINATIONS:
		return atoms_meet(&rule->any[BY_DESTINATION], &asked->atoms[BY_DESTINATION]);
	case CONDITION_DESTINATIONS_EXCEPT:
		return !atoms_meet(&rule->except[BY_DESTINATION], &asked->atoms[BY_DESTINATION]);
	case CONDITION_PORTS:
		return ports_match(text, asked->question);
	case CONDITION_CLIENTS:
		return atoms_meet(&rule->any[BY_CLIENT], &asked->atoms[BY_CLIENT]);
	case CONDITION_CLIENTS_EXCEPT:
		return !atoms_meet(&rule->except[BY_CLIENT], &asked->atoms[BY_CLIENT]);
	case CONDITION_USERS:
		return atoms_meet(&rule->any[BY_USER], &asked->atoms[BY_USER]);
	case CONDITION_GATEWAYS:
		return atoms_meet(&rule->any[BY_GATEWAY], &asked->atoms[BY_GATEWAY]);
	case CONDITION_SCHEDULE:
		return schedule_is_active(&policy->document->schedules[text->schedule].schedule,
			asked->question->at_us);
	case CONDITION_EXPIRES:
		return asked->question->at_us < text->expires_us;
	case CONDITIONS:
		break;
	}
	return true;
}

bool rule_matches(const struct policy *policy, uint32_t index, const struct asked *asked)
{
	for (enum condition condition = 0; condition < CONDITIONS; condition++)
		if (condition_is_stated(policy, index, condition) &&
			!condition_matches(policy, index, condition, asked))
			return false;
	return true;
}
