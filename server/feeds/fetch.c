/* One thread: curl's multi interface and the resolver's sockets in one poll. Jobs come over a lock
 * and a wake-up, and go back by loop_post(). Bodies are parsed here, not on the loop. */
#include "server/feeds/fetch.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/version.h"
#include "server/feeds/copy.h"
#include "server/feeds/resolve.h"

#define POLL_MOST_MS 60000
#define REDIRECTS_MAX 3L
#define CONNECT_MS 10000L
#define SLOW_BYTES 16L /* a second, for so long: */
#define SLOW_S 20L

struct fetcher {
	struct loop *loop;
	char *ca_file;
	pthread_t thread;
	pthread_mutex_t lock;
	struct fetch *first, **end; /* under the lock: new jobs */
	bool ending; /* under the lock */
	CURLM *multi;
	struct resolver *resolver;
	struct fetch *running; /* the thread's: of feeds */
	size_t open; /* the loop's: `done` not called yet */
};

/* ---- jobs ---- */

void fetch_free(struct fetch *fetch)
{
	if (!fetch)
		return;
	free(fetch->url);
	free(fetch->name);
	free(fetch->etag);
	free(fetch->pinned_key);
	free(fetch->json_pointer);
	free(fetch->json_key);
	free(fetch->body);
	ranges_fini(&fetch->ranges);
	free(fetch);
}

static void on_done(void *arg)
{
	struct fetch *fetch = arg;
	fetch->fetcher->open--;
	fetch->done(fetch);
}

static void give_back(struct fetch *fetch)
{
	loop_post(fetch->fetcher->loop, &fetch->task, on_done, fetch);
}

/* ---- feeds ---- */

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
	struct fetch *fetch = arg;
	size_t more = size * count;
	if (more > fetch->max_size - fetch->size) {
		fetch->too_large = true;
		return 0;
	}
	if (fetch->size + more > fetch->room) {
		size_t room = fetch->room ? fetch->room * 2 : 65536;
		while (room < fetch->size + more)
			room *= 2;
		char *grown = realloc(fetch->body, room);
		if (!grown)
			return 0;
		fetch->body = grown;
		fetch->room = room;
	}
	memcpy(fetch->body + fetch->size, bytes, more);
	fetch->size += more;
	return more;
}

/* Of the last answer: a redirect's is replaced. */
static size_t on_header(char *bytes, size_t size, size_t count, void *arg)
{
	struct fetch *fetch = arg;
	size_t length = size * count;
	if (length >= 5 && strncasecmp(bytes, "HTTP/", 5) == 0)
		fetch->new_etag[0] = '\0';
	if (length < 5 || strncasecmp(bytes, "etag:", 5) != 0)
		return length;
	const char *at = bytes + 5, *end = bytes + length;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (end > at && strchr("\r\n \t", end[-1]))
		end--;
	size_t kept = (size_t)(end - at);
	if (kept < sizeof fetch->new_etag) { /* a longer one is not worth remembering */
		memcpy(fetch->new_etag, at, kept);
		fetch->new_etag[kept] = '\0';
	}
	return length;
}

static bool set_headers(struct fetch *fetch)
{
	char line[300];
	if (!fetch->etag[0])
		return true;
	snprintf(line, sizeof line, "If-None-Match: %s", fetch->etag);
	fetch->headers = curl_slist_append(NULL, line);
	return fetch->headers &&
		curl_easy_setopt(fetch->easy, CURLOPT_HTTPHEADER, fetch->headers) == CURLE_OK;
}

#define SET(option, value) (curl_easy_setopt(fetch->easy, option, value) == CURLE_OK)

