/* Design.
 *
 * nng runs its callbacks on threads of its own. Here they do one thing: post the operation's task
 * to the loop. Everything else, state included, is the loop's.
 *
 * Lifetime. nng may hold a stream's aios, and with them the bytes they point to, for as long as it
 * likes after a close. A stream therefore owns its buffers and outlives its owner: stream_free()
 * closes it and forgets the owner; when the last outstanding operation has reported, the stream is
 * reaped on the loop (nng_aio_stop there waits only for the last instructions of a callback that
 * has already posted). stream_group counts what is alive, so that whoever ends can wait.
 *
 * Timeouts are not nng's: on a TLS stream whose transport failed, neither an aio's timeout nor its
 * cancellation works in nng 1.5.2, but nng_stream_close() completes everything. Deadlines are
 * timers of the callers, who call stream_free().
 *
 * Two receives. When the transport under a TLS stream fails, nng 1.5.2 tells the receives that are
 * queued at that moment; one that comes later waits for ever. A peer that speaks and vanishes would
 * go unnoticed until its idle limit, because its last words have just completed the receive. So two
 * receives are queued, each with bytes of its own, and handed over in the order of queueing; one
 * that completed is queued again only after its bytes were asked for, which keeps the
 * back-pressure.
 *
 * Addresses. nng resolves a name to its first address only, and refuses IPv6 literals on a host
 * without an IPv6 address. A name that cannot be reached is tried again in the other family; "[::]"
 * and "*" listen on every address there is, which without IPv6 is 0.0.0.0. */
#include "proto/rpc/stream.h"

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/loop.h"
#include "proto/rpc/url.h"

#define PEM_MAX (256 * 1024)
#define ACCEPT_RETRY_US 100000 /* mostly out of descriptors: let others finish first */
#define KEEP_BYTES 65536 /* larger buffers are given back when they are empty */
#define RECEIVES 2
#define RECEIVE_BYTES 4096

struct operation {
	nng_aio *aio;
	struct loop_task task;
	bool outstanding;
};

struct receive {
	struct stream *stream;
	struct operation operation;
	bool done; /* completed, its result not yet handed over */
	uint8_t bytes[RECEIVE_BYTES];
};

struct stream {
	struct stream_group *group;
	nng_stream *nng;
	struct receive receives[RECEIVES];
	unsigned oldest; /* of the receives: the next to be handed over */
	bool wanted;
	struct loop_task again; /* hands over what is already there */
	struct operation send;
	struct buffer input, output;
	bool dead;
	stream_done_cb received, sent;
	void *arg;
};

struct stream_listener {
	struct stream_group *group;
	nng_stream_listener *nng;
	struct operation accept;
	struct loop_timer retry;
	bool dead;
	char url[URL_SIZE];
	stream_accept_cb accepted;
	void *arg;
};

struct stream_dialer {
	struct stream_group *group;
	nng_stream_dialer *nng;
	struct operation dial;
	nng_tls_config *config; /* NULL without TLS */
	unsigned tries; /* index into families */
	int first_failure;
	bool dead;
	char url[URL_SIZE];
	stream_dial_cb done;
	void *arg;
};

/* What a name is tried as: whatever comes first, then the one, then the other. */
static const char *const families[] = {"", "6", "4"};

