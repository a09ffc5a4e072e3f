#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/unit/client/fake_server.h"

static struct fake *fake;
static struct postern *postern;
static struct postern_error err;

static void setup(void)
{
	fake = fake_start();
}

static void teardown(void)
{
	fake_stop(fake);
}

TestSuite(connection, .init = setup, .fini = teardown, .timeout = 60);

Test(connection, connects_and_closes)
{
	struct postern_options options = fake_options(fake);

	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
	postern_close(postern);
	postern_close(NULL);
}

Test(connection, options_come_from_the_environment)
{
	struct postern_options options = {0};

	setenv("POSTERN_SERVER", fake_url(fake), 1);
	setenv("POSTERN_TOKEN_FILE", fake_token_file(fake), 1);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
	postern_close(postern);
}

Test(connection, options_are_checked)
{
	struct postern_options options = {0};

	unsetenv("POSTERN_SERVER");
	unsetenv("POSTERN_TOKEN_FILE");
	unsetenv("POSTERN_CA_FILE");
	cr_expect_eq(postern_connect(&options, &postern, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "server");
	options.server = fake_url(fake);
	cr_expect_eq(postern_connect(&options, &postern, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "token_file");
	options.server = "tls+tcp://localhost:7411";
	cr_expect_eq(postern_connect(&options, &postern, &err), POSTERN_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "ca_file");
	options.server = "gopher://x";
	options.token_file = fake_token_file(fake);
	cr_expect_eq(postern_connect(&options, &postern, &err), POSTERN_INVALID_ARGUMENT, "%s",
		err.text);
	cr_expect_null(postern, "untouched on failure");
	cr_expect_eq(postern_connect(&options, &postern, NULL), POSTERN_INVALID_ARGUMENT);
}

Test(connection, a_token_that_others_can_read_is_refused)
{
	struct postern_options options = fake_options(fake);

	chmod(fake_token_file(fake), 0644);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_PERMISSION_DENIED);
	cr_assert_not_null(strstr(err.text, "chmod 600"));
}

Test(connection, a_wrong_token_fails_at_once)
{
	struct postern_options options = fake_options(fake);
	int64_t begin = clock_mono_us();

	options.token_file = fake_bad_token_file(fake);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_UNAUTHENTICATED);
	cr_assert_not_null(strstr(err.text, "unknown token"), "%s", err.text);
	cr_assert_lt(clock_mono_us() - begin, 5000000);
}

Test(connection, no_server_fails_after_connect_ms)
{
	struct postern_options options = fake_options(fake);
	int64_t begin = clock_mono_us();

	fake_down(fake);
	options.connect_ms = 300;
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_UNAVAILABLE);
	cr_assert_geq(clock_mono_us() - begin, 300000);
	cr_assert_lt(clock_mono_us() - begin, 5000000);
	cr_assert_not_null(strstr(err.text, fake_url(fake)), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "within 300ms"), "%s", err.text);
}

/* Another program has the server's address, until somebody calls. */
struct vacated {
	int listener;
	struct sockaddr_un address;
	bool was_called;
};

static void occupy(struct vacated *vacated)
{
	*vacated = (struct vacated){
		.listener = socket(AF_UNIX, SOCK_STREAM, 0), .address = {.sun_family = AF_UNIX}};
	snprintf(vacated->address.sun_path, sizeof(vacated->address.sun_path), "%s",
		fake_url(fake) + strlen("ipc://"));
	unlink(vacated->address.sun_path);
	cr_assert_eq(bind(vacated->listener, (struct sockaddr *)&vacated->address,
			     sizeof(vacated->address)),
		0);
	cr_assert_eq(listen(vacated->listener, 1), 0);
}

/* The server comes up when the client has tried in vain. */
static void *up_later(void *arg)
{
	struct vacated *vacated = arg;
	int caller = accept(vacated->listener, NULL, NULL);

	vacated->was_called = caller >= 0;
	close(vacated->listener);
	close(caller);
	unlink(vacated->address.sun_path);
	fake_up(fake);
	return NULL;
}

Test(connection, a_server_that_is_just_starting_is_waited_for)
{
	struct postern_options options = fake_options(fake);
	struct vacated vacated;
	pthread_t thread;

	fake_down(fake);
	occupy(&vacated);
	pthread_create(&thread, NULL, up_later, &vacated);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
	pthread_join(thread, NULL);
	cr_assert(vacated.was_called);
	postern_close(postern);
}

/* ---- on_link ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int link_calls;
static enum postern_status links[64];

static void on_link(void *arg, enum postern_status status, const struct postern_error *error)
{
	pthread_mutex_lock(&lock);
	cr_assert_eq(arg, &link_calls);
	cr_assert_eq(error->status, status);
	links[link_calls++ % 64] = status;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void wait_links(int least)
{
	pthread_mutex_lock(&lock);
	while (link_calls < least)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

Test(connection, loss_and_return_are_told_once_each)
{
	struct postern_options options = fake_options(fake);

	options.on_link = on_link;
	options.arg = &link_calls;
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
	for (int i = 0; i < 3; i++) {
		fake_down(fake);
		wait_links(2 * i + 1);
		fake_up(fake);
		wait_links(2 * i + 2);
	}
	postern_close(postern);
	cr_assert_eq(link_calls, 6);
	for (int i = 0; i < 6; i++)
		cr_assert_eq(links[i], i % 2 ? POSTERN_OK : POSTERN_UNAVAILABLE);
}

/* ---- signals ---- */

/* True when every thread whose id is not in `known` blocks SIGUSR2. */
static bool new_threads_block(const char *known, unsigned *ret_new)
{
	struct dirent *entry;
	DIR *tasks = opendir("/proc/self/task");
	unsigned long long blocked;
	bool all = true;
	char path[300], line[256], mark[300];
	FILE *file;

	while ((entry = readdir(tasks))) {
		snprintf(mark, sizeof(mark), " %s ", entry->d_name);
		if (entry->d_name[0] == '.' || strstr(known, mark))
			continue;
		++*ret_new;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		file = fopen(path, "r");
		while (file && fgets(line, sizeof(line), file)) {
			if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
				all = all && (blocked >> (SIGUSR2 - 1) & 1);
		}
		if (file)
			fclose(file);
	}
	closedir(tasks);
	return all;
}

static void list_threads(char *ids, size_t size)
{
	struct dirent *entry;
	DIR *tasks = opendir("/proc/self/task");
	size_t used = 0;

	ids[0] = '\0';
	while ((entry = readdir(tasks)) && used < size)
		used += (size_t)snprintf(ids + used, size - used, " %s ", entry->d_name);
	closedir(tasks);
}

/* The library's threads never run the application's handlers, and leave its mask as it was. */
Test(connection, signals_stay_with_the_application)
{
	struct postern_options options = fake_options(fake);
	sigset_t before, after;
	unsigned new = 0;
	char ids[4096];

	list_threads(ids, sizeof(ids));
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	cr_assert_eq(postern_connect(&options, &postern, &err), POSTERN_OK, "%s", err.text);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int signo = 1; signo < NSIG; signo++)
		cr_assert_eq(sigismember(&before, signo), sigismember(&after, signo));
	cr_assert(new_threads_block(ids, &new));
	cr_assert_geq(new, 1);
	postern_close(postern);
}

Test(connection, names)
{
	cr_assert_str_eq(postern_status_name(POSTERN_UNAVAILABLE), "UNAVAILABLE");
	cr_assert_str_eq(
		postern_reason_name(POSTERN_DENIED_PROTOCOL_RULES), "DENIED_PROTOCOL_RULES");
	cr_assert_eq(postern_version()[0], '0');
}