static bool set_options(const struct fetcher *fetcher, struct fetch *fetch)
{
	return SET(CURLOPT_URL, fetch->url) && SET(CURLOPT_PRIVATE, fetch) &&
		SET(CURLOPT_PROTOCOLS_STR, "https") && SET(CURLOPT_REDIR_PROTOCOLS_STR, "https") &&
		SET(CURLOPT_FOLLOWLOCATION, 1L) && SET(CURLOPT_MAXREDIRS, REDIRECTS_MAX) &&
		SET(CURLOPT_SSL_VERIFYPEER, 1L) && SET(CURLOPT_SSL_VERIFYHOST, 2L) &&
		(!fetcher->ca_file ||
			(SET(CURLOPT_CAINFO, fetcher->ca_file) &&
				SET(CURLOPT_CAPATH, NULL))) && /* instead of the system's */
		SET(CURLOPT_QUICK_EXIT, 1L) &&
		(!fetch->pinned_key[0] || SET(CURLOPT_PINNEDPUBLICKEY, fetch->pinned_key)) &&
		SET(CURLOPT_TIMEOUT_MS, (long)fetch->timeout_ms) &&
		SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) &&
		SET(CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES) && SET(CURLOPT_LOW_SPEED_TIME, SLOW_S) &&
		SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)fetch->max_size) &&
		SET(CURLOPT_FAILONERROR, 1L) && SET(CURLOPT_NOSIGNAL, 1L) &&
		SET(CURLOPT_USERAGENT, "postern/" POSTERN_VERSION) &&
		SET(CURLOPT_WRITEFUNCTION, on_body) && SET(CURLOPT_WRITEDATA, fetch) &&
		SET(CURLOPT_HEADERFUNCTION, on_header) && SET(CURLOPT_HEADERDATA, fetch) &&
		set_headers(fetch);
}

static void end_transfer(struct fetcher *fetcher, struct fetch *fetch)
{
	struct fetch **at = &fetcher->running;
	while (*at && *at != fetch)
		at = &(*at)->next;
	if (*at)
		*at = fetch->next;
	if (fetch->easy) {
		curl_multi_remove_handle(fetcher->multi, fetch->easy);
		curl_easy_cleanup(fetch->easy);
	}
	curl_slist_free_all(fetch->headers);
	fetch->easy = fetch->headers = NULL;
}

static void start_feed(struct fetcher *fetcher, struct fetch *fetch)
{
	fetch->next = fetcher->running;
	fetcher->running = fetch;
	fetch->easy = curl_easy_init();
	if (fetch->easy && set_options(fetcher, fetch) &&
		curl_multi_add_handle(fetcher->multi, fetch->easy) == CURLM_OK)
		return;
	error_set(&fetch->err, STATUS_RESOURCE_EXHAUSTED, "the fetch could not be set up");
	end_transfer(fetcher, fetch);
	give_back(fetch);
}

static void read_body(struct fetch *fetch)
{
	const char *body = fetch->body ? fetch->body : "";
	if (fetch->is_json)
		(void)copy_parse_json(body, fetch->size, fetch->json_pointer, fetch->json_key,
			&fetch->ranges, &fetch->err);
	else
		(void)copy_parse_text(body, fetch->size, &fetch->ranges, &fetch->err);
	free(fetch->body);
	fetch->body = NULL;
}

static void finish_feed(struct fetcher *fetcher, struct fetch *fetch, CURLcode result)
{
	long code = 0;
	curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &code);
	end_transfer(fetcher, fetch);
	if (fetch->too_large || result == CURLE_FILESIZE_EXCEEDED)
		error_set(&fetch->err, STATUS_UNAVAILABLE, "larger than %llu bytes, its max_size",
			(unsigned long long)fetch->max_size);
	else if (result == CURLE_HTTP_RETURNED_ERROR)
		error_set(&fetch->err, STATUS_UNAVAILABLE, "the server answered %ld", code);
	else if (result != CURLE_OK)
		error_set(&fetch->err, STATUS_UNAVAILABLE, "%s", curl_easy_strerror(result));
	else if (code == 304 && fetch->etag[0])
		fetch->unchanged = true;
	else if (code == 200)
		read_body(fetch);
	else
		error_set(&fetch->err, STATUS_UNAVAILABLE, "the server answered %ld", code);
	give_back(fetch);
}

static void finish_feeds(struct fetcher *fetcher)
{
	CURLMsg *message;
	int left;
	while ((message = curl_multi_info_read(fetcher->multi, &left))) {
		struct fetch *fetch = NULL;
		CURLcode result = message->data.result;
		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
		finish_feed(fetcher, fetch, result);
	}
}

/* ---- names ---- */

static void on_addresses(void *arg, struct ranges *ranges, uint64_t ttl_ms, const struct error *err)
{
	struct fetch *fetch = arg;
	fetch->err = *err;
	fetch->ttl_ms = ttl_ms;
	if (!err->status)
		fetch->ranges = *ranges;
	give_back(fetch);
}

/* ---- the thread ---- */

