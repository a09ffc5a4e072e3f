#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "tests/unit/client/fake_server.h"

static struct fake *fake;
static struct postern *postern;
static struct postern_error err;

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

TestSuite(session, .init = setup, .fini = teardown, .timeout = 60);

Test(session, open_and_close)
{
	struct postern_connection primary = {.transport = POSTERN_TCP,
		.client = "fd77:1::2",
		.client_port = 40000,
		.remote = "fd77:2::2",
		.remote_port = 21};
	struct postern_session_request request = {.gateway = "gw1",
		.client = "fd77:1::2",
		.user = "alice",
		.protocol = "ftp",
		.primary = &primary};
	struct postern_session session;

	cr_assert_eq(postern_session_open(postern, &request, &session, &err), POSTERN_OK, "%s",
		err.text);
	cr_assert_eq(strlen(session.id), 36);
	cr_assert_eq(fake_counts(fake).last_primary_port, 21);
	cr_assert_str_eq(fake_counts(fake).last_session_user, "alice");
	cr_assert_eq(postern_session_close(postern, session.id, &err), POSTERN_OK, "%s", err.text);
	cr_assert_eq(postern_session_close(postern, "unknown", &err), POSTERN_NOT_FOUND);
	cr_assert_not_null(strstr(err.text, "unknown"));
}

Test(session, arguments_are_checked)
{
	struct postern_connection primary = {.transport = POSTERN_TCP, .client = "a"};
	struct postern_session_request request = {0};
	struct postern_session session;

	cr_expect_eq(
		postern_session_open(postern, &request, &session, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "gateway");
	request.gateway = "gw1";
	cr_expect_eq(
		postern_session_open(postern, &request, &session, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "client");
	request.client = "10.77.1.2";
	request.primary = &primary;
	cr_expect_eq(
		postern_session_open(postern, &request, &session, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "primary");
	primary.remote = "b";
	primary.transport = (enum postern_transport)1;
	cr_expect_eq(
		postern_session_open(postern, &request, &session, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_eq(postern_session_close(postern, NULL, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "session");
	cr_expect_eq(fake_counts(fake).opens + fake_counts(fake).closes, 0);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static char opened[40];

static void on_open(
	void *arg, const struct postern_session *session, const struct postern_error *error)
{
	pthread_mutex_lock(&lock);
	cr_assert_eq(arg, opened);
	cr_assert_eq(error->status, POSTERN_OK);
	memcpy(opened, session->id, sizeof(opened));
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&lock);
}

static unsigned pick_closes(const struct fake_counts *counts)
{
	return counts->closes;
}

/* Strings may be gone as soon as the function has returned. */
Test(session, asynchronous_and_strings_are_copied)
{
	char gateway[] = "gw1", client[] = "10.77.1.2", user[] = "bob", id[40];
	struct postern_session_request request = {
		.gateway = gateway, .client = client, .user = user};

	cr_assert_eq(
		postern_session_open_async(postern, &request, on_open, opened, &err), POSTERN_OK);
	memset(gateway, 'x', 3);
	memset(client, 'x', 5);
	memset(user, 'x', 3);
	pthread_mutex_lock(&lock);
	while (!*opened)
		pthread_cond_wait(&cond, &lock);
	memcpy(id, opened, sizeof(id));
	pthread_mutex_unlock(&lock);
	cr_assert_str_eq(fake_counts(fake).last_session_user, "bob");
	cr_assert_eq(postern_session_close_async(postern, id, NULL, NULL, &err), POSTERN_OK);
	memset(id, 'x', 30);
	cr_assert(fake_wait(fake, pick_closes, 1));
}

/* Opening is not repeated: two sessions might come of it. Waiting for a first chance is no
 * repetition. */
Test(session, open_waits_for_the_connection)
{
	struct postern_session_request request = {
		.gateway = "gw1", .client = "10.77.1.2", .deadline_ms = 10000};
	struct postern_session session;

	fake_cut(fake);
	wait_for_loss();
	cr_assert_eq(postern_session_open(postern, &request, &session, &err), POSTERN_OK, "%s",
		err.text);
	cr_assert_eq(fake_counts(fake).opens, 1);
}