static enum status explain(struct error *err, int rv, const char *what)
{
	switch (rv) {
	case NNG_ECONNREFUSED:
	case NNG_ENOENT:
		return error_set(err, STATUS_UNAVAILABLE,
			"%s: nobody listens there: is posternd running?", what);
	case NNG_EPEERAUTH:
	case NNG_ECRYPTO:
		return error_set(err, STATUS_UNAVAILABLE,
			"%s: TLS failed: either the server's certificate is not signed by the CA "
			"file given, or it does not name this host (then set server_name), or the "
			"port does not speak TLS",
			what);
	case NNG_ECONNRESET:
	case NNG_ECONNSHUT:
	case NNG_ECLOSED:
		return error_set(
			err, STATUS_UNAVAILABLE, "%s: the other side closed the connection", what);
	case NNG_EUNREACHABLE:
		return error_set(err, STATUS_UNAVAILABLE,
			"%s: no route to that address: check the network of this host", what);
	case NNG_ETIMEDOUT:
		return error_set(err, STATUS_UNAVAILABLE,
			"%s: no answer: is the host up, or does a firewall drop this port?", what);
	case NNG_ENOMEM:
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", what);
	case NNG_ENOFILES:
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"%s: too many open files: raise the limit (LimitNOFILE)", what);
	case NNG_EPERM:
		return error_set(err, STATUS_PERMISSION_DENIED,
			"%s: permission denied: run as a user who may open it", what);
	case NNG_EADDRINUSE:
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: address in use: another server listens there", what);
	case NNG_EADDRINVAL:
	case NNG_EAGAIN:
		return error_set(err, STATUS_UNAVAILABLE,
			"%s: no such host or address here: check the spelling and the name service",
			what);
	default:
		if (rv & NNG_ESYSERR) /* of getaddrinfo: no address of this family */
			return error_set(err, STATUS_UNAVAILABLE,
				"%s: this host has no address of that family", what);
		return error_set(err, STATUS_UNAVAILABLE, "%s: %s", what, nng_strerror(rv));
	}
}

/* ---- streams ---- */

static void free_parts(struct stream *stream)
{
	for (int i = 0; i < RECEIVES; i++) {
		nng_aio_stop(stream->receives[i].operation.aio);
		nng_aio_free(stream->receives[i].operation.aio);
	}
	nng_aio_stop(stream->send.aio);
	nng_aio_free(stream->send.aio);
	nng_stream_free(stream->nng);
	buffer_fini(&stream->input);
	buffer_fini(&stream->output);
	free(stream);
}

static void reap(struct stream *stream)
{
	bool is_held = stream->send.outstanding || stream->again.queued;
	for (int i = 0; i < RECEIVES; i++)
		is_held |= stream->receives[i].operation.outstanding;
	if (!stream->dead || is_held)
		return;
	stream->group->alive--;
	free_parts(stream);
}

static void queue_receive(struct receive *receive)
{
	nng_iov iov = {.iov_buf = receive->bytes, .iov_len = sizeof receive->bytes};
	receive->operation.outstanding = true;
	/* Fails only for more than 8 pieces. */
	(void)nng_aio_set_iov(receive->operation.aio, 1, &iov);
	nng_stream_recv(receive->stream->nng, receive->operation.aio);
}

/* Hands over what the oldest receive brought, if it is there and somebody asked. */
static void hand_over(struct stream *stream)
{
	struct receive *receive = &stream->receives[stream->oldest];
	struct error err = {0};
	if (!stream->wanted || !receive->done)
		return;
	int rv = nng_aio_result(receive->operation.aio);
	stream->wanted = false;
	receive->done = false;
	stream->oldest = (stream->oldest + 1) % RECEIVES;
	if (rv != 0)
		explain(&err, rv, "receive");
	else if (!buffer_append(
			 &stream->input, receive->bytes, nng_aio_count(receive->operation.aio)))
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "receive: out of memory");
	else
		queue_receive(receive);
	stream->received(stream->arg, &err);
}

static void hand_over_again(void *arg)
{
	struct stream *stream = arg;
	if (stream->dead)
		reap(stream);
	else
		hand_over(stream);
}

static void receive_done(void *arg)
{
	struct receive *receive = arg;
	receive->operation.outstanding = false;
	receive->done = true;
	hand_over_again(receive->stream);
}

static void send_more(struct stream *stream)
{
	nng_iov iov = {.iov_buf = stream->output.data + stream->output.start,
		.iov_len = stream->output.length};
	stream->send.outstanding = true;
	(void)nng_aio_set_iov(stream->send.aio, 1, &iov);
	nng_stream_send(stream->nng, stream->send.aio);
}

static void send_done(void *arg)
{
	struct stream *stream = arg;
	struct error err = {0};
	int rv = nng_aio_result(stream->send.aio);
	stream->send.outstanding = false;
	if (stream->dead) {
		reap(stream);
		return;
	}
	if (rv != 0) {
		explain(&err, rv, "send");
	} else {
		buffer_consume(&stream->output, nng_aio_count(stream->send.aio));
		if (stream->output.length > 0) {
			send_more(stream);
			return;
		}
		if (stream->output.capacity > KEEP_BYTES)
			buffer_shrink(&stream->output);
	}
	stream->sent(stream->arg, &err);
}

