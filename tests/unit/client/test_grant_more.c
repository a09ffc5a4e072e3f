/* The inbound sibling, bundles, reservations, renewing and cutting. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "tests/unit/client/fake_server.h"

static struct fake *fake;
static struct postern *postern;
static struct postern_error err;
static struct postern_grant grant;

#define RID "0190a6b1-8c3d-7abc-9def-0123456789ab"

static const struct postern_grant_request out = {
	.gateway = "gw1",
	.client = "10.77.1.2",
	.remote = "10.77.2.2",
	.remote_port = 5004,
	.remote_port_last = 5005,
	.transport = POSTERN_UDP,
	.flags = POSTERN_BIDIRECTIONAL,
	.protocol = "rtsp",
	.deadline_ms = 10000,
};

static const struct postern_accept_request in = {
	.gateway = "gw1",
	.client = "fd77:1::2",
	.client_port = 2000,
	.transport = POSTERN_TCP,
	.external = "fd77:2::101",
	.protocol = "ftp",
	.deadline_ms = 10000,
};

static void setup(void)
{
	struct postern_options options;

	fake = fake_start();
	options = fake_options(fake);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
	memset(&grant, 0, sizeof(grant));
}

static void teardown(void)
{
	postern_close(postern);
	fake_stop(fake);
}

TestSuite(more, .init = setup, .fini = teardown, .timeout = 100);

/* ---- accept ---- */

Test(more, anybody_may_connect_to_a_chosen_port)
{
	struct fake_asked asked;

	cr_assert_eq(postern_allow_future_accept(postern, &in, &grant, &err), POSTERN_OK, "%s",
		err.text);
	cr_assert_eq(strlen(grant.id), 36);
	cr_assert_str_eq(grant.external, "fd77:2::101");
	cr_assert_eq(grant.external_port, 50000);
	asked = fake_counts(fake).asked;
	cr_assert(asked.inbound);
	cr_assert_not(asked.reserve);
	cr_assert_str_eq(asked.client, "fd77:1::2");
	cr_assert_eq(asked.client_port, 2000);
	cr_assert_str_eq(asked.remote, "", "anybody");
	cr_assert_eq(asked.remote_count, 0);
	cr_assert_eq(asked.external_port, 0);
}

Test(more, one_remote_or_several)
{
	static const char *const remotes[] = {"fd77:2::2", "fd77:2::3"};
	struct postern_accept_request request = in;

	request.remotes = remotes;
	request.remote_count = 1;
	cr_assert_eq(postern_allow_future_accept(postern, &request, &grant, &err), POSTERN_OK);
	cr_assert_str_eq(fake_counts(fake).asked.remote, "fd77:2::2");
	cr_assert_eq(fake_counts(fake).asked.remote_count, 0);
	request.remote_count = 2;
	cr_assert_eq(postern_allow_future_accept(postern, &request, &grant, &err), POSTERN_OK);
	cr_assert_str_eq(fake_counts(fake).asked.remote, "");
	cr_assert_eq(fake_counts(fake).asked.remote_count, 2);
	cr_assert_str_eq(fake_counts(fake).asked.last_remote, "fd77:2::3");
}

/* What could let in more than was meant, or could not be sent. */
Test(more, arguments_of_accept_are_checked)
{
	static const char *const hollow[] = {"10.77.2.2", ""};
	static const char *const many[17];
	struct {
		const char *field;
		struct postern_accept_request request;
	} cases[] = {{"client_port", in}, {"remotes", in}, {"remotes", in}, {"remotes", in},
		{"remotes", in}, {"client", in}, {"transport", in}, {"request_id", in}};

	cases[0].request.client_port = 0;
	cases[1].request.remotes = many; /* and no count: not anybody */
	cases[2].request.remote_count = 1;
	cases[3].request.remotes = hollow;
	cases[3].request.remote_count = 2;
	cases[4].request.remotes = many;
	cases[4].request.remote_count = 17;
	cases[5].request.client = NULL;
	cases[6].request.transport = (enum postern_transport)1;
	cases[7].request.request_id = "x";
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(postern_allow_future_accept(postern, &cases[i].request, &grant, &err),
			POSTERN_INVALID_ARGUMENT, "case %zu", i);
		cr_expect_str_eq(err.field, cases[i].field, "case %zu: %s", i, err.field);
	}
	cr_assert_eq(fake_counts(fake).requests, 0);
}

