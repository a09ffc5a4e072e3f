/* Where it is, is a pointer into a gateway's list of live grants, newest first: a grant that ends
 * takes the pointer along to the next one (judging_skip), and one that comes was decided by the
 * policy in force and needs no judging. Gateways are never removed. */
#include "server/core/judging.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/grant.h"
#include "server/fleet/gateway.h"

/* ---- effects ---- */

void effects_fini(struct effects *effects)
{
	for (size_t i = 0; i < effects->grant_count; i++)
		grant_record_fini(&effects->grants[i]);
	free(effects->grants);
	free(effects->gateways);
	memset(effects, 0, sizeof *effects);
}

/* NULL: out of memory. */
static struct gateway_effect *effect_of(struct effects *effects, const char *gateway)
{
	for (size_t i = effects->gateway_count; i-- > 0;)
		if (strcmp(effects->gateways[i].gateway, gateway) == 0)
			return &effects->gateways[i];
	struct gateway_effect *more = realloc(
		effects->gateways, (effects->gateway_count + 1) * sizeof *effects->gateways);
	if (!more)
		return NULL;
	effects->gateways = more;
	more += effects->gateway_count++;
	*more = (struct gateway_effect){0};
	copy_text(more->gateway, sizeof more->gateway, gateway);
	return more;
}

/* False: out of memory. */
static bool list_grant(
	struct effects *effects, const struct grant *grant, const struct policy_answer *answer)
{
	if (effects->grant_count >= EFFECTS_GRANTS_MAX)
		return true;
	if (!effects->grants)
		effects->grants = calloc(EFFECTS_GRANTS_MAX, sizeof *effects->grants);
	if (!effects->grants)
		return false;
	struct grant_record *copy = &effects->grants[effects->grant_count];
	if (!grant_record_copy(copy, &grant->record))
		return false;
	effects->grant_count++;
	copy_text(copy->rule, sizeof copy->rule, answer->rule);
	copy->site_rule[0] = '\0';
	copy->reason = answer->verdict == POLICY_DENIED_BY_PROTOCOL_RULES
		? END_DENIED_PROTOCOL_RULES
		: END_DENIED_SITE_AND_CONTENT_RULES;
	return true;
}

static void add_effect(struct judging *judging, const struct grant *grant,
	const struct policy_answer *answer, bool ends)
{
	struct effects *effects = judging->effects;
	if (!effects)
		return;
	effects->ended += ends;
	effects->kept += !ends;
	effects->flows += grant->open_flows;
	struct gateway_effect *effect = effect_of(effects, grant->record.gateway);
	if (effect) {
		effect->grants++;
		effect->flows += grant->open_flows;
	}
	judging->is_short |= !effect || !list_grant(effects, grant, answer);
}

/* ---- one grant ---- */

struct slice {
	struct facts *facts; /* of what ends in it */
	int64_t at_us;
};

static void end_grant(struct judging *judging, struct slice *slice, struct grant *grant,
	const struct policy_answer *answer, bool with_cut)
{
	char detail[ENTRY_DETAIL_SIZE];
	snprintf(detail, sizeof detail, "revision %llu: %s %s%s",
		(unsigned long long)policy_revision(judging->policy),
		answer->verdict == POLICY_DENIED_BY_PROTOCOL_RULES ? "protocol rules:"
								   : "site-and-content rules:",
		answer->rule[0] ? "denied by " : "no rule allows it any more", answer->rule);
	if (!slice->facts)
		slice->facts = facts_new(judging->core);
	change_end_by_policy(grant, with_cut, detail, slice->facts);
}

static void judge(struct judging *judging, struct slice *slice, struct grant *grant)
{
	enum on_change on_change = policy_document(judging->policy)->on_change;
	struct policy_question question;
	struct policy_answer answer;
	bool ends = on_change != ON_CHANGE_KEEP;
	if (grant->ended)
		return;
	if (judging->effects)
		judging->effects->judged++;
	question_of(&grant->record, slice->at_us, &question);
	policy_decide(judging->policy, &question, &answer);
	if (answer.verdict == POLICY_ALLOWED || grant->doomed)
		return;
	add_effect(judging, grant, &answer, ends);
	if (ends && !judging->is_dry)
		end_grant(judging, slice, grant, &answer, on_change == ON_CHANGE_CUT);
}

/* ---- all of them ---- */

bool judging_runs(const struct judging *judging)
{
	return judging->policy != NULL;
}

void judging_stop(struct judging *judging)
{
	policy_release(judging->policy);
	judging->policy = NULL;
	judging->gateway = NULL;
	judging->next = NULL;
}

void judging_skip(struct judging *judging, struct grant *grant)
{
	if (judging->next == grant)
		judging->next = grant->live_next;
}

static struct grant *take(struct judging *judging)
{
	while (!judging->next && judging->gateway) {
		judging->gateway = judging->gateway->next;
		if (judging->gateway)
			judging->next = judging->gateway->live;
	}
	struct grant *grant = judging->next;
	if (grant)
		judging->next = grant->live_next;
	return grant;
}

static void turn(void *arg)
{
	struct judging *judging = arg;
	struct slice slice = {.at_us = clock_real_us()};
	struct grant *grant = NULL;
	if (!judging_runs(judging) || judging->core->stopping)
		return;
	for (unsigned i = 0; i < JUDGED_A_TURN && (grant = take(judging)); i++)
		judge(judging, &slice, grant);
	if (slice.facts)
		facts_submit(slice.facts, false, NULL, NULL);
	if (judging->next || judging->gateway) {
		loop_post(judging->core->loop, &judging->task, turn, judging);
		return;
	}
	judging_stop(judging);
	judging->done(judging->arg);
}

void judging_start(struct judging *judging, struct core *core, struct policy *policy, bool is_dry)
{
	policy_hold(policy);
	judging_stop(judging);
	judging->core = core;
	judging->policy = policy;
	judging->is_dry = is_dry;
	judging->gateway = core->first_gateway;
	judging->next = judging->gateway ? judging->gateway->live : NULL;
	if (judging->effects) {
		judging->effects->judged = judging->effects->kept = 0;
	}
	if (!judging->task.queued)
		loop_post(core->loop, &judging->task, turn, judging);
}
