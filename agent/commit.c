#include "agent/commit.h"

#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/external.h"
#include "agent/reconcile.h"
#include "common/clock.h"

#define RENEWED_SLACK_MS                                                                           \
	1000 /* a renewal that came to nothing is off by more, or does not matter */

static void refuse_externals(struct commit *commit)
{
	size_t kept = 0;
	for (size_t i = 0; i < commit->add_count; i++) {
		if (external_is_free(&commit->add[i], &commit->failures[commit->failure_count]))
			commit->add[kept++] = commit->add[i];
		else
			commit->failure_count++;
	}
	commit->add_count = kept;
}

static int compare_grants(const void *a, const void *b)
{
	return memcmp(&((const struct door *)a)->grant, &((const struct door *)b)->grant,
		sizeof(struct id));
}

static const struct door *find_renewal(const struct commit *commit, const struct id *grant)
{
	const struct door key = {.grant = *grant};
	return commit->renew_count == 0
		? NULL
		: bsearch(&key, commit->renew, commit->renew_count, sizeof key, compare_grants);
}

static enum status apply(struct agent *agent, struct commit *commit,
	const struct nft_change *change, struct error *err)
{
	size_t refused = 0;
	int64_t began = clock_mono_us();
	enum status status = nft_apply(
		agent->nft, change, commit->failures + commit->failure_count, &refused, err);
	commit->kernel_us += clock_mono_us() - began;
	if (!status)
		commit->failure_count += refused;
	return status;
}

/* What the kernel had of it was in place, and then its time is what was refused. */
static bool is_renewed(struct agent *agent, struct wish *wish)
{
	struct door door;
	struct held_door held;
	if (!doors_wanted(wish, clock_mono_us(), &door) || !nft_get(agent->nft, &door, &held))
		return true; /* over in the meantime */
	doors_rebase(wish, &held);
	return held.door.timeout_ms + RENEWED_SLACK_MS > door.timeout_ms &&
		held.door.timeout_ms < door.timeout_ms + RENEWED_SLACK_MS;
}

/* The renewals among the failures from `first` on are taken out of them, and are additions now. */
static size_t take_back(struct agent *agent, struct commit *commit, size_t first,
	struct door_failure *ret_first_words)
{
	size_t kept = first, count = 0;
	int64_t now = clock_mono_us();
	for (size_t i = first; i < commit->failure_count; i++) {
		const struct door_failure failure = commit->failures[i];
		const struct wish *wish = doors_find(&agent->doors, &failure.grant);
		struct door door;
		if (!find_renewal(commit, &failure.grant) || !wish ||
			!doors_wanted(wish, now, &door) || !door_uses_left(&door, &door.uses)) {
			commit->failures[kept++] = failure;
			continue;
		}
		ret_first_words[count] = failure;
		commit->add[count++] = door;
	}
	commit->failure_count = kept;
	commit->add_count = count;
	return count;
}

static bool has_failed(const struct commit *commit, size_t first, const struct id *grant)
{
	for (size_t i = first; i < commit->failure_count; i++)
		if (id_equal(&commit->failures[i].grant, grant))
			return true;
	return false;
}

/* Doors that were to be renewed and are gone (expired a moment ago, deleted by somebody) are added
 * with the uses they have left (I4): what their elements have let in is known by events. */
static enum status add_the_missing(
	struct agent *agent, struct commit *commit, size_t first, struct error *err)
{
	struct commit again = *commit;
	struct door_failure *words = calloc(commit->failure_count - first, sizeof *words);
	again.add = calloc(commit->failure_count - first, sizeof *again.add);
	enum status status = STATUS_OK;
	size_t count = 0;
	if (words && again.add) {
		agent_drain_events(agent);
		count = take_back(agent, &again, first, words);
		refuse_externals(&again);
		const struct nft_change change = {.add = again.add, .add_count = again.add_count};
		if (again.add_count > 0)
			status = apply(agent, &again, &change, err);
	}
	for (size_t i = 0; !status && i < count; i++) {
		struct wish *wish = doors_find(&agent->doors, &words[i].grant);
		if (!has_failed(&again, first, &words[i].grant) && !is_renewed(agent, wish))
			again.failures[again.failure_count++] = words[i];
	}
	commit->failure_count = again.failure_count;
	commit->kernel_us = again.kernel_us;
	free(again.add);
	free(words);
	return status;
}

enum status commit_apply(struct agent *agent, struct commit *commit, struct error *err)
{
	refuse_externals(commit);
	size_t first = commit->failure_count;
	const struct nft_change change = {.remove = commit->remove,
		.remove_count = commit->remove_count,
		.add = commit->add,
		.add_count = commit->add_count,
		.renew = commit->renew,
		.renew_count = commit->renew_count};
	commit->kernel_us = 0;
	enum status status = apply(agent, commit, &change, err);
	if (status || commit->renew_count == 0 || commit->failure_count == first)
		return status;
	qsort(commit->renew, commit->renew_count, sizeof *commit->renew, compare_grants);
	return add_the_missing(agent, commit, first, err);
}