Test(more, connect_carries_its_new_fields)
{
	struct postern_grant_request request = out;
	struct fake_asked asked;

	request.external = "10.77.2.101";
	request.external_port = 4000;
	request.lifetime_ms = 7200000;
	cr_assert_eq(postern_allow_future_connect(postern, &request, &grant, &err), POSTERN_OK);
	cr_assert(grant.lifetime_clamped);
	cr_assert_str_eq(grant.external, "10.77.2.101");
	cr_assert_eq(grant.external_port, 4000);
	asked = fake_counts(fake).asked;
	cr_assert_not(asked.inbound);
	cr_assert_eq(asked.remote_port, 5004);
	cr_assert_eq(asked.remote_port_last, 5005);
	cr_assert_eq(asked.external_port, 4000);
	request.lifetime_ms = 60000;
	cr_assert_eq(postern_allow_future_connect(postern, &request, &grant, &err), POSTERN_OK);
	cr_assert_not(grant.lifetime_clamped);
}

/* ---- bundles ---- */

static const struct postern_bundle_item both[] = {{.connect = &out}, {.accept = &in}};

Test(more, bundle)
{
	struct postern_grant grants[2] = {0};
	struct fake_counts counts;
	char id[40] = "";

	cr_assert_eq(postern_bundle_request(postern, both, 2, id, grants, &err), POSTERN_OK, "%s",
		err.text);
	counts = fake_counts(fake);
	cr_assert_str_eq(id, counts.last_bundle);
	cr_assert_eq(strlen(id), 36);
	cr_assert_eq(counts.last_bundle_size, 2);
	cr_assert_eq(counts.grants, 2);
	cr_assert_str_neq(grants[0].id, grants[1].id);
	cr_assert_str_eq(grants[0].external, "");
	cr_assert_str_eq(grants[1].external, "fd77:2::101", "in the order of the request");
	cr_assert(counts.asked.inbound);
	cr_assert_eq(postern_bundle_request(postern, both, 2, NULL, NULL, NULL), POSTERN_OK);
}

Test(more, the_first_item_speaks_for_the_bundle)
{
	struct postern_grant_request first = out;
	struct postern_bundle_item items[] = {{.connect = &first}, {.accept = &in}};
	char id[40] = "";

	first.request_id = RID;
	first.wait_decided = 1;
	cr_assert_eq(postern_bundle_request(postern, items, 2, id, NULL, &err), POSTERN_OK);
	cr_assert_str_eq(id, RID);
	cr_assert(fake_counts(fake).last_wait_decided);
	first.deadline_ms = 200;
	fake_set_mode(fake, FAKE_HOLD, 0);
	cr_assert_eq(postern_bundle_request(postern, items, 2, id, NULL, &err),
		POSTERN_DEADLINE_EXCEEDED);
}

