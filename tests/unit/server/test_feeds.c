/* Sources without a network but the loopback: what is kept, what is told, and that ends are clean.
 * With real servers: tests/e2e/test_feeds.py. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "server/feeds/copy.h"
#include "server/feeds/feeds.h"
#include "tests/unit/server/policy_fixture.h"

struct written {
	struct feed_record record;
	struct entry entry;
	size_t content_size;
};

struct fixture {
	struct loop *loop;
	struct feeds *feeds;
	struct document *document;
	size_t changes, writes, answers;
	struct written last;
	struct error answer;
	uint16_t port; /* where nobody answers */
	int listener;
};

static void on_changed(void *arg)
{
	((struct fixture *)arg)->changes++;
}

static void on_write(void *arg, const struct feed_record *record, const struct entry *entry)
{
	struct fixture *f = arg;
	f->writes++;
	f->last.record = *record;
	f->last.content_size = record->content_size;
	if (entry)
		f->last.entry = *entry;
}

static void on_answer(void *arg, const struct error *err)
{
	struct fixture *f = arg;
	f->answers++;
	f->answer = *err;
}

static struct fixture begin(void)
{
	struct fixture f = {.listener = socket(AF_INET, SOCK_STREAM, 0)};
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	struct error err = {0};
	cr_assert_eq(loop_new(&f.loop, &err), STATUS_OK);
	cr_assert_eq(bind(f.listener, (struct sockaddr *)&address, sizeof address), 0);
	cr_assert_eq(getsockname(f.listener, (struct sockaddr *)&address, &size), 0);
	f.port = ntohs(address.sin_port);
	return f;
}

