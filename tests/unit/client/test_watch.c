#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/client/fake_server.h"

static struct fake *fake;
static struct postern *postern;
static struct postern_error err;

static void setup(void)
{
	struct postern_options options;

	fake = fake_start();
	options = fake_options(fake);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
}

static void teardown(void)
{
	postern_close(postern);
	fake_stop(fake);
}

TestSuite(watch, .init = setup, .fini = teardown, .timeout = 100);

/* What a subscriber saw: it must be first + 1, first + 2, ... without gap or repeat. */
struct seen {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint64_t first, last, count;
	bool in_order;
	struct postern_watch *watch;
	uint64_t stop_at;
};

#define SEEN_INIT                                                                                  \
	{                                                                                          \
		.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER,               \
		.in_order = true                                                                   \
	}

static void on_event(void *arg, const struct postern_event *event)
{
	struct seen *seen = arg;
	bool stop;

	pthread_mutex_lock(&seen->lock);
	if (seen->count++ == 0)
		seen->first = event->sequence;
	else if (event->sequence != seen->last + 1)
		seen->in_order = false;
	seen->last = event->sequence;
	stop = seen->stop_at && event->sequence == seen->stop_at;
	pthread_cond_broadcast(&seen->cond);
	pthread_mutex_unlock(&seen->lock);
	if (stop)
		postern_watch_stop(seen->watch);
}

static void wait_until(struct seen *seen, uint64_t sequence)
{
	struct timespec due;
	int late = 0;

	clock_gettime(CLOCK_REALTIME, &due);
	due.tv_sec += 30;
	pthread_mutex_lock(&seen->lock);
	while (seen->last < sequence && !late)
		late = pthread_cond_timedwait(&seen->cond, &seen->lock, &due);
	pthread_mutex_unlock(&seen->lock);
	cr_assert_not(
		late, "saw up to %lu, not %lu", (unsigned long)seen->last, (unsigned long)sequence);
}

static unsigned pick_watches(const struct fake_counts *counts)
{
	return counts->watches;
}

static void append(unsigned count)
{
	while (count-- > 0)
		fake_append(fake, POSTERN_EVENT_GRANTED, "g");
}

static struct postern_watch *start(uint64_t cursor, struct seen *seen)
{
	struct postern_watch *watch = NULL;

	cr_assert_eq(postern_watch_start(postern, cursor, on_event, seen, &watch, &err), POSTERN_OK,
		"%s", err.text);
	return watch;
}

Test(watch, from_the_beginning_from_a_cursor_and_from_now)
{
	struct seen all = SEEN_INIT, some = SEEN_INIT, fresh = SEEN_INIT;
	struct postern_watch *watches[3];

	append(100);
	watches[0] = start(0, &all);
	watches[1] = start(60, &some);
	watches[2] = start(POSTERN_FROM_NOW, &fresh);
	cr_assert(fake_wait(fake, pick_watches, 3));
	append(100);
	wait_until(&all, 200);
	wait_until(&some, 200);
	wait_until(&fresh, 200);
	for (int i = 0; i < 3; i++)
		postern_watch_stop(watches[i]);
	postern_watch_stop(NULL);
	cr_assert(all.in_order && some.in_order && fresh.in_order);
	cr_assert_eq(all.first, 1);
	cr_assert_eq(some.first, 61);
	cr_assert_eq(fresh.first, 101);
}

static struct postern_event details;
static char texts[8][64];
static pthread_mutex_t details_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned details_count;

static void note_details(void *arg, const struct postern_event *event)
{
	struct seen *seen = arg;

	pthread_mutex_lock(&details_lock);
	details = *event;
	strncpy(texts[0], event->gateway, 63);
	strncpy(texts[1], event->grant, 63);
	strncpy(texts[2], event->client, 63);
	strncpy(texts[3], event->remote, 63);
	strncpy(texts[4], event->end_reason, 63);
	strncpy(texts[6], event->external, 63);
	strncpy(texts[7], event->bundle, 63);
	memcpy(texts[5], event->context, event->context_size);
	details_count++;
	pthread_mutex_unlock(&details_lock);
	on_event(seen, event);
}

