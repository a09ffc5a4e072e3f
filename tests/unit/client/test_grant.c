#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/unit/client/fake_server.h"

static struct fake *fake;
static struct postern *postern;
static struct postern_error err;
static struct postern_grant grant;

static const struct postern_grant_request plain = {
	.gateway = "gw1",
	.client = "10.77.1.2",
	.remote = "10.77.2.2",
	.remote_port = 1046,
	.transport = POSTERN_TCP,
	.protocol = "ftp",
	.deadline_ms = 10000,
};

static pthread_mutex_t link_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t link_cond = PTHREAD_COND_INITIALIZER;
static bool link_is_up = true;

static void on_link(void *arg, enum postern_status status, const struct postern_error *error)
{
	(void)arg, (void)error;
	pthread_mutex_lock(&link_lock);
	link_is_up = status == POSTERN_OK;
	pthread_cond_signal(&link_cond);
	pthread_mutex_unlock(&link_lock);
}

/* Until the library has seen that the connection is gone: what is called now is not sent into it.
 */
static void wait_for_loss(void)
{
	pthread_mutex_lock(&link_lock);
	while (link_is_up)
		pthread_cond_wait(&link_cond, &link_lock);
	pthread_mutex_unlock(&link_lock);
}

static void setup(void)
{
	struct postern_options options;

	fake = fake_start();
	options = fake_options(fake);
	options.on_link = on_link;
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
}

static void teardown(void)
{
	postern_close(postern);
	fake_stop(fake);
}

TestSuite(grant, .init = setup, .fini = teardown, .timeout = 100);

static unsigned pick_requests(const struct fake_counts *counts)
{
	return counts->requests;
}

static unsigned pick_withdrawals(const struct fake_counts *counts)
{
	return counts->withdrawals;
}

static enum postern_status ask(const struct postern_grant_request *request)
{
	memset(&grant, 0, sizeof(grant));
	return postern_allow_future_connect(postern, request, &grant, &err);
}

Test(grant, granted)
{
	struct postern_grant_request request = plain;

	request.context = "abc";
	request.context_size = 3;
	cr_assert_eq(ask(&request), POSTERN_OK, "%s", err.text);
	cr_assert_eq(strlen(grant.id), 36);
	cr_assert_eq(strlen(grant.request_id), 36);
	cr_assert_eq(grant.left_ms, 60000);
	cr_assert_eq(grant.decide_us, 1);
	cr_assert_eq(grant.commit_us, 2);
	cr_assert_eq(grant.push_us, 3);
	cr_assert_eq(grant.kernel_us, 4);
	cr_assert_eq(fake_counts(fake).last_context_size, 3);
}

Test(grant, denied_says_rule_and_grant)
{
	fake_set_mode(fake, FAKE_DENY, 0);
	cr_assert_eq(ask(&plain), POSTERN_PERMISSION_DENIED);
	cr_assert_eq(err.status, POSTERN_PERMISSION_DENIED);
	cr_assert_eq(err.reason, POSTERN_DENIED_PROTOCOL_RULES);
	cr_assert_str_eq(err.rule, "no-ftp");
	cr_assert_str_eq(err.grant, "denied-1");
	cr_assert_str_eq(grant.id, "", "untouched on failure");
	cr_assert_eq(postern_allow_future_connect(postern, &plain, NULL, NULL),
		POSTERN_PERMISSION_DENIED);
}

