/* Who waits for a grant, and for what. */
#include "common/clock.h"
#include "server/core/grant.h"

void waiter_add(struct grant *grant, struct waiter *waiter)
{
	waiter->grant = grant;
	waiter->previous = NULL;
	waiter->next = grant->waiters;
	if (waiter->next)
		waiter->next->previous = waiter;
	grant->waiters = waiter;
}

static void waiter_unlink(struct waiter *waiter)
{
	*(waiter->previous ? &waiter->previous->next : &waiter->grant->waiters) = waiter->next;
	if (waiter->next)
		waiter->next->previous = waiter->previous;
	waiter->next = waiter->previous = NULL;
	waiter->grant = NULL;
}

struct waiter *grant_waiting(
	const struct grant *grant, enum waiter_until least, enum waiter_until most)
{
	struct waiter *waiter = grant->waiters;
	while (waiter && (waiter->until < least || waiter->until > most))
		waiter = waiter->next;
	return waiter;
}

void grant_answer_range(struct grant *grant, enum waiter_until least, enum waiter_until most,
	const struct error *err)
{
	struct waiter *waiter;
	grant_hold(grant);
	while ((waiter = grant_waiting(grant, least, most))) {
		waiter_unlink(waiter);
		waiter->done(waiter->arg, grant, err);
	}
	grant_release(grant);
}

void grant_answer(struct grant *grant, enum waiter_until reached, const struct error *err)
{
	grant_answer_range(grant, UNTIL_DECIDED, reached, err);
}

void waiter_leave(struct waiter *waiter, enum leaving why)
{
	struct grant *grant = waiter->grant;
	if (!grant)
		return;
	grant_hold(grant);
	waiter_unlink(waiter);
	bool matters = waiter->until == UNTIL_INSTALLED &&
		!grant_waiting(grant, UNTIL_DECIDED, UNTIL_INSTALLED) && !grant->ended &&
		grant->record.state == GRANT_PENDING && grant->deadline_us != CLOCK_NEVER;
	if (matters && why == LEAVE_DEADLINE)
		grant_miss_deadline(grant);
	else if (matters && why == LEAVE_CANCELLED)
		grant_end(grant, END_CANCELLED_BY_FILTER, grant->record.filter,
			"the request was cancelled");
	grant_release(grant);
}
