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
 * timers of the callers, who call stream_free(). */
#include "proto/rpc/stream.h"

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/loop.h"

#define PEM_MAX (256 * 1024)
#define ACCEPT_RETRY_US 100000 /* out of descriptors or memory: let others finish first */

struct operation {
	nng_aio *aio;
	struct loop_task task;
	bool outstanding;
};

struct stream {
	struct stream_group *group;
	nng_stream *nng;
	struct operation receive, send;
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
	char url[256];
	stream_accept_cb accepted;
	void *arg;
};

struct stream_dialer {
	struct stream_group *group;
	nng_stream_dialer *nng;
	struct operation dial;
	bool dead;
	char url[256];
	stream_dial_cb done;
	void *arg;
};

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
			"%s: TLS: the certificate was not accepted: check the CA file and that the "
			"host name is "
			"one of the certificate's",
			what);
	case NNG_ECONNRESET:
	case NNG_ECONNSHUT:
	case NNG_ECLOSED:
		return error_set(
			err, STATUS_UNAVAILABLE, "%s: the other side closed the connection", what);
	case NNG_ENOMEM:
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", what);
	case NNG_EPERM:
		return error_set(err, STATUS_PERMISSION_DENIED, "%s: permission denied", what);
	case NNG_EADDRINUSE:
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: address in use: another server listens there", what);
	case NNG_EADDRINVAL:
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: not an address that can be used: write ipc:///PATH, "
			"tls+tcp://HOST:PORT or tcp://HOST:PORT",
			what);
	default:
		return error_set(err, STATUS_UNAVAILABLE, "%s: %s", what, nng_strerror(rv));
	}
}

/* ---- streams ---- */

static void reap(struct stream *stream)
{
	if (!stream->dead || stream->receive.outstanding || stream->send.outstanding)
		return;
	nng_aio_stop(stream->receive.aio);
	nng_aio_stop(stream->send.aio);
	nng_aio_free(stream->receive.aio);
	nng_aio_free(stream->send.aio);
	nng_stream_free(stream->nng);
	buffer_fini(&stream->input);
	buffer_fini(&stream->output);
	stream->group->alive--;
	free(stream);
}

static void receive_done(void *arg)
{
	struct stream *stream = arg;
	struct error err = {0};
	int rv = nng_aio_result(stream->receive.aio);
	stream->receive.outstanding = false;
	if (stream->dead) {
		reap(stream);
		return;
	}
	if (rv != 0)
		explain(&err, rv, "receive");
	else
		buffer_commit(&stream->input, nng_aio_count(stream->receive.aio));
	stream->received(stream->arg, &err);
}

static void send_more(struct stream *stream);

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
	}
	stream->sent(stream->arg, &err);
}

static void on_receive(void *arg)
{
	struct stream *stream = arg;
	loop_post(stream->group->loop, &stream->receive.task, receive_done, stream);
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
	if (!stream)
		goto fail;
	stream->group = group;
	stream->nng = nng;
	buffer_init(&stream->input, SIZE_MAX / 2);
	buffer_init(&stream->output, SIZE_MAX / 2);
	if (nng_aio_alloc(&stream->receive.aio, on_receive, stream) != 0)
		goto fail;
	if (nng_aio_alloc(&stream->send.aio, on_send, stream) != 0)
		goto fail;
	group->alive++;
	return stream;
fail:
	if (stream && stream->receive.aio)
		nng_aio_free(stream->receive.aio);
	free(stream);
	nng_stream_close(nng);
	nng_stream_free(nng);
	return NULL;
}

void stream_own(struct stream *stream, stream_done_cb received, stream_done_cb sent, void *arg)
{
	stream->received = received;
	stream->sent = sent;
	stream->arg = arg;
}

struct buffer *stream_input(struct stream *stream)
{
	return &stream->input;
}

enum status stream_receive(struct stream *stream, size_t size)
{
	nng_iov iov = {.iov_buf = buffer_reserve(&stream->input, size), .iov_len = size};
	if (!iov.iov_buf)
		return STATUS_RESOURCE_EXHAUSTED;
	stream->receive.outstanding = true;
	(void)nng_aio_set_iov(stream->receive.aio, 1, &iov); /* fails only for more than 8 pieces */
	nng_stream_recv(stream->nng, stream->receive.aio);
	return STATUS_OK;
}