Test(watch, every_field_arrives)
{
	struct seen seen = SEEN_INIT;
	struct postern_watch *watch;

	cr_assert_eq(
		postern_watch_start(postern, 0, note_details, &seen, &watch, &err), POSTERN_OK);
	fake_append(fake, POSTERN_EVENT_CLOSED, "grant-1");
	wait_until(&seen, 1);
	cr_assert_eq(details.kind, POSTERN_EVENT_CLOSED);
	cr_assert_eq(details.time_us, 1000);
	cr_assert_str_eq(texts[0], "gw1");
	cr_assert_str_eq(texts[1], "grant-1");
	cr_assert_str_eq(texts[2], "10.77.1.2");
	cr_assert_str_eq(texts[3], "fd77:2::2");
	cr_assert_str_eq(texts[4], "");
	cr_assert_str_eq(texts[5], "ctx");
	cr_assert_eq(details.client_port, 40000);
	cr_assert_eq(details.remote_port, 1046);
	cr_assert_eq(details.transport, POSTERN_TCP);
	cr_assert_eq(details.accounted, 1);
	cr_assert_eq(details.bytes_sent, 11);
	cr_assert_eq(details.bytes_received, 12);
	cr_assert_eq(details.packets_sent, 13);
	cr_assert_eq(details.packets_received, 14);
	cr_assert_eq(details.duration_us, 15);
	cr_assert_eq(details.inbound, 0);
	cr_assert_str_eq(texts[6], "10.77.2.101", "the flow's");
	cr_assert_eq(details.external_port, 61000);
	cr_assert_str_eq(texts[7], "");
	fake_append(fake, POSTERN_EVENT_ENDED, "grant-1");
	wait_until(&seen, 2);
	cr_assert_str_eq(texts[4], "reservation-timeout");
	fake_append(fake, POSTERN_EVENT_EXTERNAL_CHANGED, "grant-2");
	wait_until(&seen, 3);
	cr_assert_eq(details.inbound, 1);
	cr_assert_eq(details.client_port, 2000);
	cr_assert_str_eq(texts[6], "10.77.2.101");
	cr_assert_eq(details.external_port, 50001);
	cr_assert_str_eq(texts[7], "b1");
	postern_watch_stop(watch);
}

/* I8: the connection is cut and the server restarted while events flow: no gap, no repeat. */
Test(watch, resumes_behind_the_last_event)
{
	struct seen seen = SEEN_INIT;
	struct postern_watch *watch = start(0, &seen);

	for (int i = 0; i < 6; i++) {
		append(50);
		if (i % 2) {
			fake_cut(fake);
		} else {
			fake_down(fake);
			append(50);
			fake_up(fake);
		}
		append(50);
	}
	wait_until(&seen, 750);
	cr_assert(seen.in_order);
	cr_assert_eq(seen.first, 1);
	cr_assert_eq(seen.count, 750);
	postern_watch_stop(watch);
}

/* I8: from now on means from when it was started, not from when it was resumed. */
Test(watch, from_now_misses_nothing_while_the_connection_is_down)
{
	struct seen seen = SEEN_INIT;
	struct postern_grant_request request = {.gateway = "gw1",
		.client = "10.77.1.2",
		.remote = "10.77.2.2",
		.remote_port = 1,
		.transport = POSTERN_TCP,
		.protocol = "ftp"};
	struct postern_watch *watch;
	struct postern_grant grant;

	append(10);
	watch = start(POSTERN_FROM_NOW, &seen);
	/* Its answer comes behind the first batch of the watch. */
	cr_assert_eq(postern_allow_future_connect(postern, &request, &grant, &err), POSTERN_OK);
	fake_down(fake);
	append(20);
	fake_up(fake);
	wait_until(&seen, 30);
	cr_assert_eq(seen.first, 11);
	cr_assert(seen.in_order);
	cr_assert_not(fake_counts(fake).last_watch_from_now);
	postern_watch_stop(watch);
}

/* More than the window of credit, to a callback that is slow at first. */
Test(watch, many_events)
{
	struct seen seen = SEEN_INIT;
	struct postern_watch *watch;

	append(20000);
	watch = start(0, &seen);
	wait_until(&seen, 20000);
	cr_assert(seen.in_order);
	postern_watch_stop(watch);
}