static void on_receive(void *arg)
{
	struct receive *receive = arg;
	loop_post(receive->stream->group->loop, &receive->operation.task, receive_done, receive);
}

static void on_send(void *arg)
{
	struct stream *stream = arg;
	loop_post(stream->group->loop, &stream->send.task, send_done, stream);
}

/* Takes over `nng`, also on failure. */
static struct stream *stream_new(struct stream_group *group, nng_stream *nng)
{
	struct stream *stream = calloc(1, sizeof *stream);
	bool complete = true;
	if (!stream) {
		nng_stream_close(nng);
		nng_stream_free(nng);
		return NULL;
	}
	stream->group = group;
	stream->nng = nng;
	buffer_init(&stream->input, SIZE_MAX / 2);
	buffer_init(&stream->output, SIZE_MAX / 2);
	for (int i = 0; i < RECEIVES; i++) {
		struct receive *receive = &stream->receives[i];
		receive->stream = stream;
		complete &= nng_aio_alloc(&receive->operation.aio, on_receive, receive) == 0;
	}
	complete &= nng_aio_alloc(&stream->send.aio, on_send, stream) == 0;
	if (!complete) {
		nng_stream_close(nng);
		free_parts(stream);
		return NULL;
	}
	group->alive++;
	return stream;
}

void stream_own(struct stream *stream, stream_done_cb received, stream_done_cb sent, void *arg)
{
	stream->received = received;
	stream->sent = sent;
	stream->arg = arg;
	for (int i = 0; i < RECEIVES; i++)
		queue_receive(&stream->receives[i]);
}

void stream_receive(struct stream *stream)
{
	stream->wanted = true;
	/* From the loop, so that the owner is not called back inside its own call. */
	if (stream->receives[stream->oldest].done && !stream->again.queued)
		loop_post(stream->group->loop, &stream->again, hand_over_again, stream);
}

struct buffer *stream_input(struct stream *stream)
{
	return &stream->input;
}

void stream_send(struct stream *stream, struct buffer *bytes)
{
	struct buffer old = stream->output;
	size_t cap = bytes->cap;
	stream->output = *bytes;
	*bytes = old;
	bytes->cap = cap;
	send_more(stream);
}

size_t stream_sending(const struct stream *stream)
{
	return stream->output.length;
}

void stream_free(struct stream *stream)
{
	if (!stream || stream->dead)
		return;
	stream->dead = true;
	nng_stream_close(stream->nng);
	reap(stream);
}

/* ---- TLS ---- */

static enum status set_own_certificate(
	nng_tls_config *config, const struct stream_tls *tls, struct error *err)
{
	char *cert = NULL, *key = NULL;
	enum status status = file_read(tls->cert_file, PEM_MAX, &cert, NULL, err);
	if (status == STATUS_OK)
		status = file_read(tls->key_file, PEM_MAX, &key, NULL, err);
	if (status == STATUS_OK) {
		int rv = nng_tls_config_own_cert(config, cert, key, NULL);
		if (rv != 0)
			status = error_set(err, STATUS_INVALID_ARGUMENT,
				"%s, %s: not a certificate and its key in PEM: %s", tls->cert_file,
				tls->key_file, nng_strerror(rv));
	}
	free(cert);
	file_free_secret(key);
	return status;
}

static enum status set_client_ca(
	nng_tls_config *config, const struct stream_tls *tls, struct error *err)
{
	char *pem = NULL;
	enum status status = file_read(tls->client_ca_file, PEM_MAX, &pem, NULL, err);
	if (status)
		return status;
	int rv = nng_tls_config_ca_chain(config, pem, NULL);
	if (rv == 0)
		rv = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED);
	if (rv != 0)
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: not a CA certificate (PEM): %s", tls->client_ca_file,
			nng_strerror(rv));
	free(pem);
	return status;
}

