/* Replies come in the order of their commands, one final reply each; but servers differ in what
 * they answer to empty lines, to ABOR and to nonsense. The count may therefore drift, and must not
 * break a session when it does:
 * - a 227 (229) belongs to the oldest PASV (EPSV) that waits, and whatever was asked before that
 *   counts as answered (dialogue.c does that);
 * - PASV and EPSV are answered by nothing but their reply or an error, so a stray 2yz or 3yz does
 *   not use them up;
 * - the ring forgets its oldest entries rather than to stop. */
#include "client/inspectors/ftp/pending.h"

#include <assert.h>

static struct pending_run *run_at(const struct pending *pending, unsigned i)
{
	return (struct pending_run *)&pending->runs[(pending->first + i) % PENDING_RUNS];
}

static unsigned ports_of(const struct pending_run *run)
{
	bool is_port = run->kind == COMMAND_PORT || run->kind == COMMAND_EPRT;

	return is_port && !run->answer ? run->count : 0;
}

static void remove_run(struct pending *pending, unsigned i)
{
	for (; i > 0; i--)
		*run_at(pending, i) = *run_at(pending, i - 1);
	pending->first = (pending->first + 1) % PENDING_RUNS;
	pending->used--;
}

static void forget_oldest(struct pending *pending)
{
	unsigned i = 0;

	while (run_at(pending, i)->answer)
		i++;
	if (i == 0)
		pending->preliminary = false;
	pending->ports -= ports_of(run_at(pending, i));
	remove_run(pending, i);
}

void pending_push(struct pending *pending, enum command_kind kind, const char *answer)
{
	struct pending_run *last = pending->used ? run_at(pending, pending->used - 1) : NULL;
	const struct pending_run run = {kind, answer, 1};

	assert(!answer || pending->locals < PENDING_LOCAL_MAX);
	if (answer)
		pending->locals++;
	if (last && last->kind == kind && last->answer == answer && last->count < UINT32_MAX) {
		last->count++;
	} else {
		if (pending->used == PENDING_RUNS)
			forget_oldest(pending);
		*run_at(pending, pending->used++) = run;
	}
	pending->ports += ports_of(&run);
}

bool pending_has(const struct pending *pending, enum command_kind kind)
{
	for (unsigned i = 0; i < pending->used; i++) {
		if (run_at(pending, i)->kind == kind && !run_at(pending, i)->answer)
			return true;
	}
	return false;
}

bool pending_first_is_local(const struct pending *pending, const char **ret_answer)
{
	const struct pending_run *first = run_at(pending, 0);

	if (!pending->used || !first->answer)
		return false;
	*ret_answer = first->answer;
	return true;
}

bool pending_first_is(const struct pending *pending, enum command_kind kind)
{
	const struct pending_run *first = run_at(pending, 0);

	return pending->used && !first->answer && first->kind == kind;
}

void pending_pop(struct pending *pending)
{
	struct pending_run *first = run_at(pending, 0);

	assert(pending->used > 0);
	pending->preliminary = false;
	if (first->answer)
		pending->locals--;
	if (ports_of(first) > 0)
		pending->ports--;
	if (--first->count == 0)
		remove_run(pending, 0);
}

void pending_answered(struct pending *pending, unsigned code)
{
	const struct pending_run *first = run_at(pending, 0);

	/* A greeting or another reply that nobody asked for; also when it began before a command
	 * that is ours to answer, and ends behind it. */
	if (!pending->used || first->answer)
		return;
	if (code < 200) {
		pending->preliminary = true;
		return;
	}
	if ((first->kind == COMMAND_PASV || first->kind == COMMAND_EPSV) && code < 400)
		return;
	if (first->kind == COMMAND_AUTH && code >= 300 && code < 400)
		return;
	pending_pop(pending);
}
