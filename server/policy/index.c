/* Groups of rules, and which rules state an atom: see compiled.h. */
#include <stdlib.h>
#include <string.h>

#include "server/policy/compiled.h"

#define LONG_POSTING 64 /* from here on it is a bitset too */

static enum status memory(struct error *err)
{
	return error_set(err, STATUS_RESOURCE_EXHAUSTED,
		"the server is out of memory for this policy document");
}

/* ---- groups ---- */

static unsigned key_of(const struct policy *policy, size_t index)
{
	const struct document_rule *rule = &policy->document->rules[index];
	return (rule->type == RULE_TYPE_SITE_AND_CONTENT) | (unsigned)rule->deny << 1 |
		(unsigned)rule->staged << 2 | (unsigned)policy->rules[index].stated << 3;
}

static enum status make_groups(
	struct policy *policy, uint32_t *group_of, uint32_t *place_of, struct error *err)
{
	const struct document *document = policy->document;
	size_t counts[GROUPS_MAX] = {0};
	uint32_t number[GROUPS_MAX];
	for (size_t i = 0; i < document->rule_count; i++)
		if (!document->rules[i].disabled)
			counts[key_of(policy, i)]++;
	for (unsigned key = 0; key < GROUPS_MAX; key++) {
		if (counts[key] == 0)
			continue;
		number[key] = (uint32_t)policy->group_count;
		struct group *group = &policy->groups[policy->group_count++];
		group->type = key & 1 ? RULE_TYPE_SITE_AND_CONTENT : RULE_TYPE_PROTOCOL;
		group->deny = key >> 1 & 1;
		group->staged = key >> 2 & 1;
		group->stated = (uint8_t)(key >> 3);
		group->rules = arena_array(&policy->arena, counts[key], sizeof *group->rules);
		if (!group->rules)
			return memory(err);
		policy->has_staged |= group->staged;
	}
	for (size_t i = 0; i < document->rule_count; i++) {
		if (document->rules[i].disabled)
			continue;
		group_of[i] = number[key_of(policy, i)];
		struct group *group = &policy->groups[group_of[i]];
		place_of[i] = group->count;
		group->rules[group->count++] = (uint32_t)i;
	}
	return STATUS_OK;
}

/* ---- postings of one dimension ---- */

struct stated { /* this rule states this atom */
	uint32_t atom, group, rule;
};

static int compare(const void *a, const void *b)
{
	const struct stated *x = a, *y = b;
	if (x->atom != y->atom)
		return x->atom < y->atom ? -1 : 1;
	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	return (x->rule > y->rule) - (x->rule < y->rule);
}

static struct stated *collect(const struct policy *policy, enum dimension dimension,
	const uint32_t *group_of, size_t *ret_count)
{
	const struct document *document = policy->document;
	size_t count = 0;
	for (size_t i = 0; i < document->rule_count; i++)
		if (!document->rules[i].disabled)
			count += policy->rules[i].any[dimension].count;
	struct stated *entries = malloc((count + 1) * sizeof *entries);
	*ret_count = 0;
	for (size_t i = 0; entries && i < document->rule_count; i++) {
		const struct atoms *atoms = &policy->rules[i].any[dimension];
		for (uint32_t j = 0; j < atoms->count && !document->rules[i].disabled; j++)
			entries[(*ret_count)++] =
				(struct stated){atoms->items[j], group_of[i], (uint32_t)i};
	}
	if (entries)
		qsort(entries, *ret_count, sizeof *entries, compare);
	return entries;
}

static bool fill_posting(struct policy *policy, const struct stated *entries, size_t count,
	const uint32_t *place_of, struct posting *posting)
{
	uint32_t *rules = arena_array(&policy->arena, count, sizeof *rules);
	uint64_t *bits = NULL;
	if (count >= LONG_POSTING) {
		size_t words = (policy->groups[entries->group].count + 63) / 64;
		bits = arena_array(&policy->arena, words, sizeof *bits);
	}
	if (!rules || (count >= LONG_POSTING && !bits))
		return false;
	for (size_t i = 0; i < count; i++) {
		uint32_t place = place_of[entries[i].rule];
		rules[i] = entries[i].rule;
		if (bits)
			bits[place / 64] |= UINT64_C(1) << place % 64;
	}
	*posting = (struct posting){entries->group, (uint32_t)count, rules, bits};
	return true;
}

/* Those from `entries` on that have the same atom, and the same group if that is asked. */
static size_t run(const struct stated *entries, size_t count, bool same_group)
{
	size_t length = 1;
	while (length < count && entries[length].atom == entries->atom &&
		(!same_group || entries[length].group == entries->group))
		length++;
	return length;
}

static bool fill_postings(struct policy *policy, const struct stated *entries, size_t count,
	const uint32_t *place_of, struct postings *postings)
{
	uint32_t groups = 0;
	for (size_t i = 0; i < count; i += run(&entries[i], count - i, true))
		groups++;
	struct posting *items = arena_array(&policy->arena, groups, sizeof *items);
	if (!items)
		return false;
	*postings = (struct postings){items, groups};
	for (size_t i = 0; i < count;) {
		size_t length = run(&entries[i], count - i, true);
		if (!fill_posting(policy, &entries[i], length, place_of, items++))
			return false;
		i += length;
	}
	return true;
}

static enum status make_postings(struct policy *policy, enum dimension dimension,
	const uint32_t *group_of, const uint32_t *place_of, struct error *err)
{
	size_t count;
	struct stated *entries = collect(policy, dimension, group_of, &count);
	struct postings *postings =
		arena_array(&policy->arena, policy->atom_count[dimension] + 1, sizeof *postings);
	bool done = entries && postings;
	policy->postings[dimension] = postings;
	for (size_t i = 0; done && i < count;) {
		size_t length = run(&entries[i], count - i, false);
		done = fill_postings(
			policy, &entries[i], length, place_of, &postings[entries[i].atom]);
		i += length;
	}
	free(entries);
	return done ? STATUS_OK : memory(err);
}

enum status index_build(struct policy *policy, struct error *err)
{
	size_t count = policy->document->rule_count;
	uint32_t *group_of = calloc(count + 1, sizeof *group_of);
	uint32_t *place_of = calloc(count + 1, sizeof *place_of);
	enum status status =
		group_of && place_of ? make_groups(policy, group_of, place_of, err) : memory(err);
	for (enum dimension i = 0; i < DIMENSIONS && !status; i++)
		status = make_postings(policy, i, group_of, place_of, err);
	free(group_of);
	free(place_of);
	return status;
}