Test(watch, stop_in_its_own_callback)
{
	struct seen seen = SEEN_INIT, other = SEEN_INIT;
	struct postern_watch *watch;

	seen.stop_at = 10;
	cr_assert_eq(
		postern_watch_start(postern, 0, on_event, &seen, &seen.watch, &err), POSTERN_OK);
	watch = start(0, &other);
	append(100);
	wait_until(&other, 100);
	cr_assert_eq(seen.last, 10, "nothing after the stop, though its batch held more");
	postern_watch_stop(watch);
}

struct nested {
	struct seen seen;
	enum postern_status started;
};

static void start_and_stop(void *arg, const struct postern_event *event)
{
	struct nested *nested = arg;
	static struct seen unused = SEEN_INIT;
	struct postern_watch *watch;

	nested->started = postern_watch_start(postern, 0, on_event, &unused, &watch, NULL);
	if (nested->started == POSTERN_OK)
		postern_watch_stop(watch); /* its begin is still queued */
	cr_assert_eq(unused.count, 0);
	on_event(&nested->seen, event);
}

Test(watch, start_and_stop_in_a_callback)
{
	struct nested nested = {.seen = SEEN_INIT};
	struct postern_watch *watch;

	cr_assert_eq(
		postern_watch_start(postern, 0, start_and_stop, &nested, &watch, &err), POSTERN_OK);
	append(20);
	wait_until(&nested.seen, 20);
	cr_assert_eq(nested.started, POSTERN_OK);
	postern_watch_stop(watch);
}

/* No callback runs after stop returned: the argument may be freed. */
Test(watch, stop_while_events_flow)
{
	append(2000);
	for (int i = 0; i < 200; i++) {
		struct seen *seen = malloc(sizeof(*seen));
		struct postern_watch *watch;

		*seen = (struct seen)SEEN_INIT;
		watch = start(0, seen);
		if (i % 3)
			wait_until(seen, (uint64_t)i);
		postern_watch_stop(watch);
		free(seen);
	}
}

static void *start_and_stop_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < 50; i++) {
		struct seen seen = SEEN_INIT;
		struct postern_watch *watch = start(0, &seen);

		wait_until(&seen, 5);
		postern_watch_stop(watch);
		cr_assert(seen.in_order);
	}
	return NULL;
}

Test(watch, many_threads)
{
	pthread_t threads[6];

	append(50);
	for (int i = 0; i < 6; i++)
		pthread_create(&threads[i], NULL, start_and_stop_often, NULL);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
}

Test(watch, stop_while_the_server_is_down)
{
	struct seen seen = SEEN_INIT;
	struct postern_watch *watch = start(0, &seen);

	append(5);
	wait_until(&seen, 5);
	fake_down(fake);
	postern_watch_stop(watch);
	watch = start(0, &seen);
	postern_watch_stop(watch);
	fake_up(fake);
}

Test(watch, a_refusal_can_be_asked_for_and_is_tried_again)
{
	struct postern_session_request request = {.gateway = "gw1", .client = "10.77.1.2"};
	struct postern_session session;
	struct seen seen = SEEN_INIT;
	struct postern_watch *watch;

	append(5);
	fake_refuse_watches(fake, true);
	watch = start(0, &seen);
	cr_assert(fake_wait(fake, pick_watches, 1));
	/* Its answer comes behind the refusal, on the same connection. */
	cr_assert_eq(postern_session_open(postern, &request, &session, &err), POSTERN_OK);
	cr_assert_eq(postern_watch_status(watch, &err), POSTERN_PERMISSION_DENIED);
	cr_assert_eq(err.status, POSTERN_PERMISSION_DENIED);
	cr_assert_str_eq(err.text, "not for you");
	fake_refuse_watches(fake, false);
	wait_until(&seen, 5);
	cr_assert_eq(postern_watch_status(watch, NULL), POSTERN_OK);
	postern_watch_stop(watch);
}

/* The contract says stop first; forgetting it must not hang or leak. */
Test(watch, close_without_stop)
{
	struct postern_options options = fake_options(fake);
	struct seen seen = SEEN_INIT;

	start(0, &seen);
	append(5);
	wait_until(&seen, 5);
	postern_close(postern);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK);
}