Test(grant, arguments_are_checked)
{
	static const struct {
		const char *field;
		struct postern_grant_request request;
	} cases[] = {
		{"gateway", {.client = "a", .remote = "b", .protocol = "c", .transport = 6}},
		{"client", {.gateway = "a", .remote = "b", .protocol = "c", .transport = 6}},
		{"remote", {.session = "a", .protocol = "c", .transport = 6}},
		{"protocol", {.session = "a", .remote = "b", .transport = 6}},
		{"transport", {.session = "a", .remote = "b", .protocol = "c", .transport = 1}},
		{"context",
			{.session = "a",
				.remote = "b",
				.protocol = "c",
				.transport = 17,
				.context = "",
				.context_size = 4097}},
		{"context",
			{.session = "a",
				.remote = "b",
				.protocol = "c",
				.transport = 17,
				.context_size = 1}},
		{"request_id",
			{.session = "a",
				.remote = "b",
				.protocol = "c",
				.transport = 17,
				.request_id = "x"}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(ask(&cases[i].request), POSTERN_INVALID_ARGUMENT);
		cr_expect_str_eq(err.field, cases[i].field);
	}
	cr_assert_eq(fake_counts(fake).requests, 0);
}

Test(grant, own_request_id_is_used_in_canonical_form)
{
	struct postern_grant_request request = plain;

	request.request_id = "0190A6B1-8C3D-7ABC-9DEF-0123456789AB";
	cr_assert_eq(ask(&request), POSTERN_OK, "%s", err.text);
	cr_assert_str_eq(grant.request_id, "0190a6b1-8c3d-7abc-9def-0123456789ab");
}

Test(grant, an_answer_without_grant_is_an_error)
{
	fake_set_mode(fake, FAKE_NONSENSE, 0);
	cr_assert_eq(ask(&plain), POSTERN_INTERNAL);
}

Test(grant, cancel)
{
	cr_assert_eq(ask(&plain), POSTERN_OK);
	cr_assert_eq(postern_cancel(postern, grant.id, &err), POSTERN_OK, "%s", err.text);
	cr_assert_eq(postern_cancel(postern, "ended", &err), POSTERN_FAILED_PRECONDITION);
	cr_assert_eq(err.reason, POSTERN_ALREADY_ENDED);
	cr_assert_eq(postern_cancel(postern, NULL, &err), POSTERN_INVALID_ARGUMENT);
	cr_assert_eq(fake_counts(fake).cancels, 2);
}

/* ---- lost connections ---- */

/* I6: the connection dies between the grant and its answer, several times; one grant comes of it.
 */
Test(grant, lost_answer_is_asked_for_again_with_the_same_id)
{
	struct fake_counts counts;

	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 3);
	cr_assert_eq(ask(&plain), POSTERN_OK, "%s", err.text);
	counts = fake_counts(fake);
	cr_assert_eq(counts.requests, 4);
	cr_assert_eq(counts.grants, 1);
	cr_assert_str_eq(counts.last_request_id, grant.request_id);
	cr_assert_eq(counts.withdrawals, 0);
}

/* I6, and a call made while there is no server at all waits for it. */
Test(grant, asked_while_the_server_is_down)
{
	struct postern_grant_request request = plain;

	fake_down(fake);
	wait_for_loss();
	request.deadline_ms = 200;
	cr_assert_eq(ask(&request), POSTERN_DEADLINE_EXCEEDED);
	cr_assert_eq(err.reason, POSTERN_DEADLINE);
	fake_up(fake);
	cr_assert_eq(ask(&plain), POSTERN_OK, "%s", err.text);
	cr_assert_eq(fake_counts(fake).grants, 1);
	cr_assert_eq(fake_counts(fake).withdrawals, 0, "the first was never sent");
}

Test(grant, unavailable_without_reason_is_tried_again)
{
	fake_set_mode(fake, FAKE_UNAVAILABLE_ONCE, 0);
	cr_assert_eq(ask(&plain), POSTERN_OK, "%s", err.text);
	cr_assert_eq(fake_counts(fake).requests, 2);
}

Test(grant, unavailable_with_reason_is_the_answer)
{
	fake_set_mode(fake, FAKE_GATEWAY_DOWN, 0);
	cr_assert_eq(ask(&plain), POSTERN_UNAVAILABLE);
	cr_assert_eq(err.reason, POSTERN_GATEWAY_DOWN);
	cr_assert_eq(fake_counts(fake).requests, 1);
}

Test(grant, deadline)
{
	struct postern_grant_request request = plain;
	int64_t begin = clock_mono_us();

	request.deadline_ms = 200;
	fake_set_mode(fake, FAKE_HOLD, 0);
	cr_assert_eq(ask(&request), POSTERN_DEADLINE_EXCEEDED);
	cr_assert_geq(clock_mono_us() - begin, 190000);
	cr_assert_lt(clock_mono_us() - begin, 5000000);
}

