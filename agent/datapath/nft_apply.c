/* Removals, additions and renewals in one transaction, tried until the kernel takes it.
 *
 * It names every message that it dislikes, so each try does without the doors that the one before
 * was refused for. What an addition finds in place is asked for then: its own grant stays as it is
 * (never armed anew), another one under the key of one flow, or of anybody, goes. All parts but the
 * one that admits are added whether they exist or not: what is there with the same value stays,
 * with its objects' state, so adding an incomplete door makes it whole.
 *
 * A renewal in place is an addition without NLM_F_EXCL, which moves the time of what is there. The
 * door may have expired that moment, and the kernel would make it anew: so the element that is sent
 * admits nobody. Afterwards it is looked at, and such a stillborn one is removed. */
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

/* What is to be done with one door in the next try. */
enum step {
	STEP_DO,
	STEP_KEEP, /* an addition: what admits is in place already */
	STEP_REPLACE, /* an addition: another door goes first */
	STEP_CONFLICT, /* an addition: to be settled */
	STEP_NO_OBJECTS, /* a removal: elements that have expired still hold the objects */
	STEP_SKIP
};

enum action { ACTION_REMOVE, ACTION_ADD, ACTION_REPLACE, ACTION_RENEW };

/* What a message is about. */
struct about {
	uint8_t action; /* enum action */
	bool admits; /* an addition of the element that admits */
	size_t door;
};

struct list {
	const struct door *doors;
	size_t count;
	uint8_t *steps; /* enum step */
};

struct attempt {
	struct nft *nft;
	struct list remove, add, renew;
	struct door *replaced; /* of additions: what goes first; NULL until the first */
	struct about *about; /* of each message */
	size_t about_capacity;
	bool destroying; /* removals need not find anything */
	bool conflicts, table_gone;
	struct door_failure *failures;
	size_t failure_count;
};

static void fail(struct attempt *attempt, struct list *list, size_t at, const char *cause)
{
	struct door_failure *failure = &attempt->failures[attempt->failure_count++];
	*failure = (struct door_failure){.grant = list->doors[at].grant};
	snprintf(failure->cause, sizeof failure->cause, "%s", cause);
	list->steps[at] = STEP_SKIP;
}

/* ---- what the kernel refuses ---- */

static const char *explain(int errnum)
{
	switch (errnum) {
	case ENFILE:
		return "the kernel's map of doors is full";
	case EEXIST:
		return "another grant's door has one of its keys: its remotes and ports, or its "
		       "external address, overlap";
	default:
		return strerror(errnum);
	}
}

static void removal_refused(struct attempt *attempt, uint8_t *step, enum step otherwise, int errnum)
{
	if (errnum == EBUSY && otherwise == STEP_SKIP)
		*step = STEP_NO_OBJECTS;
	else if (errnum != ENOENT && attempt->destroying)
		attempt->nft->no_destroy = true; /* before Linux 6.3: once more, in its words */
	else
		*step = (uint8_t)otherwise; /* gone with its map: what was wanted */
}

static void addition_refused(struct attempt *attempt, size_t at, bool admits, int errnum)
{
	uint8_t *step = &attempt->add.steps[at];
	if (errnum == ENOENT) {
		attempt->table_gone = true; /* one of its maps is */
	} else if (errnum == EEXIST && *step == STEP_DO && admits) {
		*step = STEP_CONFLICT;
		attempt->conflicts = true;
	} else if (*step != STEP_SKIP && *step != STEP_CONFLICT) {
		fail(attempt, &attempt->add, at, explain(errnum));
	}
}

#define NOT_THERE "it is not there any more: it has expired, or somebody deleted it"

