/* The first rule that matches, without looking at those that cannot; and the verdict. */
#include "server/policy/compiled.h"

#define SHORT_SEARCH 64 /* so few candidates are looked at one by one */

static const struct posting *posting_of(
	const struct policy *policy, enum dimension dimension, uint32_t atom, uint32_t group)
{
	const struct postings *postings = &policy->postings[dimension][atom];
	for (uint32_t i = 0; i < postings->count && postings->items[i].group <= group; i++)
		if (postings->items[i].group == group)
			return &postings->items[i];
	return NULL;
}

struct search {
	const struct policy *policy;
	const struct asked *asked;
	uint32_t group, best;
};

/* How many rules of the group state one of the question's atoms; `*ret_is_long`: each of these
 * lists is a bitset. */
static uint32_t candidates(const struct search *search, enum dimension dimension, bool *ret_is_long)
{
	const struct atoms *atoms = &search->asked->atoms[dimension];
	uint32_t count = 0;
	*ret_is_long = true;
	for (uint32_t i = 0; i < atoms->count; i++) {
		const struct posting *posting =
			posting_of(search->policy, dimension, atoms->items[i], search->group);
		if (!posting)
			continue;
		count += posting->count;
		*ret_is_long &= posting->bits != NULL;
	}
	return count;
}

/* The first of an ascending list that matches, if it is better than what was found before. */
static void search_list(struct search *search, const uint32_t *rules, uint32_t count)
{
	for (uint32_t i = 0; i < count && rules[i] < search->best; i++)
		if (rule_matches(search->policy, rules[i], search->asked)) {
			search->best = rules[i];
			return;
		}
}

static void search_dimension(struct search *search, enum dimension dimension)
{
	const struct atoms *atoms = &search->asked->atoms[dimension];
	for (uint32_t i = 0; i < atoms->count; i++) {
		const struct posting *posting =
			posting_of(search->policy, dimension, atoms->items[i], search->group);
		if (posting)
			search_list(search, posting->rules, posting->count);
	}
}

/* The bitsets of a dimension: at most so many, else the dimension is left to match.c. */
#define BITSETS_MAX 8

struct bitsets {
	const uint64_t *items[DIMENSIONS][BITSETS_MAX];
	uint32_t counts[DIMENSIONS];
	uint32_t dimensions;
};

static void add_bitsets(
	const struct search *search, enum dimension dimension, struct bitsets *bitsets)
{
	const struct atoms *atoms = &search->asked->atoms[dimension];
	uint32_t count = 0, row = bitsets->dimensions;
	for (uint32_t i = 0; i < atoms->count; i++) {
		const struct posting *posting =
			posting_of(search->policy, dimension, atoms->items[i], search->group);
		if (!posting)
			continue;
		if (count == BITSETS_MAX)
			return;
		bitsets->items[row][count++] = posting->bits;
	}
	bitsets->counts[row] = count;
	bitsets->dimensions++;
}

static uint64_t word_of(const struct bitsets *bitsets, uint32_t at)
{
	uint64_t word = ~UINT64_C(0);
	for (uint32_t i = 0; i < bitsets->dimensions; i++) {
		uint64_t any = 0;
		for (uint32_t j = 0; j < bitsets->counts[i]; j++)
			any |= bitsets->items[i][j][at];
		word &= any;
	}
	return word;
}

static void search_bitsets(struct search *search, const struct bitsets *bitsets)
{
	const struct group *group = &search->policy->groups[search->group];
	for (uint32_t at = 0; at < (group->count + 63) / 64; at++) {
		if (group->rules[at * 64] >= search->best)
			return;
		for (uint64_t word = word_of(bitsets, at); word; word &= word - 1) {
			uint32_t rule = group->rules[at * 64 + (uint32_t)__builtin_ctzll(word)];
			if (rule >= search->best)
				return;
			if (rule_matches(search->policy, rule, search->asked)) {
				search->best = rule;
				return;
			}
		}
	}
}

