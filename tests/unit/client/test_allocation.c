/* Every allocation of the library and of the RPC runtime fails once, the n-th for n from 1 until
 * none is left to fail, during a whole life: connect, session, grant, watch, close. Nothing may
 * crash, hang or leak (AddressSanitizer), and each call has an outcome. Linked with --wrap and with
 * the library's objects instead of the shared library. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/client/fake_server.h"
#include "tests/unit/failing_allocator.h"

/* The fake server's own are counted and succeed. */
static bool allocation_fails(void)
{
	return is_the_nth() && !fake_is_own_thread();
}

static struct fake *fake;

static void ignore_event(void *arg, const struct postern_event *event)
{
	(void)event;
	++*(atomic_int *)arg;
}

/* True when everything succeeded. */
static bool live_once(void)
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
	fake = fake_start();
	for (int i = 0; i < 20; i++)
		fake_append(fake, POSTERN_EVENT_GRANTED, "g");
	cr_assert_geq(survive_each(live_once), 19);
	fake_stop(fake);
}
