#include <string.h>

#include "client/lib/internal.h"

enum postern_status waiter_init(struct waiter *waiter, struct postern *postern, const char *instead,
	struct postern_error *err)
{
	struct error cause;

	if (postern_on_own_thread(postern)) {
		error_set(&cause, STATUS_FAILED_PRECONDITION,
			"called in a callback, where it would wait for itself; use %s there",
			instead);
		return error_give(&cause, err);
	}
	memset(waiter, 0, sizeof(*waiter));
	waiter->postern = postern;
	waiter->ret_err = err;
	pthread_cond_init(&waiter->cond, NULL);
	return POSTERN_OK;
}

enum postern_status waiter_wait(struct waiter *waiter, enum postern_status started)
{
	enum postern_status status = started;

	if (started == POSTERN_OK) {
		pthread_mutex_lock(&waiter->postern->lock);
		while (!waiter->done)
			pthread_cond_wait(&waiter->cond, &waiter->postern->lock);
		status = waiter->status;
		pthread_mutex_unlock(&waiter->postern->lock);
	}
	pthread_cond_destroy(&waiter->cond);
	return status;
}

struct outcome { /* NULL: not of this kind, or failed */
	const struct postern_grant *grant;
	const struct postern_session *session;
	const struct postern_bundle *bundle;
};

static void keep(struct waiter *waiter, const struct outcome *outcome)
{
	const struct postern_bundle *bundle = outcome->bundle;

	if (outcome->grant && waiter->ret_grant)
		*waiter->ret_grant = *outcome->grant;
	if (outcome->session && waiter->ret_session)
		*waiter->ret_session = *outcome->session;
	if (bundle && waiter->ret_bundle)
		memcpy(waiter->ret_bundle, bundle->id, sizeof(bundle->id));
	if (bundle && waiter->ret_grants)
		memcpy(waiter->ret_grants, bundle->grants, bundle->count * sizeof(*bundle->grants));
}

/* After the unlock the waiter, which lives on the stack of another thread, is gone. */
static void wake(
	struct waiter *waiter, const struct outcome *outcome, const struct postern_error *err)
{
	pthread_mutex_lock(&waiter->postern->lock);
	waiter->status = err->status;
	if (err->status != POSTERN_OK && waiter->ret_err)
		*waiter->ret_err = *err;
	keep(waiter, outcome);
	waiter->done = true;
	pthread_cond_signal(&waiter->cond);
	pthread_mutex_unlock(&waiter->postern->lock);
}

void waiter_done_grant(
	void *arg, const struct postern_grant *grant, const struct postern_error *err)
{
	wake(arg, &(struct outcome){.grant = grant}, err);
}

void waiter_done_session(
	void *arg, const struct postern_session *session, const struct postern_error *err)
{
	wake(arg, &(struct outcome){.session = session}, err);
}

void waiter_done_bundle(
	void *arg, const struct postern_bundle *bundle, const struct postern_error *err)
{
	wake(arg, &(struct outcome){.bundle = bundle}, err);
}