static void refused(void *arg, size_t index, int errnum)
{
	struct attempt *attempt = arg;
	const struct about *about = &attempt->about[index];
	size_t at = about->door;
	switch ((enum action)about->action) {
	case ACTION_REMOVE:
		removal_refused(attempt, &attempt->remove.steps[at], STEP_SKIP, errnum);
		break;
	case ACTION_REPLACE:
		removal_refused(attempt, &attempt->add.steps[at], STEP_DO, errnum);
		break;
	case ACTION_ADD:
		addition_refused(attempt, at, about->admits, errnum);
		break;
	case ACTION_RENEW:
		if (attempt->renew.steps[at] != STEP_SKIP)
			fail(attempt, &attempt->renew, at,
				errnum == ENOENT || errnum == EEXIST ? NOT_THERE : explain(errnum));
		break;
	}
}

/* ---- one try ---- */

/* The messages since `from` are about this. */
static void note(struct attempt *attempt, size_t from, struct about about)
{
	size_t count = attempt->nft->messages;
	if (count > attempt->about_capacity) {
		size_t capacity = count * 2;
		struct about *grown = realloc(attempt->about, capacity * sizeof *grown);
		if (!grown) {
			attempt->nft->failed = true;
			return;
		}
		attempt->about = grown;
		attempt->about_capacity = capacity;
	}
	for (size_t i = from; i < count; i++)
		attempt->about[i] = about;
}

static void build_removal(struct attempt *attempt, enum action action, const struct door *door,
	size_t at, bool with_objects)
{
	struct nft *nft = attempt->nft;
	size_t from = nft->messages;
	nft->failed |= !nft_build_removal(nft, door, with_objects);
	note(attempt, from, (struct about){(uint8_t)action, false, at});
}

static void build_addition(struct attempt *attempt, size_t at)
{
	struct nft *nft = attempt->nft;
	const struct door *door = &attempt->add.doors[at];
	struct nft_section sections[NFT_SECTIONS_MOST];
	size_t count = nft_sections(nft->renewal, door, sections);
	bool is_wide = nft_shape_of(door) == SHAPE_WIDE;
	enum step step = attempt->add.steps[at];
	if (step == STEP_REPLACE)
		build_removal(attempt, ACTION_REPLACE, &attempt->replaced[at], at, true);
	size_t from = nft->messages;
	if (is_wide)
		nft->failed |= !nft_build_objects(nft, door);
	note(attempt, from, (struct about){ACTION_ADD, false, at});
	for (size_t i = 0; i < count; i++) {
		bool admits = i == 0 && !is_wide;
		if (admits && step == STEP_KEEP)
			continue;
		from = nft->messages;
		nft->failed |= !nft_build_section(
			nft, door, &sections[i], (struct nft_building){.exclusive = admits});
		note(attempt, from, (struct about){ACTION_ADD, admits, at});
	}
}

/* Moves a door's time. Where an element cannot be changed, all but the one that bears the limit are
 * replaced. */
static void build_renewal(struct attempt *attempt, size_t at)
{
	struct nft *nft = attempt->nft;
	const struct door *door = &attempt->renew.doors[at];
	struct nft_section sections[NFT_SECTIONS_MOST];
	size_t count = nft_sections(nft->renewal, door, sections), from = nft->messages;
	bool is_wide = nft_shape_of(door) == SHAPE_WIDE;
	for (size_t i = 0; i < count; i++) {
		bool admits = i == 0 && !is_wide;
		if (nft->renewal == NFT_RENEW_REPLACE && admits)
			continue;
		if (nft->renewal == NFT_RENEW_REPLACE)
			nft->failed |= !nft_build_section_removal(nft, door, &sections[i]);
		nft->failed |= !nft_build_section(
			nft, door, &sections[i], (struct nft_building){.closed = true});
	}
	note(attempt, from, (struct about){ACTION_RENEW, false, at});
}