static void send_more(struct stream *stream)
{
	nng_iov iov = {.iov_buf = stream->output.data + stream->output.start,
		.iov_len = stream->output.length};
	stream->send.outstanding = true;
	(void)nng_aio_set_iov(stream->send.aio, 1, &iov);
	nng_stream_send(stream->nng, stream->send.aio);
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

static enum status server_config(
	const struct stream_tls *tls, nng_tls_config **ret_config, struct error *err)
{
	nng_tls_config *config = NULL;
	char *cert = NULL, *key = NULL;
	enum status status;
	int rv;
	if (!tls || !tls->cert_file || !tls->key_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"TLS needs a certificate and a key: set tls_cert_file and tls_key_file");
	status = file_read(tls->cert_file, PEM_MAX, &cert, NULL, err);
	if (status)
		goto out;
	status = file_read(tls->key_file, PEM_MAX, &key, NULL, err);
	if (status)
		goto out;
	rv = nng_tls_config_alloc(&config, NNG_TLS_MODE_SERVER);
	if (rv == 0)
		rv = nng_tls_config_own_cert(config, cert, key, NULL);
	if (rv == 0 && tls->client_ca_file) {
		rv = nng_tls_config_ca_file(config, tls->client_ca_file);
		if (rv == 0)
			rv = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED);
	}
	if (rv != 0)
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: not a certificate that fits %s (PEM): %s", tls->cert_file,
			tls->key_file, nng_strerror(rv));
out:
	free(cert);
	file_free_secret(key);
	if (status) {
		if (config)
			nng_tls_config_free(config);
		return status;
	}
	*ret_config = config;
	return STATUS_OK;
}

static enum status client_config(
	const struct stream_tls *tls, nng_tls_config **ret_config, struct error *err)
{
	nng_tls_config *config = NULL;
	char *pem = NULL;
	enum status status;
	int rv;
	if (!tls || !tls->ca_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"tls+tcp:// needs the server's CA: set ca_file (POSTERN_CA_FILE) to its "
			"ca.pem");
	status = file_read(tls->ca_file, PEM_MAX, &pem, NULL, err);
	if (status)
		return status;
	rv = nng_tls_config_alloc(&config, NNG_TLS_MODE_CLIENT);
	if (rv == 0)
		rv = nng_tls_config_ca_chain(config, pem, NULL);
	if (rv == 0 && tls->server_name)
		rv = nng_tls_config_server_name(config, tls->server_name);
	free(pem);
	if (rv != 0) {
		if (config)
			nng_tls_config_free(config);
		return error_set(err, STATUS_INVALID_ARGUMENT, "%s: not a CA certificate (PEM): %s",
			tls->ca_file, nng_strerror(rv));
	}
	*ret_config = config;
	return STATUS_OK;
}

static bool is_tls(const char *url)
{
	return strncmp(url, "tls+tcp", 7) == 0;
}

static bool is_ipc(const char *url)
{
	return strncmp(url, "ipc://", 6) == 0;
}

static enum status check_url(const char *url, struct error *err)
{
	if (is_tls(url) || is_ipc(url) || strncmp(url, "tcp://", 6) == 0)
		return STATUS_OK;
	return error_set(err, STATUS_INVALID_ARGUMENT,
		"%s: unknown address: write ipc:///PATH or tls+tcp://HOST:PORT", url);
}

/* ---- listening ---- */