static struct postern_error async_err;

static void note_and_signal(
	void *arg, const struct postern_grant *got, const struct postern_error *error);

/* DEADLINE_EXCEEDED promises that nothing stays open: the grant whose answer was lost is withdrawn.
 */
Test(grant, lost_answer_past_the_deadline_is_withdrawn)
{
	struct postern_grant_request request = plain;
	int done = 0;

	fake_set_mode(fake, FAKE_HOLD, 0);
	request.deadline_ms = 600;
	request.request_id = "0190a6b1-8c3d-7abc-9def-0123456789ab";
	cr_assert_eq(
		postern_allow_future_connect_async(postern, &request, note_and_signal, &done, &err),
		POSTERN_OK);
	cr_assert(fake_wait(fake, pick_requests, 1));
	fake_down(fake);
	wait_for_loss();
	/* Synchronous on the same thread: it returns behind the first's callback. */
	request.deadline_ms = 900;
	request.request_id = NULL;
	cr_assert_eq(ask(&request), POSTERN_DEADLINE_EXCEEDED);
	cr_assert_eq(done, 1);
	cr_assert_eq(async_err.status, POSTERN_DEADLINE_EXCEEDED);
	fake_set_mode(fake, FAKE_GRANT, 0);
	fake_up(fake);
	cr_assert(fake_wait(fake, pick_withdrawals, 1));
	cr_assert_str_eq(fake_counts(fake).last_withdrawn, "0190a6b1-8c3d-7abc-9def-0123456789ab");
	cr_assert_eq(fake_counts(fake).withdrawals, 1);
}

static void note_and_signal(
	void *arg, const struct postern_grant *got, const struct postern_error *error)
{
	(void)got;
	async_err = *error;
	++*(int *)arg;
}

/* ---- many at once ---- */

#define THREADS 8
#define PER_THREAD 200

static void *ask_many(void *arg)
{
	struct postern_grant got;
	struct postern_error error;

	(void)arg;
	for (int i = 0; i < PER_THREAD; i++) {
		cr_assert_eq(postern_allow_future_connect(postern, &plain, &got, &error),
			POSTERN_OK, "%s", error.text);
		cr_assert_eq(postern_cancel(postern, got.id, &error), POSTERN_OK, "%s", error.text);
	}
	return NULL;
}

Test(grant, many_threads)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, ask_many, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(fake_counts(fake).grants, THREADS * PER_THREAD);
	cr_assert_eq(fake_counts(fake).cancels, THREADS * PER_THREAD);
}

static void *ask_stubbornly(void *arg)
{
	struct postern_grant_request request = plain;
	struct postern_grant got;
	struct postern_error error;

	(void)arg;
	request.deadline_ms = 60000;
	for (int i = 0; i < 50; i++)
		cr_assert_eq(postern_allow_future_connect(postern, &request, &got, &error),
			POSTERN_OK, "%s", error.text);
	return NULL;
}

/* I6 under a connection that keeps breaking: as many grants as calls, whatever was repeated. */
Test(grant, many_threads_and_a_breaking_connection)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, ask_stubbornly, NULL);
	for (unsigned i = 1; i <= 5; i++) {
		cr_assert(fake_wait(fake, pick_requests, i * 50));
		if (i % 2) {
			fake_cut(fake);
		} else {
			fake_down(fake);
			fake_up(fake);
		}
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(fake_counts(fake).grants, THREADS * 50);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned answered, granted, cancelled;

static void count_answer(
	void *arg, const struct postern_grant *got, const struct postern_error *error)
{
	cr_assert_eq(arg, &answered);
	cr_assert_eq(got != NULL, error->status == POSTERN_OK);
	pthread_mutex_lock(&lock);
	answered++;
	granted += error->status == POSTERN_OK;
	cancelled += error->status == POSTERN_CANCELLED;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&lock);
}