/* False: it is to end. */
static bool take_jobs(struct fetcher *fetcher)
{
	pthread_mutex_lock(&fetcher->lock);
	struct fetch *fetch = fetcher->first;
	bool ending = fetcher->ending;
	fetcher->first = NULL;
	fetcher->end = &fetcher->first;
	pthread_mutex_unlock(&fetcher->lock);
	while (fetch) {
		struct fetch *next = fetch->next;
		if (ending) {
			error_set(&fetch->err, STATUS_CANCELLED, "the server is stopping");
			give_back(fetch);
		} else if (fetch->url) {
			start_feed(fetcher, fetch);
		} else {
			resolver_ask(fetcher->resolver, fetch->name, on_addresses, fetch);
		}
		fetch = next;
	}
	return !ending;
}

static void wait_for_events(struct fetcher *fetcher)
{
	struct pollfd fds[RESOLVER_FDS_MAX];
	struct curl_waitfd extra[RESOLVER_FDS_MAX];
	int timeout = POLL_MOST_MS, ready;
	size_t count = resolver_wait(fetcher->resolver, fds, &timeout);
	for (size_t i = 0; i < count; i++)
		extra[i] = (struct curl_waitfd){.fd = fds[i].fd,
			.events = (short)((fds[i].events & POLLIN ? CURL_WAIT_POLLIN : 0) |
				(fds[i].events & POLLOUT ? CURL_WAIT_POLLOUT : 0))};
	curl_multi_poll(fetcher->multi, extra, (unsigned)count, timeout, &ready);
	for (size_t i = 0; i < count; i++)
		fds[i].revents = (short)((extra[i].revents & CURL_WAIT_POLLIN ? POLLIN : 0) |
			(extra[i].revents & CURL_WAIT_POLLOUT ? POLLOUT : 0));
	resolver_process(fetcher->resolver, fds, count);
}

static void *work(void *arg)
{
	struct fetcher *fetcher = arg;
	int running;
	while (take_jobs(fetcher)) {
		curl_multi_perform(fetcher->multi, &running);
		finish_feeds(fetcher);
		wait_for_events(fetcher);
	}
	while (fetcher->running) {
		struct fetch *fetch = fetcher->running;
		end_transfer(fetcher, fetch);
		error_set(&fetch->err, STATUS_CANCELLED, "the server is stopping");
		give_back(fetch);
	}
	resolver_free(fetcher->resolver);
	fetcher->resolver = NULL;
	return NULL;
}

static int start_thread(struct fetcher *fetcher)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int errnum = pthread_create(&fetcher->thread, NULL, work, fetcher);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return errnum;
}

static void fetcher_release(struct fetcher *fetcher)
{
	resolver_free(fetcher->resolver);
	if (fetcher->multi)
		curl_multi_cleanup(fetcher->multi);
	pthread_mutex_destroy(&fetcher->lock);
	free(fetcher->ca_file);
	free(fetcher);
	curl_global_cleanup();
}

enum status fetcher_new(
	struct loop *loop, const char *ca_file, struct fetcher **ret_fetcher, struct error *err)
{
	struct fetcher *fetcher = calloc(1, sizeof *fetcher);
	if (!fetcher)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	fetcher->loop = loop;
	fetcher->end = &fetcher->first;
	pthread_mutex_init(&fetcher->lock, NULL);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	fetcher->multi = curl_multi_init();
	fetcher->ca_file = ca_file ? strdup(ca_file) : NULL;
	enum status status = resolver_new(&fetcher->resolver, err);
	if (!status && (!fetcher->multi || (ca_file && !fetcher->ca_file)))
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (!status) {
		int errnum = start_thread(fetcher);
		if (errnum)
			status = error_errno(err, STATUS_RESOURCE_EXHAUSTED, errnum,
				"the thread that fetches feeds could not be started");
	}
	if (status)
		fetcher_release(fetcher);
	else
		*ret_fetcher = fetcher;
	return status;
}

void fetcher_free(struct fetcher *fetcher)
{
	if (!fetcher)
		return;
	pthread_mutex_lock(&fetcher->lock);
	fetcher->ending = true;
	pthread_mutex_unlock(&fetcher->lock);
	curl_multi_wakeup(fetcher->multi);
	pthread_join(fetcher->thread, NULL);
	while (fetcher->open > 0)
		loop_step(fetcher->loop, 0); /* they are posted */
	fetcher_release(fetcher);
}

void fetcher_submit(struct fetcher *fetcher, struct fetch *fetch)
{
	fetch->fetcher = fetcher;
	fetch->next = NULL;
	fetcher->open++;
	pthread_mutex_lock(&fetcher->lock);
	*fetcher->end = fetch;
	fetcher->end = &fetch->next;
	pthread_mutex_unlock(&fetcher->lock);
	curl_multi_wakeup(fetcher->multi);
}