static enum status server_config(
	const struct stream_tls *tls, nng_tls_config **ret_config, struct error *err)
{
	nng_tls_config *config = NULL;
	if (!tls->cert_file || !tls->key_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"TLS needs a certificate and a key: set tls_cert_file and tls_key_file");
	int rv = nng_tls_config_alloc(&config, NNG_TLS_MODE_SERVER);
	if (rv != 0)
		return error_set(
			err, STATUS_UNIMPLEMENTED, "this nng has no TLS: %s", nng_strerror(rv));
	enum status status = set_own_certificate(config, tls, err);
	if (status == STATUS_OK && tls->client_ca_file)
		status = set_client_ca(config, tls, err);
	if (status == STATUS_OK)
		*ret_config = config;
	else
		nng_tls_config_free(config);
	return status;
}

/* Without a name in the configuration mbedTLS would accept the certificate of any host. */
static enum status trust_server(
	nng_tls_config *config, const struct stream_tls *tls, const char *url, struct error *err)
{
	char *pem = NULL;
	char host[URL_SIZE];
	enum status status = file_read(tls->ca_file, PEM_MAX, &pem, NULL, err);
	if (status)
		return status;
	int rv = nng_tls_config_ca_chain(config, pem, NULL);
	free(pem);
	if (rv != 0)
		return error_set(err, STATUS_INVALID_ARGUMENT, "%s: not a CA certificate (PEM): %s",
			tls->ca_file, nng_strerror(rv));
	url_host(host, url);
	rv = nng_tls_config_server_name(config, tls->server_name ? tls->server_name : host);
	return rv ? explain(err, rv, url) : STATUS_OK;
}

static enum status client_config(const struct stream_tls *tls, const char *url,
	nng_tls_config **ret_config, struct error *err)
{
	nng_tls_config *config = NULL;
	if (!tls->ca_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"tls+tcp:// needs the server's CA: set ca_file (POSTERN_CA_FILE) to its "
			"ca.pem");
	int rv = nng_tls_config_alloc(&config, NNG_TLS_MODE_CLIENT);
	if (rv != 0)
		return error_set(
			err, STATUS_UNIMPLEMENTED, "this nng has no TLS: %s", nng_strerror(rv));
	enum status status = trust_server(config, tls, url, err);
	if (status == STATUS_OK && tls->cert_file && tls->key_file)
		status = set_own_certificate(config, tls, err);
	if (status == STATUS_OK)
		*ret_config = config;
	else
		nng_tls_config_free(config);
	return status;
}

/* ---- listening ---- */

static void free_listener(struct stream_listener *listener)
{
	nng_aio_stop(listener->accept.aio);
	nng_aio_free(listener->accept.aio);
	if (listener->nng)
		nng_stream_listener_free(listener->nng);
	free(listener);
}

static void reap_listener(struct stream_listener *listener)
{
	if (!listener->dead || listener->accept.outstanding)
		return;
	listener->group->alive--;
	free_listener(listener);
}

static void accept_next(void *arg)
{
	struct stream_listener *listener = arg;
	listener->accept.outstanding = true;
	nng_stream_listener_accept(listener->nng, listener->accept.aio);
}

static void accept_done(void *arg)
{
	struct stream_listener *listener = arg;
	int rv = nng_aio_result(listener->accept.aio);
	struct stream *stream = NULL;
	listener->accept.outstanding = false;
	if (rv == 0) {
		nng_stream *nng = nng_aio_get_output(listener->accept.aio, 0);
		if (listener->dead) {
			nng_stream_close(nng);
			nng_stream_free(nng);
		} else {
			stream = stream_new(listener->group, nng);
		}
	}
	if (listener->dead) {
		reap_listener(listener);
		return;
	}
	if (rv != 0 && rv != NNG_ECANCELED)
		loop_timer_set(listener->group->loop, &listener->retry,
			clock_mono_us() + ACCEPT_RETRY_US, accept_next, listener);
	else
		accept_next(listener);
	if (stream)
		listener->accepted(listener->arg, stream);
}

static void on_accept(void *arg)
{
	struct stream_listener *listener = arg;
	loop_post(listener->group->loop, &listener->accept.task, accept_done, listener);
}

/* "tcp://127.0.0.1:0" with the port that was bound in place of the 0. */
static void remember_port(struct stream_listener *listener)
{
	int port = 0;
	char *colon = strrchr(listener->url, ':');
	if (!url_is_ipc(listener->url) &&
		nng_stream_listener_get_int(listener->nng, NNG_OPT_TCP_BOUND_PORT, &port) == 0)
		snprintf(
			colon, sizeof listener->url - (size_t)(colon - listener->url), ":%d", port);
}