static void search_group(struct search *search)
{
	const struct group *group = &search->policy->groups[search->group];
	struct bitsets bitsets = {.dimensions = 0};
	uint32_t fewest = UINT32_MAX;
	enum dimension shortest = DIMENSIONS;
	for (enum dimension i = 0; i < DIMENSIONS; i++) {
		bool is_long;
		if (!(group->stated & 1 << i))
			continue;
		uint32_t count = candidates(search, i, &is_long);
		if (count == 0)
			return;
		if (count < fewest) {
			fewest = count;
			shortest = i;
		}
		if (is_long)
			add_bitsets(search, i, &bitsets);
	}
	if (shortest == DIMENSIONS)
		search_list(search, group->rules, group->count);
	else if (fewest <= SHORT_SEARCH || bitsets.dimensions < 2)
		search_dimension(search, shortest);
	else
		search_bitsets(search, &bitsets);
}

uint32_t first_match(const struct policy *policy, uint8_t type, bool deny, bool staged,
	const struct asked *asked)
{
	struct search search = {.policy = policy, .asked = asked, .best = NO_RULE};
	for (uint32_t i = 0; i < policy->group_count; i++) {
		const struct group *group = &policy->groups[i];
		search.group = i;
		if (group->type == type && group->deny == deny && group->staged == staged)
			search_group(&search);
	}
	return search.best;
}

/* ---- the verdict ---- */

struct outcome {
	bool allowed;
	uint32_t rule; /* deny, or allow; NO_RULE = no rule allows */
};

/* Some allow matches and no deny does. `staged`: with the staged rules as if they were enforced. */
static struct outcome judge(
	const struct policy *policy, uint8_t type, bool staged, const struct asked *asked)
{
	uint32_t deny = first_match(policy, type, true, false, asked);
	if (staged) {
		uint32_t other = first_match(policy, type, true, true, asked);
		deny = other < deny ? other : deny;
	}
	if (deny != NO_RULE)
		return (struct outcome){false, deny};
	uint32_t allow = first_match(policy, type, false, false, asked);
	if (staged && allow == NO_RULE)
		allow = first_match(policy, type, false, true, asked);
	return (struct outcome){allow != NO_RULE, allow};
}

static const char *name_of(const struct policy *policy, uint32_t rule)
{
	return rule == NO_RULE ? "" : policy->document->rules[rule].name;
}

/* For one remote, or anybody. */
static struct policy_answer judge_both(
	const struct policy *policy, bool staged, const struct asked *asked)
{
	struct outcome protocol = judge(policy, RULE_TYPE_PROTOCOL, staged, asked);
	if (!protocol.allowed)
		return (struct policy_answer){
			POLICY_DENIED_BY_PROTOCOL_RULES, name_of(policy, protocol.rule), "", ""};
	struct outcome site = judge(policy, RULE_TYPE_SITE_AND_CONTENT, staged, asked);
	if (!site.allowed)
		return (struct policy_answer){POLICY_DENIED_BY_SITE_AND_CONTENT_RULES,
			name_of(policy, site.rule), "", ""};
	return (struct policy_answer){
		POLICY_ALLOWED, name_of(policy, protocol.rule), name_of(policy, site.rule), ""};
}

/* Each remote, until one is denied. */
static struct policy_answer judge_all(const struct policy *policy, bool staged, struct asked *asked)
{
	const struct policy_question *question = asked->question;
	struct policy_answer answer;
	size_t i = 0;
	do {
		asked_set_remote(
			policy, i < question->remote_count ? &question->remotes[i] : NULL, asked);
		answer = judge_both(policy, staged, asked);
	} while (answer.verdict == POLICY_ALLOWED && ++i < question->remote_count);
	return answer;
}

/* The staged rule that turns the verdict: the one that decides, were they enforced. */
static const char *turned_by(const struct policy_answer *now, const struct policy_answer *then)
{
	if ((now->verdict == POLICY_ALLOWED) == (then->verdict == POLICY_ALLOWED))
		return "";
	if (then->verdict != POLICY_ALLOWED)
		return then->rule;
	return now->verdict == POLICY_DENIED_BY_PROTOCOL_RULES ? then->rule : then->site_rule;
}

void policy_decide(const struct policy *policy, const struct policy_question *question,
	struct policy_answer *ret_answer)
{
	struct asked asked;
	asked_init(policy, question, &asked);
	*ret_answer = judge_all(policy, false, &asked);
	if (!policy->has_staged)
		return;
	struct policy_answer then = judge_all(policy, true, &asked);
	ret_answer->staged_rule = turned_by(ret_answer, &then);
}