static void start(struct fixture *f, const char *url)
{
	const struct feeds_config config = {
		.loop = f->loop, .arg = f, .changed = on_changed, .write = on_write};
	struct error err = {0};
	cr_assert_eq(feeds_new(&config, &f->feeds, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(unpack_message(
			     MESSAGE(PolicyDocument, policy_document,
				     ITEMS(feeds,
					     MESSAGE(Feed, feed, .name = (char *)"list",
						     .url = (char *)(uintptr_t)url)),
				     ITEMS(client_sets,
					     MESSAGE(AddressSet, address_set, .name = (char *)"set",
						     TEXTS(feeds, "list")))),
			     &f->document, &err),
		STATUS_OK, "%s", err.text);
}

static void end(struct fixture *f)
{
	feeds_free(f->feeds);
	document_free(f->document);
	loop_free(f->loop);
	close(f->listener);
}

static void wait_for(struct fixture *f, const size_t *count, size_t wanted)
{
	int64_t deadline = clock_mono_us() + 20000000;
	while (*count < wanted) {
		cr_assert(clock_mono_us() < deadline, "nothing came");
		loop_step(f->loop, 100);
	}
}

static char *url_of(const struct fixture *f)
{
	static char url[64];
	snprintf(url, sizeof url, "https://127.0.0.1:%u/list", f->port);
	return url;
}

static struct feed_record record_of(const char *url, const char *body, const char *held)
{
	struct feed_record record = {
		.name = "list", .etag = "\"1\"", .fetched_us = 1, .checked_us = 2};
	struct ranges ranges = {0};
	struct error err;
	snprintf(record.url, sizeof record.url, "%s", url);
	cr_assert_eq(copy_parse_text(body, strlen(body), &ranges, &err), STATUS_OK);
	record.content = copy_pack(&ranges, &record.content_size);
	ranges_fini(&ranges);
	if (held) {
		cr_assert_eq(copy_parse_text(held, strlen(held), &ranges, &err), STATUS_OK);
		record.held = copy_pack(&ranges, &record.held_size);
		ranges_fini(&ranges);
	}
	return record;
}

static void load(struct fixture *f, const char *url, const char *body, const char *held)
{
	struct feed_record record = record_of(url, body, held);
	cr_assert(feeds_load(f->feeds, &record));
	free(record.content);
	free(record.held);
}

Test(feeds, what_never_answered_is_named_by_its_path)
{
	struct fixture f = begin();
	start(&f, url_of(&f)); /* nobody listens */
	feeds_need(f.feeds, f.document, on_answer, &f);
	cr_expect_eq(f.answers, 0, "never inside the call");
	wait_for(&f, &f.answers, 1);
	cr_expect_eq(f.answer.reason, REASON_SOURCE_UNAVAILABLE);
	cr_expect_str_eq(f.answer.field, "feeds[0].url");
	cr_expect_eq(f.writes, 0, "nothing is known of it");
	end(&f);
}

Test(feeds, a_copy_of_the_disk_is_enough)
{
	struct fixture f = begin();
	start(&f, url_of(&f));
	load(&f, url_of(&f), "10.0.0.0/8\nfd00::/8\n", NULL);
	feeds_need(f.feeds, f.document, on_answer, &f);
	wait_for(&f, &f.answers, 1);
	cr_expect_eq(f.answer.status, STATUS_OK, "%s", f.answer.text);
	struct feeds_sources *sources = feeds_sources(f.feeds, f.document);
	cr_assert_eq(sources->count, 1);
	struct addr in = address("10.1.2.3"), out = address("11.1.2.3");
	cr_expect(ranges_contain(sources->items[0].addresses, &in));
	cr_expect_not(ranges_contain(sources->items[0].addresses, &out));
	feeds_free(f.feeds); /* what compiles holds its sources */
	f.feeds = NULL;
	cr_expect(ranges_contain(sources->items[0].addresses, &in));
	feeds_sources_free(sources);
	end(&f);
}

Test(feeds, a_copy_from_another_address_is_not)
{
	struct fixture f = begin();
	start(&f, url_of(&f));
	load(&f, "https://elsewhere.example/list", "10.0.0.0/8\n", NULL);
	feeds_need(f.feeds, f.document, on_answer, &f);
	wait_for(&f, &f.answers, 1);
	cr_expect_eq(f.answer.reason, REASON_SOURCE_UNAVAILABLE);
	end(&f);
}

Test(feeds, the_first_failure_is_written_and_the_copy_stays)
{
	struct fixture f = begin();
	start(&f, url_of(&f));
	load(&f, url_of(&f), "10.0.0.0/8\n", NULL);
	feeds_follow(f.feeds, f.document);
	for (size_t i = 1; i <= 3; i++) {
		feeds_refresh(f.feeds, "list", on_answer, &f);
		wait_for(&f, &f.answers, i);
		cr_expect_neq(f.answer.status, STATUS_OK);
	}
	cr_expect_eq(f.writes, 1);
	cr_expect_eq(f.last.entry.kind, ENTRY_FEED_FAILED);
	cr_expect_eq(f.last.content_size, 8 + 8);
	cr_expect_eq(f.changes, 0);
	end(&f);
}

Test(feeds, a_held_copy_is_taken_once_it_is_confirmed)
{
	struct fixture f = begin();
	struct error err = {0};
	start(&f, url_of(&f));
	load(&f, url_of(&f), "10.0.0.1\n10.0.0.3\n10.0.0.5\n", "10.0.0.1\n");
	cr_expect_eq(
		feeds_confirm(f.feeds, "list", "admin", &err), STATUS_NOT_FOUND, "not in force");
	feeds_follow(f.feeds, f.document);
	cr_assert_eq(feeds_confirm(f.feeds, "list", "admin", &err), STATUS_OK, "%s", err.text);
	cr_expect_eq(f.last.entry.kind, ENTRY_FEED_CHANGED);
	cr_expect_eq(f.last.entry.count, 1);
	cr_expect_str_eq(f.last.entry.actor, "admin");
	wait_for(&f, &f.changes, 1);
	cr_expect_eq(feeds_confirm(f.feeds, "list", "admin", &err), STATUS_FAILED_PRECONDITION);
	feeds_refresh(f.feeds, "other", on_answer, &f);
	cr_expect_eq(f.answer.status, STATUS_NOT_FOUND);
	end(&f);
}

Test(feeds, the_end_does_not_wait_for_a_silent_server)
{
	struct fixture f = begin();
	cr_assert_eq(listen(f.listener, 8), 0); /* and never accepts */
	start(&f, url_of(&f));
	feeds_need(f.feeds, f.document, on_answer, &f);
	feeds_follow(f.feeds, f.document);
	loop_step(f.loop, 50);
	feeds_forget(f.feeds, &f);
	int64_t began = clock_mono_us();
	feeds_free(f.feeds);
	f.feeds = NULL;
	cr_expect_lt(clock_mono_us() - began, 8000000, "far below its timeout of 30 s");
	cr_expect_eq(f.answers, 0, "it was forgotten");
	end(&f);
}