static enum status set_config(
	struct stream_listener *listener, const struct stream_tls *tls, struct error *err)
{
	nng_tls_config *config = NULL;
	enum status status = server_config(tls, &config, err);
	if (status)
		return status;
	int rv = nng_stream_listener_set_ptr(listener->nng, NNG_OPT_TLS_CONFIG, config);
	nng_tls_config_free(config); /* the listener holds its own reference */
	return rv ? explain(err, rv, listener->url) : STATUS_OK;
}

/* nng takes whatever lies at the path for a stale socket and would delete it. */
static enum status check_place(const char *url, struct error *err)
{
	struct stat found;
	if (!url_is_ipc(url) || lstat(url + strlen("ipc://"), &found) != 0 ||
		S_ISSOCK(found.st_mode))
		return STATUS_OK;
	return error_set(err, STATUS_FAILED_PRECONDITION,
		"%s: there is a file that is not a socket: move it away, or listen elsewhere", url);
}

static int open_listener(struct stream_listener *listener)
{
	char every_ipv4[URL_SIZE];
	int rv = nng_stream_listener_alloc(&listener->nng, listener->url);
	if (rv != 0 && url_has_host(listener->url, "[::]")) { /* a host without IPv6 */
		url_rewrite(every_ipv4, listener->url, "", "0.0.0.0");
		rv = nng_stream_listener_alloc(&listener->nng, every_ipv4);
	}
	return rv;
}

static enum status start_listener(
	struct stream_listener *listener, const struct stream_tls *tls, struct error *err)
{
	enum status status = check_place(listener->url, err);
	if (status)
		return status;
	int rv = open_listener(listener);
	if (rv == 0 && url_is_tls(listener->url)) {
		status = set_config(listener, tls, err);
		if (status)
			return status;
	}
	if (rv == 0 && url_is_ipc(listener->url)) /* takes effect before the socket listens */
		rv = nng_stream_listener_set_int(listener->nng, NNG_OPT_IPC_PERMISSIONS, 0600);
	else if (rv == 0) /* 1.5.2 leaves Nagle on: an answer would wait 40 ms for an ACK */
		rv = nng_stream_listener_set_bool(listener->nng, NNG_OPT_TCP_NODELAY, true);
	if (rv == 0)
		rv = nng_aio_alloc(&listener->accept.aio, on_accept, listener);
	if (rv == 0)
		rv = nng_stream_listener_listen(listener->nng);
	return rv ? explain(err, rv, listener->url) : STATUS_OK;
}

enum status stream_listen(struct stream_group *group, const char *url, const struct stream_tls *tls,
	stream_accept_cb accepted, void *arg, struct stream_listener **ret_listener,
	struct error *err)
{
	enum status status = url_check(url, err);
	if (status)
		return status;
	struct stream_listener *listener = calloc(1, sizeof *listener);
	if (!listener)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", url);
	listener->group = group;
	listener->accepted = accepted;
	listener->arg = arg;
	if (url_has_host(url, "*") || url_has_host(url, ""))
		url_rewrite(listener->url, url, "", "[::]");
	else
		snprintf(listener->url, sizeof listener->url, "%s", url);
	status = start_listener(listener, tls, err);
	if (status) {
		free_listener(listener);
		return status;
	}
	remember_port(listener);
	group->alive++;
	accept_next(listener);
	*ret_listener = listener;
	return STATUS_OK;
}

const char *stream_listener_url(const struct stream_listener *listener)
{
	return listener->url;
}

enum status stream_listener_reload(
	struct stream_listener *listener, const struct stream_tls *tls, struct error *err)
{
	if (!url_is_tls(listener->url))
		return STATUS_OK;
	enum status status = set_config(listener, tls, err);
	if (status == STATUS_OK) /* the accept that waits holds the old one */
		nng_aio_cancel(listener->accept.aio);
	return status;
}

void stream_listener_free(struct stream_listener *listener)
{
	if (!listener)
		return;
	listener->dead = true;
	loop_timer_clear(listener->group->loop, &listener->retry);
	nng_stream_listener_close(listener->nng);
	reap_listener(listener);
}