static void wait_for_answers(unsigned least)
{
	pthread_mutex_lock(&lock);
	while (answered < least)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

/* Far more than the connection's limit (the fake's is 128): they take turns instead of failing. */
Test(grant, asynchronous_beyond_the_limit)
{
	enum { CALLS = 3000 };

	for (int i = 0; i < CALLS; i++)
		cr_assert_eq(postern_allow_future_connect_async(
				     postern, &plain, count_answer, &answered, &err),
			POSTERN_OK);
	wait_for_answers(CALLS);
	cr_assert_eq(granted, CALLS);
	cr_assert_eq(fake_counts(fake).grants, CALLS);
}

static unsigned pick_held(const struct fake_counts *counts)
{
	return counts->held;
}

/* In flight, and waiting for their turn: each gets its callback, before postern_close returns. */
Test(grant, close_cancels_what_is_in_flight)
{
	struct postern_options options = fake_options(fake);

	fake_set_mode(fake, FAKE_HOLD, 0);
	for (int i = 0; i < 500; i++)
		cr_assert_eq(postern_allow_future_connect_async(
				     postern, &plain, count_answer, &answered, &err),
			POSTERN_OK);
	cr_assert(fake_wait(fake, pick_held, 50));
	postern_close(postern);
	cr_assert_eq(answered, 500);
	cr_assert_eq(cancelled, 500);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK);
}

Test(grant, close_while_backing_off)
{
	struct postern_options options = fake_options(fake);

	fake_set_mode(fake, FAKE_HOLD, 0);
	for (int i = 0; i < 20; i++)
		postern_allow_future_connect_async(postern, &plain, count_answer, &answered, &err);
	cr_assert(fake_wait(fake, pick_held, 20));
	fake_down(fake);
	postern_close(postern);
	cr_assert_eq(cancelled, 20);
	fake_up(fake);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK);
}

/* ---- in callbacks ---- */

static enum postern_status inner[6];
static bool second_done;

static void second_answer(
	void *arg, const struct postern_grant *got, const struct postern_error *error)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	cr_assert_not_null(got);
	cr_assert_eq(error->status, POSTERN_OK);
	second_done = true;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&lock);
}

static void call_everything(
	void *arg, const struct postern_grant *got, const struct postern_error *error)
{
	struct postern_session_request session = {.gateway = "gw1", .client = "10.77.1.2"};
	struct postern_session opened;
	struct postern_grant another;
	struct postern_error inner_err;

	(void)arg, (void)error;
	inner[0] = postern_allow_future_connect(postern, &plain, &another, &inner_err);
	cr_assert_not_null(strstr(inner_err.text, "postern_allow_future_connect_async"));
	inner[1] = postern_cancel(postern, got->id, &inner_err);
	inner[2] = postern_session_open(postern, &session, &opened, &inner_err);
	inner[3] = postern_session_close(postern, "x", NULL);
	inner[4] = postern_allow_future_connect_async(
		postern, &plain, second_answer, NULL, &inner_err);
	inner[5] = postern_cancel_async(postern, got->id, NULL, NULL, &inner_err);
}

Test(grant, blocking_functions_refuse_in_callbacks_and_others_work)
{
	cr_assert_eq(
		postern_allow_future_connect_async(postern, &plain, call_everything, NULL, &err),
		POSTERN_OK);
	pthread_mutex_lock(&lock);
	while (!second_done)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(inner[i], POSTERN_FAILED_PRECONDITION);
	cr_assert_eq(inner[4], POSTERN_OK);
	cr_assert_eq(inner[5], POSTERN_OK);
}

static struct postern *other;
static enum postern_status after_close;

static void close_inside(
	void *arg, const struct postern_grant *got, const struct postern_error *error)
{
	(void)arg, (void)got, (void)error;
	postern_allow_future_connect_async(other, &plain, count_answer, &answered, NULL);
	postern_close(other);
	after_close =
		postern_allow_future_connect_async(other, &plain, count_answer, &answered, NULL);
}

/* The callback's own call, accepted before the close, still gets its answer or CANCELLED. */
Test(grant, close_in_a_callback)
{
	struct postern_options options = fake_options(fake);

	cr_assert_eq(postern_connect(&options, &other, &err), POSTERN_OK);
	cr_assert_eq(postern_allow_future_connect_async(other, &plain, close_inside, NULL, &err),
		POSTERN_OK);
	wait_for_answers(1);
	cr_assert_eq(after_close, POSTERN_CANCELLED);
}
