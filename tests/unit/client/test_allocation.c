/* Every allocation of the library and of the RPC runtime fails once, the n-th for n from 1 until
 * none is left to fail, during a whole life: connect, session, grant, watch, close. Nothing may
 * crash, hang or leak (AddressSanitizer), and each call has an outcome. Linked with --wrap and with
 * the library's objects instead of the shared library. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/client/fake_server.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);

static atomic_int until_failure; /* 0 = never */

static bool fails(void)
{
	int left = until_failure;

	while (left > 0 && !atomic_compare_exchange_weak(&until_failure, &left, left - 1))
		;
	return left == 1 && !fake_is_own_thread();
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

static void ignore_event(void *arg, const struct postern_event *event)
{
	(void)event;
	++*(atomic_int *)arg;
}

/* True when everything succeeded. */
static bool live_once(struct fake *fake)
{
	struct postern_options options = fake_options(fake);
	struct postern_session_request session_request = {.gateway = "gw1", .client = "10.77.1.2"};
	struct postern_grant_request request = {.remote = "10.77.2.2",
		.remote_port = 1,
		.transport = POSTERN_TCP,
		.protocol = "ftp",
		.deadline_ms = 2000};
	struct postern_bundle_item item = {.connect = &request};
	struct postern *postern = NULL;
	struct postern_session session;
	struct postern_grant grant;
	struct postern_watch *watch = NULL;
	struct postern_error err = {0};
	atomic_int events = 0;
	bool ok = false;

	options.connect_ms = 2000;
	if (postern_connect(&options, &postern, &err) != POSTERN_OK) {
		cr_assert_null(postern);
		cr_assert_neq(*err.text, '\0');
		return false;
	}
	session_request.deadline_ms = 2000;
	if (postern_watch_start(postern, 0, ignore_event, &events, &watch, &err) == POSTERN_OK &&
		postern_session_open(postern, &session_request, &session, &err) == POSTERN_OK) {
		request.session = session.id;
		ok = postern_allow_future_connect(postern, &request, &grant, &err) == POSTERN_OK &&
			postern_bundle_request(postern, &item, 1, NULL, &grant, &err) ==
				POSTERN_OK &&
			postern_cancel(postern, grant.id, &err) == POSTERN_OK;
	}
	if (!ok)
		cr_assert_neq(*err.text, '\0');
	postern_watch_stop(watch);
	postern_close(postern);
	return ok;
}

Test(allocation, a_life_survives_every_failure, .timeout = 110)
{
	struct fake *fake = fake_start();
	int n = 1;

	for (int i = 0; i < 20; i++)
		fake_append(fake, POSTERN_EVENT_GRANTED, "g");
	for (bool reached = true; reached; n++) {
		bool ok;

		cr_assert_lt(n, 2000);
		until_failure = n;
		ok = live_once(fake);
		reached = until_failure == 0;
		until_failure = 0;
		cr_assert(ok || reached, "fails without a failing allocation");
	}
	cr_assert_gt(n, 20);
	fake_stop(fake);
}
