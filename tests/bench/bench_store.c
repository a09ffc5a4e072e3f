/* link: postern_server */
/* What the store costs against the disk under it, measured in the same run and interleaved in
 * rounds, so that a noisy machine spoils both sides alike.
 *
 * Single: one transaction (one entry and one grant, as a decision is) is submitted and waited for;
 * the floor is one write of as many bytes as such a commit adds to SQLite's log, appended, and one
 * fdatasync. Group: WINDOW transactions are always under way. Then pages of the full journal are
 * read. Prints the longest log that was seen, too: it must stay bounded.
 *
 * Usage: bench_store [--dir FOLDER] [--single N] [--group N]. FOLDER (default: the current one)
 * lies on the disk to measure. */
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/config.h"
#include "common/loop.h"
#include "server/store/record.h"
#include "server/store/store.h"

enum { ROUNDS = 10, WINDOW = 1000, COUNT_MAX = 10000000, BARE_BYTES = 2 << 20 };

struct bench {
	char dir[512], db[600], log[600], bare[600];
	struct loop *loop;
	struct store *store;
	uint64_t single, group;
	uint64_t submitted, done;
	off_t longest_log;
};

struct samples {
	int64_t *us;
	size_t count;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_store: %s: %s\n", what, why);
	exit(1);
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static int64_t quantile(struct samples *samples, double q)
{
	qsort(samples->us, samples->count, sizeof *samples->us, compare);
	return samples->us[(size_t)(q * (double)(samples->count - 1))];
}

static void sample(struct samples *samples, int64_t us)
{
	samples->us[samples->count++] = us;
}

static struct samples samples_new(uint64_t count)
{
	struct samples samples = {.us = calloc(count + ROUNDS, sizeof(int64_t))};
	if (!samples.us)
		die("samples", "out of memory");
	return samples;
}

static off_t size_of(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? st.st_size : 0;
}

/* ---- the store ---- */

static void on_done(void *arg, uint64_t first_sequence, const struct error *err)
{
	struct bench *bench = arg;
	(void)first_sequence;
	if (err->status)
		die("commit", err->text);
	bench->done++;
}

static void submit(struct bench *bench)
{
	struct store_txn *txn = store_txn_new(bench->store);
	struct grant_record grant = {.id = id_new(),
		.request_id = id_new(),
		.session = id_new(),
		.gateway = "gw1",
		.filter = "ftp",
		.protocol = "ftp",
		.transport = 6,
		.state = 1,
		.lifetime_ms = 60000,
		.max_connections = 1,
		.created_us = clock_real_us()};
	struct entry entry = {.time_us = grant.created_us,
		.kind = ENTRY_GRANTED,
		.actor = "ftp",
		.gateway = "gw1",
		.filter = "ftp",
		.protocol = "ftp",
		.session = grant.session,
		.grant = grant.id,
		.request_id = grant.request_id,
		.transport = 6,
		.lifetime_ms = 60000,
		.max_connections = 1};
	if (!txn)
		die("submit", "backlog full");
	if (!addr_parse("10.77.1.2", &grant.client) || !addr_parse("10.77.2.2", &grant.remote.addr))
		die("address", "not parsed");
	grant.remote.port = (uint16_t)(1024 + bench->submitted % 60000);
	entry.client = grant.client;
	entry.remote = grant.remote;
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant);
	store_submit(bench->store, txn, on_done, bench);
	bench->submitted++;
}

static void settle(struct bench *bench)
{
	while (bench->done < bench->submitted)
		loop_step(bench->loop, -1);
}

static void one_commit(struct bench *bench)
{
	submit(bench);
	settle(bench);
}

static void add_gateway(struct bench *bench)
{
	struct store_txn *txn = store_txn_new(bench->store);
	struct gateway_record gateway = {.name = "gw1"};
	if (!txn)
		die("gateway", "out of memory");
	store_txn_put_gateway(txn, &gateway);
	store_submit(bench->store, txn, on_done, bench);
	bench->submitted++;
	settle(bench);
}

/* ---- stages ---- */

static size_t log_bytes_per_commit(struct bench *bench)
{
	enum { COMMITS = 20 };
	one_commit(bench);
	off_t before = size_of(bench->log);
	for (int i = 0; i < COMMITS; i++)
		one_commit(bench);
	off_t after = size_of(bench->log);
	return after > before ? (size_t)(after - before) / COMMITS : 4096 * 4;
}

/* As the log in its steady state: overwritten from its beginning, again and again. */
static int bare_open(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	for (size_t at = 0; fd >= 0 && at < BARE_BYTES; at += size)
		if (pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size)
			die(path, "cannot be written");
	if (fd < 0 || fsync(fd) != 0)
		die(path, "cannot be made");
	return fd;
}

static void bare_round(
	int fd, const void *bytes, size_t size, uint64_t count, struct samples *samples)
{
	size_t at = 0;
	for (uint64_t i = 0; i < count; i++, at += size) {
		if (at >= BARE_BYTES)
			at = 0;
		int64_t begin = clock_mono_us();
		if (pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size || fdatasync(fd) != 0)
			die("fdatasync", "failed");
		sample(samples, clock_mono_us() - begin);
	}
}

