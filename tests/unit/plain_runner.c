/* A plain runner for Criterion's tests under the sanitizers.
 *
 * Criterion keeps its state in an arena at an address of its choice, which ThreadSanitizer refuses
 * to map ("Could not initialize inheritable arena"); and it passes a test in whose process
 * AddressSanitizer found a leak. The tests themselves need nothing of it: they lie in the section
 * cr_tst, and their assertions call the few functions below, which replace the library's because
 * the program's symbols come first. Each test runs in a child process of its own, as under
 * Criterion, and that process's exit status decides. */
#include <criterion/criterion.h>
#include <criterion/event.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* nng counts the references of its dialers with atomics of its own code, which ThreadSanitizer does
 * not see: the last reference's destruction of the mutex then looks like a race with an earlier
 * lock, both inside libnng. */
const char *__tsan_default_suppressions(void)
{
	return "race_top:pthread_mutex_destroy\n";
}

/* It would wait a second at the end of every child for threads that still race. */
const char *__tsan_default_options(void)
{
	return "atexit_sleep_ms=10";
}

extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

static const struct criterion_test *current;
static const struct criterion_suite *current_suite;
static bool failed;
static jmp_buf out_of_test;
static pthread_t test_thread;

void cri_asserts_passed_incr(void)
{
}

void criterion_send_assert(struct criterion_assert_stats *stats)
{
	if (stats->passed)
		return;
	fprintf(stderr, "%s:%u: %s/%s: %s\n", stats->file, stats->line, current->category,
		current->name, stats->message);
}

void criterion_continue_test(void)
{
	failed = true;
}

void criterion_abort_test(void)
{
	failed = true;
	if (!pthread_equal(pthread_self(), test_thread))
		_exit(1); /* another thread's stack is no place to jump to */
	longjmp(out_of_test, 1);
}

void criterion_internal_test_setup(void)
{
	if (current_suite && current_suite->data->init)
		current_suite->data->init();
	if (current->data->init)
		current->data->init();
}

void criterion_internal_test_main(void (*test)(void))
{
	if (setjmp(out_of_test) == 0)
		test();
}

void criterion_internal_test_teardown(void)
{
	if (current->data->fini)
		current->data->fini();
	if (current_suite && current_suite->data->fini)
		current_suite->data->fini();
}

static const struct criterion_suite *suite_of(const struct criterion_test *test)
{
	for (struct criterion_suite **suite = __start_cr_sts; suite < __stop_cr_sts; suite++) {
		if (*suite && strcmp((*suite)->name, test->category) == 0)
			return *suite;
	}
	return NULL;
}

static bool run(const struct criterion_test *test)
{
	const struct criterion_suite *suite = suite_of(test);
	int status = 0;
	pid_t child;

	if (test->data->disabled || (suite && suite->data->disabled))
		return true;
	fflush(NULL);
	child = fork();
	if (child == 0) {
		current = test;
		test_thread = pthread_self();
		current_suite = suite;
		if (setjmp(out_of_test) == 0)
			test->test();
		exit(failed);
	}
	waitpid(child, &status, 0);
	if (test->data->signal)
		return WIFSIGNALED(status) && WTERMSIG(status) == test->data->signal;
	if (WIFEXITED(status) && WEXITSTATUS(status) == test->data->exit_code)
		return true;
	fprintf(stderr, "%s/%s failed (wait status 0x%x)\n", test->category, test->name, status);
	return false;
}

int main(void)
{
	unsigned count = 0, bad = 0;

	for (struct criterion_test **test = __start_cr_tst; test < __stop_cr_tst; test++) {
		if (!*test)
			continue;
		count++;
		bad += !run(*test);
	}
	printf("%u tests, %u failed\n", count, bad);
	return bad > 0;
}