static void reap_listener(struct stream_listener *listener)
{
	if (!listener->dead || listener->accept.outstanding)
		return;
	nng_aio_stop(listener->accept.aio);
	nng_aio_free(listener->accept.aio);
	nng_stream_listener_free(listener->nng);
	listener->group->alive--;
	free(listener);
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
	if (rv == NNG_ENOMEM || rv == NNG_ENOFILES || rv == NNG_ENOSPC)
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
static void remember_url(struct stream_listener *listener, const char *url)
{
	int port = 0;
	const char *colon = strrchr(url, ':');
	if (!is_ipc(url) && colon &&
		nng_stream_listener_get_int(listener->nng, NNG_OPT_TCP_BOUND_PORT, &port) == 0)
		snprintf(listener->url, sizeof listener->url, "%.*s:%d", (int)(colon - url), url,
			port);
	else
		snprintf(listener->url, sizeof listener->url, "%s", url);
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
	return rv ? error_set(err, STATUS_UNIMPLEMENTED, "%s: nng was built without TLS: %s",
			    listener->url, nng_strerror(rv))
		  : STATUS_OK;
}

enum status stream_listen(struct stream_group *group, const char *url, const struct stream_tls *tls,
	stream_accept_cb accepted, void *arg, struct stream_listener **ret_listener,
	struct error *err)
{
	enum status status = check_url(url, err);
	if (status)
		return status;
	struct stream_listener *listener = calloc(1, sizeof *listener);
	if (!listener)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", url);
	listener->group = group;
	listener->accepted = accepted;
	listener->arg = arg;
	snprintf(listener->url, sizeof listener->url, "%s", url);
	int rv = nng_stream_listener_alloc(&listener->nng, url);
	if (rv != 0) {
		status = explain(err, rv, url);
		goto fail;
	}
	if (is_tls(url)) {
		status = set_config(listener, tls, err);
		if (status)
			goto fail;
	}
	if (is_ipc(url))
		(void)nng_stream_listener_set_int(listener->nng, NNG_OPT_IPC_PERMISSIONS, 0600);
	else /* nng 1.5.2 leaves Nagle's algorithm on: small answers would wait 40 ms for an
		acknowledgement */
		(void)nng_stream_listener_set_bool(listener->nng, NNG_OPT_TCP_NODELAY, true);
	rv = nng_aio_alloc(&listener->accept.aio, on_accept, listener);
	if (rv == 0) {
		/* The option above takes effect after bind(); the mask covers the moment between.
		 */
		mode_t mask = umask(0177);
		rv = nng_stream_listener_listen(listener->nng);
		umask(mask);
	}
	if (rv != 0) {
		status = explain(err, rv, url);
		goto fail;
	}
	remember_url(listener, url);
	group->alive++;
	accept_next(listener);
	*ret_listener = listener;
	return STATUS_OK;
fail:
	if (listener->accept.aio)
		nng_aio_free(listener->accept.aio);
	if (listener->nng)
		nng_stream_listener_free(listener->nng);
	free(listener);
	return status;
}

const char *stream_listener_url(const struct stream_listener *listener)
{
	return listener->url;
}

enum status stream_listener_reload(
	struct stream_listener *listener, const struct stream_tls *tls, struct error *err)
{
	return is_tls(listener->url) ? set_config(listener, tls, err) : STATUS_OK;
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

static void reap_dialer(struct stream_dialer *dialer)
{
	if (!dialer->dead || dialer->dial.outstanding)
		return;
	nng_aio_stop(dialer->dial.aio);
	nng_aio_free(dialer->dial.aio);
	nng_stream_dialer_free(dialer->nng);
	dialer->group->alive--;
	free(dialer);
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
	if (rv != 0)
		explain(&err, rv, dialer->url);
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
	enum status status = check_url(url, err);
	if (status)
		return status;
	struct stream_dialer *dialer = calloc(1, sizeof *dialer);
	if (!dialer)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", url);
	dialer->group = group;
	dialer->done = done;
	dialer->arg = arg;
	snprintf(dialer->url, sizeof dialer->url, "%s", url);
	int rv = nng_stream_dialer_alloc(&dialer->nng, url);
	if (rv == 0 && is_tls(url)) {
		nng_tls_config *config = NULL;
		status = client_config(tls, &config, err);
		if (status)
			goto fail;
		rv = nng_stream_dialer_set_ptr(dialer->nng, NNG_OPT_TLS_CONFIG, config);
		nng_tls_config_free(config);
	}
	if (rv == 0 && !is_ipc(url))
		(void)nng_stream_dialer_set_bool(dialer->nng, NNG_OPT_TCP_NODELAY, true);
	if (rv == 0)
		rv = nng_aio_alloc(&dialer->dial.aio, on_dial, dialer);
	if (rv != 0) {
		status = explain(err, rv, url);
		goto fail;
	}
	group->alive++;
	dialer->dial.outstanding = true;
	nng_stream_dialer_dial(dialer->nng, dialer->dial.aio);
	*ret_dialer = dialer;
	return STATUS_OK;
fail:
	if (dialer->nng)
		nng_stream_dialer_free(dialer->nng);
	free(dialer);
	return status;
}

void stream_dialer_free(struct stream_dialer *dialer)
{
	if (!dialer)
		return;
	dialer->dead = true;
	nng_stream_dialer_close(dialer->nng);
	reap_dialer(dialer);
}