static enum status try_apply(struct attempt *attempt, struct error *err)
{
	attempt->destroying = !attempt->nft->no_destroy;
	batch_begin(attempt->nft);
	for (size_t i = 0; i < attempt->remove.count; i++) {
		enum step step = attempt->remove.steps[i];
		if (step != STEP_SKIP)
			build_removal(attempt, ACTION_REMOVE, &attempt->remove.doors[i], i,
				step != STEP_NO_OBJECTS);
	}
	for (size_t i = 0; i < attempt->add.count; i++)
		if (attempt->add.steps[i] != STEP_SKIP)
			build_addition(attempt, i);
	for (size_t i = 0; i < attempt->renew.count; i++)
		if (attempt->renew.steps[i] != STEP_SKIP)
			build_renewal(attempt, i);
	return batch_commit(attempt->nft, refused, attempt, err);
}

/* ---- between tries ---- */

/* Who holds the key? Our own grant: all is well. Another, or what can admit nobody: it goes. */
static void settle_conflicts(struct attempt *attempt)
{
	struct list *add = &attempt->add;
	for (size_t i = 0; attempt->conflicts && i < add->count; i++) {
		struct held_door held;
		if (add->steps[i] != STEP_CONFLICT)
			continue;
		if (!nft_get_admitting(attempt->nft, &add->doors[i], &held)) {
			add->steps[i] = STEP_DO; /* expired since */
			continue;
		}
		bool closed = attempt->nft->renewal != NFT_RENEW_REPLACE && held.expired;
		if (id_equal(&held.door.grant, &add->doors[i].grant) && !closed) {
			add->steps[i] = STEP_KEEP;
			continue;
		}
		if (!attempt->replaced)
			attempt->replaced = calloc(add->count, sizeof *attempt->replaced);
		if (!attempt->replaced) {
			fail(attempt, add, i, "the agent is out of memory");
			continue;
		}
		attempt->replaced[i] = held.door;
		add->steps[i] = STEP_REPLACE;
	}
	attempt->conflicts = false;
}

static void refuse_impossible(struct attempt *attempt)
{
	for (size_t i = 0; i < attempt->add.count; i++) {
		const char *cause = nft_refuse_door(&attempt->add.doors[i]);
		if (cause)
			fail(attempt, &attempt->add, i, cause);
	}
	for (size_t i = 0; i < attempt->renew.count; i++) {
		const struct door *door = &attempt->renew.doors[i];
		const char *cause = nft_refuse_door(door);
		if (!cause && !nft_limit_outlasts_renewals(door))
			cause = "the kernel cannot count so many connections beyond the lifetime "
				"that was granted at first: ask for fewer, or for unlimited";
		if (cause)
			fail(attempt, &attempt->renew, i, cause);
	}
}

/* Elements that bear a limit stay long, so what is there now is there in a moment. */
static void look_before_replacing(struct attempt *attempt)
{
	struct list *renew = &attempt->renew;
	for (size_t i = 0; i < renew->count; i++) {
		const struct door *door = &renew->doors[i];
		struct held_door held;
		if (renew->steps[i] == STEP_SKIP || nft_shape_of(door) == SHAPE_WIDE)
			continue;
		if (!nft_get_admitting(attempt->nft, door, &held) ||
			!id_equal(&held.door.grant, &door->grant))
			fail(attempt, renew, i, NOT_THERE);
	}
}

/* Doors that had expired when they were to be renewed in place: they were made anew, closed. */
static void look_after_renewing(struct attempt *attempt)
{
	struct list *renew = &attempt->renew;
	for (size_t i = 0; i < renew->count; i++) {
		const struct door *door = &renew->doors[i];
		struct held_door held;
		if (renew->steps[i] == STEP_SKIP || nft_shape_of(door) == SHAPE_WIDE)
			continue;
		bool is_there = nft_get_admitting(attempt->nft, door, &held);
		if (is_there && !held.expired)
			continue;
		fail(attempt, renew, i, NOT_THERE);
		if (!is_there)
			continue;
		batch_begin(attempt->nft);
		attempt->nft->failed |= !nft_build_removal(attempt->nft, door, true);
		(void)batch_commit(attempt->nft, NULL, NULL, NULL); /* or it expires, closed */
	}
}