Test(more, arguments_of_bundles_are_checked)
{
	struct postern_bundle_item items[65], two_in_one = {&out, &in}, none = {0};
	struct postern_grant_request bad = out;

	bad.remote = NULL;
	for (size_t i = 0; i < 65; i++)
		items[i] = both[i % 2];
	cr_assert_eq(postern_bundle_request(postern, items, 0, NULL, NULL, &err),
		POSTERN_INVALID_ARGUMENT);
	cr_assert_str_eq(err.field, "items");
	cr_assert_eq(postern_bundle_request(postern, items, 65, NULL, NULL, &err),
		POSTERN_INVALID_ARGUMENT);
	items[7].connect = &bad;
	items[7].accept = NULL;
	cr_assert_eq(postern_bundle_request(postern, items, 64, NULL, NULL, &err),
		POSTERN_INVALID_ARGUMENT);
	cr_assert_str_eq(err.field, "grants[7].remote");
	cr_assert_str_eq(err.text, "grants[7]: a grant needs a remote address");
	cr_assert_eq(postern_bundle_request(postern, &two_in_one, 1, NULL, NULL, &err),
		POSTERN_INVALID_ARGUMENT);
	cr_assert_eq(postern_reserve(postern, &none, &grant, &err), POSTERN_INVALID_ARGUMENT);
	cr_assert_eq(fake_counts(fake).bundle_requests, 0);
	items[7] = both[0];
	cr_assert_eq(postern_bundle_request(postern, items, 64, NULL, NULL, &err), POSTERN_OK);
	cr_assert_eq(fake_counts(fake).grants, 64);
}

/* I6: the same bundle, whatever was repeated. */
Test(more, a_bundles_lost_answer_is_asked_for_again_with_the_same_id)
{
	struct postern_grant grants[2];
	char id[40];

	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 3);
	cr_assert_eq(postern_bundle_request(postern, both, 2, id, grants, &err), POSTERN_OK, "%s",
		err.text);
	cr_assert_eq(fake_counts(fake).bundle_requests, 4);
	cr_assert_eq(fake_counts(fake).grants, 2);
	cr_assert_eq(fake_counts(fake).bundle_cancels, 0);
}

Test(more, a_bundle_of_another_size_is_an_error)
{
	struct postern_grant grants[2] = {0};

	fake_set_mode(fake, FAKE_NONSENSE, 0);
	cr_assert_eq(
		postern_bundle_request(postern, both, 2, NULL, grants, &err), POSTERN_INTERNAL);
	cr_assert_str_eq(grants[0].id, "", "untouched on failure");
}

static unsigned pick_bundle_cancels(const struct fake_counts *counts)
{
	return counts->bundle_cancels;
}

static unsigned pick_cancels(const struct fake_counts *counts)
{
	return counts->cancels;
}

/* DEADLINE_EXCEEDED promises that nothing stays open, also of a bundle and of a reservation. */
Test(more, what_was_lost_past_the_deadline_is_withdrawn)
{
	struct postern_grant_request first = out;
	struct postern_bundle_item item = {.connect = &first};

	first.deadline_ms = 300;
	first.request_id = RID;
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1000000);
	cr_assert_eq(postern_bundle_request(postern, &item, 1, NULL, NULL, &err),
		POSTERN_DEADLINE_EXCEEDED);
	fake_set_mode(fake, FAKE_GRANT, 0);
	cr_assert(fake_wait(fake, pick_bundle_cancels, 1));
	cr_assert_str_eq(fake_counts(fake).last_bundle, RID);
}

Test(more, bundles_are_cancelled)
{
	cr_assert_eq(postern_bundle_cancel(postern, RID, 0, &err), POSTERN_OK, "%s", err.text);
	cr_assert_eq(fake_counts(fake).cuts, 0);
	cr_assert_eq(postern_bundle_cancel(postern, RID, 1, &err), POSTERN_OK);
	cr_assert_eq(fake_counts(fake).cuts, 1);
	cr_assert_str_eq(fake_counts(fake).last_bundle, RID);
	cr_assert_eq(postern_bundle_cancel(postern, "ended", 0, &err), POSTERN_FAILED_PRECONDITION);
	cr_assert_eq(err.reason, POSTERN_ALREADY_ENDED);
	cr_assert_eq(postern_bundle_cancel(postern, NULL, 0, &err), POSTERN_INVALID_ARGUMENT);
}

/* ---- reservations ---- */