static void single(struct bench *bench)
{
	struct samples bare = samples_new(bench->single), commit = samples_new(bench->single);
	size_t size = log_bytes_per_commit(bench);
	void *bytes = calloc(1, size);
	if (!bytes)
		die("single", "out of memory");
	int fd = bare_open(bench->bare, bytes, size);
	for (int round = 0; round < ROUNDS; round++) {
		bare_round(fd, bytes, size, bench->single / ROUNDS, &bare);
		for (uint64_t i = 0; i < bench->single / ROUNDS; i++) {
			int64_t begin = clock_mono_us();
			one_commit(bench);
			sample(&commit, clock_mono_us() - begin);
		}
	}
	int64_t floor_p50 = quantile(&bare, 0.5), p50 = quantile(&commit, 0.5);
	printf("floor: write + fdatasync of %zu bytes  p50 %6lld us  p99 %6lld us\n", size,
		(long long)floor_p50, (long long)quantile(&bare, 0.99));
	printf("one decision committed                p50 %6lld us  p99 %6lld us  p99.9 %lld us\n",
		(long long)p50, (long long)quantile(&commit, 0.99),
		(long long)quantile(&commit, 0.999));
	printf("ratio of the medians                  %.2f\n",
		(double)p50 / (double)(floor_p50 ? floor_p50 : 1));
	close(fd);
	free(bytes);
	free(bare.us);
	free(commit.us);
}

static void group(struct bench *bench)
{
	uint64_t goal = bench->done + bench->group;
	struct store_stats before, after;
	store_stats(bench->store, &before);
	int64_t begin = clock_mono_us();
	while (bench->done < goal) {
		while (bench->submitted < goal && bench->submitted - bench->done < WINDOW)
			submit(bench);
		loop_step(bench->loop, -1);
		off_t length = size_of(bench->log);
		bench->longest_log = length > bench->longest_log ? length : bench->longest_log;
	}
	double seconds = (double)(clock_mono_us() - begin) / 1e6;
	store_stats(bench->store, &after);
	printf("decisions in groups, %d under way    %.0f/s, %.0f a commit, longest commit %.1f "
	       "ms\n",
		WINDOW, (double)bench->group / seconds,
		(double)bench->group / (double)(after.commits - before.commits),
		(double)after.max_commit_us / 1000);
	printf("longest log                           %.1f MiB\n",
		(double)bench->longest_log / 1048576);
}

struct reading {
	uint64_t entries, next;
	bool answered, at_end;
};

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	struct reading *reading = arg;
	(void)entries;
	if (err->status)
		die("read", err->text);
	reading->entries += count;
	reading->next = next_after;
	reading->at_end = at_end;
	reading->answered = true;
}

static void read_all(struct bench *bench, const char *what, struct store_query query)
{
	struct reading reading = {0};
	int64_t begin = clock_mono_us();
	uint64_t pages = 0;
	for (; !reading.at_end; pages++) {
		query.after = reading.next;
		reading.answered = false;
		store_read(bench->store, &query, on_page, &reading);
		while (!reading.answered)
			loop_step(bench->loop, -1);
	}
	int64_t us = clock_mono_us() - begin;
	printf("%-37s %llu entries, %llu pages, %lld us a page\n", what,
		(unsigned long long)reading.entries, (unsigned long long)pages,
		(long long)us / (long long)pages);
}

static void verified(void *arg, const struct store_verification *result, const struct error *err)
{
	bool *answered = arg;
	if (err->status || !result->intact)
		die("verify", err->status ? err->text : result->fault);
	*answered = true;
}

static void verify(struct bench *bench)
{
	bool answered = false;
	int64_t begin = clock_mono_us();
	store_verify(bench->store, 0, NULL, verified, &answered);
	while (!answered)
		loop_step(bench->loop, -1);
	double us = (double)(clock_mono_us() - begin);
	printf("chain verified                        %.2f us an entry\n",
		us / (double)store_head(bench->store));
}

/* ---- begin and end ---- */

static void begin(struct bench *bench, const char *folder)
{
	struct error err;
	snprintf(bench->dir, sizeof bench->dir, "%s/bench-store-XXXXXX", folder);
	if (!mkdtemp(bench->dir))
		die(folder, "cannot make a folder there");
	snprintf(bench->db, sizeof bench->db, "%s/postern.db", bench->dir);
	snprintf(bench->log, sizeof bench->log, "%s/postern.db-wal", bench->dir);
	snprintf(bench->bare, sizeof bench->bare, "%s/bare", bench->dir);
	if (loop_new(&bench->loop, &err) || store_create(bench->db, &err) ||
		store_open(bench->db, bench->loop, &bench->store, &err))
		die("store", err.text);
}

static void end(struct bench *bench)
{
	store_close(bench->store);
	loop_free(bench->loop);
	DIR *dir = opendir(bench->dir);
	for (struct dirent *file = dir ? readdir(dir) : NULL; file; file = readdir(dir))
		if (file->d_name[0] != '.')
			unlinkat(dirfd(dir), file->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(bench->dir);
}

static uint64_t number(const char *text)
{
	struct error err;
	uint64_t value = 0;
	if (parse_number(text, ROUNDS, COUNT_MAX, &value, &err))
		die(text, err.text);
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
		{"single", required_argument, NULL, 's'}, {"group", required_argument, NULL, 'g'},
		{NULL, 0, NULL, 0}};
	struct bench bench = {.single = 3000, .group = 60000};
	const char *folder = ".";
	for (int c = getopt_long(argc, argv, "", options, NULL); c != -1;
		c = getopt_long(argc, argv, "", options, NULL)) {
		switch (c) {
		case 'd':
			folder = optarg;
			break;
		case 's':
			bench.single = number(optarg);
			break;
		case 'g':
			bench.group = number(optarg);
			break;
		default:
			fprintf(stderr,
				"usage: bench_store [--dir FOLDER] [--single N] [--group N]\n");
			return 2;
		}
	}
	begin(&bench, folder);
	add_gateway(&bench);
	single(&bench);
	group(&bench);
	read_all(&bench, "read by gateway", (struct store_query){.gateway = "gw1", .limit = 256});
	read_all(&bench, "read by an unknown client",
		(struct store_query){.client = "10.99.99.99", .limit = 256});
	verify(&bench);
	end(&bench);
	return 0;
}