static enum status apply_some(
	struct nft *nft, struct attempt *attempt, uint8_t *steps, struct error *err)
{
	enum status status = STATUS_ABORTED;
	attempt->nft = nft;
	attempt->remove.steps = steps;
	attempt->add.steps = steps + attempt->remove.count;
	attempt->renew.steps = attempt->add.steps + attempt->add.count;
	refuse_impossible(attempt);
	if (nft->renewal == NFT_RENEW_REPLACE)
		look_before_replacing(attempt);
	/* The kernel names all it dislikes at once, so two or three tries are the rule. */
	for (int i = 0; i < 16 && status == STATUS_ABORTED && !attempt->table_gone; i++) {
		status = try_apply(attempt, err);
		settle_conflicts(attempt);
	}
	if (attempt->table_gone)
		status = error_set(
			err, STATUS_NOT_FOUND, "nftables: table inet %s is gone", nft->table);
	if (!status && nft->renewal != NFT_RENEW_REPLACE)
		look_after_renewing(attempt);
	return status;
}

/* ---- as much as fits ---- */

#define TRANSACTION_DOORS 2000 /* of each kind */
#define TRANSACTION_PARTS 14000 /* of all kinds, unless one door alone has more */

static size_t parts_of(const struct nft *nft, const struct door *door)
{
	struct nft_section sections[NFT_SECTIONS_MOST];
	size_t count = nft_sections(nft->renewal, door, sections), parts = 2;
	for (size_t i = 0; i < count; i++)
		parts += sections[i].count;
	return parts;
}

/* The first doors of a list: as many as there is room for. */
static struct list take(const struct nft *nft, const struct door *doors, size_t count, size_t *room)
{
	struct list list = {.doors = doors};
	while (list.count < count && list.count < TRANSACTION_DOORS) {
		size_t parts = parts_of(nft, &doors[list.count]);
		if (parts > *room && *room < TRANSACTION_PARTS)
			break;
		*room = parts > *room ? 0 : *room - parts;
		list.count++;
	}
	return list;
}

static void skip(const struct door **doors, size_t *count, size_t taken)
{
	/* An empty list may be NULL, which nothing may be added to. */
	if (taken > 0)
		*doors += taken;
	*count -= taken;
}

enum status nft_apply(struct nft *nft, const struct nft_change *change,
	struct door_failure *failures, size_t *ret_failure_count, struct error *err)
{
	struct nft_change rest = *change;
	struct about *about = NULL;
	size_t failure_count = 0, about_capacity = 0;
	enum status status = STATUS_OK;
	while (!status && (rest.remove_count || rest.add_count || rest.renew_count)) {
		size_t room = TRANSACTION_PARTS;
		struct attempt attempt = {.failures = failures,
			.failure_count = failure_count,
			.about = about,
			.about_capacity = about_capacity};
		attempt.remove = take(nft, rest.remove, rest.remove_count, &room);
		/* Additions may need the keys that removals free: they come once all those are in.
		 */
		if (attempt.remove.count == rest.remove_count)
			attempt.add = take(nft, rest.add, rest.add_count, &room);
		if (attempt.remove.count == rest.remove_count &&
			attempt.add.count == rest.add_count)
			attempt.renew = take(nft, rest.renew, rest.renew_count, &room);
		uint8_t *steps =
			calloc(attempt.remove.count + attempt.add.count + attempt.renew.count, 1);
		status = steps ? apply_some(nft, &attempt, steps, err)
			       : error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
		free(steps);
		free(attempt.replaced);
		about = attempt.about;
		about_capacity = attempt.about_capacity;
		failure_count = attempt.failure_count;
		skip(&rest.remove, &rest.remove_count, attempt.remove.count);
		skip(&rest.add, &rest.add_count, attempt.add.count);
		skip(&rest.renew, &rest.renew_count, attempt.renew.count);
	}
	free(about);
	if (!status)
		*ret_failure_count = failure_count;
	return status;
}