Test(more, reserve_and_commit)
{
	struct postern_accept_request request = in;
	struct postern_bundle_item item = {.accept = &request};
	struct fake_asked asked;

	request.reservation_ms = 5000;
	cr_assert_eq(postern_reserve(postern, &item, &grant, &err), POSTERN_OK, "%s", err.text);
	asked = fake_counts(fake).asked;
	cr_assert(asked.reserve);
	cr_assert(asked.inbound);
	cr_assert_eq(asked.reservation_ms, 5000);
	cr_assert_eq(grant.external_port, 50000);
	cr_assert_eq(postern_commit(postern, grant.id, &grant, &err), POSTERN_OK, "%s", err.text);
	cr_assert_str_eq(fake_counts(fake).last_commit, grant.id);
	cr_assert_eq(postern_commit(postern, "ended", &grant, &err), POSTERN_FAILED_PRECONDITION);
	cr_assert_eq(err.reason, POSTERN_ALREADY_ENDED);
	cr_assert_eq(postern_commit(postern, NULL, &grant, &err), POSTERN_INVALID_ARGUMENT);
	cr_assert_eq(postern_commit(postern, RID "-and-more", &grant, &err),
		POSTERN_INVALID_ARGUMENT, "could not be withdrawn by");
}

/* The second commit is answered like the first, so a lost answer is asked for again. */
Test(more, a_lost_answer_of_commit_renew_and_cancel)
{
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 2);
	cr_assert_eq(postern_commit(postern, RID, &grant, &err), POSTERN_OK, "%s", err.text);
	cr_assert_eq(fake_counts(fake).commits, 3);
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 2);
	cr_assert_eq(postern_renew(postern, RID, 1, &grant, &err), POSTERN_OK, "%s", err.text);
	cr_assert_eq(fake_counts(fake).renews, 3);
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 2);
	cr_assert_eq(postern_cancel(postern, RID, &err), POSTERN_OK, "%s", err.text);
	cr_assert_eq(fake_counts(fake).cancels, 3);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned answered;
static enum postern_status outcome;

static void note(const struct postern_error *error)
{
	pthread_mutex_lock(&lock);
	outcome = error->status;
	answered++;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&lock);
}

static void note_grant(
	void *arg, const struct postern_grant *got, const struct postern_error *error)
{
	(void)arg;
	cr_assert_eq(got != NULL, error->status == POSTERN_OK);
	note(error);
}

static void note_bundle(
	void *arg, const struct postern_bundle *bundle, const struct postern_error *error)
{
	cr_assert_eq(bundle != NULL, error->status == POSTERN_OK);
	if (bundle)
		cr_assert_eq(bundle->count, *(size_t *)arg);
	note(error);
}

static void wait_for(unsigned count)
{
	pthread_mutex_lock(&lock);
	while (answered < count)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

/* An unknown outcome past the deadline (5 s): the grant is withdrawn by its id. */
Test(more, a_lost_commit_is_withdrawn_past_its_deadline)
{
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1000000);
	cr_assert_eq(postern_commit_async(postern, RID, note_grant, NULL, &err), POSTERN_OK);
	wait_for(1);
	cr_assert_eq(outcome, POSTERN_DEADLINE_EXCEEDED);
	fake_set_mode(fake, FAKE_GRANT, 0);
	cr_assert(fake_wait(fake, pick_cancels, 1));
}

/* ---- renewing and cutting ---- */

Test(more, renew)
{
	cr_assert_eq(postern_renew(postern, RID, 90000, &grant, &err), POSTERN_OK, "%s", err.text);
	cr_assert_str_eq(grant.id, RID);
	cr_assert_eq(grant.left_ms, 60000);
	cr_assert_eq(fake_counts(fake).last_renewal_ms, 90000);
	cr_assert_eq(postern_renew(postern, "ended", 0, &grant, &err), POSTERN_FAILED_PRECONDITION);
	cr_assert_eq(err.reason, POSTERN_ALREADY_ENDED);
	cr_assert_eq(postern_renew(postern, "", 0, &grant, &err), POSTERN_INVALID_ARGUMENT);
}