/* ---- dialing ---- */

static void free_dialer(struct stream_dialer *dialer)
{
	nng_aio_stop(dialer->dial.aio);
	nng_aio_free(dialer->dial.aio);
	if (dialer->nng)
		nng_stream_dialer_free(dialer->nng);
	if (dialer->config)
		nng_tls_config_free(dialer->config);
	free(dialer);
}

static void reap_dialer(struct stream_dialer *dialer)
{
	if (!dialer->dead || dialer->dial.outstanding)
		return;
	dialer->group->alive--;
	free_dialer(dialer);
}

static int start_dial(struct stream_dialer *dialer)
{
	char url[URL_SIZE];
	if (url_is_ipc(dialer->url))
		snprintf(url, sizeof url, "%s", dialer->url);
	else
		url_rewrite(url, dialer->url, families[dialer->tries], NULL);
	int rv = nng_stream_dialer_alloc(&dialer->nng, url);
	if (rv == 0 && dialer->config)
		rv = nng_stream_dialer_set_ptr(dialer->nng, NNG_OPT_TLS_CONFIG, dialer->config);
	if (rv == 0 && !url_is_ipc(url))
		rv = nng_stream_dialer_set_bool(dialer->nng, NNG_OPT_TCP_NODELAY, true);
	if (rv == 0) {
		dialer->dial.outstanding = true;
		nng_stream_dialer_dial(dialer->nng, dialer->dial.aio);
	}
	return rv;
}

/* True when another family is being tried. */
static bool dial_again(struct stream_dialer *dialer)
{
	while (url_is_named(dialer->url) && ++dialer->tries < sizeof families / sizeof *families) {
		nng_stream_dialer_free(dialer->nng);
		dialer->nng = NULL;
		if (start_dial(dialer) == 0)
			return true;
	}
	return false;
}

static void dial_done(void *arg)
{
	struct stream_dialer *dialer = arg;
	struct error err = {0};
	struct stream *stream = NULL;
	int rv = nng_aio_result(dialer->dial.aio);
	nng_stream *nng = rv == 0 ? nng_aio_get_output(dialer->dial.aio, 0) : NULL;
	dialer->dial.outstanding = false;
	if (dialer->dead) {
		if (nng) {
			nng_stream_close(nng);
			nng_stream_free(nng);
		}
		reap_dialer(dialer);
		return;
	}
	if (dialer->tries == 0)
		dialer->first_failure = rv;
	if (rv != 0 && dial_again(dialer))
		return;
	if (rv != 0)
		explain(&err, dialer->first_failure, dialer->url);
	else if (!(stream = stream_new(dialer->group, nng)))
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", dialer->url);
	dialer->done(dialer->arg, stream, &err);
}

static void on_dial(void *arg)
{
	struct stream_dialer *dialer = arg;
	loop_post(dialer->group->loop, &dialer->dial.task, dial_done, dialer);
}

enum status stream_dial(struct stream_group *group, const char *url, const struct stream_tls *tls,
	stream_dial_cb done, void *arg, struct stream_dialer **ret_dialer, struct error *err)
{
	enum status status = url_check(url, err);
	if (status)
		return status;
	struct stream_dialer *dialer = calloc(1, sizeof *dialer);
	if (!dialer)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", url);
	dialer->group = group;
	dialer->done = done;
	dialer->arg = arg;
	snprintf(dialer->url, sizeof dialer->url, "%s", url);
	if (url_is_tls(url))
		status = client_config(tls, url, &dialer->config, err);
	if (status == STATUS_OK) {
		int rv = nng_aio_alloc(&dialer->dial.aio, on_dial, dialer);
		if (rv == 0)
			rv = start_dial(dialer);
		if (rv != 0)
			status = explain(err, rv, url);
	}
	if (status) {
		free_dialer(dialer);
		return status;
	}
	group->alive++;
	*ret_dialer = dialer;
	return STATUS_OK;
}

void stream_dialer_free(struct stream_dialer *dialer)
{
	if (!dialer)
		return;
	dialer->dead = true;
	if (dialer->nng)
		nng_stream_dialer_close(dialer->nng);
	reap_dialer(dialer);
}