Test(more, another_decision_on_its_way_is_waited_for)
{
	fake_set_mode(fake, FAKE_BUSY_ONCE, 0);
	cr_assert_eq(postern_renew(postern, RID, 0, &grant, &err), POSTERN_OK, "%s", err.text);
	cr_assert_eq(fake_counts(fake).renews, 2);
}

Test(more, cut)
{
	cr_assert_eq(postern_cancel(postern, RID, &err), POSTERN_OK);
	cr_assert_eq(fake_counts(fake).cuts, 0);
	cr_assert_eq(postern_cut(postern, RID, &err), POSTERN_OK);
	cr_assert_eq(fake_counts(fake).cuts, 1);
	cr_assert_eq(fake_counts(fake).cancels, 2);
	cr_assert_eq(postern_cut(postern, "ended", &err), POSTERN_FAILED_PRECONDITION);
}

/* ---- asynchronous, and in callbacks ---- */

Test(more, every_function_has_an_asynchronous_one)
{
	size_t two = 2, one = 1;

	cr_assert_eq(postern_allow_future_accept_async(postern, &in, note_grant, NULL, &err), 0);
	cr_assert_eq(postern_reserve_async(postern, &both[1], note_grant, NULL, &err), 0);
	cr_assert_eq(postern_commit_async(postern, RID, note_grant, NULL, &err), 0);
	cr_assert_eq(postern_renew_async(postern, RID, 0, note_grant, NULL, &err), 0);
	cr_assert_eq(postern_cut_async(postern, RID, note_grant, NULL, &err), 0);
	cr_assert_eq(postern_bundle_request_async(postern, both, 2, note_bundle, &two, &err), 0);
	cr_assert_eq(postern_bundle_cancel_async(postern, RID, 0, note_bundle, &one, &err), 0);
	wait_for(7);
	cr_assert_eq(outcome, POSTERN_OK);
	cr_assert_eq(postern_bundle_request_async(postern, both, 2, NULL, NULL, &err), 0);
	cr_assert_eq(postern_cancel(postern, RID, &err), POSTERN_OK, "behind the one before");
}

static enum postern_status inner[7];

static void call_everything(
	void *arg, const struct postern_grant *got, const struct postern_error *error)
{
	struct postern_grant grants[2];
	struct postern_error why;
	char id[40];

	(void)arg, (void)got;
	inner[0] = postern_allow_future_accept(postern, &in, grants, &why);
	cr_assert_not_null(strstr(why.text, "postern_allow_future_accept_async"));
	inner[1] = postern_bundle_request(postern, both, 2, id, grants, &why);
	cr_assert_not_null(strstr(why.text, "postern_bundle_request_async"));
	inner[2] = postern_bundle_cancel(postern, RID, 0, &why);
	inner[3] = postern_reserve(postern, both, grants, &why);
	inner[4] = postern_commit(postern, RID, grants, &why);
	inner[5] = postern_renew(postern, RID, 0, grants, &why);
	inner[6] = postern_cut(postern, RID, &why);
	note(error);
}

Test(more, blocking_functions_refuse_in_callbacks)
{
	cr_assert_eq(postern_cancel_async(postern, RID, call_everything, NULL, &err), POSTERN_OK);
	wait_for(1);
	for (size_t i = 0; i < 7; i++)
		cr_assert_eq(inner[i], POSTERN_FAILED_PRECONDITION, "%zu", i);
	cr_assert_eq(fake_counts(fake).requests + fake_counts(fake).bundle_requests, 0);
}

Test(more, new_reasons_have_names)
{
	cr_assert_str_eq(postern_reason_name(POSTERN_EXTERNAL_TAKEN), "EXTERNAL_TAKEN");
	cr_assert_str_eq(postern_reason_name(POSTERN_NO_SUCH_CONNECTION), "NO_SUCH_CONNECTION");
}
